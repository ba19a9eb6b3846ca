"""Models of the Hugging Face Hub, served on the loopback device to the real client."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import sen_edge
from sen_edge.model import checkpoint as checkpoints
from tests.conftest import MLP, make_checkpoint
from tests.support.hub import COMMIT, serve

LOAD = """
import json, sys, sen_edge
for name, options in json.loads(sys.argv[1]):
    try:
        model = sen_edge.Model.from_pretrained(name, **options)
        print(json.dumps([model.sha256, str(model.path)]))
    except sen_edge.SenError as error:
        assert error.exit_code == 1 and "\\n" not in error.message
        print(json.dumps([type(error).__name__, error.message]))
"""


def load(calls: list, home: Path, **environment: str) -> list:
    """Load models in a process with the cache `home`; return hash and path, or error, of each."""
    env = {**os.environ, "HF_HOME": str(home), **environment}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOAD, json.dumps(calls)],
        env=env,
        capture_output=True,
        text=True,
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_model_is_downloaded_only_when_it_is_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    checkpoints.save(make_checkpoint(MLP), tmp_path / "net.pt")
    sen_edge.load(tmp_path / "net.pt").save_pretrained(tmp_path / "net")
    files = {path.name: path.read_bytes() for path in (tmp_path / "net").iterdir()}
    bad = {"config.json": json.dumps({"format": "sen-edge-model", "version": 1, "file": "../net.pt"}).encode()}
    home = tmp_path / "home"
    home.mkdir()
    with serve({"me/net": {**files, "evil.pt": b""}, "me/empty": {}, "me/bad": bad}) as (address, requests):
        calls = [
            ["me/net", {"local_files_only": True}],
            ["me/net", {}],
            ["me/net", {"revision": COMMIT, "local_files_only": True}],
            ["me/net", {"revision": "absent"}],
            *([name, {}] for name in ("me/absent", "me/empty", "me/bad", "absent", "../absent")),
        ]
        uncached, *loaded = load(calls, home, HF_ENDPOINT=address)
    assert uncached[0] == "CheckpointError"
    expected = sen_edge.load(tmp_path / "net").sha256
    for sha256, path in loaded[:2]:
        assert sha256 == expected and Path(path).is_relative_to(home)
    assert [kind for kind, _ in loaded[2:]] == ["CheckpointError"] * 6
    fetched = [line.split("/resolve/")[1].split("/")[1] for line in requests if line.startswith("GET /me/net/")]
    assert fetched == ["config.json", "model.safetensors"]
    cached, other = load([["me/net", {}], ["me/other", {}]], home, HF_ENDPOINT=address, HF_HUB_OFFLINE="1")
    assert cached[0] == expected and other[0] == "CheckpointError"


def test_the_client_of_the_hub_reads_the_card(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    metadata = {"dataset": "digits", "test_accuracy": "97.25"}
    checkpoints.save(replace(make_checkpoint(MLP), metadata=metadata), tmp_path / "net.pt")
    sen_edge.load(tmp_path / "net.pt").save_pretrained(tmp_path / "net", license_id="apache-2.0")
    data = hub.ModelCard.load(tmp_path / "net" / "README.md").data
    assert (data.license, data.library_name, data.model_name) == ("apache-2.0", "sen-edge", "net")
    (result,) = data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == ("digits", "accuracy", 97.25)
