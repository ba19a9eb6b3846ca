"""An exported folder as an Arduino library: Debian's arduino-builder compiles its example, which simavr runs."""

import subprocess
from pathlib import Path

import pytest

from sen_edge.passes.quantize import to_int8_weights
from sen_runtime.ir.network import Network
from tests.cross import forms
from tests.cross.harness import AVR
from tests.cross.test_c_avr import networks

#: Where Debian's packages have boards, and the pattern that runs ctags.
HARDWARE = ("/usr/share/arduino/hardware", "/usr/share/arduino-builder")
BOARD = "arduino:avr:mega:cpu=atmega2560"
#: float.h of Debian's gcc 5 has it in C only, and WString.cpp of Debian's core needs it.
DECIMAL_DIG = "compiler.cpp.extra_flags=-DDECIMAL_DIG=9"


def build_example(library: Path, folder: Path) -> Path:
    """The program of the example of an exported folder, which lies in `libraries` of a sketchbook."""
    command: list[str | Path] = ["arduino-builder", "-compile", "-quiet", "-fqbn", BOARD, "-tools", "/usr/bin"]
    for name in HARDWARE:
        command += ["-hardware", name]
    build = folder / "build"
    build.mkdir()
    command += ["-libraries", library.parent, "-build-path", build, "-prefs", DECIMAL_DIG]
    subprocess.run([*command, library / "examples/SelfTest/SelfTest.ino"], check=True)
    return build / "SelfTest.ino.elf"


def serial_line(program: Path) -> str:
    """The first line that the library prints; the program does not end."""
    command = ["timeout", "60", AVR.emulator, "-m", AVR.name, "-f", "16000000", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        line = next((line for line in process.stdout if "net: " in line), "")
        process.terminate()
    return line


@pytest.mark.needs("arduino-builder", "avr-gcc", "simavr")
@pytest.mark.parametrize("form", ["large", "int8", "integers", "spiking"])
def test_the_example_runs_the_self_test(form: str, tmp_path: Path) -> None:
    network: Network = to_int8_weights(networks()["large"]) if form == "int8" else networks()[form]
    library = forms.write(network, "net", tmp_path / "libraries")
    program = build_example(library, tmp_path)
    assert "net: ok" in serial_line(program)


@pytest.mark.needs("arduino-builder", "avr-gcc", "simavr")
def test_the_example_tells_a_wrong_vector(tmp_path: Path) -> None:
    library = forms.write(networks()["large"], "net", tmp_path / "libraries")
    path = library / "net_selftest.c"
    path.write_text(path.read_text().replace("y[output] - golden", "1 + y[output] - golden"))
    assert "net: wrong outputs of vector 1" in serial_line(build_example(library, tmp_path))
