"""One trial: a function of its settings, whatever process or machine it runs in."""

from __future__ import annotations

import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import sen_edge
from sen_edge.compress.finetune import finetune, finetune_recipe
from sen_edge.compress.moments import CompressionWarning
from sen_edge.compress.pipeline import compress
from sen_edge.compress.request import CompressRequest
from sen_edge.data.datasets import Dataset, load
from sen_edge.errors import DataError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig
from sen_edge.model.free import SURROGATE_SLOPE
from sen_edge.model.model import Model
from sen_edge.passes.materialize import precompute
from sen_edge.sweep.settings import Settings, config_of, recipe_of, request_of
from sen_edge.training.dense_baseline import train_conventional
from sen_edge.training.loop import Recipe
from sen_edge.training.train import train
from sen_runtime.accuracy import network_accuracy
from sen_runtime.data import hold_out
from sen_runtime.errors import SenError
from sen_runtime.ir.network import Network

#: Trained networks that a worker keeps: a sweep of compressions trains each of them once.
KEPT = 16
#: Settings -> figures.
Trial = Callable[[Settings], dict[str, Any]]


def run_trial(settings: Settings) -> dict[str, Any]:
    """Train, compress if that is asked for, and measure; in one thread of torch.

    The test accuracies are for the record: choices go by `validation_accuracy`, which is that of held-out training
    examples. The same settings give the same figures.

    Args:
        settings: of `sen_edge.sweep.settings.settings_of`.

    Returns:
        Plain values: accuracies in percent, numbers of parameters and multiply-accumulates, bytes of weights. With a
        compression also the accuracies before it.

    Raises:
        DataError: the data are not here, or other data than those the settings are about.
        TrainingError: the loss is no longer finite.
        SenError: the compression cannot be done.
    """
    with _one_thread():
        dataset = _dataset(**settings["data"])
        trained = _trained(json.dumps({name: settings[name] for name in ("data", "weights", "config", "recipe")}))
        if settings["compression"] is None:
            return {
                "validation_accuracy": trained.validation_accuracy,
                "test_accuracy": trained.test_accuracy,
                "best_epoch": trained.best_epoch,
                "parameters": trained.model.n_parameters,
                **_sizes(trained.model.network),
            }
        return _compressed(trained, settings["compression"], dataset, recipe_of(settings))


def recorded(trial: Trial, settings: Settings) -> dict[str, Any]:
    """Run a trial where it may fail: its figures or its error, how long it took and with which version."""
    start = time.monotonic()
    figures, error = None, None
    try:
        figures = trial(settings)
    except SenError as reason:
        error = reason.message
    except Exception as reason:  # a trial that fails must not stop the others
        error = f"{type(reason).__name__}: {reason}"
    return {
        "figures": figures,
        "error": error,
        "seconds": time.monotonic() - start,
        "pid": os.getpid(),
        **versions(),
    }


def versions() -> dict[str, str]:
    """What figures may depend on beside the settings."""
    return {"sen_edge": sen_edge.__version__, "torch": torch.__version__}


@dataclass(frozen=True)
class _Trained:
    """A network before compression; accuracies in percent."""

    config: SpatialConfig
    model: Model
    best_epoch: int
    validation_accuracy: float
    test_accuracy: float


@lru_cache(maxsize=KEPT)
def _trained(settings: str) -> _Trained:
    """The network of settings without compression, as JSON; kept, for other trials may compress it otherwise."""
    values = json.loads(settings)
    dataset, config, recipe = _dataset(**values["data"]), config_of(values), recipe_of(values)
    if values["weights"] == "free":
        free = train_conventional(config, dataset, recipe)
        tested = network_accuracy(free.network, dataset.test_inputs, dataset.test_labels)
        return _Trained(config, Model(free.network, ""), free.best_epoch, free.validation_accuracy, tested)
    with tempfile.TemporaryDirectory() as folder:
        found = train(config, dataset, recipe, out=Path(folder) / "model.pt")
    model = Model(checkpoints.to_network(found.checkpoint), found.checkpoint.sha256, found.checkpoint)
    return _Trained(config, model, found.best_epoch, found.validation_accuracy, found.test_accuracy)


def _compressed(trained: _Trained, values: dict[str, Any], dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    """Figures of the compressed network, and the accuracies of the one it came from."""
    request = request_of(values, recipe.seed)
    if values["as_checkpoint"] and request.epochs:
        network = _finetuned(trained, request, dataset, recipe)
        tested = network_accuracy(precompute(network), dataset.test_inputs, dataset.test_labels)
    else:
        made = compress(trained.model, request, dataset=dataset, as_checkpoint=values["as_checkpoint"])
        network, tested = made.network, made.figures["accuracy"]["compressed"]
    # Distillation holds out its own share; of one seed the smaller share is part of the larger, and in neither training
    # were its examples learned.
    share = min(recipe.validation, Recipe().validation) if request.epochs else recipe.validation
    _, held = hold_out(dataset.train_labels, share, recipe.seed)
    return {
        "validation_accuracy": network_accuracy(
            precompute(network), dataset.train_inputs[held], dataset.train_labels[held]
        ),
        "test_accuracy": tested,
        "best_epoch": trained.best_epoch,
        "parameters": trained.model.n_parameters,
        **_sizes(network),
        "trained_validation_accuracy": trained.validation_accuracy,
        "trained_test_accuracy": trained.test_accuracy,
    }


def _finetuned(trained: _Trained, request: CompressRequest, dataset: Dataset, recipe: Recipe) -> Network:
    """Coordinates, or the weights of a conventional network, trained under the pattern as they were trained before."""
    assert request.prune is not None  # settings_of has seen to it; this is for mypy
    recipe, spiking = replace(finetune_recipe(recipe), epochs=request.epochs), trained.config.spiking
    checkpoint = trained.model.checkpoint
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompressionWarning)
        if checkpoint is not None:
            return finetune(checkpoint, dataset, request.prune, recipe, request.tuning).network
        slope = SURROGATE_SLOPE if spiking is None else spiking.surrogate_slope
        network = trained.model.network
        return finetune(network, dataset, request.prune, recipe, request.tuning, surrogate_slope=slope).network


def _sizes(network: Network) -> dict[str, int]:
    return {"macs": precompute(network).macs, "weight_bytes": network.nbytes}


@lru_cache(maxsize=1)
def _dataset(name: str, data_dir: str | None, spikes: bool, sha256: str) -> Dataset:
    """The data of the settings; kept, for the next trial is likely to need them too."""
    dataset = load(name, None if data_dir is None else Path(data_dir), spikes=spikes)
    if dataset.content_sha256 != sha256:
        raise DataError(
            f"{name} on this worker has the SHA-256 {dataset.content_sha256[:16]}..., expected {sha256[:16]}...: other "
            "data than where the sweep was started"
        )
    return dataset


@contextmanager
def _one_thread() -> Iterator[None]:
    """Figures depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
