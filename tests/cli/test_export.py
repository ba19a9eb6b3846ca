"""`sen-edge export` and `verify`: files, refusals, interrupted writes."""

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig
from tests.conftest import MLP, Outcome, make_checkpoint
from tests.support.checkpoints import write_pruned

Run = Callable[..., Outcome]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_export_writes_verified_files_and_a_manifest(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = sen_edge("export", mlp_path, "--to", "onnx,sen", "-o", out, "--name", "net")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines() == [str(out / name) for name in ("net.onnx", "net.sen", "net.manifest.json")]
    assert "next: sen-edge verify" in outcome.err
    assert names(out) == {"net.onnx", "net.sen", "net.manifest.json"}
    manifest = json.loads((out / "net.manifest.json").read_text())
    assert manifest["input"]["sha256"] == hashlib.sha256(mlp_path.read_bytes()).hexdigest()
    for artifact in manifest["artifacts"]:
        for figures in artifact["verification"]:
            assert figures["passed"] and figures["inputs"] >= 256
            assert figures["max_rel_error"] <= 1e-4
        for name, facts in artifact["files"].items():
            data = (out / name).read_bytes()
            assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_exported_file_is_self_describing(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    sen_edge("export", mlp_path, "-o", tmp_path)
    model = onnx.load(tmp_path / "mlp.onnx")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["producer"] == f"sen-edge {version('sen-edge')}"
    assert properties["checkpoint_sha256"] == hashlib.sha256(mlp_path.read_bytes()).hexdigest()
    assert properties["verified_inputs"] == "288"
    assert properties["verified_max_rel_error"].startswith("<= ")
    assert {"layer0/weight", "layer0/bias", "layer1/weight"} <= {tensor.name for tensor in model.graph.initializer}


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--weights", "coordinates"),
        ("--dtype", "float16"),
        ("--dtype", "float16", "--weights", "coordinates"),
        ("--opset", "13"),
        ("--opset", "21"),
        ("--batch-size", "3"),
        ("--sparse-format", "dense"),
    ],
    ids=" ".join,
)
def test_export_and_verify_a_perceptron(
    options: tuple[str, ...], sen_edge: Run, mlp_path: Path, tmp_path: Path
) -> None:
    assert sen_edge("export", mlp_path, "-o", tmp_path, *options).code == 0
    outcome = sen_edge("verify", tmp_path / "mlp.onnx", "--against", mlp_path, "--seed", 7)
    assert outcome.code == 0, outcome.err
    assert "equal decisions" in outcome.out


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "sen"])
@pytest.mark.parametrize("snn", ["unrolled", "scan", "step"])
def test_export_and_verify_a_spiking_network(
    snn: str, target: str, sen_edge: Run, snn_path: Path, tmp_path: Path
) -> None:
    assert sen_edge("export", snn_path, "-o", tmp_path, "--snn", snn, "--to", target).code == 0
    outcome = sen_edge("verify", tmp_path / f"snn.{target}", "--against", snn_path, "--json")
    assert outcome.code == 0
    for figures in json.loads(outcome.out):
        assert figures["passed"] and figures["spike_agreement"] >= 0.999


