"""Whole hidden neurons taken out: a smaller dense network, which every engine runs faster.

A neuron is a column of the layer behind it. What its mean contributes goes into the biases there, and the columns
that stay make up for the rest; then its row in the layer before goes too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sen_edge.compress.layerwise import layerwise
from sen_edge.compress.moments import Inputs, moments, sensitivities
from sen_edge.compress.patterns import Pattern, greatest
from sen_edge.compress.quadratic import Quadratic, best_under_pattern
from sen_edge.errors import UsageError
from sen_edge.passes.materialize import precompute
from sen_edge.passes.sparse_layout import stored
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sum, WeightOperator

FloatArray = NDArray[np.float64]
Indices = NDArray[np.intp]

#: Share of the mean of a layer's neurons below which one is dead, by its variance or its weights, and goes in any case.
DEAD = 1e-9


def remove_neurons(
    network: Network,
    layers: Sequence[int],
    *,
    sparsity: float,
    calibration: Inputs | None,
    seed: int = 0,
) -> Network:
    """The network without its least hidden neurons.

    Args:
        network: to make smaller.
        layers: whose output neurons may go; the last layer's are the network's outputs and stay.
        sparsity: share of these neurons that goes, in [0, 1); at 0 only those that never change.
        calibration: checked inputs; with them the choice is second-order, and weights make up for the loss. Without
            them those of the least weights go, and a network of coordinates stays one.
        seed: of random mixtures of many outputs.

    Raises:
        UsageError: there are no hidden neurons in these layers.
    """
    hidden = [index for index in layers if index < len(network.layers) - 1]
    if not hidden:
        raise UsageError("there are no hidden neurons to remove", hint="the last layer's neurons are the outputs")
    if calibration is None:
        return without_neurons(network, _strongest(network, hidden, sparsity))
    dense = precompute(network)
    outputs = sensitivities(dense, calibration, seed)
    found = moments(dense, dense, calibration)
    variances = [c if c.ndim == 1 else np.diag(c) for c in (found[index + 1].covariance for index in hidden)]
    counts = _counts(variances, sparsity)
    wanted = {index + 1: count for index, count in zip(hidden, counts, strict=True)}
    alive = {index + 1: v > DEAD * v.mean() for index, v in zip(hidden, variances, strict=True)}
    kept: dict[int, Indices] = {}

    def method(index: int, problem: Quadratic) -> WeightOperator | None:
        if index not in wanted:
            return None
        columns = Pattern(block=(problem.weight.shape[0], 1))
        n_kept = wanted[index] * problem.weight.shape[0]
        # damping gives a dead neuron with large weights some energy: it must not stay in the place of a live one
        scaled, mask = best_under_pattern(
            problem, lambda energy: columns.select(np.where(alive[index], energy, -1.0), n_kept)
        )
        kept[index - 1] = np.flatnonzero(mask[0])
        return Dense(problem.to_weights(scaled).astype(np.float32))

    return without_neurons(layerwise(dense, calibration, method, outputs), kept)


def without_neurons(network: Network, kept: Mapping[int, Indices]) -> Network:
    """The network with those output neurons of layers that `kept` names, `[n]` ascending, and no others there."""
    layers = []
    for index, layer in enumerate(network.layers):
        n_out, n_in = layer.weight.shape
        rows, columns = kept.get(index, np.arange(n_out)), kept.get(index - 1, np.arange(n_in))
        bias = None if layer.bias is None else layer.bias[rows]
        layers.append(replace(layer, weight=take(layer.weight, rows, columns), bias=bias))
    return replace(network, layers=tuple(layers))


def take(operator: WeightOperator, rows: Indices, columns: Indices) -> WeightOperator:
    """The operator with those outputs and inputs, in this order; floating-point weights."""
    if isinstance(operator, Sum):
        return Sum(take(operator.a, rows, columns), take(operator.b, rows, columns))
    if isinstance(operator, Coordinates):
        return replace(
            operator, source=operator.source[columns], target=operator.target[rows], mask=operator.mask[columns]
        )
    if isinstance(operator, LowRank):
        return LowRank(operator.left[rows], np.ascontiguousarray(operator.right[:, columns]))
    w = operator.to_dense()[np.ix_(rows, columns)]
    return Dense(w) if isinstance(operator, Dense) else stored(w, w != 0)


def _strongest(network: Network, hidden: Sequence[int], sparsity: float) -> dict[int, Indices]:
    """The neurons that stay, by the product of the norms of the weights into and out of each."""
    values = [layer.weight.to_dense().astype(np.float64) for layer in precompute(network).layers]
    energies = [(values[i] ** 2).sum(axis=1) * (values[i + 1] ** 2).sum(axis=0) for i in hidden]
    counts = _counts(energies, sparsity)
    return {
        index: np.flatnonzero(greatest(energy, count))
        for index, energy, count in zip(hidden, energies, counts, strict=True)
    }


def _counts(energies: Sequence[FloatArray], sparsity: float) -> list[int]:
    """How many neurons of each layer stay: the same share of each, the dead never, one at least."""
    alive = [int(np.sum(energy > DEAD * energy.mean())) for energy in energies]
    return [max(1, min(n, round((1 - sparsity) * len(energy)))) for n, energy in zip(alive, energies, strict=True)]
