"""`sen-edge compress`: invalid requests, written files, and state after Ctrl-C."""

import hashlib
import json
import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sen_edge.compression import evaluator
from sen_edge.compression.evaluator import NetworkEvaluator
from sen_edge.model import checkpoint as checkpoints
from sen_edge.passes.quantize import to_int8_weights
from sen_runtime import format as image
from tests.conftest import Outcome
from tests.support.networks import random_network

Run = Callable[..., Outcome]
SEARCH = ("--max-accuracy-drop", "40", "--objective", "macs")


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    """Labelled inputs of 64 numbers in ten clouds, with a test part."""
    rng = np.random.default_rng(0)
    centres, labels = rng.random((10, 64)), np.arange(300) % 10
    x = np.clip(centres[labels] + 0.1 * rng.normal(size=(300, 64)), 0, 1).astype(np.float32)
    np.savez(tmp_path / "data.npz", x_train=x[:250], y_train=labels[:250], x_test=x[250:], y_test=labels[250:])
    return tmp_path / "data.npz"


def files(folder: Path) -> dict[str, str]:
    """Every file below, and its contents' digest."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- what is written -----------------------------------------------------------------------------


def test_manifest_records_the_compression(sen_edge: Run, mlp_path: Path, npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.sen"
    outcome = sen_edge(
        "compress", mlp_path, "--sparsity", 0.75, "--pattern", "1x4", "--seed", 3, "--data", npz, "-o", out, "--json"
    )
    assert outcome.code == 0, outcome.err
    manifest = json.loads((tmp_path / "small.manifest.json").read_text())
    assert json.loads(outcome.out) == manifest
    assert manifest["input"] == "mlp.pt"
    assert manifest["input_sha256"] == hashlib.sha256(mlp_path.read_bytes()).hexdigest()
    request = manifest["request"]
    assert (request["seed"], request["epochs"], request["rank"], request["max_drop"]) == (3, 0, None, None)
    assert (request["sparsity"], request["pattern"], request["criterion"]) == (0.75, "1x4", "second-order")
    assert manifest["calibration"]["samples"] == 250 and len(manifest["calibration"]["sha256"]) == 64
    network = image.read(out)
    assert [layer["macs"] for layer in manifest["layers"]] == [layer.weight.macs for layer in network.layers]
    assert manifest["after"]["macs"] == network.macs
    zeros = sum(layer["sparsity"] * layer["n_in"] * layer["n_out"] for layer in manifest["layers"])
    assert zeros / (64 * 32 + 32 * 10) == pytest.approx(0.75, abs=0.01)
    notes = json.loads(network.metadata["compression"])
    assert notes == {"request": request, "score": manifest["score"]}
    assert network.metadata["checkpoint_sha256"] == manifest["input_sha256"]
    assert network.metadata["test_accuracy"] == f"{manifest['score']['compressed']:.2f}"


def test_the_next_command_works(sen_edge: Run, mlp_path: Path, npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "a b.sen"
    outcome = sen_edge("compress", mlp_path, "--rank", 4, "--data", npz, "-o", out)
    assert outcome.code == 0 and outcome.err.splitlines()[-1] == f"next: sen-edge export '{out}'"
    assert "MACs" in outcome.err and "data.npz" in outcome.err


@pytest.mark.parametrize("flags", [("--sparsity", 0.5), ("--rank", 4, "--epochs", 1), SEARCH], ids=str)
def test_the_same_command_gives_the_same_bytes(
    sen_edge: Run, mlp_path: Path, npz: Path, tmp_path: Path, flags: tuple[object, ...]
) -> None:
    found = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        outcome = sen_edge("compress", mlp_path, *flags, "--data", npz, "-o", tmp_path / folder / "small.sen")
        assert outcome.code == 0, outcome.err
        found.append(files(tmp_path / folder))
    assert found[0] == found[1] and set(found[0]) == {"small.sen", "small.manifest.json"}


def test_a_checkpoint_of_a_checkpoint_of_a_checkpoint(sen_edge: Run, snn_path: Path, npz: Path, tmp_path: Path) -> None:
    """What is cut stays cut, in both formats and for spiking networks."""
    cut: list[dict[int, np.ndarray]] = []
    model = snn_path
    for step, (name, share) in enumerate([("a.pt", 0.3), ("b.safetensors", 0.5), ("c.pt", 0.7)]):
        flags = ("--sparsity", share, *(("--epochs", 1) if step else ("--criterion", "magnitude")))
        outcome = sen_edge("compress", model, *flags, "--data", npz, "-o", tmp_path / name)
        assert outcome.code == 0, outcome.err
        model = tmp_path / name
        loaded = checkpoints.load(model)
        cut.append(dict(loaded.synapses))
        assert loaded.config.spiking is not None
        assert sen_edge("inspect", model, "--json").code == 0
    for before, after in pairwise(cut):
        assert all(not np.any(mask & ~before[index]) for index, mask in after.items())
    total = sum(mask.size for mask in cut[-1].values())
    assert sum(int(mask.sum()) for mask in cut[-1].values()) / total == pytest.approx(0.3, abs=0.02)
    exported = sen_edge("export", model, "--to", "onnx,sen", "-o", tmp_path / "out")
    assert exported.code == 0, exported.err


def test_export_reports_its_compression(sen_edge: Run, snn_path: Path, npz: Path, tmp_path: Path) -> None:
    command = ("export", snn_path, "--sparsity", 0.75, "--data", npz, "--to", "onnx,sen", "-o", tmp_path / "out")
    outcome = sen_edge(*command)
    assert outcome.code == 0, outcome.err
    manifest = json.loads((tmp_path / "out/snn.manifest.json").read_text())
    compression = manifest["compression"]
    assert compression["request"]["sparsity"] == 0.75 and compression["score"]["samples"] == 50
    assert compression["calibration"]["samples"] == 250
    assert [layer["macs"] for layer in manifest["network"]["layers"]] == [
        layer["macs"] for layer in compression["layers"]
    ]
    sen = sen_edge("compress", snn_path, "--sparsity", 0.75, "--data", npz, "-o", tmp_path / "small.sen")
    assert sen.code == 0, sen.err
    one, other = image.read(tmp_path / "out/snn.sen"), image.read(tmp_path / "small.sen")
    for a, b in zip(one.layers, other.layers, strict=True):
        np.testing.assert_array_equal(a.weight.to_dense(), b.weight.to_dense())


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--rank", "0"), 2, "rank"),
        (("--sparsity", "0.5", "--rank", "3"), 2, "rank"),
        (("--max-accuracy-drop", "1"), 2, "--data"),
        (("--sparsity", "0.5"), 1, "calibration"),
    ],
    ids=str,
)
def test_an_export_refuses_what_compress_does(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, flags: tuple[str, ...], code: int, message: str
) -> None:
    outcome = sen_edge("export", mlp_path, *flags, "-o", tmp_path / "out")
    assert (outcome.code, outcome.out) == (code, "") and message in outcome.err, outcome.err
    assert not (tmp_path / "out").exists()


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        pytest.param(("--sparsity", "nan"), 2, "--sparsity", id="sparsity nan"),
        pytest.param(("--sparsity", "x"), 2, "--sparsity", id="sparsity x"),
        pytest.param(("--sparsity", "0.5", "--threshold", "0.1"), 2, "threshold", id="two measures"),
        pytest.param(("--sparsity", "0.3", "--pattern", "2:4"), 2, "sparsity", id="sparsity of 2:4"),
        pytest.param(("--pattern", "4:2"), 2, "--pattern", id="4:2"),
        pytest.param(("--threshold", "-1"), 2, "--threshold", id="threshold"),
        pytest.param(("--macs", "1"), 2, "--macs", id="macs 1"),
        pytest.param(("--macs", "0.001"), 2, "0.1% of the MACs", id="macs 0.001"),
        pytest.param(("--error", "1"), 2, "--error", id="error 1"),
        pytest.param(("--error", "nan"), 2, "--error", id="error nan"),
        pytest.param(("--rank", "3", "--macs", "0.5"), 2, "rank", id="two ranks"),
        pytest.param(("--rank", "3", "--layers", "2"), 2, "layer 2", id="layer"),
        pytest.param(("--rank", "3", "--criterion", "distance"), 2, "--criterion", id="criterion of rank"),
        pytest.param(("--pattern", "1x4"), 2, "--pattern", id="pattern alone"),
        pytest.param(("--hierarchical", "0"), 2, "--hierarchical", id="hierarchical 0"),
        pytest.param(("--hierarchical", "0.1", "--rank", "3"), 2, "hierarchical", id="hierarchical with rank"),
        pytest.param(("--max-accuracy-drop", "1", "--rank", "3"), 2, "max drop", id="budget with rank"),
        pytest.param(("--max-accuracy-drop", "100"), 2, "accuracy-drop", id="drop 100"),
        pytest.param(("--max-accuracy-drop", "nan"), 2, "accuracy-drop", id="drop nan"),
        pytest.param(("--max-accuracy-drop", "1", "--methods", "sparse,odd"), 2, "methods", id="methods"),
        pytest.param(("--epochs", "3"), 2, "--epochs", id="epochs alone"),
        pytest.param(("--rank", "3", "--epochs", "1", "--distillation", "2"), 2, "distillation", id="distillation"),
        pytest.param(("--sparsity", "0.5", "--epochs", "1", "--patience", "-1"), 2, "patience", id="patience"),
        pytest.param(("--rank", "3", "-o", "x.pt"), 2, "coordinates", id="rank to pt"),
        pytest.param(("--rank", "3", "-o", "x"), 2, "''", id="no suffix"),
        pytest.param(("--rank", "3", "-o", "absent.npz/x.sen"), 1, "", id="folder is a file"),
        pytest.param(("--sparsity", "0.5", "--pattern", "neurons", "-o", "x.pt"), 2, "coordinates", id="neurons to pt"),
    ],
)
def test_bad_requests_write_nothing(
    sen_edge: Run,
    mlp_path: Path,
    npz: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "absent.npz").write_text("in the way")
    before = files(tmp_path)
    outcome = sen_edge("compress", mlp_path, "--data", npz, *flags)
    assert (outcome.code, outcome.out) == (code, ""), outcome.err
    assert message in outcome.err and files(tmp_path) == before


@pytest.mark.parametrize(
    ("labels", "width", "message"),
    [(True, 63, "[64]"), (False, 64, "bad.npz"), (None, 64, "bad.npz")],
    ids=["width", "labels", "absent"],
)
def test_bad_labelled_data(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, labels: bool | None, width: int, message: str
) -> None:
    path, x = tmp_path / "bad.npz", np.random.default_rng(0).random((90, width)).astype(np.float32)
    if labels is not None:
        np.savez(path, **({"x": x, "y": np.arange(90) % 10} if labels else {"x": x}))
    before = files(tmp_path)
    outcome = sen_edge("compress", mlp_path, *SEARCH, "--data", path, "-o", tmp_path / "a.sen")
    assert (outcome.code, outcome.out, files(tmp_path)) == (1, "", before), outcome.err
    assert message in outcome.err


@pytest.mark.parametrize("flags", [(), ("--criterion", "magnitude")], ids=str)
def test_int8_weights_are_not_compressed_again(
    sen_edge: Run, npz: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(64, 32, 10))
    image.write(to_int8_weights(network), tmp_path / "int8.sen")
    command = ("compress", tmp_path / "int8.sen", "--sparsity", 0.5, "--data", npz, *flags)
    outcome = sen_edge(*command, "-o", tmp_path / "a.sen")
    assert outcome.code == 2 and "int8" in outcome.err, outcome.err
    assert not (tmp_path / "a.sen").exists()


def test_a_damaged_model_is_refused(sen_edge: Run, npz: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_text("not a checkpoint")
    outcome = sen_edge("compress", tmp_path / "bad.pt", "--rank", 3, "--data", npz, "-o", tmp_path / "a.sen")
    assert outcome.code == 1 and "torch" in outcome.err and not (tmp_path / "a.sen").exists()


@pytest.mark.parametrize("existing", ["a.sen", "a.manifest.json"])
def test_either_file_needs_force(
    sen_edge: Run, mlp_path: Path, npz: Path, tmp_path: Path, existing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is refused before minutes of work."""
    (tmp_path / existing).write_text("mine")
    command = ("compress", mlp_path, "--rank", 3, "--data", npz, "-o", tmp_path / "a.sen")
    with monkeypatch.context() as patch:
        patch.setattr("sen_edge.compression.pipeline.compress", None)
        outcome = sen_edge(*command)
    assert outcome.code == 1 and existing in outcome.err and "--force" in outcome.err
    assert (tmp_path / existing).read_text() == "mine"
    assert sen_edge(*command, "--force").code == 0
    assert (tmp_path / existing).read_text("latin-1") != "mine"


