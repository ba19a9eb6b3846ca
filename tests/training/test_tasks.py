"""Training by task: losses, metrics, standardization, warnings."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sen_edge.data.datasets import Dataset
from sen_edge.errors import UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.layers import SpatialNetwork
from sen_edge.model.model import load
from sen_edge.training.initial import initialize
from sen_edge.training.loop import prepare
from sen_edge.training.objective import objective_of
from sen_edge.training.request import TrainRequest
from sen_edge.training.scaling import input_scaling
from sen_edge.training.train import TrainResult, config_of, recipe_of, train, train_conventional
from sen_runtime import task
from sen_runtime.task import ERROR, F1, R2, ROC_AUC

NAMES = ("small", "large", "constant")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def table(kind: str, seed: int = 0, n: int = 240) -> Dataset:
    """Three features: one in [-1, 1], one in [2000, 6000], one constant; targets follow from the first two."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-1, 1, (n, 2))
    x = np.stack([z[:, 0], 4000 + 2000 * z[:, 1], np.full(n, 7.0)], axis=1).astype(np.float32)
    values = (100 + 20 * z @ [[1.0, -1.0], [1.0, 2.0]]).astype(np.float32)
    targets = {
        "regression": values,
        "multilabel": (values > 100).astype(np.float32),
        "classification": (values[:, 0] > 100).astype(np.int64),
        "reconstruction": None,
    }[kind]
    train_part, test_part = slice(0, n - 60), slice(n - 60, n)
    parts = [None if targets is None else targets[part] for part in (train_part, test_part)]
    low, high = float(x.min()), float(x.max())
    return Dataset(
        "table", x[train_part], parts[0], x[test_part], parts[1], (low, high), task=kind, feature_names=NAMES
    )


def fit(dataset: Dataset, out: Path, **options: object) -> TrainResult:
    values: dict[str, object] = {"hidden": [16], "dims": 4, "epochs": 30, "standardize": True, **options}
    request = TrainRequest(**values)  # type: ignore[arg-type]
    return train(config_of(request, dataset), dataset, recipe_of(request, dataset), out=out)


@pytest.mark.parametrize(("kind", "least"), [("regression", 0.8), ("multilabel", 85), ("classification", 85)])
def test_each_task_is_learned_from_raw_features(tmp_path: Path, kind: str, least: float) -> None:
    result = fit(table(kind), tmp_path / "model.pt")
    assert result.metric == task.of(kind).metric
    assert result.test_score > least
    model = load(tmp_path / "model.pt")
    dataset = table(kind)
    found = task.of(kind).scores(model.predict(dataset.test_inputs), dataset.test_targets, dataset.test_inputs)
    assert found[result.metric] == pytest.approx(result.test_score, abs=0.5 if result.metric.unit else 1e-3)


def test_a_reconstruction_scores_anomalies(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(300, 2)) @ rng.normal(size=(2, 6)) * 50 + 500).astype(np.float32)
    strange = (rng.normal(size=(40, 6)) * 50 + 500).astype(np.float32)
    test = np.concatenate([x[260:], strange])
    anomalies = np.repeat([0, 1], 40)
    low, high = float(min(x.min(), test.min())), float(max(x.max(), test.max()))
    dataset = Dataset("machine", x[:260], None, test, anomalies, (low, high), task="reconstruction")
    result = fit(dataset, tmp_path / "model.pt", hidden=[16], epochs=60)
    assert result.test_scores[ERROR] < 0.7 < result.test_scores[ROC_AUC] / 100
    assert result.checkpoint.config.output_scaling


def test_anomalies_are_not_trained_on() -> None:
    dataset = table("reconstruction")
    marked = replace(dataset, train_targets=np.arange(180) % 4 // 3, test_targets=np.zeros(60, np.int64))
    parts = prepare(marked, recipe_of(TrainRequest(), marked))
    assert not np.concatenate([parts.training.targets, parts.held.targets]).any()


def test_balanced_weights_raise_the_loss_of_rare_classes() -> None:
    dataset = table("classification")
    rare = replace(dataset, train_targets=(np.arange(180) % 9 == 0).astype(np.int64))
    request = TrainRequest(hidden=(4,), dims=3, class_weights="balanced")
    config, recipe = config_of(request, rare), recipe_of(request, rare)
    network = checkpoints.to_module(_untrained(rare, request))
    loss = objective_of(network, rare.training, recipe).loss
    outputs = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    inputs = torch.zeros(2, 3)
    wrong_on_rare, wrong_on_common = (
        float(loss(inputs, outputs, torch.tensor(targets))) for targets in ([0, 0], [1, 1])
    )
    assert config.task == "classification"
    assert wrong_on_rare == pytest.approx(wrong_on_common)  # of one class alone the weights cancel
    mixed = float(loss(inputs, torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])))
    equal = objective_of(network, rare.training, replace(recipe, class_weights="equal")).loss
    assert mixed > float(equal(inputs, torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])))


