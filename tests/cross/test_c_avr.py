"""Exported C on an ATmega2560: int has 16 bits, constants stay in flash, and memory is as README.md states."""

import re
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from sen_edge.passes.quantize import to_int8
from sen_runtime.ir.network import Network
from tests.cross import forms, harness
from tests.cross.harness import AVR, HERE
from tests.cross.test_c_processors import export_all, with_tools
from tests.support.networks import random_input, random_network

pytestmark = pytest.mark.needs("avr-gcc", "simavr")
#: Of avr-libc's headers, `-Wconversion` finds too much.
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
#: Bytes of RAM.
RAM = 8192
#: Upper bound of the stack that docs/how-to/firmware.md gives, the self-test's included.
STACK = 320
_ROW = re.compile(r"^\| (flash|RAM) \| (.+) \| (\d+) \|$", re.MULTILINE)
_SECTION = re.compile(r"^\.(progmem|rodata|data|bss)\S* +(\d+)", re.MULTILINE)


@cache
def networks() -> dict[str, Network]:
    """Every form, and a network whose weights exceed RAM, in floating point and in integers."""
    rng = np.random.default_rng(0)
    large = random_network(rng, kinds=("dense", "blocks"), sizes=(100, 60, 40, 10), metadata={"input_range": "0 1"})
    integers = to_int8(large, random_input(rng, large, 64))
    return {**forms.every_form(), "large": large, "large_integers": integers}


def build(form: str, folder: Path, optimize: str = "-Os", *defines: str, weights: str = "array") -> Path:
    """A program that runs the self-test of one of `networks`."""
    sources, includes = export_all({form: networks()[form]}, folder, weights)
    return harness.build(
        with_tools(AVR),
        [*sources, HERE / "avr_main.c"],
        folder / "program.elf",
        includes=includes,
        defines=["SEN_SELFTEST_NO_MAIN", *defines],
        optimize=optimize,
        warnings=WARNINGS,
    )


def run(program: Path) -> tuple[int, int]:
    """Sum of the results of self-tests, and bytes of stack."""
    found = re.search(r"result (\d+) stack (\d+)", harness.run_avr(program))
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("optimize", ["-Os", "-O2"])
@pytest.mark.parametrize("form", networks())
def test_the_self_test(form: str, optimize: str, tmp_path: Path) -> None:
    result, stack = run(build(form, tmp_path, optimize))
    assert result == 0
    assert 0 < stack < STACK


def test_a_wrong_result_is_told(tmp_path: Path) -> None:
    build("softmax", tmp_path)
    path = tmp_path / "net_softmax/net_softmax_selftest.c"
    path.write_text(path.read_text().replace("y[output] - golden", "1 + y[output] - golden"))
    program = harness.build(
        AVR,
        [*forms.sources(path.parent), HERE / "avr_main.c"],
        tmp_path / "wrong.elf",
        includes=[tmp_path, path.parent],
        defines=["SEN_SELFTEST_NO_MAIN"],
        warnings=WARNINGS,
    )
    assert run(program)[0] == 1


@pytest.mark.parametrize("form", networks())
def test_memory_is_as_the_readme_states(form: str, tmp_path: Path) -> None:
    """Constants take flash only, structures are the only variables with values, and the arena has the size stated."""
    folder = forms.write(networks()[form], "net", tmp_path)
    rows = _ROW.findall((folder / "README.md").read_text())
    stated = {label: int(nbytes) for _, label, nbytes in rows}
    constants = sum(
        int(nbytes)
        for memory, label, nbytes in rows
        if memory == "flash" and not re.match("code of|structures|alignment", label)
    )
    sources = [folder / "net.c", folder / "net_selftest.c"]
    defines = ["SEN_SELFTEST_NO_MAIN"]
    built, selftest = harness.build_objects(
        with_tools(AVR), sources, tmp_path, includes=[folder], defines=defines, optimize="-Os", warnings=WARNINGS
    )
    sizes = dict.fromkeys(("progmem", "rodata", "data", "bss"), 0)
    for section, nbytes in _SECTION.findall(_output("avr-size", "-A", built)):
        sizes[section] += int(nbytes)
    assert constants <= sizes["progmem"] <= constants + stated.get("alignment", 0) + 4  # a constant of a function
    assert 0 < sizes["rodata"] + sizes["data"] <= stated["on AVR: structures, upper bound"]
    assert sizes["bss"] == 0
    (arena,) = re.findall(r"^\w+ (\w+) b arena", _output("avr-nm", "-S", selftest), re.MULTILINE)
    assert int(arena, 16) == int(re.search(r"arena; /\* (\d+) bytes", (folder / "README.md").read_text())[1])
    if form == "large":
        assert constants > RAM


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_standard_c_has_no_flash(tmp_path: Path) -> None:
    """Constants are copied to RAM on request only."""
    target = replace(AVR, flags=(*AVR.flags, "-std=c99"))
    folder = forms.write(networks()["softmax"], "net", tmp_path)
    given = {"includes": [folder], "warnings": WARNINGS}
    with pytest.raises(RuntimeError, match="gnu99"):
        harness.build_objects(with_tools(target), [folder / "net.c"], tmp_path, **given)
    harness.build_objects(target, [folder / "net.c"], tmp_path, **given, defines=["SEN_FLASH="])


def test_what_flash_does_not_hold_is_refused(tmp_path: Path) -> None:
    wide = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(256, 32, 4))
    coordinates = random_network(np.random.default_rng(0), kinds=("coordinates",), sizes=(6, 5, 4))
    for network, weights, define, message in (
        (wide, "array", "ANY", "32767"),
        (networks()["softmax"], "incbin", "ANY", r"-O c\.weights=array"),
        (coordinates, "array", "NET_EXPAND", "-DSEN_FLASH="),
    ):
        folder = forms.write(network, "net", tmp_path / weights, weights)
        with pytest.raises(RuntimeError, match=message):
            harness.build_objects(
                with_tools(AVR), [folder / "net.c"], tmp_path, includes=[folder], defines=[define], warnings=WARNINGS
            )
