"""`sen-edge compress`, and compression by `export`."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sen_edge.compression import evaluator
from sen_edge.compression.evaluator import NetworkEvaluator
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model import model as models
from sen_runtime.bench.interleaved import Latencies
from tests.conftest import Outcome

Run = Callable[..., Outcome]


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    """Labelled inputs of 64 numbers in ten clouds, with a test part."""
    rng = np.random.default_rng(0)
    centres, labels = rng.random((10, 64)), rng.integers(0, 10, 500)
    x = np.clip(centres[labels] + 0.1 * rng.normal(size=(500, 64)), 0, 1).astype(np.float32)
    np.savez(tmp_path / "data.npz", x_train=x[:400], y_train=labels[:400], x_test=x[400:], y_test=labels[400:])
    return tmp_path / "data.npz"


METHODS = {
    "sparsity": ["--sparsity", "0.5"],
    "blocks": ["--sparsity", "0.5", "--pattern", "1x4", "--layers", "0"],
    "groups": ["--pattern", "2:4"],
    "neurons": ["--sparsity", "0.5", "--pattern", "neurons"],
    "error of pruning": ["--threshold", "0.2"],
    "magnitude": ["--sparsity", "0.3", "--criterion", "magnitude"],
    "distance": ["--sparsity", "0.3", "--criterion", "distance"],
    "rank": ["--rank", "4"],
    "macs": ["--macs", "0.5"],
    "error": ["--error", "0.2"],
    "trained": ["--rank", "4", "--epochs", "1"],
    "search": ["--max-accuracy-drop", "40", "--objective", "macs"],
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["mlp", "snn"])
def test_every_method_gives_an_image_that_exports(
    sen_edge: Run, request: pytest.FixtureRequest, tmp_path: Path, npz: Path, kind: str, method: str
) -> None:
    model, out = request.getfixturevalue(f"{kind}_path"), tmp_path / "small.sen"
    before = models.load(model).network
    outcome = sen_edge("compress", model, *METHODS[method], "--data", npz, "-o", out)
    assert outcome.code == 0, outcome.err
    assert outcome.out.split() == [str(out), str(tmp_path / "small.manifest.json")]
    manifest = json.loads((tmp_path / "small.manifest.json").read_text())
    assert manifest["calibration"]["sha256"] and manifest["score"]["samples"] == 100
    assert len(manifest["layers"]) == len(before.layers) and manifest["after"]["macs"] <= manifest["before"]["macs"]
    after = models.load(out).network
    assert (after.n_in, after.n_out, after.timesteps) == (before.n_in, before.n_out, before.timesteps)
    assert "compression" in after.metadata and after.input_range == before.input_range
    assert sorted(path.name for path in tmp_path.glob("small*")) == ["small.manifest.json", "small.sen"]
    exported = sen_edge("export", out, "--to", "onnx,sen", "-o", tmp_path / "out")
    assert exported.code == 0, exported.err


@pytest.mark.needs("cc")
@pytest.mark.parametrize("kind", ["mlp", "snn"])
def test_a_flash_size_gives_an_integer_only_network_that_takes_no_more(
    sen_edge: Run, request: pytest.FixtureRequest, tmp_path: Path, npz: Path, kind: str
) -> None:
    model, out = request.getfixturevalue(f"{kind}_path"), tmp_path / "small.sen"
    outcome = sen_edge("compress", model, "--max-flash", "9KiB", "--data", npz, "-o", out)
    assert outcome.code == 0, outcome.err
    search = json.loads((tmp_path / "small.manifest.json").read_text())["search"]
    fitting = [each for each in search["candidates"] if each["flash"] <= 9 * 1024]
    assert search["chosen"] in fitting and search["chosen"]["drop"] == min(each["drop"] for each in fitting)
    export = ("export", out, "--to", "c", "-o", tmp_path / "out")
    assert sen_edge(*export).code == 2  # nothing to verify int8 activations on
    exported = sen_edge(*export, "--data", npz, "--max-flash", str(search["chosen"]["flash"]))
    assert exported.code == 0, exported.err
    again = sen_edge(*export, "--calibration", npz, "--max-flash", str(search["chosen"]["flash"] - 1), "--force")
    assert again.code == 3, again.err


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "flags",
    [
        ["--sparsity", "0.5", "--epochs", "2"],
        ["--sparsity", "0.3", "--criterion", "magnitude"],
        ["--sparsity", "0.3", "--criterion", "distance"],
        ["--threshold", "1.5", "--criterion", "distance"],
    ],
)
def test_a_sen_stays_a_checkpoint(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, npz: Path, suffix: str, flags: list[str]
) -> None:
    out = tmp_path / f"small{suffix}"
    outcome = sen_edge("compress", mlp_path, *flags, "--data", npz, "-o", out)
    assert outcome.code == 0, outcome.err
    loaded = checkpoints.load(out)
    assert loaded.synapses or loaded.config.max_distance
    assert "compression" in loaded.metadata and float(loaded.metadata["test_accuracy"]) >= 0
    assert sen_edge("inspect", out).code == 0
    assert sen_edge("export", out, "--to", "onnx", "-o", tmp_path / "out").code == 0


@pytest.mark.parametrize("method", ["sparsity", "rank"])
def test_export_compresses_first(sen_edge: Run, mlp_path: Path, tmp_path: Path, npz: Path, method: str) -> None:
    outcome = sen_edge("export", mlp_path, *METHODS[method], "--data", npz, "--to", "onnx,sen", "-o", tmp_path)
    assert outcome.code == 0, outcome.err
    manifest = json.loads((tmp_path / "mlp.manifest.json").read_text())
    assert manifest["compression"]["after"]["macs"] <= manifest["compression"]["before"]["macs"]
    assert manifest["network"]["macs"] == manifest["compression"]["after"]["macs"]


def test_inputs_without_labels_are_enough(sen_edge: Run, mlp_path: Path, tmp_path: Path, npz: Path) -> None:
    outcome = sen_edge(
        "compress", mlp_path, "--sparsity", "0.5", "--calibration", npz, "-o", tmp_path / "a.sen", "--json"
    )
    figures = json.loads(outcome.out)
    assert (
        outcome.code == 0
        and figures["score"] is None
        and figures["calibration"]["data"] == "data.npz (training part: 400)"
    )
    again = sen_edge("compress", tmp_path / "a.sen", "--rank", "4", "--calibration", npz, "-o", tmp_path / "b.sen")
    assert again.code == 0, again.err


BAD = {
    "nothing to do": ([], 2, "nothing to do"),
    "sparsity 1": (["--sparsity", "1"], 2, "sparsity"),
    "sparsity below 0": (["--sparsity", "-0.1"], 2, "sparsity"),
    "rank 0": (["--rank", "0"], 2, "rank"),
    "rank above full": (["--rank", "99"], 2, "32"),
    "macs 0": (["--macs", "0"], 2, "macs"),
    "two methods": (["--sparsity", "0.5", "--rank", "3"], 2, "rank"),
    "pattern": (["--sparsity", "0.5", "--pattern", "odd"], 2, "pattern"),
    "criterion": (["--sparsity", "0.5", "--criterion", "odd"], 2, "criterion"),
    "layers": (["--sparsity", "0.5", "--layers", "a"], 2, "layers"),
    "layer 9": (["--sparsity", "0.5", "--layers", "9"], 2, "layer 9"),
    "objective alone": (["--rank", "3", "--objective", "size"], 2, "objective"),
    "objective": (["--max-accuracy-drop", "1", "--objective", "odd"], 2, "objective"),
    "engine": (["--max-accuracy-drop", "1", "--engine", "odd"], 2, "engine"),
    "methods": (["--max-accuracy-drop", "1", "--methods", "odd"], 2, "methods"),
    "drop": (["--max-accuracy-drop", "-1"], 2, "accuracy-drop"),
    "epochs": (["--rank", "3", "--epochs", "-1"], 2, "epochs"),
    "suffix": (["--rank", "3", "-o", "x.onnx"], 2, "'.onnx'"),
    "no SEN": (["--rank", "3", "-o", "x.pt"], 2, "coordinates"),
    "weights in a SEN": (["--sparsity", "0.5", "-o", "x.pt"], 2, "second-order"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, npz: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    flags, code, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    outcome = sen_edge("compress", mlp_path, "--data", npz, *flags)
    assert (outcome.code, outcome.out) == (code, ""), outcome.err
    assert message in outcome.err
    assert not list(tmp_path.glob("*.sen")) and not list(tmp_path.glob("x.*"))


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--sparsity", "0.5"], 1, "calibration"),
        (["--max-accuracy-drop", "1"], 2, "--data"),
        (["--rank", "3", "--epochs", "2"], 2, "--data"),
        (["--macs", "0.5"], 2, "calibration"),
        (["--sparsity", "0.5", "--calibration", "narrow.npz"], 1, "[64]"),
        (["--sparsity", "0.5", "--calibration", "nan.npz"], 1, "nan.npz"),
        (["--sparsity", "0.5", "--calibration", "none.npz"], 1, "none.npz"),
        (["--sparsity", "0.5", "--data", "bytes.npz"], 1, "[0, 1]"),
    ],
)
def test_bad_data(
    sen_edge: Run,
    mlp_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("narrow.npz", x=rng.random((100, 63)).astype(np.float32))
    np.savez("bytes.npz", x=rng.integers(0, 256, (100, 8, 8, 1), np.uint8), y=np.arange(100)[:, None] % 10)
    np.savez("nan.npz", x=np.full((100, 64), np.nan, np.float32))
    outcome = sen_edge("compress", mlp_path, *flags)
    assert outcome.code == code and message in outcome.err, outcome.err
    assert not list(tmp_path.glob("*.sen"))


def test_outputs_are_not_replaced_by_accident(sen_edge: Run, mlp_path: Path, tmp_path: Path, npz: Path) -> None:
    out = tmp_path / "a.sen"
    command = ("compress", mlp_path, "--rank", "3", "--data", npz, "-o", out)
    assert sen_edge(*command).code == 0
    assert sen_edge(*command).code == 1
    assert sen_edge(*command, "--force").code == 0
    onto_itself = sen_edge("compress", out, "--rank", "3", "--data", npz, "-o", out, "--force")
    assert onto_itself.code == 1 and "a.sen" in onto_itself.err
    image = sen_edge("compress", out, "--sparsity", "0.5", "--data", npz, "-o", tmp_path / "b.pt")
    assert image.code == 2 and "image" in image.err


def test_a_budget_that_nothing_meets(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = iter([90.0, *np.linspace(80, 70, 100)])
    monkeypatch.setattr(NetworkEvaluator, "_evaluate", lambda *_: (next(accuracies), 1000, 1000))
    command = ("--max-accuracy-drop", 1, "--data", npz)
    outcome = sen_edge("compress", mlp_path, *command, "--objective", "size", "-o", tmp_path / "a.sen")
    assert (outcome.code, outcome.out) == (3, "") and "10.00" in outcome.err
    assert not (tmp_path / "a.sen").exists() and not (tmp_path / "a.manifest.json").exists()
    accuracies = iter([90.0, *np.linspace(80, 70, 100)])
    outcome = sen_edge("export", mlp_path, *command, "-o", tmp_path / "out")
    assert outcome.code == 3 and not (tmp_path / "out").exists()


def test_the_fastest_of_the_finalists_is_taken(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(networks: dict, *_: object) -> Latencies:
        return Latencies({name: np.array([1.0 if "rank" in name else 2.0]) for name in networks})

    monkeypatch.setattr(evaluator, "MIN_WEIGHTS", 100)
    monkeypatch.setattr(evaluator, "measure", measure)
    command = ("--max-accuracy-drop", 60, "--methods", "low-rank", "--data", npz)
    outcome = sen_edge("compress", mlp_path, *command, "-o", tmp_path / "a.sen", "--json")
    assert outcome.code == 0, outcome.err
    search = json.loads(outcome.out)["search"]
    assert search["chosen"]["latency_us"] == 1.0 and search["original"]["latency_us"] == 2.0
    assert any("rank" in form for form in search["chosen"]["layers"])
