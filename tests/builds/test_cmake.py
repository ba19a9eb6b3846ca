"""Consumers of an exported folder that build with CMake."""

import tarfile
from pathlib import Path

import pytest

from tests.builds.project import EXPANDED, HEADERS, NAMES, cmake, run, write
from tests.support.c_exports import export, small

pytestmark = pytest.mark.needs("cmake")

MAIN = """
#include "far.h"
#include "snn.h"
int main(void)
{
    static far_arena far_memory;
    static snn_arena snn_memory;
    static float x[FAR_INPUTS], y[FAR_OUTPUTS];
    far_init();
    return far_run(&far_memory, x, y) | snn_run(&snn_memory, x, y);
}
"""
HEAD = "cmake_minimum_required(VERSION 3.14)\nproject(app C)\n"
APPLICATION = "add_executable(app main.c)\ntarget_link_libraries(app PRIVATE far snn)\n"


@pytest.mark.parametrize("weights", ["array", "incbin"])
def test_a_folder_alone_builds_its_self_test(weights: str, tmp_path: Path) -> None:
    folder = export(small("coordinates"), weights=weights).write(tmp_path).parent
    for options in ((), ("-DNET_EXPAND=ON",)):
        cmake(folder, tmp_path / "b", *options)
        assert "100% tests passed, 0 tests failed out of 1" in run("ctest", "--test-dir", tmp_path / "b")


def test_subdirectories_of_a_project(exports: Path, tmp_path: Path) -> None:
    added = "".join(f"add_subdirectory({exports / name} {name})\n" for name in NAMES)
    program = f"add_executable(app main.c)\ntarget_link_libraries(app PRIVATE {' '.join(NAMES)})\n"
    main = f"{HEADERS}{EXPANDED}int main(void) {{ return FAR_INPUTS != 9; }}\n"
    project = write(tmp_path, {"main.c": main, "CMakeLists.txt": HEAD + added + program})
    cmake(project, tmp_path / "b", "-DFAR_EXPAND=ON")
    run(tmp_path / "b/app")
    assert not list((tmp_path / "b").rglob("*selftest*"))


def test_content_that_cmake_fetches(exports: Path, tmp_path: Path) -> None:
    """One from an archive, one from a folder."""
    with tarfile.open(tmp_path / "snn.tar.gz", "w:gz") as archive:
        archive.add(exports / "snn", "snn")
    fetched = f"""
include(FetchContent)
FetchContent_Declare(far SOURCE_DIR {exports}/far)
FetchContent_Declare(snn URL file://{tmp_path}/snn.tar.gz)
FetchContent_MakeAvailable(far snn)
"""
    project = write(tmp_path / "app", {"main.c": MAIN, "CMakeLists.txt": HEAD + fetched + APPLICATION})
    cmake(project, tmp_path / "b")
    run(tmp_path / "b/app")


def test_installed_libraries(exports: Path, tmp_path: Path) -> None:
    for name in ("far", "snn"):
        cmake(exports / name, tmp_path / name, f"-D{name.upper()}_SELFTEST=OFF")
        run("cmake", "--install", tmp_path / name, "--prefix", tmp_path / "installed")
    found = "find_package(far REQUIRED)\nfind_package(snn REQUIRED)\n"
    project = write(tmp_path / "app", {"main.c": MAIN, "CMakeLists.txt": HEAD + found + APPLICATION})
    cmake(project, tmp_path / "b", f"-DCMAKE_PREFIX_PATH={tmp_path / 'installed'}")
    run(tmp_path / "b/app")
