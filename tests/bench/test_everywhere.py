"""The same benchmark by `sen-runtime`, by `sen-edge`, and over SSH."""

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from sen_edge.cli.bench import bench
from sen_exporters.onnx.exporter import OnnxExporter
from sen_runtime import cli
from sen_runtime import format as image
from sen_runtime.bench import record
from tests.conftest import Outcome
from tests.support import sshd
from tests.support.networks import random_network

Run = Callable[..., Outcome]
#: Parameters of `sen-edge bench` that are about hosts.
ABOUT_HOSTS = {"host", "inventory", "keep", "timeout", "no_install", "ssh_config"}

needs_sshd = pytest.mark.needs("sshd")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("artifacts")
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(24, 16, 5))
    paths = folder / "net.onnx", folder / "net.sen"
    paths[0].write_bytes(OnnxExporter().export(network, OnnxExporter.Options()).main)
    paths[1].write_bytes(image.dumps(network))
    return paths


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Server]:
    server = sshd.start(tmp_path_factory.mktemp("sshd"))
    yield server
    sshd.stop(server)


def test_both_commands_take_the_same_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["bench", "--help"])
    words = capsys.readouterr().out.replace(",", " ").split()
    there = {word[2:].replace("-", "_") for word in words if word.startswith("--") and len(word) > 2} - {"help"}
    here = set(inspect.signature(bench).parameters) - ABOUT_HOSTS - {"artifacts"}
    assert here == {name.split("]")[0] for name in there}


def test_the_toolkit_measures_here(sen_edge: Run, artifacts: tuple[Path, Path], tmp_path: Path) -> None:
    outcome = sen_edge("bench", *artifacts, "--seconds", 0.3, "--json", tmp_path / "r.json")
    assert outcome.code in (0, 3), outcome.err  # 3 where this machine's clock changed meanwhile
    found = record.read(tmp_path / "r.json")
    assert [row["engine"] for row in found["rows"]] == ["onnxruntime", "native"]
    assert found["rows"][1]["agreement"]["matches"]
    assert "net.sen native 1" in outcome.out


@pytest.mark.slow
@needs_sshd
def test_two_machines_over_ssh_give_records_of_the_schema(
    sen_edge: Run, server: sshd.Server, artifacts: tuple[Path, Path], tmp_path: Path
) -> None:
    inventory, out = tmp_path / "hosts.toml", tmp_path / "records.json"
    hosts = [f'[hosts.{name}]\naddress = "{name}"\npython = "{sys.executable}"\n' for name in ("device", "twin")]
    inventory.write_text("".join(hosts))
    asked = ["--inventory", inventory, "--ssh-config", server.config, "--seconds", 0.3, "--allow-throttled"]
    outcome = sen_edge("bench", *artifacts, *asked, "--json", out)
    assert outcome.code == 0, outcome.err
    found = json.loads(out.read_text())
    for each in found:
        jsonschema.validate(each, json.loads(record.schema_text()))
        assert [row["name"] for row in each["rows"]] == ["net.onnx onnxruntime 1", "net.sen native 1"]
    assert [each["command"][-1] for each in found] == ["--host=device", "--host=twin"]
    assert "twin" in outcome.out
    headings = [line for line in (outcome.out + outcome.err).splitlines() if line.startswith("row ")]
    assert len(headings) == 2 and "native 1  " not in outcome.err  # each table once
    page = tmp_path / "both.html"
    assert sen_edge("report", out, "-o", page).code == 0 and "twin" in page.read_text()


def test_exported_files_tell_their_work(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    assert sen_edge("export", mlp_path, "--to", "onnx,sen,tflite", "-o", tmp_path, "--name", "net").code == 0
    files = [tmp_path / f"net.{ending}" for ending in ("onnx", "tflite", "sen")]
    out = tmp_path / "r.json"
    assert sen_edge("bench", *files, "--seconds", 0.3, "--json", out, "--allow-throttled").code == 0
    network = image.read(files[2])
    for row in record.read(out)["rows"]:
        assert (row["macs"], row["nnz"]) == (network.macs, network.nnz)
