"""One trial: a function of its settings, whatever process or machine it runs in."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import sen_edge
from sen_edge import checkpoint as checkpoints
from sen_edge.compress.accuracy import accuracy
from sen_edge.compress.pipeline import compress
from sen_edge.datasets import Dataset, hold_out, load
from sen_edge.errors import DataError
from sen_edge.fitting import Recipe
from sen_edge.model import Model
from sen_edge.precompute import precompute
from sen_edge.sweep.settings import Settings, config_of, recipe_of, request_of
from sen_edge.train import Result, train
from sen_runtime.errors import SenError
from sen_runtime.network import Network

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
    with _one_thread(), tempfile.TemporaryDirectory() as folder:
        dataset = _dataset(**settings["data"])
        recipe = recipe_of(settings)
        trained = train(config_of(settings), dataset, recipe, out=Path(folder) / "model.pt")
        if settings["compression"] is None:
            return {
                "validation_accuracy": trained.validation_accuracy,
                "test_accuracy": trained.test_accuracy,
                "best_epoch": trained.best_epoch,
                "parameters": trained.checkpoint.n_parameters,
                **_sizes(checkpoints.to_network(trained.checkpoint)),
            }
        return _compressed(trained, settings["compression"], dataset, recipe)


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


def _compressed(trained: Result, values: dict[str, Any], dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    """Figures of the compressed network, and the accuracies of the one it came from."""
    checkpoint = trained.checkpoint
    model = Model(checkpoints.to_network(checkpoint), checkpoint.sha256, checkpoint)
    request = request_of(values, recipe.seed)
    made = compress(model, request, dataset=dataset, as_checkpoint=values["as_checkpoint"])
    # Training afterwards holds out its own share; of one seed the smaller share is part of the larger, and in neither
    # training were its examples learned.
    share = min(recipe.validation, Recipe().validation) if request.epochs else recipe.validation
    _, held = hold_out(dataset.train_labels, share, recipe.seed)
    network = precompute(made.network)
    return {
        "validation_accuracy": accuracy(network, dataset.train_inputs[held], dataset.train_labels[held]),
        "test_accuracy": made.figures["accuracy"]["compressed"],
        "best_epoch": trained.best_epoch,
        "parameters": checkpoint.n_parameters,
        **_sizes(made.network),
        "trained_validation_accuracy": trained.validation_accuracy,
        "trained_test_accuracy": trained.test_accuracy,
    }


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