def _untrained(dataset: Dataset, request: TrainRequest) -> checkpoints.Checkpoint:
    from sen_edge.model.layers import SpatialNetwork

    network = SpatialNetwork(config_of(request, dataset))
    network.reset_parameters(0)
    return checkpoints.from_module(network)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("regression", {"class_weights": "balanced"}),
        ("classification", {"loss": "huber"}),
        ("classification", {"standardize": False, "input_std": [1.0, 2.0]}),
    ],
)
def test_options_without_effect_are_refused(tmp_path: Path, kind: str, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        fit(table(kind), tmp_path / "model.pt", **options)
    assert not list(tmp_path.iterdir())


def test_standardize_contradicts_constants_of_the_user() -> None:
    with pytest.raises(UsageError):
        TrainRequest(standardize=True, input_mean=(1.0,))


def test_constants_of_the_user_are_stored(tmp_path: Path) -> None:
    options = {"standardize": False, "input_mean": [0.0, 4000.0, 7.0], "input_std": [1.0, 1000.0, 1.0]}
    result = fit(table("regression"), tmp_path / "model.pt", loss="huber", **options)
    assert result.checkpoint.tensors["input_mean"].tolist() == [0, 4000, 7]
    assert result.test_scores[R2] > 0.8


def test_a_constant_feature_keeps_its_scale_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sen_edge"):
        result = fit(table("multilabel"), tmp_path / "model.pt", epochs=1)
    assert result.checkpoint.tensors["input_std"][2] == 1
    assert "constant" in caplog.text and F1 in result.test_scores


def test_features_of_different_scales_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sen_edge"):
        fit(table("classification"), tmp_path / "model.pt", epochs=1, standardize=False)
    assert "large" in caplog.text and "small" in caplog.text and "--standardize" in caplog.text


def test_the_dense_baseline_has_the_same_task() -> None:
    dataset = table("regression")
    request = TrainRequest(hidden=(16,), epochs=30, standardize=True, weights="free")
    trained = train_conventional(config_of(request, dataset), dataset, recipe_of(request, dataset))
    assert trained.validation_score > 0.8
    assert trained.network.input_scaling is not None and trained.network.output_scaling is not None


def test_a_deep_network_learns() -> None:
    """Ten layers with a bottleneck: without calibration all neurons of a layer are silent."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(640, 3)) @ rng.normal(size=(3, 20))).astype(np.float32)
    dataset = Dataset("low rank", x[:600], None, x[600:], None, (-20.0, 20.0), task="reconstruction")
    request = TrainRequest(hidden=(32, 32, 32, 4, 32, 32, 32), dims=8, standardize=True, epochs=40)
    config, recipe = config_of(request, dataset), recipe_of(request, dataset)
    assert config.exponent == 3
    network = SpatialNetwork(config)
    network.input_scaling = network.output_scaling = input_scaling(config, dataset, recipe)
    initialize(network, prepare(dataset, recipe).training, recipe)
    *hidden, _ = network.trace(torch.from_numpy(x))
    for values in hidden:
        assert 0.2 < float((values > 0).float().mean()) < 0.8
        assert float(values.detach().std()) > 0.1


def test_a_network_that_learned_nothing_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = np.random.default_rng(1).normal(size=(180, 1)).astype(np.float32)
    dataset = replace(table("regression"), train_targets=noise, test_targets=noise[:60])
    with caplog.at_level(logging.WARNING, "sen_edge"):
        fit(dataset, tmp_path / "model.pt", epochs=1, learning_rate=1e-6)
    assert "constant output" in caplog.text


@pytest.mark.parametrize(("n", "hidden"), [(240, 64), (4_000, 128), (13_000, 512)])
def test_the_default_size_follows_the_data(n: int, hidden: int) -> None:
    assert config_of(TrainRequest(), table("classification", n=n)).layer_sizes == (3, hidden, 2)


@pytest.mark.parametrize(
    ("options", "exponent"), [({}, 3), ({"dims": 3}, 1), ({"arch": "snn"}, 3), ({"exponent": 2.0}, 2)]
)
def test_the_exponent_follows_the_dimensions(options: dict[str, Any], exponent: float) -> None:
    assert config_of(TrainRequest(**options), table("classification")).exponent == exponent


def test_images_with_a_name_keep_the_exponent_of_the_paper() -> None:
    dataset = replace(table("classification"), image_shape=(1, 3))
    assert config_of(TrainRequest(), dataset).exponent == 1
