"""Compression by the metric of each task."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sen_edge.compression.finetune import _loss, distil, free_recipe
from sen_edge.compression.moments import sensitivities
from sen_edge.compression.pipeline import compress
from sen_edge.compression.request import CompressRequest, Tuning
from sen_edge.data.datasets import Dataset
from sen_edge.errors import UsageError
from sen_edge.model.free import FreeNetwork
from sen_edge.model.model import Model
from sen_edge.training.objective import objective_of
from sen_edge.training.recipe import Recipe
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Dense
from sen_runtime.ir.standardization import Standardization
from sen_runtime.scores import network_scores
from sen_runtime.task import CLASSIFICATION, MULTILABEL, RECONSTRUCTION, REGRESSION, TASKS, of

N_IN, N_HIDDEN = 64, 72
#: Drops in the unit of the metric that the search of this module has to spend.
DROPS = {CLASSIFICATION: 10.0, MULTILABEL: 10.0, REGRESSION: 0.2, RECONSTRUCTION: 0.2}


def network_of(task: str) -> Network:
    rng = np.random.default_rng(0)
    n_out = N_IN if task == RECONSTRUCTION else 4
    first = rng.normal(0, 1, (N_HIDDEN, 8)) @ rng.normal(0, 0.1, (8, N_IN)) + rng.normal(0, 0.01, (N_HIDDEN, N_IN))
    last = rng.normal(0, 0.2, (n_out, N_HIDDEN))
    scaling = Standardization(np.full(N_IN, 0.5, "f4"), np.full(N_IN, 0.3, "f4"))
    if task == RECONSTRUCTION:  # the best readout of these features
        x = (np.random.default_rng(2).random((2000, N_IN)) - 0.5) / 0.3
        last = np.linalg.lstsq(np.maximum(x @ first.T, 0), x, rcond=None)[0].T
    layers = (
        Layer(Dense(first.astype("f4")), np.zeros(N_HIDDEN, "f4"), Relu()),
        Layer(Dense(last.astype("f4")), np.zeros(n_out, "f4"), Identity()),
    )
    restored = scaling if task == RECONSTRUCTION else None
    if task == REGRESSION:
        restored = Standardization(np.array([0, 100, 0, 0], "f4"), np.array([1, 100, 1e-3, 1], "f4"))
    return Network(layers, metadata={"task": task}, input_scaling=scaling, output_scaling=restored)


def dataset_of(network: Network) -> Dataset:
    """Inputs, and what the network says of them."""
    x = np.random.default_rng(1).random((500, N_IN), np.float32)
    y = reference.run(network, x, np.float32)
    targets = {
        CLASSIFICATION: lambda: y.argmax(axis=1).astype(np.int64),
        MULTILABEL: lambda: (y > 0).astype(np.float32),
        REGRESSION: lambda: y,
        RECONSTRUCTION: lambda: None,
    }[network.task]()
    train, test = (None, None) if targets is None else (targets[:400], targets[400:])
    return Dataset("made", x[:400], train, x[400:], test, (0.0, 1.0), task=network.task)


@pytest.mark.parametrize("task", TASKS)
def test_a_search_keeps_the_metric_of_the_task_within_the_budget(task: str) -> None:
    network, metric = network_of(task), of(task).metric
    data, request = dataset_of(network), CompressRequest(max_drop=DROPS[task], objective="macs", methods=("low-rank",))
    found = compress(Model(network, ""), request, dataset=data)
    search, score = found.figures["search"], found.figures["score"]
    assert (score["metric"], score["unit"]) == (metric.name, metric.unit) == (search["metric"], search["unit"])
    chosen = search["chosen"]
    assert chosen["drop"] == pytest.approx(metric.drop(search["original"]["score"], chosen["score"]))
    assert chosen["drop"] <= DROPS[task] and chosen["macs"] < search["original"]["macs"]
    assert score["original"] == network_scores(network, data.test)[metric]
    assert found.network.output_scaling is network.output_scaling and metric.name in repr(found)


@pytest.mark.parametrize("task", TASKS)
def test_distillation_approaches_the_outputs_of_the_original(task: str) -> None:
    network = network_of(task)
    data, (first, last) = dataset_of(network), network.layers
    damaged = Layer(Dense(np.where(np.arange(N_HIDDEN) % 8, last.weight.w, 0)), last.bias, last.neuron)
    start = replace(network, layers=(first, damaged))
    tuned = distil(start, network, data, replace(free_recipe(data, epochs=4), learning_rate=0.01))
    assert tuned.best_epoch > 0
    error, before = (
        np.abs(reference.run(each, data.test_inputs) - reference.run(network, data.test_inputs)).mean()
        for each in (tuned.network, start)
    )
    assert error < before


@pytest.mark.parametrize("task", TASKS)
def test_the_distance_from_the_teacher_is_least_at_its_outputs(task: str) -> None:
    network = network_of(task)
    module, data = FreeNetwork(network), dataset_of(network)
    objective = objective_of(module, data.training, Recipe())
    loss = _loss(module, Tuning(distillation=1.0), objective)
    inputs = torch.from_numpy(data.train_inputs[:50])
    outputs = module(inputs).detach()
    least = float(loss(inputs, outputs, inputs))
    assert least == pytest.approx(0, abs=1e-5)
    assert float(loss(inputs, outputs * 0.9, inputs)) > least + 1e-4 < float(loss(inputs, outputs * 1.1, inputs))


def test_the_distance_of_restored_outputs_is_in_units_of_their_scale() -> None:
    network = network_of(REGRESSION)
    module, data = FreeNetwork(network), dataset_of(network)
    loss = _loss(module, Tuning(distillation=1.0), objective_of(module, data.training, Recipe()))
    inputs = torch.from_numpy(data.train_inputs[:50])
    outputs = module(inputs).detach()
    scale = torch.from_numpy(network.output_scaling.std)
    values = [float(loss(inputs, outputs + scale * torch.eye(4)[column], inputs)) for column in range(4)]
    assert values == pytest.approx([0.25] * 4, rel=1e-3)


def test_a_change_of_all_outputs_matters_but_for_classes() -> None:
    x = dataset_of(network_of(REGRESSION)).train_inputs
    shift = np.ones(4)
    found = {task: sensitivities(network_of(task), x)[-1] for task in (CLASSIFICATION, MULTILABEL, REGRESSION)}
    np.testing.assert_allclose(found[REGRESSION], np.eye(4), atol=1e-6)
    np.testing.assert_allclose(found[MULTILABEL], np.eye(4), atol=1e-6)
    assert shift @ found[CLASSIFICATION] @ shift < 0.2 * shift @ found[REGRESSION] @ shift


def test_the_saved_file_names_the_metric(tmp_path) -> None:  # type: ignore[no-untyped-def]
    network = network_of(RECONSTRUCTION)
    found = compress(Model(network, ""), CompressRequest(rank=8), dataset=dataset_of(network))
    found.save(tmp_path / "small.sen")
    stored = image.loads((tmp_path / "small.sen").read_bytes()).metadata
    assert float(stored["test_reconstruction_error"]) == pytest.approx(found.figures["score"]["compressed"], rel=1e-3)


def test_data_of_another_task_are_refused() -> None:
    network = network_of(REGRESSION)
    with pytest.raises(UsageError, match=REGRESSION):
        compress(Model(network, ""), CompressRequest(rank=8), dataset=dataset_of(network_of(MULTILABEL)))


def test_a_budget_of_all_points_is_refused() -> None:
    network = network_of(CLASSIFICATION)
    with pytest.raises(UsageError, match="100"):
        compress(Model(network, ""), CompressRequest(max_drop=100, objective="macs"), dataset=dataset_of(network))
