"""Exported folders as components of ESP-IDF.

The registries that CI reaches do not have ESP-IDF. There, a stand-in (tests/builds/esp_idf) reads components twice, as
ESP-IDF does, and builds them for the host. With a tree of ESP-IDF in IDF_PATH, and the Python packages that it needs on
the PATH, that tree builds the same project as well, for its target `linux`.
"""

import os
from pathlib import Path

import pytest

from tests.builds.project import EXPANDED, HEADERS, NAMES, SELF_TESTS, cmake, run, write

STUB = Path(__file__).parent / "esp_idf"
TREES = [STUB, *([Path(os.environ["IDF_PATH"])] if "IDF_PATH" in os.environ else [])]
PROJECT = {
    "CMakeLists.txt": """
cmake_minimum_required(VERSION 3.16)
set(COMPONENTS main)
include($ENV{IDF_PATH}/tools/cmake/project.cmake)
project(app)
""",
    "main/CMakeLists.txt": f"idf_component_register(SRCS main.c INCLUDE_DIRS . REQUIRES {' '.join(NAMES)})\n",
    "main/main.c": f"""
#include <stdio.h>
#include <stdlib.h>
{HEADERS}{EXPANDED}
void app_main(void)
{{
    printf("self-tests: %d\\n", {SELF_TESTS});
    exit(0);
}}
""",
}


@pytest.mark.needs("cmake", "gcc")
@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
def test_components_of_a_project(tree: Path, exports: Path, tmp_path: Path) -> None:
    project = write(tmp_path / "app", PROJECT)
    (project / "components").mkdir()
    for name in NAMES:
        (project / "components" / name).symlink_to(exports / name)
    options = ["-DFAR_EXPAND=ON", *(f"-D{name.upper()}_SELFTEST=ON" for name in NAMES)]
    environment = {"IDF_PATH": str(tree)}
    if tree != STUB:
        options += ["-DPYTHON_DEPS_CHECKED=1", "-DPYTHON=python"]  # as idf.py does
        environment |= {"IDF_TARGET": "linux", "IDF_COMPONENT_MANAGER": "0"}
    cmake(project, tmp_path / "b", *options, **environment)
    assert "self-tests: 0\n" in run(tmp_path / "b/app.elf")
