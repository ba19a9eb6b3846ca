"""Exports with `kernels="shared"`, in builds of the host."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sen_exporters.c.shared_kernels import kernels_id
from sen_runtime import reference
from sen_runtime.engines import c as engine
from tests.support.c_exports import STRICT, assert_close, export, small
from tests.support.networks import random_input

KERNELS = ("sen_kernels.h", "sen_kernels.c")
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """A perceptron and a spiking network."""
    networks = {"first": small("sum", "int8"), "second": small("dense", spiking=True)}
    return [export(network, name, kernels="shared").write(tmp_path).parent for name, network in networks.items()]


def compiled(compiler: str, folder: Path) -> list[Path]:
    """Objects of an export."""
    sources = [path.name for path in folder.glob("*.c")]
    subprocess.run([compiler, *STRICT, "-O1", "-DSEN_SELFTEST_NO_MAIN", "-c", *sources], check=True, cwd=folder)
    return sorted(folder.glob("*.o"))


def linked(folder: Path, *objects: Path) -> subprocess.CompletedProcess[str]:
    """The build of a program with the self-tests of `first` and `second`."""
    main = folder / "main.c"
    main.write_text(
        "int first_selftest(void);\nint second_selftest(void);\n"
        "int main(void) { return first_selftest() + second_selftest(); }\n"
    )
    return subprocess.run(["gcc", main, *objects, "-lm", "-o", folder / "program"], capture_output=True, text=True)


def test_kernels_are_the_same_in_all_exports(folders: list[Path]) -> None:
    for name in KERNELS:
        assert folders[0].joinpath(name).read_bytes() == folders[1].joinpath(name).read_bytes()
    assert not any(name.startswith("net/sen_kernels") for name in export(small()).files)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_program_contains_the_kernels_once(compiler: str, folders: list[Path], tmp_path: Path) -> None:
    first, second = (compiled(compiler, folder) for folder in folders)
    assert linked(tmp_path, *first, *(path for path in second if path.name != "sen_kernels.o")).returncode == 0
    assert subprocess.run([tmp_path / "program"]).returncode == 0


def test_the_linker_takes_the_kernels_of_one_of_two_libraries(folders: list[Path], tmp_path: Path) -> None:
    """Which PlatformIO and Arduino make of each folder."""
    libraries = [tmp_path / f"lib{folder.name}.a" for folder in folders]
    for library, folder in zip(libraries, folders, strict=True):
        subprocess.run(["ar", "rcs", library, *compiled("gcc", folder)], check=True)
    assert linked(tmp_path, *libraries).returncode == 0
    assert subprocess.run([tmp_path / "program"]).returncode == 0


def test_kernels_of_another_version_are_refused(folders: list[Path], tmp_path: Path) -> None:
    first, second = folders
    for path in (second / name for name in (*KERNELS, "second.c")):
        path.write_text(path.read_text().replace(kernels_id(), "0123abcd"))
    objects = [*compiled("gcc", first), *(path for path in compiled("gcc", second) if path.name != "sen_kernels.o")]
    done = linked(tmp_path, *objects)
    assert done.returncode != 0 and "sen_kernels_0123abcd" in done.stderr
    shutil.copy(first / "sen_kernels.h", second)
    done = subprocess.run(["gcc", "-c", "second.c", "sen_kernels.c"], cwd=second, capture_output=True, text=True)
    assert done.stderr.count("error: #error") == 2


def test_libraries_of_frameworks_contain_the_kernels(folders: list[Path]) -> None:
    manifest = json.loads((folders[0] / "library.json").read_text())
    assert "+<sen_kernels.c>" in manifest["build"]["srcFilter"]
    assert set(KERNELS) < set(manifest["export"]["include"])
    assert "dot_a_linkage=true\n" in (folders[0] / "library.properties").read_text()  # kernels of two libraries collide


@pytest.mark.needs("cmake")
def test_cmake_builds_the_kernels_of_two_networks_once(folders: list[Path], tmp_path: Path) -> None:
    project, build = tmp_path / "CMakeLists.txt", tmp_path / "build"
    names = [folder.name for folder in folders]
    project.write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(app C)\nenable_testing()\n"
        + "".join(f"set({name.upper()}_SELFTEST ON)\nadd_subdirectory({name})\n" for name in names)
    )
    subprocess.run(["cmake", "-S", tmp_path, "-B", build], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True)
    done = subprocess.run(["ctest", "--test-dir", build], capture_output=True, text=True)
    assert "0 tests failed out of 2" in done.stdout
    assert len(list(build.rglob("*sen_kernels.a"))) == 1


@pytest.mark.parametrize("given", [{}, {"spiking": True}], ids=str)
def test_outputs_are_those_of_private_kernels(given: dict, tmp_path: Path) -> None:
    network = small("coordinates", **given)
    x = random_input(np.random.default_rng(0), network, 8)
    shared, private = (
        engine.load(export(network, kernels=kernels).write(tmp_path / kernels)).run(x)
        for kernels in ("shared", "private")
    )
    np.testing.assert_array_equal(shared, private)
    assert_close(shared, reference.run(network, x))
