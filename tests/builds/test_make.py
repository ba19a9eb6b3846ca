"""Makefile of an exported folder, and a compiler alone."""

from pathlib import Path

import pytest

from tests.builds.project import NAMES, run
from tests.cross import harness

pytestmark = pytest.mark.needs("make", "gcc")


@pytest.mark.parametrize("name", NAMES)
def test_make_builds_a_library_and_a_self_test(name: str, exports: Path, tmp_path: Path) -> None:
    make = ("make", "-f", exports / name / "Makefile")
    run(
        *make,
        f"CPPFLAGS=-D{name.upper()}_EXPAND",
        "CFLAGS=-Os -Wall -Wextra -Werror",
        f"{name}_selftest",
        folder=tmp_path,
    )
    assert "WRONG" not in run(tmp_path / f"{name}_selftest")
    assert {path.name for path in tmp_path.iterdir()} >= {f"lib{name}.a", f"{name}_selftest", f"{name}.o"}
    assert "up to date" in run(*make, folder=tmp_path)


def test_a_changed_file_is_compiled_again(exports: Path, tmp_path: Path) -> None:
    make = ("make", "-f", exports / "snn/Makefile")
    run(*make, folder=tmp_path)
    for name in ("snn_weights.bin", "snn.h"):
        command = run(*make, "--dry-run", "--what-if", exports / "snn" / name, folder=tmp_path)
        assert f"{'snn_weights' if name.endswith('.bin') else 'snn'}.o" in command and "libsnn.a" in command


@pytest.mark.cross
@pytest.mark.needs("aarch64-linux-gnu-gcc", "qemu-aarch64")
@pytest.mark.parametrize("name", NAMES)
def test_make_with_a_cross_compiler(name: str, exports: Path, tmp_path: Path) -> None:
    target = harness.TARGETS["aarch64"]
    tools = (f"CC={target.prefix}gcc", f"AR={target.prefix}ar", "LDFLAGS=-static")
    run("make", "-f", exports / name / "Makefile", *tools, f"{name}_selftest", folder=tmp_path)
    assert harness.run(target, tmp_path / f"{name}_selftest").code == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_compiler_that_is_given_every_source(name: str, exports: Path, tmp_path: Path) -> None:
    """As `cc *.c *.S -lm` in the folder."""
    folder = exports / name
    sources = [*sorted(folder.glob("*.c")), *sorted(folder.glob("*.S"))]
    run("gcc", *sources, "-lm", "-o", tmp_path / "selftest", folder=folder)
    run(tmp_path / "selftest")
