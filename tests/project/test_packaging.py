"""Packaging: two distributions, three import packages, and a runtime that requires numpy only."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy
import pytest

import sen_runtime

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    for project in (ROOT, ROOT / "runtime"):
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, project],
            check=True,
            capture_output=True,
        )
    return {wheel.name.split("-")[0]: wheel for wheel in folder.glob("*.whl")}


def top_level(wheel: Path) -> set[str]:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    return {name for name in names if not name.endswith(".dist-info")}


@pytest.mark.slow
def test_top_level_of_the_wheels(wheels: dict[str, Path]) -> None:
    assert {name: top_level(wheel) for name, wheel in wheels.items()} == {
        "sen_edge": {"sen_edge", "sen_exporters"},
        "sen_edge_runtime": {"sen_runtime"},
    }


@pytest.mark.slow
def test_the_runtime_wheel_fits_any_python_of_one_platform(wheels: dict[str, Path]) -> None:
    python, abi, platform = wheels["sen_edge_runtime"].stem.split("-")[2:]
    assert (python, abi) == ("py3", "none") and platform != "any"
    names = zipfile.ZipFile(wheels["sen_edge_runtime"]).namelist()
    for library in ("libsen.", "libsen_call."):
        assert any(name.startswith(f"sen_runtime/c/{library}") for name in names)


@pytest.mark.slow
def test_the_sdist_of_the_runtime_has_no_outputs_of_an_editable_install(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, ROOT / "runtime"]
    subprocess.run(command, check=True, capture_output=True)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert any(name.endswith("c/src/isa.c") for name in names)
    assert not [name for name in names if name.endswith((".so", ".o")) or "CMakeCache" in name or "CMakeFiles" in name]


@pytest.mark.slow
def test_wheels_are_typed_and_carry_the_licence(wheels: dict[str, Path]) -> None:
    for wheel in wheels.values():
        names = zipfile.ZipFile(wheel).namelist()
        assert any(name.endswith("py.typed") for name in names)
        assert any(name.endswith("LICENSE") for name in names)


@pytest.mark.slow
def test_the_runtime_wheel_carries_the_sources_that_exported_c_is_made_of(wheels: dict[str, Path]) -> None:
    from sen_exporters.c.library import regions

    names = set(zipfile.ZipFile(wheels["sen_edge_runtime"]).namelist())
    assert {f"sen_runtime/c/src/{region.file}" for region in regions().values()} <= names


@pytest.mark.slow
def test_the_runtime_wheel_carries_its_command_and_the_schema_of_records(wheels: dict[str, Path]) -> None:
    wheel = zipfile.ZipFile(wheels["sen_edge_runtime"])
    assert "sen_runtime/bench/record.schema.json" in wheel.namelist()
    entries = next(name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert "sen-runtime = sen_runtime.cli:main" in wheel.read(entries).decode().replace("=", " = ").replace("  ", " ")


@pytest.mark.slow
def test_the_wheel_carries_the_code_sizes_of_exported_c(wheels: dict[str, Path]) -> None:
    assert "sen_exporters/c/code_size.json" in zipfile.ZipFile(wheels["sen_edge"]).namelist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wheel", "root", "folder"),
    [
        ("sen_edge", "", "sen_edge/report/templates"),
        ("sen_edge", "exporters", "sen_exporters/view/templates"),
        ("sen_edge", "exporters", "sen_exporters/wasm/templates"),
        ("sen_edge", "exporters", "sen_exporters/wasm/include"),
        ("sen_edge_runtime", "runtime", "sen_runtime/js"),
    ],
)
def test_the_wheels_carry_templates_and_scripts(wheel: str, root: str, folder: str, wheels: dict[str, Path]) -> None:
    names = set(zipfile.ZipFile(wheels[wheel]).namelist())
    files = {path.name for path in (ROOT / root / folder).iterdir()}
    assert files and {f"{folder}/{name}" for name in files} <= names


RUNTIME_ALONE = """
import importlib, pkgutil, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in allowed and path is None:
            raise ImportError(f"sen_runtime may not import {name}")

allowed = {"sen_runtime", "numpy", *sys.stdlib_module_names}
sys.path[:0] = sys.argv[1:3]
sys.meta_path.insert(0, Refuse())
import sen_runtime
assert sen_runtime.__file__.startswith(sys.argv[1]), sen_runtime.__file__
names = [module.name for module in pkgutil.walk_packages(sen_runtime.__path__, "sen_runtime.")]
assert len(names) > 8, names
for name in names:
    importlib.import_module(name)
import numpy as np
from sen_runtime import format as image, reference
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Dense
network = Network((Layer(Dense(np.ones((2, 3), np.float32)), None, Identity()),))
assert reference.run(image.loads(image.dumps(network)), np.ones((1, 3))).tolist() == [[3, 3]]
print(sorted({"torch", "typer", "onnx", "onnxruntime", "rich"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_the_runtime_wheel_works_alone_with_numpy(wheels: dict[str, Path], tmp_path: Path) -> None:
    zipfile.ZipFile(wheels["sen_edge_runtime"]).extractall(tmp_path)
    site_packages = Path(numpy.__file__).parents[1]
    # -I -S: no site, so that neither this checkout nor anything installed is found but what is named
    command = [sys.executable, "-I", "-S", "-c", RUNTIME_ALONE, str(tmp_path), str(site_packages)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr


@pytest.mark.slow
def test_all_parts_have_one_version(wheels: dict[str, Path]) -> None:
    assert {wheel.name.split("-")[1] for wheel in wheels.values()} == {sen_runtime.__version__}
    pins = re.findall(r'"sen-edge-runtime\[[^]]*\]==([^"]+)"', (ROOT / "pyproject.toml").read_text())
    assert set(pins) == {sen_runtime.__version__}
    cmake = (ROOT / "runtime/sen_runtime/c/CMakeLists.txt").read_text()
    assert f"project(sen VERSION {sen_runtime.__version__} " in cmake


def test_a_broken_third_party_exporter_is_named_and_disturbs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from sen_exporters import base

    good = EntryPoint("onnx", "sen_exporters.onnx.exporter:OnnxExporter", base.ENTRY_POINT_GROUP)
    bad = EntryPoint("bad", "nowhere.at_all:Exporter", base.ENTRY_POINT_GROUP)
    monkeypatch.setattr(base, "entry_points", lambda group: [good, bad])
    assert base.exporter_names() == ("bad", "onnx")
    assert base.exporter("onnx").name == "onnx"
    assert base.exporter_for(".onnx").name == "onnx"
    with pytest.raises(base.ExportError, match="'bad'"):
        base.exporter("bad")
    with pytest.raises(base.ExportError, match=r"'other'.*bad, onnx"):
        base.exporter("other")
    with pytest.raises(base.ExportError, match=r"'\.gguf'.*'bad'.*\.onnx"):
        base.exporter_for(".gguf")