def test_force_does_not_replace_the_model(sen_edge: Run, mlp_path: Path, npz: Path, tmp_path: Path) -> None:
    before = files(tmp_path)
    for name in ("mlp.pt", "../" + tmp_path.name + "/mlp.pt"):
        outcome = sen_edge(
            "compress", mlp_path, "--sparsity", 0.3, "--criterion", "magnitude", "-o", tmp_path / name, "--force"
        )
        assert outcome.code == 1 and "mlp.pt" in outcome.err and files(tmp_path) == before


# --- interrupted ---------------------------------------------------------------------------------


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Callable[[object, str, int], list[int]]:
    """Have the n-th call of a function get the signal that Ctrl-C sends."""

    def arm(owner: object, name: str, at: int) -> list[int]:
        real, calls = getattr(owner, name), []

        def signalled(*arguments: object, **options: object) -> object:
            calls.append(len(calls) + 1)
            if len(calls) == at:
                os.kill(os.getpid(), signal.SIGINT)
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, signalled)
        return calls

    return arm


def test_interrupted_search_prints_how_to_resume(
    sen_edge: Run,
    mlp_path: Path,
    npz: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ctrl_c: Callable[[object, str, int], list[int]],
) -> None:
    monkeypatch.setattr(evaluator, "MIN_WEIGHTS", 2000)
    calls = ctrl_c(NetworkEvaluator, "_evaluate", 3)
    out, state = tmp_path / "small.sen", tmp_path / "small.sen.search.json"
    command = ("compress", mlp_path, *SEARCH, "--methods", "low-rank", "--data", npz, "-o", out)
    first = sen_edge(*command)
    assert (first.code, first.out) == (130, "") and len(calls) == 3
    assert str(state) in first.err and "resume" in first.err
    assert not out.exists() and not (tmp_path / "small.manifest.json").exists()
    kept = state.read_bytes()
    other = sen_edge(*command[:-4], "--methods", "sparse", *command[-4:])
    assert other.code == 2 and "methods" in other.err
    assert f"remove {state}" in other.err and state.read_bytes() == kept
    again = sen_edge(*command)
    assert again.code == 0, again.err
    assert not state.exists()
    resumed, manifest = len(calls) - 3, json.loads((tmp_path / "small.manifest.json").read_text())
    assert resumed == 1 + len(manifest["search"]["candidates"]) - 2  # what the signal hit is measured again
    first_files = files(tmp_path)
    assert sen_edge(*command, "--force").code == 0 and files(tmp_path) == first_files


