"""Training: Adam with a one-cycle learning rate, best epoch by held-out training data, resumable.

The test data are used once, at the end, for the best epoch. A run is a function of its options: the same seed, thread
count and torch version give the same bits, with or without an interruption.

The dense baseline is a conventional network with one parameter per weight: it has the layers, neurons, time steps and
biases of a configuration, is initialized as in K. He et al., "Delving deep into rectifiers", 2015, and is trained on
the same examples in the same way.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np

import sen_edge
from sen_edge.data.datasets import Dataset, check_dataset
from sen_edge.display import Displayed
from sen_edge.errors import DataError, OutputError
from sen_edge.model import checkpoint
from sen_edge.model.checkpoint import SUFFIXES
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.model.free import FreeNetwork
from sen_edge.model.layers import SpatialNetwork
from sen_edge.model.parameters import Checkpoint
from sen_edge.overwrite import refuse_file
from sen_edge.progress import Progress, silent
from sen_edge.schema import Schema, fields_of
from sen_edge.training.initial import initialize
from sen_edge.training.loop import (
    Epoch,
    Run,
    TrainingError,
    fit,
    options_of,
    prepare,
    restore,
    restore_best,
    save_state,
    start,
    state_path,
)
from sen_edge.training.objective import Objective, Part, evaluate, objective_of
from sen_edge.training.recipe import HIDDEN, Recipe, suggested_exponent, suggested_recipe
from sen_edge.training.request import TrainRequest
from sen_edge.training.scaling import collapse_warnings, input_scaling, output_scaling, scale_warnings
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Dense
from sen_runtime.memory_limits import catch_allocation_errors, require_layers
from sen_runtime.task import RECONSTRUCTION, REGRESSION, Metric

LOG = logging.getLogger(__name__)

#: Peak bytes per weight in a training step: weights, distances, gradient.
TRAIN_BYTES = 12
#: Examples that the default change of input coding "delta" is computed from.
DELTA_EXAMPLES = 10_000
#: Peak learning rate and second decay of Adam for dense networks: best of 0.0005 to 0.008 by validation on MNIST.
DENSE_RATE, DENSE_SECOND_MOMENT = 4e-3, 0.999


def config_of(request: TrainRequest, dataset: Dataset) -> SpatialConfig:
    """Return the configuration of a request for these data."""
    spiking = None
    if request.arch == "snn":
        spiking = SpikingConfig(**{**suggested_spiking(dataset, request), **_stated(request, SpikingConfig)})
    channels = 2 if request.input_coding == "delta" else 1
    hidden = _hidden(request, dataset)
    values = {
        **_stated(request, SpatialConfig),
        "exponent": _exponent(request, dataset),
        "layer_axis": "free" if request.is_relaxed else request.layer_axis,
        "layer_sizes": (channels * dataset.n_in, *hidden, dataset.n_out),
        "dimensions": request.dims,
        "input_range": dataset.input_range,
        "spiking": spiking,
        "task": dataset.task,
        "feature_names": dataset.feature_names,
        "output_names": dataset.output_names,
        "target_columns": request.target,
        "input_scaling": request.has_scaling,
        "output_scaling": dataset.task == REGRESSION or (dataset.task == RECONSTRUCTION and request.has_scaling),
    }
    return SpatialConfig(**values)


def recipe_of(request: TrainRequest, dataset: Dataset) -> Recipe:
    """Return the recipe of a request for these data."""
    n_layers = len(_hidden(request, dataset)) + 1
    suggested = suggested_recipe(dataset, request.dims, _exponent(request, dataset), n_layers)
    if request.is_relaxed:
        suggested = dataclasses.replace(suggested, relaxed_spacing=request.layer_spacing)
    if request.weights == "free":
        suggested = conventional_recipe(suggested)
    return dataclasses.replace(suggested, **_stated(request, Recipe))


def _hidden(request: TrainRequest, dataset: Dataset) -> tuple[int, ...]:
    if request.hidden is not None:
        return request.hidden
    return (next(size for limit, size in HIDDEN if len(dataset.train_inputs) < limit),)


def _exponent(request: TrainRequest, dataset: Dataset) -> float:
    return request.exponent or suggested_exponent(dataset, request.dims, len(_hidden(request, dataset)) + 1)


def _stated(request: TrainRequest, schema: type[Schema]) -> dict[str, Any]:
    """Return the values of a request for the fields of a schema, by name."""
    values = {name: getattr(request, name, None) for name in fields_of(schema)}
    return {name: value for name, value in values.items() if value is not None}


def suggested_spiking(dataset: Dataset, request: TrainRequest) -> dict[str, Any]:
    """Return values of `SpikingConfig` that train better than its defaults; time steps from sequences."""
    timesteps = dataset.train_inputs.shape[1] if dataset.train_inputs.ndim == 3 else 10
    suggested: dict[str, Any] = {"timesteps": timesteps, "surrogate_slope": 5.0}
    if request.input_coding == "delta" and dataset.train_inputs.ndim == 3:
        changes = np.abs(np.diff(dataset.train_inputs[:DELTA_EXAMPLES], axis=1))
        if not changes.any():
            raise DataError(f"{dataset.name}: no value of a sequence changes; input coding delta has no spikes")
        suggested["delta"] = float(np.median(changes[changes > 0]))
    return suggested


@dataclass(frozen=True, repr=False)
class TrainResult(Displayed):
    """Result of a training.

    Attributes:
        checkpoint: parameters of the best epoch.
        path: of the checkpoint.
        best_epoch: with the best validation score, from 1.
        metric: of the task; scores are in its unit.
        validation_score: of that epoch on held-out training data.
        test_scores: of that epoch on the test data, that of `metric` first.
        history: loss and validation score of each epoch.
    """

    checkpoint: Checkpoint
    path: Path
    best_epoch: int
    metric: Metric
    validation_score: float
    test_scores: Mapping[Metric, float]
    history: tuple[Epoch, ...]

    @property
    def test_score(self) -> float:
        """Metric of the task on the test data."""
        return self.test_scores[self.metric]

    def summary(self) -> Mapping[str, object]:
        """Return file, architecture, scores and best epoch."""
        config = self.checkpoint.config
        return {
            "path": self.path,
            "architecture": f"{config.architecture} {'-'.join(map(str, config.layer_sizes))}",
            **{f"test {metric.name}": metric.text(score) for metric, score in self.test_scores.items()},
            f"validation {self.metric.name}": self.metric.text(self.validation_score),
            "best_epoch": self.best_epoch,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "output": str(self.path),
            "parameters": self.checkpoint.n_parameters,
            "metric": asdict(self.metric),
            "test_score": self.test_score,
            "test_scores": {metric.name: score for metric, score in self.test_scores.items()},
            "validation_score": self.validation_score,
            "best_epoch": self.best_epoch,
            "config": self.checkpoint.config.to_dict(),
            "metadata": dict(self.checkpoint.metadata),
        }


@catch_allocation_errors()
def train(
    config: SpatialConfig,
    dataset: Dataset,
    recipe: Recipe,
    *,
    out: Path,
    replace: bool = False,
    resume: bool = False,
    metadata: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> TrainResult:
    """Train a network and write a checkpoint of the best epoch, with `metadata` and figures of the training.

    The state is saved to `state_path(out)` after every epoch, and removed after the checkpoint is written.
    `replace` applies to `out` and to the state of an interrupted training, from which `resume` continues.

    Raises:
        DataError: the data do not fit the network.
        OutputError: `out` exists or cannot be written.
        UsageError: other options than the interrupted training had.
        TrainingError: the loss is not finite. The best epoch so far, if any, is written.
    """
    check_output(out, replace=replace, resume=resume)
    require_layers([(n_out, n_in) for n_in, n_out in pairwise(config.layer_sizes)], TRAIN_BYTES)
    check_dataset(dataset, config)
    network = SpatialNetwork(config)
    network.input_scaling = input_scaling(config, dataset, recipe)
    network.output_scaling = output_scaling(config, dataset, network.input_scaling)
    for warning in (*dataset.warnings(), *scale_warnings(dataset, network.input_scaling)):
        LOG.warning(warning)
    examples, state = prepare(dataset, recipe), state_path(out)
    objective = objective_of(network, dataset.training, recipe)
    initialize(network, examples.training, recipe)
    run = start(network, examples, recipe)
    options = options_of(config, dataset, recipe)
    if resume and state.exists():
        restore(run, state, options)
    elif resume:
        LOG.info("%s does not exist; training starts at epoch 1", state)

    write = partial(_write, run, dataset, recipe, objective, out, metadata or {}, replace=replace)
    try:
        fit(run, examples, recipe, objective, after=lambda: save_state(run, state, options), progress=progress)
    except TrainingError as error:
        if run.best is None:
            raise
        kept = write()
        figures = f"epoch {kept.best_epoch}, test {kept.metric.name} {kept.metric.text(kept.test_score)}"
        raise TrainingError(f"{error.message}; {out} keeps the best epoch so far ({figures})", error.hint) from None
    return write()


def check_output(out: Path, *, replace: bool, resume: bool) -> None:
    """Reject an invalid output before training."""
    refuse_file(out, SUFFIXES, force=replace)
    state = state_path(out)
    if state.exists() and not (resume or replace):
        raise OutputError(
            f"{state} holds an interrupted training", hint="pass --resume to continue, or --force to start over"
        )


def _write(
    run: Run,
    dataset: Dataset,
    recipe: Recipe,
    objective: Objective,
    out: Path,
    metadata: Mapping[str, str],
    *,
    replace: bool,
) -> TrainResult:
    """Evaluate the best epoch on the test data, and write its checkpoint."""
    best, metric = restore_best(run), objective.metric
    scores, _ = evaluate(run.network, Part.whole(dataset.test), objective)
    for warning in collapse_warnings(dataset, run.network, scores[metric]):
        LOG.warning(warning)
    facts = {
        **{name: _text(value) for name, value in asdict(recipe).items() if value is not None},
        "dataset": dataset.name,
        "epochs_done": str(run.epoch),
        "best_epoch": str(best.epoch),
        f"validation_{metric.key}": metric.number(best.score),
        f"test_{metric.key}": metric.number(scores[metric]),
        "sen_edge_version": sen_edge.__version__,
    }
    result = checkpoint.from_module(cast("SpatialNetwork", run.network), {**metadata, **facts})
    checkpoint.save(result, out, replace=replace)
    state_path(out).unlink(missing_ok=True)
    return TrainResult(result, out, best.epoch, metric, best.score, scores, tuple(run.history))


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, (int, float)) else str(value)


# --- dense baseline -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """Dense network of the best epoch; its metric on the held-out examples; figures of each epoch."""

    network: Network
    best_epoch: int
    validation_score: float
    history: tuple[Epoch, ...]


def conventional_recipe(recipe: Recipe) -> Recipe:
    """Adapt the recipe of a spatially embedded network to free weights."""
    return dataclasses.replace(recipe, learning_rate=DENSE_RATE, second_moment=DENSE_SECOND_MOMENT)


def initial(config: SpatialConfig, seed: int) -> Network:
    """Initialize a dense network with weights of variance 2 / n_in."""
    rng = np.random.default_rng(seed)
    layers = [
        Layer(
            Dense(rng.standard_normal((n_out, n_in), np.float32) * np.float32((2 / n_in) ** 0.5)),
            np.zeros(n_out, np.float32) if config.bias else None,
            neuron,
        )
        for (n_in, n_out), neuron in zip(pairwise(config.layer_sizes), config.neurons(), strict=True)
    ]
    return Network(tuple(layers), **config.timing())


def train_conventional(
    config: SpatialConfig, dataset: Dataset, recipe: Recipe, *, progress: Progress = silent
) -> Trained:
    """Train a dense baseline; does not use the test data. Errors are those of `sen_edge.training.train.train`."""
    check_dataset(dataset, config)
    network, spiking = initial(config, recipe.seed), config.spiking
    inputs = input_scaling(config, dataset, recipe)
    outputs = output_scaling(config, dataset, inputs)
    network = dataclasses.replace(network, metadata=config.metadata(), input_scaling=inputs, output_scaling=outputs)
    module = FreeNetwork(network, 0.0 if spiking is None else spiking.surrogate_slope)
    examples = prepare(dataset, recipe)
    run = start(module, examples, recipe)
    best = fit(run, examples, recipe, objective_of(module, dataset.training, recipe), progress=progress)
    return Trained(module.to_network(), best.epoch, best.score, tuple(run.history))
