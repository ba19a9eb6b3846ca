"""Training: Adam with a one-cycle learning rate on a data set in memory, the best epoch kept, resumable.

Which epoch is best is decided on a part of the training data that is held out; the test data are used once,
at the end, on what was kept. A run is a function of its options: the same seed, thread count and torch version give
the same bits, with or without an interruption.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import sen_edge
from sen_edge.data.datasets import Dataset, check_dataset
from sen_edge.errors import OutputError, UsageError
from sen_edge.model import checkpoint
from sen_edge.model.checkpoint import SUFFIXES
from sen_edge.model.config import SpatialConfig
from sen_edge.model.layers import build
from sen_edge.model.parameters import Checkpoint
from sen_edge.training.loop import (
    Examples,
    Progress,
    Recipe,
    TrainingError,
    evaluate,
    label_loss,
    one_cycle,
    prepare,
    run_epoch,
    steps_per_epoch,
)
from sen_edge.training.state import Best, Training, options_of, restore, save_state, state_path
from sen_runtime.memory_limits import reported, require_layers

#: Live at once for each weight in a step of training: weights, distances, and a gradient.
TRAIN_BYTES = 12


def suggested_spiking(dataset: Dataset) -> dict[str, Any]:
    """Values of `SpikingConfig` that train better than its defaults, and the length of the data's spike trains."""
    timesteps = dataset.train_inputs.shape[1] if dataset.train_inputs.ndim == 3 else 10
    return {"timesteps": timesteps, "surrogate_slope": 5.0}


@dataclass(frozen=True)
class Result:
    """What a training gave; accuracies in percent, `checkpoint` as it was written."""

    checkpoint: Checkpoint
    path: Path
    best_epoch: int
    validation_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class _Job:
    """What stays the same from epoch to epoch."""

    config: SpatialConfig
    dataset: Dataset
    recipe: Recipe
    out: Path
    replace: bool
    metadata: Mapping[str, str]
    progress: Callable[[Progress], None]


@reported()
def train(
    config: SpatialConfig,
    dataset: Dataset,
    recipe: Recipe,
    *,
    out: Path,
    replace: bool = False,
    resume: bool = False,
    metadata: Mapping[str, str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Train a network and write the best epoch's checkpoint.

    After every epoch the state goes to `state_path(out)`; it is removed once the checkpoint is written.

    Args:
        config: of the network.
        dataset: what it learns.
        recipe: how.
        out: `.pt` or `.safetensors`.
        replace: `out`, and the state of an interrupted training, may be replaced.
        resume: continue from the state of an interrupted training with the same options, if there is one.
        metadata: goes into the checkpoint, with accuracies, epochs, seed, data set and version.
        progress: called after every step, and with the validation accuracy after every epoch.

    Raises:
        DataError: the data do not fit the network.
        OutputError: `out` exists or cannot be written.
        UsageError: other options than the interrupted training had.
        TrainingError: the loss is no longer finite. The best epoch so far, if any, has been written.
    """
    check_output(out, replace=replace, resume=resume)
    require_layers([(n_out, n_in) for n_in, n_out in pairwise(config.layer_sizes)], TRAIN_BYTES)
    check_dataset(dataset, config.input_shape, config.input_range, config.layer_sizes[-1])
    job = _Job(config, dataset, recipe, out, replace, metadata or {}, progress or (lambda _: None))
    examples = prepare(dataset, recipe)
    options = options_of(config, dataset, asdict(recipe))
    training = _start(config, recipe, examples)
    if resume and state_path(out).exists():
        restore(training, state_path(out), options)
    while training.epoch < recipe.epochs:
        try:
            _run_epoch(training, examples, job)
        except TrainingError as error:
            raise _diverged(error, training, job) from None
        save_state(training, state_path(out), options)
    return _finish(training, job)


def check_output(out: Path, *, replace: bool, resume: bool) -> None:
    """Refuse before hours of training what would fail after them."""
    state = state_path(out)
    if out.suffix not in SUFFIXES:
        raise UsageError(f"{out}: suffix is {out.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    if not out.parent.is_dir():
        raise OutputError(f"{out.parent} is not a folder", hint=f"mkdir -p {out.parent}")
    if out.is_dir() or (out.exists() and not replace):
        raise OutputError(f"{out} exists", hint="name another --output, or pass --force to replace it")
    if state.exists() and not (resume or replace):
        raise OutputError(
            f"{state} holds an interrupted training", hint="go on with --resume, or pass --force to start over"
        )


def _start(config: SpatialConfig, recipe: Recipe, examples: Examples) -> Training:
    network = build(config)
    network.reset_parameters(recipe.seed, recipe.position_scale)
    steps = recipe.epochs * steps_per_epoch(examples, recipe)
    optimizer, schedule = one_cycle(list(network.parameters()), recipe, steps)
    return Training(network, optimizer, schedule, torch.Generator().manual_seed(recipe.seed))


def _run_epoch(training: Training, examples: Examples, job: _Job) -> None:
    """One pass over the training examples, then the held-out ones."""
    now = run_epoch(training, examples, job.recipe, label_loss, job.progress)
    accuracy, loss = evaluate(training.network, examples.held_inputs, examples.held_labels)
    best = training.best
    if math.isfinite(loss) and (best is None or (accuracy, -loss) >= (best.accuracy, -best.loss)):
        tensors = {name: tensor.detach().clone() for name, tensor in training.network.named_tensors().items()}
        best = training.best = Best(training.epoch, accuracy, loss, tensors)
    job.progress(replace(now, validation_accuracy=accuracy, best_accuracy=best.accuracy if best else None))


def _finish(training: Training, job: _Job) -> Result:
    """Measure the best epoch on the test data, and write it."""
    best = training.best
    if best is None:
        raise TrainingError("no epoch gave finite outputs", hint="lower --learning-rate")
    with torch.no_grad():
        for name, parameter in training.network.named_tensors().items():
            parameter.copy_(best.tensors[name])
    dataset = job.dataset
    test_accuracy, _ = evaluate(training.network, torch.tensor(dataset.test_inputs), torch.tensor(dataset.test_labels))
    facts = {
        **{name: f"{value:.6g}" for name, value in asdict(job.recipe).items()},
        "dataset": dataset.name,
        "epochs_done": str(training.epoch),
        "best_epoch": str(best.epoch),
        "validation_accuracy": f"{best.accuracy:.2f}",
        "test_accuracy": f"{test_accuracy:.2f}",
        "sen_edge_version": sen_edge.__version__,
    }
    result = checkpoint.from_module(training.network, {**job.metadata, **facts})
    checkpoint.save(result, job.out, replace=job.replace)
    state_path(job.out).unlink(missing_ok=True)
    return Result(result, job.out, best.epoch, best.accuracy, test_accuracy)


def _diverged(error: TrainingError, training: Training, job: _Job) -> TrainingError:
    """The error to raise for a loss that is not finite, with the best epoch so far written."""
    hint = f"lower --learning-rate (it was {job.recipe.learning_rate:g})"
    if training.best is None:
        return TrainingError(f"{error.message}; no epoch was finished", hint)
    result = _finish(training, job)
    kept = f"epoch {result.best_epoch}, test accuracy {result.test_accuracy:.2f} %"
    return TrainingError(f"{error.message}; {job.out} keeps the best epoch so far ({kept})", hint)
