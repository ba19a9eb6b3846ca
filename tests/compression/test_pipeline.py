"""`compress`: invalid requests, compression without inputs, and reported figures."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge.compression import pipeline
from sen_edge.compression.pipeline import compress
from sen_edge.compression.request import CompressRequest
from sen_edge.data.calibration import Calibration
from sen_edge.data.datasets import Dataset
from sen_edge.errors import DataError, OutputError, UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model import model as models
from sen_edge.model.model import Model
from sen_edge.model.parameters import Checkpoint
from sen_edge.passes.materialize import materialize
from sen_edge.passes.quantize import to_float16
from sen_runtime import reference
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, stored_dtype
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Dense
from sen_runtime.scores import network_scores
from sen_runtime.task import ACCURACY
from tests.conftest import MLP, SNN, make_checkpoint, make_model
from tests.support.clouds import float64_weights, planes, relative


def clouds() -> Dataset:
    """Ten classes of 64 numbers, images of 8 x 8."""
    rng = np.random.default_rng(0)
    centres, labels = rng.random((10, 64)), np.arange(500) % 10
    x = np.clip(centres[labels] + 0.1 * rng.normal(size=(500, 64)), 0, 1).astype(np.float32)
    return Dataset("clouds", x[:400], labels[:400], x[400:], labels[400:], (0.0, 1.0))


DATA = clouds()
INPUTS = Calibration("inputs.npz", DATA.train_inputs[:300], DATA.train_inputs[300:], "ab" * 32)
HALF = CompressRequest(0.5)


@pytest.fixture(params=[MLP, SNN], ids=["mlp", "snn"])
def model(request: pytest.FixtureRequest) -> Model:
    return make_model(make_checkpoint(request.param))


# --- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 1}, "epochs"),
        ({"sparsity": 0.5, "rank": 3}, r"sparsity.*rank|hierarchical.*max_drop"),
        ({"hierarchical": 0.1, "max_drop": 1.0}, r"sparsity.*rank|hierarchical.*max_drop"),
        ({"sparsity": 0.5, "epochs": -1}, "epochs"),
        ({"rank": 3, "pattern": "1x4"}, "pattern"),
        ({"sparsity": 0.5, "near": 0.1}, "near"),
        ({"rank": 3, "near": 1.0}, "near"),
        ({"rank": 3, "near": 0.1, "pattern": "neurons"}, r"pattern.*neurons"),
        ({"sparsity": 0.5, "patience": 2}, "patience"),
    ],
)
def test_requests_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CompressRequest(**options)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (CompressRequest(max_drop=1.0, objective="macs"), "search"),
        (CompressRequest(0.5, epochs=1), "training"),
        (CompressRequest(rank=3, epochs=1), "training"),
    ],
)
def test_labels_are_needed(request_: CompressRequest, message: str, mlp: Model) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        compress(mlp, request_, calibration=INPUTS)
    assert "--data" in caught.value.hint


def test_second_order_needs_inputs(mlp: Model) -> None:
    with pytest.raises(DataError, match="calibration"):
        compress(mlp, HALF)


# --- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (CompressRequest(rank=3), "coordinates"),
        (CompressRequest(rank=3, epochs=1), "coordinates"),
        (CompressRequest(hierarchical=0.1), "coordinates"),
        (CompressRequest(max_drop=1.0, objective="macs"), "coordinates"),
        (CompressRequest(0.5, pattern="neurons"), "coordinates"),
        (CompressRequest(0.5), "second-order"),
    ],
)
def test_what_no_checkpoint_holds(request_: CompressRequest, message: str, mlp: Model) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        compress(mlp, request_, dataset=DATA, as_checkpoint=True)
    assert ".sen" in caught.value.hint


def test_an_image_is_no_checkpoint(image: Model) -> None:
    with pytest.raises(UsageError, match="image"):
        compress(image, CompressRequest(0.5, criterion="magnitude"), as_checkpoint=True)


def same_network(checkpoint: Checkpoint, network: Network) -> bool:
    x = DATA.test_inputs
    again = materialize(checkpoints.to_network(checkpoint))
    return np.allclose(reference.run(again, x), reference.run(materialize(network), x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("criterion", ["magnitude", "distance"])
def test_a_checkpoint_is_the_network(criterion: str, model: Model, tmp_path: Path) -> None:
    request = CompressRequest(0.3, criterion=criterion)
    found = compress(model, request, calibration=INPUTS, as_checkpoint=True)
    assert found.checkpoint is not None and same_network(found.checkpoint, found.network)
    zeros = sum(int((layer.weight.to_dense() == 0).sum()) for layer in materialize(found.network).layers)
    assert zeros == pytest.approx(0.3 * (64 * 32 + 32 * 10), rel=0.05)
    checkpoints.save(found.checkpoint, tmp_path / "a.pt")
    assert same_network(checkpoints.load(tmp_path / "a.pt"), found.network)
    stored = compress(model, request, calibration=INPUTS)
    assert stored.checkpoint is None and same_network(found.checkpoint, stored.network)


@pytest.mark.parametrize("criterion", ["second-order", "distance"])
def test_a_trained_checkpoint_is_the_network(criterion: str, model: Model) -> None:
    request = CompressRequest(0.5, criterion=criterion, epochs=2)
    found = compress(model, request, dataset=DATA, as_checkpoint=True)
    assert found.checkpoint is not None and same_network(found.checkpoint, found.network)
    training = found.figures["training"]
    assert training["epochs"] == 2 and 1 <= training["best_epoch"] <= 2
    assert 0 <= training["validation_score"] <= 100


def test_pruned_checkpoint_can_be_pruned_again(mlp: Model) -> None:
    first = compress(mlp, CompressRequest(0.3, criterion="magnitude"), as_checkpoint=True)
    assert first.checkpoint is not None
    again = CompressRequest(0.6, criterion="magnitude")
    second = compress(make_model(first.checkpoint), again, as_checkpoint=True)
    assert second.checkpoint is not None
    for index, mask in second.checkpoint.synapses.items():
        assert not np.any(mask & ~first.checkpoint.synapses[index])
        assert mask.mean() == pytest.approx(0.4, abs=0.02)


# --- files -------------------------------------------------------------------------------------


def test_files_hold_the_result_and_its_manifest(model: Model, tmp_path: Path) -> None:
    request = CompressRequest(0.3, criterion="magnitude")
    found = compress(model, request, calibration=INPUTS, as_checkpoint=True)
    for name in ("a.sen", "b.pt", "c.safetensors"):
        paths = found.save(str(tmp_path / name))
        assert paths == [tmp_path / name, tmp_path / f"{name[0]}.manifest.json"]
        assert same_network(found.checkpoint, models.load(paths[0]).network)
        assert json.loads(paths[1].read_text()) == found.manifest
        with pytest.raises(OutputError):
            found.save(paths[0])
        found.save(paths[0], force=True)
    assert len(repr(found)) < 100 and found.manifest["input_sha256"] == model.sha256


def test_files_that_cannot_hold_the_result(mlp: Model, tmp_path: Path) -> None:
    found = compress(mlp, CompressRequest(0.3, criterion="magnitude"))
    for name in ("a.pt", "a.onnx", "a"):
        with pytest.raises(UsageError):
            found.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


# --- hierarchical --------------------------------------------------------------------------------


def test_a_large_layer_becomes_three() -> None:
    wide = planes(0, 1500, 1200, 3, 12.0)
    readout = Dense(np.random.default_rng(0).standard_normal((10, 1200)).astype(np.float32))
    model = Model(Network((Layer(wide, None, Relu()), Layer(readout, None, Identity()))), "ab" * 32)
    found = compress(model, CompressRequest(hierarchical=0.1))
    assert len(found.network.layers) == len(found.figures["layers"]) == 4
    assert found.network.layers[3] is model.network.layers[1]
    gather, couple, spread = (layer.weight.to_dense().astype(np.float64) for layer in found.network.layers[:3])
    assert relative(spread @ (couple @ gather), float64_weights(wide)) <= 0.1 * 1.1
    assert found.figures["after"]["weight_bytes"] < found.figures["before"]["weight_bytes"]


def test_a_spiking_network_has_no_hierarchical_form() -> None:
    model = make_model(make_checkpoint(SNN))
    with pytest.raises(UsageError, match=r"layer 1.*LeakyIntegrator") as caught:
        compress(model, CompressRequest(hierarchical=0.1))
    assert "factorize" in caught.value.hint


def test_small_layers_have_no_hierarchical_form(mlp: Model) -> None:
    with pytest.raises(UsageError, match=r"layer 1.*hierarchical"):
        compress(mlp, CompressRequest(hierarchical=0.01))


# --- figures -------------------------------------------------------------------------------------


REQUESTS: dict[str, CompressRequest] = {
    "second-order": CompressRequest(0.5),
    "blocks": CompressRequest(0.5, pattern="1x4", layers=(0,)),
    "groups": CompressRequest(pattern="2:4"),
    "neurons": CompressRequest(0.5, pattern="neurons"),
    "distance": CompressRequest(0.5, criterion="distance"),
    "rank": CompressRequest(rank=4, near=0.1, pattern="4x1"),
    "trained": CompressRequest(rank=4, epochs=1, seed=2),
    "budget": CompressRequest(max_drop=60.0, objective="macs"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_figures_are_json_and_true(name: str, model: Model) -> None:
    request = REQUESTS[name]
    found = compress(model, request, dataset=DATA)
    text = json.dumps(found.figures, allow_nan=False)
    figures = json.loads(text)
    assert json.dumps(figures) == text  # no keys that are no text
    assert figures["input_sha256"] == model.sha256
    assert figures["before"] == {
        "macs": materialize(model.network).macs,
        "weight_bytes": materialize(model.network).nbytes,
    }
    assert figures["after"] == {"macs": materialize(found.network).macs, "weight_bytes": found.network.nbytes}
    assert name in ("budget", "groups") or figures["after"]["macs"] < figures["before"]["macs"]
    assert sum(layer["macs"] for layer in figures["layers"]) == found.network.macs
    assert sum(layer["bytes"] for layer in figures["layers"]) == found.network.nbytes
    assert figures["calibration"] == {"data": "clouds (training part: 400)", "sha256": DATA.sha256, "samples": 400}
    original, compressed = (network_scores(materialize(each), DATA.test) for each in (model.network, found.network))
    assert figures["score"] == {
        "metric": "accuracy",
        "unit": "%",
        "data": "clouds (test part: 100)",
        "samples": 100,
        "original": original[ACCURACY],
        "compressed": compressed[ACCURACY],
    }
    assert ("training" in figures, "search" in figures) == (bool(request.epochs), request.task == "search")
    assert found.network.metadata == model.network.metadata
    assert figures["request"]["seed"] == request.seed and figures["request"]["epochs"] == request.epochs
    assert figures["request"]["pattern"] == request.pattern


def test_half_precision_stays_half_precision(image: Model) -> None:
    half = Model(to_float16(image.network), "cd" * 32)
    found = compress(half, CompressRequest(0.8), calibration=INPUTS)
    assert stored_dtype(found.network) == "float16"
    assert found.figures["after"]["weight_bytes"] < found.figures["before"]["weight_bytes"]


def test_given_inputs_come_before_those_of_the_data(mlp: Model) -> None:
    found = compress(mlp, HALF, calibration=INPUTS, dataset=DATA)
    assert found.figures["calibration"] == {"data": "inputs.npz", "sha256": "ab" * 32, "samples": 300}
    alone = compress(mlp, HALF, calibration=INPUTS)
    for one, other in zip(found.network.layers, alone.network.layers, strict=True):
        np.testing.assert_array_equal(one.weight.to_dense(), other.weight.to_dense())


def test_many_inputs_are_thinned(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "MAX_INPUTS", 200)
    monkeypatch.setattr(pipeline, "MAX_SPIKING_INPUTS", 100)
    found = compress(model, HALF, dataset=DATA)
    assert found.figures["calibration"]["samples"] == (100 if model.network.is_spiking else 200)


def test_warnings_are_figures(mlp: Model) -> None:
    """Said once each, and not to Python, where the test configuration would make errors of them."""
    few = replace(INPUTS, inputs=INPUTS.inputs[:20])
    found = compress(mlp, HALF, calibration=few)
    warned = found.figures["warnings"]
    assert len(warned) == len(set(warned)) and "layer 0: 20 calibration inputs cover" in warned[0]
    assert compress(mlp, CompressRequest(0.5, criterion="magnitude")).figures["warnings"] == []


def test_the_seed_decides(model: Model) -> None:
    request = CompressRequest(0.5, epochs=1, seed=4)
    first, again = (compress(model, request, dataset=DATA) for _ in range(2))
    assert first.figures == again.figures


@pytest.mark.parametrize("as_checkpoint", [False, True])
def test_training_progress_is_reported_in_shares(as_checkpoint: bool, mlp: Model) -> None:
    told: list[tuple[str, float]] = []
    say: Callable[[str, float], None] = lambda *each: told.append(each)  # noqa: E731
    request = CompressRequest(0.5, epochs=2)
    compress(mlp, request, dataset=DATA, as_checkpoint=as_checkpoint, progress=say)
    shares = [share for _, share in told]
    assert shares == sorted(shares) and 0 <= shares[0] < shares[-1] <= 1
    assert {what.split(":")[0] for what, _ in told} == {"training", "epoch 1/2", "epoch 2/2"}
