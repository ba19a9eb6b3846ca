"""Structured pruning: removal of hidden neurons, with a smaller dense network as the result.

A neuron is a column of the next layer and a row of its own. The biases of the next layer compensate for its mean, and
the remaining columns for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sen_edge.compression.layerwise import SecondOrder
from sen_edge.compression.moments import Inputs, moments
from sen_edge.compression.patterns import Pattern, select_largest
from sen_edge.compression.quadratic import Quadratic, best_under_pattern
from sen_edge.compression.request import CompressRequest
from sen_edge.errors import UsageError
from sen_edge.passes.materialize import materialize
from sen_edge.passes.sparse_layout import to_sparse_layout
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sum, WeightOperator

FloatArray = NDArray[np.float64]
Indices = NDArray[np.intp]

#: Neurons below this share of the mean energy of their layer are dead and always removed.
DEAD = 1e-9


def remove_neurons(
    network: Network, layers: Sequence[int], request: CompressRequest, calibration: Inputs | None
) -> Network:
    """Remove the least important hidden neurons.

    Args:
        network: to make smaller.
        layers: whose output neurons are removed; those of the last layer, the network's outputs, stay.
        request: its sparsity is the share of these neurons; at 0 only those that never change.
        calibration: checked inputs for a second-order choice and compensation. Without them neurons with the smallest
            weights are removed, and a network of coordinates stays one.

    Raises:
        UsageError: there are no hidden neurons in these layers.
    """
    hidden = [index for index in layers if index < len(network.layers) - 1]
    if not hidden:
        raise UsageError("there are no hidden neurons to remove", hint="the last layer's neurons are the outputs")
    sparsity = request.sparsity or 0.0
    if calibration is None:
        return keep_neurons(network, _strongest(network, hidden, sparsity))
    fit = SecondOrder.of(network, calibration, request.seed)
    found = moments(fit.network, fit.network, calibration)
    variances = {index: found[index + 1].variance for index in hidden}
    kept: dict[int, Indices] = {}

    def method(index: int, problem: Quadratic) -> WeightOperator | None:
        variance = variances.get(index - 1)
        if variance is None:
            return None
        n_out = problem.weight.shape[0]
        columns, count, alive = Pattern(block=(n_out, 1)), n_out * _count(variance, sparsity), _alive(variance)
        # damping gives dead neurons with large weights some energy, which must not count
        scaled, mask = best_under_pattern(problem, lambda energy: columns.select(np.where(alive, energy, -1.0), count))
        kept[index - 1] = np.flatnonzero(mask[0])
        return Dense(problem.to_weights(scaled).astype(np.float32))

    return keep_neurons(fit.compress(method), kept)


def keep_neurons(network: Network, kept: Mapping[int, Indices]) -> Network:
    """The network with only these output neurons `[n]`, ascending, in the layers that `kept` names."""
    layers = []
    for index, layer in enumerate(network.layers):
        n_out, n_in = layer.weight.shape
        rows, columns = kept.get(index, np.arange(n_out)), kept.get(index - 1, np.arange(n_in))
        bias = None if layer.bias is None else layer.bias[rows]
        layers.append(replace(layer, weight=take(layer.weight, rows, columns), bias=bias))
    return replace(network, layers=tuple(layers))


def take(operator: WeightOperator, rows: Indices, columns: Indices) -> WeightOperator:
    """The operator with these outputs and inputs, in this order; floating-point weights."""
    if isinstance(operator, Sum):
        return Sum(take(operator.a, rows, columns), take(operator.b, rows, columns))
    if isinstance(operator, Coordinates):
        return replace(
            operator, source=operator.source[columns], target=operator.target[rows], mask=operator.mask[columns]
        )
    if isinstance(operator, LowRank):
        return LowRank(operator.left[rows], np.ascontiguousarray(operator.right[:, columns]))
    w = operator.to_dense()[np.ix_(rows, columns)]
    return Dense(w) if isinstance(operator, Dense) else to_sparse_layout(w, w != 0)


def _strongest(network: Network, hidden: Sequence[int], sparsity: float) -> dict[int, Indices]:
    """Neurons that stay, by the product of the norms of the weights into and out of each."""
    values = [layer.weight.to_dense().astype(np.float64) for layer in materialize(network).layers]
    energies = {i: (values[i] ** 2).sum(axis=1) * (values[i + 1] ** 2).sum(axis=0) for i in hidden}
    return {
        index: np.flatnonzero(select_largest(energy, _count(energy, sparsity))) for index, energy in energies.items()
    }


def _alive(energy: FloatArray) -> NDArray[np.bool_]:
    alive: NDArray[np.bool_] = energy > DEAD * energy.mean()
    return alive


def _count(energy: FloatArray, sparsity: float) -> int:
    """Neurons of a layer that stay: never the dead, at least one."""
    return max(1, min(int(_alive(energy).sum()), round((1 - sparsity) * len(energy))))
