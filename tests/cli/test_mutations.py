"""Files with flipped bits or without their end: read, or refused with a `SenError`."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sen_edge.model import checkpoint as checkpoints
from sen_edge.passes.materialize import materialize
from sen_exporters.base import exporter
from sen_runtime import format as image
from sen_runtime.bench import history, record
from sen_runtime.errors import SenError
from tests.conftest import MLP, make_checkpoint
from tests.support import records

PARSERS = ("pt", "safetensors", "sen", "onnx", "tflite", "json", "jsonl")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a valid file of each format."""
    folder, made = tmp_path_factory.mktemp("originals"), make_checkpoint(MLP)
    for suffix in (".pt", ".safetensors"):
        checkpoints.save(made, folder / f"mlp{suffix}")
    network = materialize(checkpoints.to_network(made))
    found: dict[str, bytes] = {}
    for target in ("onnx", "tflite"):
        found[target] = exporter(target).export(network, exporter(target).Options(name="mlp")).main
    found["sen"] = image.dumps(network)
    found["json"] = record.dumps(records.record(rounds=3)).encode()
    found["jsonl"] = (json.dumps(history.summary(records.record())) + "\n").encode() * 2
    for suffix, content in found.items():
        (folder / f"mlp.{suffix}").write_bytes(content)
    return folder


def read(suffix: str, path: Path) -> object:
    if suffix in ("pt", "safetensors"):
        return checkpoints.load(path)
    if suffix == "sen":
        return image.read(path)
    if suffix == "json":
        return record.read(path)
    if suffix == "jsonl":
        return history.read(path)
    return exporter(suffix).properties(path.read_bytes())


SHARE = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize("suffix", PARSERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(SHARE, st.integers(1, 255)), max_size=4), cut=st.just(0.0) | SHARE)
def test_a_damaged_file_is_read_or_refused(
    suffix: str, originals: Path, tmp_path: Path, flips: list[tuple[float, int]], cut: float
) -> None:
    content = bytearray((originals / f"mlp.{suffix}").read_bytes())
    for place, bits in flips:
        content[int(place * len(content))] ^= bits
    path = tmp_path / f"file.{suffix}"
    path.write_bytes(content[: len(content) - int(cut * len(content))])
    try:
        read(suffix, path)
    except SenError as error:
        assert len(error.message) < 5000
