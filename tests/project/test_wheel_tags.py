"""A wheel whose libraries do not match its platform tag is refused."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from tools.wheel_tags import problems

SOURCE = """
#include <pthread.h>
static void *nothing(void *argument) { return argument; }
int start(pthread_t *thread) { return pthread_create(thread, 0, nothing, 0); }
"""


def build(folder: Path, tag: str, *options: str, compiler: str = "gcc") -> Path:
    """A wheel with two equal libraries."""
    library = folder / "library.so"
    command = [compiler, "-shared", "-fPIC", *options, "-o", library, "-xc", "-"]
    subprocess.run(command, input=SOURCE, text=True, check=True)
    wheel = folder / f"sen_edge_runtime-1.0-py3-none-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("sen_edge_runtime-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: py3-none-{tag}\n")
        for name in ("libsen.so", "libsen_call.so"):
            archive.write(library, f"sen_runtime/c/{name}")
    return wheel


@pytest.mark.needs("gcc")
@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("manylinux_2_99_x86_64", ()),
        ("manylinux_2_2_x86_64", ("pthread_create",)),
        ("manylinux_2_99_aarch64", ("x86_64",)),
        ("musllinux_1_2_x86_64", ("libc.so.6", "pthread_create")),
        ("macosx_11_0_arm64", ("libsen.dylib", "x86_64")),
    ],
)
def test_symbols_and_processor(tag: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    found = problems(build(tmp_path, tag))
    assert bool(found) == bool(expected), found
    for word in expected:
        assert any(word in each for each in found), found


@pytest.mark.needs("gcc")
def test_metadata_size_and_missing_libraries(tmp_path: Path) -> None:
    wheel = build(tmp_path, "manylinux_2_99_x86_64")
    wheel = wheel.rename(wheel.with_name(wheel.name.replace("2_99", "2_98")))
    assert any("metadata" in each for each in problems(wheel))
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("sen_edge_runtime-1.0.dist-info/WHEEL", "Tag: py3-none-manylinux_2_98_x86_64\n")
        archive.writestr("large", bytes(3_000_000))
    found = problems(wheel)
    assert len(found) == 2 and any("libsen.so" in each for each in found)


@pytest.mark.cross
@pytest.mark.needs("arm-linux-gnueabihf-gcc")
def test_instructions_of_a_newer_arm(tmp_path: Path) -> None:
    found = problems(build(tmp_path, "linux_armv6l", "-march=armv7-a+fp", compiler="arm-linux-gnueabihf-gcc"))
    assert any("Tag_CPU_arch" in each for each in found)