def test_a_damaged_state_is_refused(sen_edge: Run, mlp_path: Path, npz: Path, tmp_path: Path) -> None:
    state = tmp_path / "a.sen.search.json"
    state.write_text("{")
    before = files(tmp_path)
    outcome = sen_edge("compress", mlp_path, *SEARCH, "--data", npz, "-o", tmp_path / "a.sen", "--force")
    assert outcome.code == 2 and str(state) in outcome.err
    assert f"remove {state}" in outcome.err and files(tmp_path) == before


@pytest.mark.parametrize("name", ["a.sen", "a.pt"])
def test_ctrl_c_in_training_keeps_nothing(
    sen_edge: Run,
    mlp_path: Path,
    npz: Path,
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sen_edge.training.loop.run_epoch", interrupted)
    before = files(tmp_path)
    outcome = sen_edge("compress", mlp_path, "--sparsity", 0.5, "--epochs", 2, "--data", npz, "-o", tmp_path / name)
    assert (outcome.code, outcome.out, files(tmp_path)) == (130, "", before)
    assert outcome.err.splitlines()[-1].startswith("interrupted")


def test_ctrl_c_in_an_export(
    sen_edge: Run, mlp_path: Path, npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NetworkEvaluator, "_evaluate", interrupted)
    outcome = sen_edge("export", mlp_path, "--max-accuracy-drop", "40", "--data", npz, "-o", tmp_path / "out")
    assert outcome.code == 130 and not (tmp_path / "out").exists()
