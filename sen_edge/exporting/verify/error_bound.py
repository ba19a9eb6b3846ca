"""Probabilistic bound of float32 rounding errors of a network, for given inputs.

Source: N. Higham and T. Mary, "A New Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41(5),
2019. The error of a sum of n products, in any order, exceeds lambda sqrt(n) u |W||x| with a probability that vanishes
exponentially in lambda^2; u is 2^-24. Errors of different neurons are independent, so their squares add through a
layer. docs/reference/verification.md compares it with the worst-case bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.passes.materialize import materialize_leaf
from sen_runtime.ir.network import Layer, Network
from sen_runtime.ir.neurons import Relu
from sen_runtime.ir.operators import WeightOperator, leaves, map_leaves

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

#: Unit round-off: half the spacing of numbers at 1.
FLOAT32_UNIT, FLOAT16_UNIT = 2.0**-24, 2.0**-11
#: Half the spacing of subnormal float16 numbers.
FLOAT16_MIN = 2.0**-25
#: lambda: 7 standard deviations of errors uniform in +-u, for sums in any order.
SUM_FACTOR = 2.0
#: lambda of weights rounded to float16, whose errors do not depend on the order: 7 standard deviations.
WEIGHT_FACTOR = 4.0
#: Entries of a matrix that are looked at together: bounds memory.
TILE_ENTRIES = 1 << 22


@dataclass(frozen=True)
class _Value:
    """Values `[batch, n]` and the squares of their bounds, the same shape."""

    x: DoubleArray
    squared: DoubleArray


def error_bounds(
    network: Network, x: FloatArray, layers: Sequence[FloatArray], *, is_float16: bool
) -> list[DoubleArray]:
    """Bound the difference between model and artifact due to rounding.

    Args:
        network: of the model.
        x: inputs, `[batch, n_in]`, or spike trains `[batch, T, n_in]`.
        layers: outputs of the model's layers for them, `[batch, n]` each.
        is_float16: whether the artifact's weights are rounded to float16.

    Returns:
        A bound `[batch, n]` per layer. Bounds of spike counts are 0: a membrane within rounding of its threshold
        changes a count by 1, and a separate tolerance limits how often.
    """
    if network.is_spiking:
        return _spiking(network, x, layers, is_float16=is_float16)
    bounds = []
    value = _Value(x.astype(np.float64), np.zeros(x.shape))
    for stored, activations in zip(network.layers, layers, strict=True):
        layer = replace(stored, weight=map_leaves(stored.weight, materialize_leaf))
        squared = _squared(layer.weight, value, layer.bias, is_float16=is_float16)
        if isinstance(layer.neuron, Relu):
            squared[_is_silent(layer, value.x, np.sqrt(squared))] = 0
        value = _Value(activations.astype(np.float64), squared)
        bounds.append(np.sqrt(squared))
    return bounds


def _is_silent(layer: Layer, x: DoubleArray, bound: DoubleArray) -> NDArray[np.bool_]:
    """Return the neurons `[batch, n]` below 0 by more than the bound, whose ReLU is 0 despite rounding."""
    is_silent: NDArray[np.bool_] = layer.weight.affine(x, layer.bias) < -bound
    return is_silent


def _spiking(network: Network, x: FloatArray, layers: Sequence[FloatArray], *, is_float16: bool) -> list[DoubleArray]:
    """Bound the readout for equal spikes: the sum over all steps is one product with the counts."""
    *hidden, readout = network.layers
    bounds: list[DoubleArray] = [np.zeros(counts.shape) for counts in layers]
    if readout.neuron.role != "readout":
        return bounds
    if hidden:
        counts = layers[-2].astype(np.float64)
    else:
        counts = x.astype(np.float64).sum(axis=1) if network.input_coding == "spikes" else x * float(network.timesteps)
    bias = None if readout.bias is None else readout.bias * np.float64(network.timesteps)
    weight = map_leaves(readout.weight, materialize_leaf)
    squared = _squared(weight, _Value(counts, np.zeros(counts.shape)), bias, is_float16=is_float16)
    steps = network.timesteps  # errors of different steps may be correlated, so they add linearly
    memory = float(np.sum(readout.neuron.response(steps)))
    share = memory / steps if network.readout == "mean_membrane" else 1.0
    bounds[-1] = np.sqrt(squared) * share * np.sqrt(1 + 3 * steps / readout.weight.shape[1])
    return bounds


def _squared(
    operator: WeightOperator, value: _Value, bias: NDArray[np.floating[Any]] | None, *, is_float16: bool
) -> DoubleArray:
    """Compute the squared bounds of `W x + b`."""
    terms = list(leaves(operator))
    squares = [_squared_leaf(term, value, bias if term is terms[-1] else None, is_float16=is_float16) for term in terms]
    return reduce(np.add, squares)


def _squared_leaf(
    leaf: WeightOperator, value: _Value, bias: NDArray[np.floating[Any]] | None, *, is_float16: bool
) -> DoubleArray:
    *inner, last = leaf.factors
    for factor in inner:
        w = factor.to_dense()
        squared = _product(w, value, None, is_float16=is_float16)
        value = _Value(value.x @ w.T.astype(np.float64), squared)
    return _product(last.to_dense(), value, bias, is_float16=is_float16)


def _product(w: FloatArray, value: _Value, bias: NDArray[np.floating[Any]] | None, *, is_float16: bool) -> DoubleArray:
    size, has_errors = np.abs(value.x), bool(value.squared.any())
    result = np.empty((len(size), len(w)))
    for rows in _tiles(w):
        tile = np.abs(w[rows].astype(np.float64))
        n_terms = np.count_nonzero(tile, axis=1) + (bias is not None)
        total = size @ tile.T
        if bias is not None:
            total += np.abs(bias[rows])
        result[:, rows] = n_terms * (SUM_FACTOR * FLOAT32_UNIT * total) ** 2
        if has_errors:
            result[:, rows] += value.squared @ (tile**2).T
        if is_float16:
            rounding = np.where(tile > 0, np.maximum(FLOAT16_UNIT * tile, FLOAT16_MIN), 0)
            result[:, rows] += size**2 @ ((WEIGHT_FACTOR * rounding) ** 2).T
    return result


def _tiles(w: FloatArray) -> Iterator[slice]:
    rows = max(1, TILE_ENTRIES // w.shape[1])
    for start in range(0, len(w), rows):
        yield slice(start, min(start + rows, len(w)))