def test_a_file_is_no_folder(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    outcome = sen_edge("export", mlp_path, "-o", tmp_path / "out", "--force")
    assert outcome.code == 1 and "folder" in outcome.err
    assert (tmp_path / "out").read_text() == "mine"


def test_export_is_deterministic(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        assert sen_edge("export", mlp_path, "--to", "onnx,sen", "-o", tmp_path / folder).code == 0
    for name in names(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_json_is_the_manifest(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    outcome = sen_edge("export", mlp_path, "-o", tmp_path, "--json")
    assert json.loads(outcome.out) == json.loads((tmp_path / "mlp.manifest.json").read_text())


def test_an_existing_output_needs_force(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    (tmp_path / "mlp.onnx").write_text("mine")
    outcome = sen_edge("export", mlp_path, "-o", tmp_path)
    assert outcome.code == 1 and "mlp.onnx" in outcome.err and "--force" in outcome.err
    assert (tmp_path / "mlp.onnx").read_text() == "mine"
    assert sen_edge("export", mlp_path, "-o", tmp_path, "--force").code == 0
    assert (tmp_path / "mlp.onnx").read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "onnx,gguf"), "'gguf'"),
        (("--to", ","), "--to"),
        (("--weights", "sparse"), "--weights"),
        (("--dtype", "int2"), "--dtype"),
        (("--opset", "12"), "opset"),
        (("--opset", "99"), "opset"),
        (("--opset", "x"), "x"),
        (("--batch-size", "0"), "--batch-size"),
        (("--batch-size", "9" * 5000), "--batch-size"),
        (("--batch-size", "many"), "--batch-size"),
        (("--snn", "rolled"), "rolled"),
        (("--snn", "scan"), "--snn"),
        (("--sparse-format", "coo"), "coo"),
        (("--name", "a/b"), "--name"),
        (("--name", ""), "--name"),
        (("--colour", "red"), "colour"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_a_usage_error(
    options: tuple[str, ...], message: str, sen_edge: Run, mlp_path: Path, tmp_path: Path
) -> None:
    outcome = sen_edge("export", mlp_path, "-o", tmp_path / "out", *options)
    assert outcome.code == 2 and message in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layers", [(1,), (0, 1)], ids=["one layer", "all layers"])
def test_coordinates_do_not_give_a_pattern(
    layers: tuple[int, ...], sen_edge: Run, mlp_path: Path, tmp_path: Path
) -> None:
    write_pruned(mlp_path, layers)
    request = ("export", mlp_path, "--to", "onnx", "-o", tmp_path / "out")
    outcome = sen_edge(*request, "--weights", "coordinates")
    assert outcome.code == 2 and f"layer {layers[0]}" in outcome.err
    assert "sen-edge compress --criterion distance" in outcome.err
    assert not (tmp_path / "out").exists()
    assert sen_edge(*request).code == 0


def test_data_of_another_shape(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((5, 63), np.float32), y=np.zeros(5, np.int64))
    outcome = sen_edge("export", mlp_path, "-o", tmp_path / "out", "--data", tmp_path / "data.npz")
    assert outcome.code == 1 and "[63]" in outcome.err
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_written(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    outcome = sen_edge("export", mlp_path, "-o", tmp_path / "file" / "out")
    assert outcome.code == 1 and str(tmp_path / "file") in outcome.err


def test_a_file_that_disagrees_is_not_written(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect in the precomputed weights of the second layer must be caught, and its layer named."""
    from sen_edge.passes import materialize

    exact = materialize.weights

    def wrong(operator: Any) -> Any:
        result = exact(operator)
        if result.shape == (10, 32):
            result[3, 5] *= 1.01
        return result

    monkeypatch.setattr(materialize, "weights", wrong)
    outcome = sen_edge("export", mlp_path, "-o", tmp_path / "out")
    assert outcome.code == 3
    assert "layer 1" in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "sen"])
def test_verify_refuses_a_file_of_another_checkpoint(
    target: str, sen_edge: Run, mlp_path: Path, snn_path: Path, tmp_path: Path
) -> None:
    sen_edge("export", mlp_path, "-o", tmp_path, "--to", target)
    other = tmp_path / "other.pt"
    checkpoints.save(make_checkpoint(MLP, seed=1), other)
    assert "layer 0" in sen_edge("verify", tmp_path / f"mlp.{target}", "--against", other).err
    for sizes, message in {
        (65, 32, 10): "[64]",
        (64, 31, 10): "[288, 31]",
        (64, 32, 9): "[288, 10]",
        (64, 10): "decisions",
        (64, 32, 10, 10): "layer1/activation",
    }.items():
        checkpoints.save(make_checkpoint(SpatialConfig(sizes)), other, replace=True)
        outcome = sen_edge("verify", tmp_path / f"mlp.{target}", "--against", other)
        assert outcome.code == 3 and message in outcome.err
    assert sen_edge("verify", tmp_path / f"mlp.{target}", "--against", snn_path).code == 3


@pytest.mark.parametrize(
    ("name", "data", "code", "message"),
    [
        ("model.onnx", None, 1, "model.onnx"),
        ("model.gguf", b"x", 2, "'.gguf'"),
        ("model.onnx", b"not onnx", 1, "model.onnx"),
        ("model.sen", b"not an image", 1, "model.sen"),
        ("model.tflite", b"no flatbuffer", 1, "model.tflite"),
    ],
    ids=["absent", "suffix", "damaged onnx", "damaged image", "damaged tflite"],
)
def test_verify_of_no_artifact(
    name: str, data: bytes | None, code: int, message: str, sen_edge: Run, mlp_path: Path, tmp_path: Path
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    outcome = sen_edge("verify", tmp_path / name, "--against", mlp_path)
    assert outcome.code == code and message in outcome.err


SCRIPT = """
import os, signal, sys
from sen_runtime import files
written, nth = [], int(sys.argv[1])
def half_then_killed(path, data):
    written.append(path)
    path.write_bytes(data[: len(data) // 2])
    if len(written) == nth:
        os.kill(os.getpid(), signal.SIGKILL)
    path.write_bytes(data)
files._write_synced = half_then_killed
sys.argv = ["sen-edge", *sys.argv[2:]]
from sen_edge.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_sigkill_leaves_no_partial_file(nth: int, sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["export", str(mlp_path), "-o", str(out), "--to", "onnx,sen"]
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(nth), *arguments])
    assert run.returncode == -signal.SIGKILL
    assert all(name.startswith(".") and name.endswith(".tmp") for name in names(out))
    assert sen_edge(*arguments).code == 0
    assert names(out) == {"mlp.onnx", "mlp.sen", "mlp.manifest.json"}  # and the leftovers are gone


FULL_DISK = """
import resource, sys
from sen_runtime import files
genuine = files._write_synced
def full(path, data):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    genuine(path, data)
if sys.argv[1] == "output":
    files._write_synced = full
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
sys.argv = ["sen-edge", *sys.argv[2:]]
from sen_edge.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("disk", ["output", "temporary"])
def test_a_full_disk_leaves_no_file(disk: str, mlp_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, disk, "export", mlp_path, "-o", out], capture_output=True, text=True
    )
    assert run.returncode == 1 and "error: " in run.stderr and "Traceback" not in run.stderr
    assert not out.exists() or names(out) == set()
