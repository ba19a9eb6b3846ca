"""Exported folders as modules of Zephyr.

The registries that CI reaches do not have the kernel. There, a stand-in (tests/builds/zephyr) evaluates module.yml,
Kconfig and prj.conf, and defines the CMake functions that modules call. With a tree of Zephyr in ZEPHYR_BASE, the
modules that it needs (CMSIS) in ZEPHYR_MODULES, and a toolchain in ZEPHYR_TOOLCHAIN_VARIANT, that tree builds the same
application as well, which runs on an emulated board.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builds.project import EXPANDED, HEADERS, NAMES, SELF_TESTS, cmake, write
from tests.support.c_exports import export, small

STUB = Path(__file__).parent / "zephyr"
TREES = [STUB, *([Path(os.environ["ZEPHYR_BASE"])] if "ZEPHYR_BASE" in os.environ else [])]
APPLICATION = {
    "CMakeLists.txt": """
cmake_minimum_required(VERSION 3.13)
find_package(Zephyr REQUIRED HINTS $ENV{ZEPHYR_BASE})
project(app)
target_sources(app PRIVATE main.c)
""",
    "prj.conf": "CONFIG_SEN_FAR_EXPAND=y\n"
    + "".join(f"CONFIG_SEN_{name}{end}=y\n" for name in map(str.upper, NAMES) for end in ("", "_SELFTEST")),
    "full_libc.conf": "CONFIG_NEWLIB_LIBC=y\n",
    "main.c": f"""
#include <stdio.h>
{HEADERS}{EXPANDED}
int main(void)
{{
    printf("self-tests: %d\\n", {SELF_TESTS});
    return 0;
}}
""",
}


def build(application: Path, out: Path, tree: Path, modules: list[Path]) -> Path:
    """The program; an AssertionError with the words of Kconfig, CMake or the compiler."""
    if tree == STUB:
        options = (f"-DPython3_EXECUTABLE={sys.executable}",)
    else:
        modules = [*modules, *map(Path, os.environ["ZEPHYR_MODULES"].split(";"))]
        options = ("-DBOARD=mps2_an385", f"-DOVERLAY_CONFIG={application}/full_libc.conf")
    cmake(application, out, f"-DZEPHYR_MODULES={';'.join(map(str, modules))}", *options, ZEPHYR_BASE=str(tree))
    return out / "zephyr/zephyr.elf"


@pytest.mark.needs("cmake", "gcc")
@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
def test_modules_of_an_application(tree: Path, exports: Path, tmp_path: Path) -> None:
    program = build(write(tmp_path / "app", APPLICATION), tmp_path / "b", tree, [exports / name for name in NAMES])
    emulator = () if tree == STUB else ("timeout", "60", "qemu-system-arm", "-M", "mps2-an385", "-nographic", "-kernel")
    with subprocess.Popen([*emulator, program], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as running:
        told = next((line for line in running.stdout or () if "self-tests" in line or "FAULT" in line), "")
        running.kill()
    assert told.split() == ["self-tests:", "0"]


@pytest.mark.needs("cmake", "gcc")
def test_options_of_kconfig(exports: Path, tmp_path: Path) -> None:
    main = "#ifdef FAR_EXPAND\n#error\n#endif\nint main(void) { return 0; }\n"
    application = write(tmp_path / "app", {**APPLICATION, "prj.conf": "CONFIG_SEN_FAR=y\n", "main.c": main})
    build(application, tmp_path / "b", STUB, [exports / "far", exports / "snn"])
    assert {path.name for path in (tmp_path / "b").rglob("*.c.o")} == {"far.c.o", "main.c.o", "empty.c.o"}
    for wrong in ("CONFIG_SEN_SNN_SELFTEST=y\n", "CONFIG_SEN_SNN=y\nCONFIG_SEN_SNN_EXPAND=y\n"):  # depends; has none
        write(application, {"prj.conf": wrong})
        with pytest.raises(AssertionError, match="SEN_SNN"):
            build(application, tmp_path / "wrong", STUB, [exports / "snn"])


def test_the_full_libc_is_for_sqrtf() -> None:
    """Minimal libc may lack it; no other form needs it."""
    assert b"    select REQUIRES_FULL_LIBC" in export(small("coordinates")).files["net/zephyr/Kconfig"]
    assert b"select" not in export(small("nested_sum")).files["net/zephyr/Kconfig"]
