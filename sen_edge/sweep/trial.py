"""One trial, a function of its settings: the process and the machine have no effect."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import sen_edge
from sen_edge.compression.finetune import finetune, finetune_recipe
from sen_edge.compression.moments import CompressionWarning
from sen_edge.compression.pipeline import compress
from sen_edge.data.datasets import Dataset, load
from sen_edge.errors import DataError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig
from sen_edge.model.free import SURROGATE_SLOPE
from sen_edge.model.model import Model
from sen_edge.passes.materialize import precompute
from sen_edge.sweep.file import Compression
from sen_edge.sweep.settings import Settings, requests_of
from sen_edge.training.dense_baseline import train_conventional
from sen_edge.training.loop import Recipe
from sen_edge.training.request import TrainRequest
from sen_edge.training.train import config_of, recipe_of, train
from sen_runtime.accuracy import network_accuracy
from sen_runtime.data import hold_out
from sen_runtime.errors import SenError
from sen_runtime.ir.network import Network

#: Trained networks that a worker keeps, so that a sweep of compressions trains each of them once.
KEPT = 16
#: Settings -> figures.
Trial = Callable[[Settings], dict[str, Any]]


def run_trial(settings: Settings) -> dict[str, Any]:
    """Train, compress if that is asked for, and measure, in one thread of torch. Equal settings give equal figures.

    Choices go by `validation_accuracy`, that of held-out training examples; the test accuracies are for the record.

    Returns:
        Plain values: accuracies in percent, numbers of parameters and multiply-accumulates, bytes of weights; with a
        compression also the accuracies before it.

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
        dataset, trained = _dataset(*data), _trained(data, training)
        figures = {
            "validation_accuracy": trained.validation_accuracy,
            "test_accuracy": trained.test_accuracy,
            "best_epoch": trained.best_epoch,
            "learning_rate": trained.recipe.learning_rate,
            "parameters": trained.model.n_parameters,
        }
        if request is None:
            return {**figures, **_sizes(trained.model.network)}
        before_it = {f"trained_{name}": figures[name] for name in ("validation_accuracy", "test_accuracy")}
        return {**figures, **before_it, **_compress(request, trained, dataset)}
    finally:
        torch.set_num_threads(before)


def make_record(trial: Trial, settings: Settings) -> dict[str, Any]:
    """Run a trial: its figures or its error, seconds, process and versions."""
    start = time.monotonic()
    try:
        figures, error = trial(settings), ""
    except SenError as reason:
        figures, error = None, reason.message
    except Exception as reason:  # the other trials go on
        figures, error = None, f"{type(reason).__name__}: {reason}"
    record = {**make_failure(error), "seconds": time.monotonic() - start, "pid": os.getpid()}
    return record if figures is None else {**record, "figures": figures, "error": None}


def make_failure(error: str) -> dict[str, Any]:
    """Record of a trial that ended with its process."""
    versions = {"sen_edge": sen_edge.__version__, "torch": torch.__version__}
    return {"figures": None, "error": error, "seconds": None, "pid": None, **versions}


@dataclass(frozen=True)
class _Trained:
    """A network before compression; accuracies in percent."""

    config: SpatialConfig
    recipe: Recipe
    model: Model
    best_epoch: int
    validation_accuracy: float
    test_accuracy: float


@lru_cache(maxsize=KEPT)
def _trained(data: tuple[Any, ...], request: TrainRequest) -> _Trained:
    """A network before compression; kept, for other trials may compress it otherwise."""
    dataset = _dataset(*data)
    config, recipe = config_of(request, dataset), recipe_of(request, dataset)
    if request.weights == "free":
        free = train_conventional(config, dataset, recipe)
        tested = network_accuracy(free.network, dataset.test_inputs, dataset.test_labels)
        return _Trained(config, recipe, Model(free.network, ""), free.best_epoch, free.validation_accuracy, tested)
    with tempfile.TemporaryDirectory() as folder:
        found = train(config, dataset, recipe, out=Path(folder) / "model.pt")
    model = Model(checkpoints.to_network(found.checkpoint), found.checkpoint.sha256, found.checkpoint)
    return _Trained(config, recipe, model, found.best_epoch, found.validation_accuracy, found.test_accuracy)


def _compress(request: Compression, trained: _Trained, dataset: Dataset) -> dict[str, Any]:
    """Figures of the compressed network."""
    recipe = trained.recipe
    if request.as_checkpoint and request.epochs:
        network = _finetune(request, trained, dataset)
        tested = network_accuracy(precompute(network), dataset.test_inputs, dataset.test_labels)
    else:
        result = compress(trained.model, request, dataset=dataset, as_checkpoint=request.as_checkpoint)
        network, tested = result.network, result.figures["accuracy"]["compressed"]
    # Distillation holds out its own share; of one seed the smaller share is part of the larger, and in neither training
    # were its examples learned.
    share = min(recipe.validation, Recipe().validation) if request.epochs else recipe.validation
    _, held = hold_out(dataset.train_labels, share, recipe.seed)
    inputs, labels = dataset.train_inputs[held], dataset.train_labels[held]
    accuracy = network_accuracy(precompute(network), inputs, labels)
    return {"validation_accuracy": accuracy, "test_accuracy": tested, **_sizes(network)}


def _finetune(request: Compression, trained: _Trained, dataset: Dataset) -> Network:
    """Coordinates, or the weights of a dense baseline, trained under the pattern as they were trained before."""
    tuning = request.tuning(distillation=0.0)
    recipe = replace(finetune_recipe(trained.recipe), epochs=request.epochs)
    spiking, model = trained.config.spiking, trained.model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompressionWarning)
        if model.checkpoint is not None:
            return finetune(model.checkpoint, dataset, request, recipe, tuning).network
        slope = SURROGATE_SLOPE if spiking is None else spiking.surrogate_slope
        tuned = finetune(model.network, dataset, request, recipe, tuning, surrogate_slope=slope)
        return tuned.network


def _sizes(network: Network) -> dict[str, int]:
    return {"macs": precompute(network).macs, "weight_bytes": network.nbytes}


@lru_cache(maxsize=1)
def _dataset(name: str, data_dir: str | None, spikes: bool, sha256: str) -> Dataset:
    """The data; kept, for the next trial is likely to need them too."""
    dataset = load(name, None if data_dir is None else Path(data_dir), spikes=spikes)
    if dataset.content_sha256 != sha256:
        found = f"{dataset.content_sha256[:16]}..."
        raise DataError(f"{name} on this worker has SHA-256 {found}; the sweep expects {sha256[:16]}...")
    return dataset
