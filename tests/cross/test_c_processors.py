"""Exported C on many processors: compiled without warnings, linked, and run if an emulator exists."""

import math
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from sen_exporters.c import budget
from sen_exporters.c.integer import lower_integers
from sen_exporters.c.library import closure, regions
from sen_exporters.c.program import lower_network
from sen_exporters.c.wiring import FORMS
from sen_runtime.ir.network import Network
from tests.cross import forms, harness
from tests.cross.harness import BIG_ENDIAN, EXPORTED_ONLY, HERE, STRICT, TARGETS, Target
from tests.cross.test_c_integer_kernels import networks as integer_kernels

LITTLE_ENDIAN = {**TARGETS, **EXPORTED_ONLY}
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
PEDANTIC = ("-std=c99", *STRICT, "-Wpedantic")
#: -march, and what /proc/cpuinfo says of a processor that can run it.
X86 = {
    "x86-64": set(),
    "x86-64-v2": {"sse4_2", "popcnt"},
    "x86-64-v3": {"avx2", "bmi2", "f16c", "fma"},
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "icelake-server": {"avx512_vnni", "avx512_vbmi2", "avx512_bitalg", "sha_ni", "vaes"},
}
IS_X86 = platform.machine() in ("x86_64", "AMD64")
#: Levels that QEMU executes where the processor does not.
EMULATED_X86 = ("x86-64-v2", "x86-64-v3")
ARM = {
    "aarch64, dot products": ("aarch64", ("-march=armv8.2-a+dotprod+fp16",)),
    "armhf, NEON": ("armhf", ("-march=armv7-a+neon-vfpv4", "-marm")),
    "armhf, Thumb": ("armhf", ("-march=armv7-a+neon-vfpv4", "-mthumb")),
    "armhf, armv8-a": ("armhf", ("-march=armv8-a+simd", "-marm")),
}
#: clang's target and flags, and the compiler whose C library has the headers.
CLANG = {
    "thumbv6m": ("thumbv6m-none-eabi", ("-mcpu=cortex-m0",), "arm-none-eabi-gcc"),
    "thumbv7m": ("thumbv7m-none-eabi", ("-mcpu=cortex-m3",), "arm-none-eabi-gcc"),
    "thumbv7em": ("thumbv7em-none-eabihf", ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16"), "arm-none-eabi-gcc"),
    "thumbv8m": ("thumbv8m.main-none-eabihf", ("-mcpu=cortex-m33", "-mfpu=fpv5-sp-d16"), "arm-none-eabi-gcc"),
    "aarch64": ("aarch64-linux-gnu", ("-march=armv8.2-a+dotprod",), "aarch64-linux-gnu-gcc"),
}
#: Optimization levels, and the bound on the stack that the README of an export gives for them.
LEVELS = {
    "-O0": budget.STACK_BYTES_UNOPTIMIZED,
    **dict.fromkeys(("-Og", "-Os", "-O2"), budget.STACK_BYTES),
}


def export_all(networks: Mapping[str, Network], folder: Path, weights: str) -> tuple[list[Path], list[Path]]:
    """Sources of all exports, and the folders of their headers; `selftests.h` calls every self-test."""
    folders = [forms.write(network, f"net_{name}", folder, weights) for name, network in networks.items()]
    names = [path.name for path in folders]
    headers = "".join(f'#include "{name}.h"\n' for name in names)
    calls = " + ".join(f"({name}_selftest() != 0)" for name in names)
    (folder / "selftests.h").write_text(f"{headers}static int run_selftests(void)\n{{\n    return {calls};\n}}\n")
    return [source for each in folders for source in forms.sources(each)], [folder, *folders]


def with_tools(target: Target) -> Target:
    """The same target; where its tools are missing, the test is skipped."""
    lacking = harness.missing(target)
    if lacking:
        pytest.skip(f"{target.name} needs {', '.join(lacking)}")
    return target


def selftests(
    target: Target, networks: Mapping[str, Network], folder: Path, weights: str, optimize: str = "-O2"
) -> int:
    """Exit code of a program on a target: 0 if all exports pass their self-tests, and a wrong one fails."""
    sources, includes = export_all(networks, folder, weights)
    wrong = forms.write(forms.single_forms()["dense_float32"], "wrong", folder)
    test = wrong / "wrong_selftest.c"
    text = test.read_text().replace("y[output] - golden", "1 + y[output] - golden")
    assert text != test.read_text()
    test.write_text(text)
    program = harness.build(
        target,
        [*sources, *forms.sources(wrong), HERE / "selftests_main.c"],
        folder / "program",
        includes=[*includes, wrong],
        defines=["SEN_SELFTEST_NO_MAIN", "WITH_WRONG"],
        optimize=optimize,
    )
    return harness.run(target, program).code


@pytest.fixture(scope="module")
def single_exports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of exports that hold one form each."""
    folder = tmp_path_factory.mktemp("single")
    return [forms.write(network, f"net_{name}", folder) for name, network in forms.single_forms().items()]


def test_the_networks_hold_every_form() -> None:
    networks = (*forms.every_form().values(), *forms.single_forms().values())
    programs = [(lower_integers if network.input_grid else lower_network)(network, "net") for network in networks]
    programs += [lower_integers(network, "net", simd=simd) for network, simd in integer_kernels().values()]
    programs += [lower_network(network, "net", delays=form) for network in forms.every_delay() for form in FORMS]
    conditional = (names for each in programs for names in each.conditional_functions.values())
    functions = (names for each in programs for names in (each.functions, each.expanded_functions))
    held = closure({name for names in (*functions, *conditional) for name in names})
    assert set(regions()) - set(held) == {"kernel_choice"}


@pytest.mark.skipif(not IS_X86, reason="not an x86-64 processor")
@pytest.mark.parametrize("compiler", COMPILERS)
def test_x86(compiler: str, tmp_path: Path) -> None:
    """Compile and link for every level of x86-64, and run what this machine can."""
    flags = set(re.search(r"^flags.*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1].split())
    weights = "array" if compiler == "gcc" else "incbin"
    sources, includes = export_all(forms.every_form(), tmp_path, weights)
    command = [compiler, *PEDANTIC, "-O2", "-DSEN_SELFTEST_NO_MAIN", *(f"-I{folder}" for folder in includes)]
    for architecture, needed in X86.items():
        program = tmp_path / architecture
        subprocess.run(
            [*command, f"-march={architecture}", *sources, HERE / "selftests_main.c", "-lm", "-o", program], check=True
        )
        if needed <= flags:
            assert subprocess.run([program]).returncode == 0, architecture
        elif architecture in EMULATED_X86 and shutil.which("qemu-x86_64"):
            assert subprocess.run(["qemu-x86_64", "-cpu", "max", program]).returncode == 0, architecture


@pytest.mark.parametrize("name", LITTLE_ENDIAN)
def test_the_self_tests(name: str, tmp_path: Path) -> None:
    target = with_tools(LITTLE_ENDIAN[name])
    assert selftests(target, forms.every_form(), tmp_path, "incbin", "-Os") == 0


@pytest.mark.parametrize("kind", ARM)
def test_arm(kind: str, tmp_path: Path) -> None:
    name, flags = ARM[kind]
    target = with_tools(TARGETS[name])
    assert selftests(replace(target, flags=(*target.flags, *flags)), forms.every_form(), tmp_path, "array") == 0


@pytest.mark.needs("clang")
@pytest.mark.parametrize("processor", ["host", *CLANG])
def test_clang_has_no_warning_for_any_single_form(processor: str, single_exports: list[Path]) -> None:
    """Of functions that only another form uses, for example."""
    flags: Iterable[str] = ()
    if processor != "host":
        name, options, library = CLANG[processor]
        if not shutil.which(library):
            pytest.skip(f"{library} is not installed")
        flags = (f"--target={name}", *options, *_headers(library))
    sources = [folder / f"{folder.name}.c" for folder in single_exports]
    command = ["clang", *PEDANTIC, "-fsyntax-only", *flags, *(f"-I{folder}" for folder in single_exports), *sources]
    subprocess.run(command, check=True)


def _headers(compiler: str) -> list[str]:
    """Where a gcc finds the headers of its C library, as flags."""
    found = subprocess.run([compiler, "-E", "-v", "-x", "c", "-"], input="", capture_output=True, text=True).stderr
    listed = found.split("search starts here:")[-1].split("End of search list")[0].split()
    folders = [str(Path(folder).resolve()) for folder in listed]
    return [flag for folder in folders if "/lib/gcc" not in folder for flag in ("-isystem", folder)]


@pytest.mark.parametrize("name", BIG_ENDIAN)
def test_big_endian(name: str, tmp_path: Path) -> None:
    target = with_tools(BIG_ENDIAN[name])
    assert selftests(target, forms.every_form(), tmp_path / "array", "array") == 0
    with pytest.raises(RuntimeError, match=r"-O c\.weights=array"):
        selftests(target, forms.every_form(), tmp_path / "incbin", "incbin")


@pytest.mark.parametrize("level", LEVELS)
def test_the_stack_is_no_deeper_than_stated(level: str, tmp_path: Path) -> None:
    target = with_tools(TARGETS["cortex-m4"])
    for name, network in forms.every_form().items():
        folder = forms.write(network, "net", tmp_path / name)
        is_integer = network.input_grid is not None
        calls = ["net_run_u8"] if is_integer else ["net_run", "net_step"] if network.is_spiking else ["net_run"]
        (folder / "exported_case.h").write_text(
            '#include "net.h"\n#define CASE_ARENA net_arena\n'
            f"#define CASE_VALUE {'uint8_t' if is_integer else 'float'}\n"
            f"#define CASE_INPUTS {math.prod(network.input_shape)}\n#define CASE_OUTPUTS NET_OUTPUTS\n"
        )
        for call in calls:
            program = harness.build(
                target,
                [folder / "net.c", HERE / "stack.c"],
                folder / call,
                includes=[folder],
                defines=[f"CASE_RUN={call}"],
                optimize=level,
            )
            used = int(harness.run(target, program).stdout.split()[1])
            assert 100 < used <= LEVELS[level], f"{name}: {call}"


@pytest.mark.parametrize("name", ["cortex-m0", "cortex-m4", "aarch64"])
def test_each_input_that_is_not_finite_is_refused(name: str, tmp_path: Path) -> None:
    target = with_tools(TARGETS[name])
    folder = forms.write(forms.every_form()["extremes"], "net", tmp_path)
    program = harness.build(target, [folder / "net.c", HERE / "nonfinite.c"], tmp_path / "program", includes=[folder])
    assert harness.run(target, program).code == 0
