"""Exported folders in MicroPython: built into a firmware that runs on an emulated Cortex-M3, and as native modules.

The environment variable SEN_EDGE_MICROPYTHON is the source tree; .ci/run fetches Debian's source package.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sen_runtime import integer
from sen_runtime.reference import run as reference
from tests.builds.project import NAMES, networks, run, write
from tests.support.c_exports import export, small

TREE = os.environ.get("SEN_EDGE_MICROPYTHON", "")
pytestmark = [
    pytest.mark.cross,
    pytest.mark.slow,
    pytest.mark.needs("make", "arm-none-eabi-gcc", "qemu-system-arm"),
    pytest.mark.skipif(not TREE, reason="not installed: MicroPython, in SEN_EDGE_MICROPYTHON"),
]

#: Puts a native module into a file system, as a board has one.
INSTALL = """
import sys, io, vfs
class File(io.IOBase):
    def ioctl(self, request, argument):
        return 0
    def readinto(self, buffer):
        global code
        size = min(len(buffer), len(code))
        buffer[:size] = code[:size]
        code = code[size:]
        return size
class Files:
    def mount(self, readonly, mkfs):
        pass
    def stat(self, path):
        if path != '/net.mpy':
            raise OSError(2)
        return (0,) * 10
    def open(self, path, mode):
        return File()
vfs.mount(Files(), '/native')
sys.path.insert(0, '/native')
"""


@pytest.fixture(scope="module")
def firmware(exports: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MicroPython for mps2-an385 with all exports."""
    build = tmp_path_factory.mktemp("firmware")
    options = (f"BUILD={build}", "BOARD=MPS2_AN385", "FROZEN_MANIFEST=", f"USER_C_MODULES={exports}")
    run("make", "-C", f"{TREE}/ports/qemu", *options)
    return build / "firmware.elf"


def interpret(firmware: Path, script: str) -> str:
    """What the board prints for a script, entered in the raw mode of its console."""
    command = ("timeout", "60", "qemu-system-arm", "-M", "mps2-an385", "-nographic", "-monitor", "null", "-semihosting")
    typed = f"\x01{script}\nimport machine\nmachine.reset()\n\x04".encode()
    done = subprocess.run([*command, "-serial", "stdio", "-kernel", firmware], input=typed, capture_output=True)
    return done.stdout.decode()


def call(module: str, x: np.ndarray) -> str:
    """A script that prints the outputs for an input; its arrays are `x` and `y`."""
    code = "B" if x.dtype == np.uint8 else "f"
    return f"""
import {module}, array
x = array.array('{code}', {x.tolist()})
y = array.array('{code}', [0] * {module}.OUTPUTS)
print('{module}:', *{module}.run(x, y))
"""


def outputs(printed: str, module: str) -> np.ndarray:
    found = re.search(rf"{module}:(.*)", printed)
    assert found, printed
    return np.array(found[1].split(), np.float64)


def test_modules_of_a_firmware(firmware: Path) -> None:
    stored = np.random.default_rng(1).integers(0, 256, 9, np.uint8)
    x = np.random.default_rng(1).random(9).astype(np.float32)
    inputs = {name: stored if name == "ints" else x for name in NAMES}
    printed = interpret(firmware, "import far\nfar.init()\n" + "".join(call(*each) for each in inputs.items()))
    for name, network in networks().items():
        if name == "ints":
            np.testing.assert_array_equal(outputs(printed, name), integer.run_stored(network, stored[None])[0])
        else:
            np.testing.assert_allclose(outputs(printed, name), reference(network, x[None])[0], rtol=1e-5, atol=1e-6)


def test_steps(firmware: Path) -> None:
    x = np.random.default_rng(1).random(9).astype(np.float32)
    printed = interpret(firmware, call("snn", x) + """
snn.reset()
total = [0] * 4
for t in range(snn.TIMESTEPS):
    snn.step(x, y)
    for i in range(4):
        total[i] += y[i] / snn.TIMESTEPS
print('steps:', *total)
""" + call("ints", (255 * x).astype(np.uint8)) + """
ints.reset()
for t in range(ints.TIMESTEPS):
    ints.step(x)
print('integer steps:', *ints.read(y))
""")  # fmt: skip
    np.testing.assert_allclose(outputs(printed, "\nsteps"), outputs(printed, "snn"), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(outputs(printed, "integer steps"), outputs(printed, "ints"))


def test_wrong_arrays_are_refused(firmware: Path) -> None:
    printed = interpret(firmware, call("far", np.zeros(9, np.float32)) + """
for wrong in ((x, x), (y, y), (bytes(36), y), (x, x[:3]), (array.array('f', [float('nan')] * 9), y),
              (memoryview(x), memoryview(x)[4:8])):
    y[0] = 77
    try:
        far.run(*wrong)
    except (ValueError, TypeError) as error:
        print('refused', y[0] == 77)
""")  # fmt: skip
    assert printed.count("refused True") == 6, printed


def test_a_native_module(firmware: Path, tmp_path: Path) -> None:
    network = small("nested_sum")
    folder = export(network, "net").write(tmp_path).parent
    run("make", "-f", folder / "Makefile", *native("armv7m"), folder=tmp_path)
    x = np.random.default_rng(1).random(9).astype(np.float32)
    code = (tmp_path / "net.mpy").read_bytes()
    printed = interpret(firmware, f"code = {code!r}\n{INSTALL}{call('net', x)}")
    np.testing.assert_allclose(outputs(printed, "net"), reference(network, x[None])[0], rtol=1e-5, atol=1e-6)


@pytest.mark.needs("riscv64-unknown-elf-gcc")
@pytest.mark.parametrize(("name", "processor"), [("far", "armv7emsp"), ("ints", "rv32imc")])
def test_native_modules_of_other_processors_link(name: str, processor: str, exports: Path, tmp_path: Path) -> None:
    run("make", "-f", exports / name / "Makefile", *native(processor), folder=tmp_path)
    assert (tmp_path / f"{name}.mpy").exists()


def native(processor: str) -> tuple[str, ...]:
    """Variables of make."""
    return f"MPY_DIR={TREE}", f"ARCH={processor}", f"PYTHON={sys.executable}"


@pytest.mark.needs("cmake")
def test_cmake_of_a_port_finds_the_sources(exports: Path, tmp_path: Path) -> None:
    """Read by the file with which ports such as ESP32 and RP2 find modules."""
    text = f"""
cmake_minimum_required(VERSION 3.14)
project(port C)
set(USER_C_MODULES {" ".join(str(exports / name / "micropython.cmake") for name in NAMES)})
include({TREE}/py/usermod.cmake)
message("${{MICROPY_SOURCE_USERMOD}}")
"""
    printed = run("cmake", "-S", write(tmp_path, {"CMakeLists.txt": text}), "-B", tmp_path / "b")
    sources = [Path(each) for each in re.findall(rf"{exports}[^;\s]*\.[cS]\b", printed)]
    assert {path.relative_to(exports).as_posix() for path in sources if path.exists()} == {
        *(f"{name}/{source}" for name in NAMES for source in (f"{name}.c", "micropython/module.c")),
        *("snn/snn_weights.S", "ints/sen_kernels.c"),
    }
