"""Target and engine of a third party, installed as a package: docs/how-to/extend.md."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIP = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation", "--no-compile"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the plugin is installed."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(ROOT / "examples/plugin", folder / "source")
    command = [sys.executable, "-m", "pip", "install", *PIP, "--target", folder / "site", folder / "source"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "site"


def run(site: Path, *words: object, expected: int = 0) -> str:
    """What a command prints on stdout."""
    command = [sys.executable, "-m", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == expected, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_plugin_is_exported_verified_and_measured(site: Path, mlp_path: Path, tmp_path: Path) -> None:
    run(site, "sen_edge", "export", mlp_path, "--to", "netjson", "-o", tmp_path / "out", "--title", "a net")
    file, manifest = tmp_path / "out/mlp.netjson", tmp_path / "out/mlp.manifest.json"
    figures = json.loads(manifest.read_text())["artifacts"][0]["verification"]
    assert [each["engine"].split()[0] for each in figures] == ["netjson-numpy"]
    assert json.loads(file.read_text())["title"] == "a net"
    run(site, "sen_edge", "verify", file, "--against", mlp_path)
    record = tmp_path / "record.json"
    run(site, "sen_runtime", "bench", file, "--seconds", "0.2", "--threads", "1,2", "--json", record)
    rows = json.loads(record.read_text())["rows"]
    assert [(row["engine"], row["threads"]) for row in rows] == [("netjson-numpy", 1)]


@pytest.mark.slow
def test_a_defect_of_a_plugin_is_found(site: Path, mlp_path: Path, snn_path: Path, tmp_path: Path) -> None:
    """The network of two neurons of `doctor`, a network without a form, and an engine that computes something else."""
    assert "netjson-numpy" in run(site, "sen_edge", "doctor")
    run(site, "sen_edge", "export", snn_path, "--to", "netjson", "-o", tmp_path / "out", expected=2)
    wrong = tmp_path / "wrong"
    shutil.copytree(site, wrong)
    engine = wrong / "sen_edge_netjson/engine.py"
    engine.write_text(engine.read_text().replace("x @ weight + bias", "x @ weight - bias + 1"))
    run(wrong, "sen_edge", "export", mlp_path, "--to", "netjson", "-o", tmp_path / "out", expected=3)
    assert not (tmp_path / "out").exists()
