"""Standardization of inputs and targets: constants of the training data, or of the user."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sen_edge.data.datasets import Dataset
from sen_edge.errors import UsageError
from sen_edge.model.config import SpatialConfig
from sen_edge.model.dynamics import LayeredNetwork
from sen_edge.training.recipe import Recipe
from sen_runtime import task
from sen_runtime.ir.standardization import Standardization
from sen_runtime.task import MULTILABEL, RECONSTRUCTION
from sen_runtime.untrusted import listing

#: Root mean square of a feature above which training suffers; ratio of two features of a table, likewise.
LARGE_INPUT, LARGE_RATIO = 10.0, 100.0
HINT = "add --standardize"
#: Share of the scale of a metric by which a network must be better than a constant output.
MIN_GAIN = 0.02


def input_scaling(config: SpatialConfig, dataset: Dataset, recipe: Recipe) -> Standardization | None:
    """Return the standardization of the inputs; constant features keep their scale."""
    if not config.input_scaling:
        return None
    if (recipe.input_mean, recipe.input_std) == (None, None):
        mean, std, _ = dataset.column_statistics
    else:
        mean = _spread("input_mean", recipe.input_mean or (0.0,), dataset.n_in)
        std = _spread("input_std", recipe.input_std or (1.0,), dataset.n_in)
    return Standardization(mean.astype(np.float32), std.astype(np.float32))


def _spread(name: str, values: tuple[float, ...], n_in: int) -> NDArray[np.float64]:
    if len(values) not in (1, n_in):
        raise UsageError(f"{name} has {len(values)} values; expected 1, or {n_in}, one for each feature")
    return np.broadcast_to(np.array(values, np.float64), (n_in,))


def output_scaling(config: SpatialConfig, dataset: Dataset, inputs: Standardization | None) -> Standardization | None:
    """Return the standardization of the targets of a regression, or of the inputs that a reconstruction returns."""
    if not config.output_scaling:
        return None
    if config.task == RECONSTRUCTION:
        return inputs
    targets = dataset.training.require_targets().astype(np.float64)
    return Standardization(targets.mean(axis=0).astype(np.float32), targets.std(axis=0).astype(np.float32))


def scale_warnings(dataset: Dataset, scaling: Standardization | None) -> list[str]:
    """Return warnings about constant features, and about features of very different scales without standardization."""
    mean, std, is_constant = dataset.column_statistics
    names = dataset.feature_names or tuple(map(str, range(dataset.n_in)))
    if scaling is not None:
        constant = [names[index] for index in np.flatnonzero(is_constant)]
        return [f"{dataset.name}: constant features: {listing(constant)}"] if constant else []
    size = np.where(is_constant, 0, np.sqrt(np.square(mean) + np.square(std)))
    if not size.any():
        return []
    largest = int(size.argmax())
    found = f"{dataset.name}: feature {names[largest]} has the magnitude {size[largest]:.3g}"
    smallest = int(np.where(size > 0, size, np.inf).argmin())
    if dataset.feature_names and size[largest] > LARGE_RATIO * size[smallest]:
        return [f"{found}, feature {names[smallest]} {size[smallest]:.3g}; such differences impede training: {HINT}"]
    if size[largest] > LARGE_INPUT:
        large = [names[index] for index in np.flatnonzero(size > LARGE_INPUT)]
        return [f"{dataset.name}: features above a magnitude of {LARGE_INPUT:g}: {listing(large)}; {HINT}"]
    return []


def collapse_warnings(dataset: Dataset, network: LayeredNetwork, score: float) -> list[str]:
    """Return a warning if the score on the test data is hardly better than that of the best constant output."""
    kind, targets, n = task.of(dataset.task), dataset.test_targets, len(dataset.test_inputs)
    inputs = np.empty((n, 0), np.float32)
    if dataset.task == RECONSTRUCTION:
        scaling, inputs = network.input_scaling, dataset.test.rows(slice(None))
        inputs = inputs if scaling is None else scaling.standardize(inputs)
        constant, targets = inputs.mean(axis=0), None
    else:
        learned = dataset.training.require_targets()
        shares = np.eye(dataset.n_out)[learned] if learned.ndim == 1 else learned
        constant = shares.mean(axis=0) - (0.5 if dataset.task == MULTILABEL else 0)
    outputs = np.broadcast_to(constant, (n, dataset.n_out))
    base = kind.scores(outputs, targets, inputs)[kind.metric]
    scale = 100.0 if kind.metric.unit else base if dataset.task == RECONSTRUCTION else 1.0
    if kind.metric.drop(score, base) > MIN_GAIN * scale:
        return []
    return [
        f"the network has hardly learned: test {kind.metric.name} {kind.metric.text(score)}, and "
        f"{kind.metric.text(base)} with a constant output; train longer, or with standardized inputs"
    ]
