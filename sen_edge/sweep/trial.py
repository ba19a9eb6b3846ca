"""One trial, a function of its settings: the process and the machine have no effect."""

from __future__ import annotations

import math
import tempfile
import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from sen_edge.compression.finetune import finetune, finetune_recipe
from sen_edge.compression.moments import CompressionWarning
from sen_edge.compression.pipeline import compress
from sen_edge.data.datasets import Dataset, load
from sen_edge.errors import DataError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig
from sen_edge.model.free import SURROGATE_SLOPE
from sen_edge.model.model import Model
from sen_edge.passes.materialize import materialize
from sen_edge.sweep.file import Compression, Settings, requests_of
from sen_edge.training.recipe import Recipe
from sen_edge.training.request import TrainRequest
from sen_edge.training.train import Trained, TrainResult, config_of, recipe_of, train, train_conventional
from sen_runtime import task
from sen_runtime.ir.network import Network
from sen_runtime.scores import network_scores

#: Trained networks that a worker keeps, so that a sweep of compressions trains each of them once.
KEPT = 16


def run_trial(settings: Settings) -> dict[str, Any]:
    """Train, compress if requested, and measure, in one thread of torch. Equal settings give equal figures.

    Choices go by the metric of the task on held-out training examples, such as `validation_accuracy`; scores on the
    test data are for the record. With a compression there are also those before it.

    Raises:
        DataError: the data are not here, or are not those of the settings.
        TrainingError: the loss is no longer finite.
        SenError: the compression is impossible.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # figures depend on it
    try:
        data = tuple(settings["data"].values())
        training, request = requests_of(settings)
        dataset, trained = _dataset(data, training.task, tuple(training.target)), _trained(data, training)
        key = task.of(dataset.task).metric.key
        names = (f"validation_{key}", f"test_{key}")
        figures = {**trained.figures, **_sizes(trained.model.network)}
        if request is not None:
            before_it = {f"trained_{name}": trained.figures[name] for name in names}
            figures = {**trained.figures, **before_it, **_compress(request, trained, dataset)}
        for name in names:
            if not math.isfinite(figures[name]):
                raise DataError(f"{name} is {figures[name]}: the examples have no such score")
        return figures
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _Trained:
    """A network before compression."""

    config: SpatialConfig
    recipe: Recipe
    model: Model
    figures: dict[str, Any]


@lru_cache(maxsize=KEPT)
def _trained(data: tuple[Any, ...], request: TrainRequest) -> _Trained:
    """Train a network; kept, because other trials may compress it in another way."""
    dataset = _dataset(data, request.task, tuple(request.target))
    config, recipe = config_of(request, dataset), recipe_of(request, dataset)
    metric = task.of(dataset.task).metric
    best: Trained | TrainResult
    if request.weights == "free":
        best = train_conventional(config, dataset, recipe)
        model = Model(best.network, "")
        tested = network_scores(best.network, dataset.test)[metric]
    else:
        with tempfile.TemporaryDirectory() as folder:
            best = train(config, dataset, recipe, out=Path(folder) / "model.pt")
        tested = best.test_score
        model = Model(checkpoints.to_network(best.checkpoint), best.checkpoint.sha256, best.checkpoint)
    figures = {
        f"validation_{metric.key}": best.validation_score,
        f"test_{metric.key}": tested,
        "best_epoch": best.best_epoch,
        "learning_rate": recipe.learning_rate,
        "parameters": model.n_parameters,
    }
    return _Trained(config, recipe, model, figures)


def _compress(request: Compression, trained: _Trained, dataset: Dataset) -> dict[str, Any]:
    """Figures of the compressed network."""
    recipe, metric = trained.recipe, task.of(dataset.task).metric
    if request.as_checkpoint and request.epochs:
        network = _finetune(request, trained, dataset)
    else:
        network = compress(trained.model, request, dataset=dataset, as_checkpoint=request.as_checkpoint).network
    # Distillation holds out its own share; of one seed the smaller share is part of the larger, and in neither training
    # were its examples learned.
    share = min(recipe.validation, Recipe().validation) if request.epochs else recipe.validation
    _, held = dataset.training.hold_out(share, recipe.seed)
    dense = materialize(network)
    return {
        f"validation_{metric.key}": network_scores(dense, dataset.training, held)[metric],
        f"test_{metric.key}": network_scores(dense, dataset.test)[metric],
        **_sizes(network),
    }


def _finetune(request: Compression, trained: _Trained, dataset: Dataset) -> Network:
    """Coordinates, or the weights of a dense baseline, trained under the pattern as they were trained before."""
    recipe = replace(finetune_recipe(trained.recipe), epochs=request.epochs)
    spiking, model = trained.config.spiking, trained.model
    slope = SURROGATE_SLOPE if spiking is None else spiking.surrogate_slope
    original, tuning = model.checkpoint or model.network, request.tuning(distillation=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompressionWarning)
        return finetune(original, dataset, request, recipe, tuning, surrogate_slope=slope).network


def _sizes(network: Network) -> dict[str, int]:
    return {"macs": materialize(network).macs, "weight_bytes": network.nbytes}


@lru_cache(maxsize=1)
def _dataset(data: tuple[Any, ...], task_name: str | None, target: tuple[str, ...]) -> Dataset:
    """The data; kept, because the next trial probably needs them too."""
    name, data_dir, has_steps, sha256 = data
    folder = None if data_dir is None else Path(data_dir)
    dataset = load(name, folder, task=task_name, target=target, has_steps=has_steps)
    if dataset.content_sha256 != sha256:
        found = f"{dataset.content_sha256[:16]}..."
        raise DataError(f"{name} on this worker has SHA-256 {found}; the sweep expects {sha256[:16]}...")
    return dataset
