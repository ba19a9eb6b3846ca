"""Probabilistic bound of float32 rounding errors of a network, for given inputs.

Source: N. Higham and T. Mary, "A New Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41(5),
2019. The error of a sum of n products, in any order, exceeds lambda sqrt(n) u |W||x| with a probability that vanishes
exponentially in lambda^2; u is 2^-24. Errors of different neurons are independent, so their squares add through a
layer. docs/reference/verification.md compares it with the worst-case bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.passes.materialize import materialize_leaf
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Relu
from sen_runtime.ir.operators import WeightOperator, leaves, map_leaves
from sen_runtime.reference import arriving

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
Bias = NDArray[np.floating[Any]] | None

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


def error_bounds(
    network: Network, x: FloatArray, layers: Sequence[FloatArray], *, is_float16: bool
) -> list[DoubleArray]:
    """Bound the difference between model and artifact due to rounding.

    `x` is `[batch, ...]` of `input_shape`; layers of the model, and their bounds, are `[batch, n]`.
    Bounds of spike counts are 0: a membrane within rounding of its threshold changes a count by 1, and a separate
    tolerance limits how often. `is_float16` is whether the artifact's weights are rounded to float16.
    """
    *bounds, last = (_spiking if network.is_spiking else _perceptron)(network, x, layers, is_float16=is_float16)
    if network.output_scaling is not None:
        std, mean = (each.astype(np.float64) for each in (network.output_scaling.std, network.output_scaling.mean))
        last = last * std + SUM_FACTOR * FLOAT32_UNIT * (np.abs(layers[-1]) + np.abs(mean))
    if network.output_activation == "softmax":  # neither it nor the sigmoid increases differences
        last = np.broadcast_to(last.max(axis=1, keepdims=True), last.shape)
    return [*bounds, last]


def _perceptron(
    network: Network, x: FloatArray, layers: Sequence[FloatArray], *, is_float16: bool
) -> list[DoubleArray]:
    bounds = []
    forms = _input_forms(network, x)
    for layer, activations in zip(network.layers, layers, strict=True):
        weight = map_leaves(layer.weight, materialize_leaf)
        squares = [
            _squared(weight, inputs, squared, _shifted(weight, layer.bias, shift), is_float16=is_float16)
            for inputs, squared, shift in forms
        ]
        squared = np.maximum.reduce(squares)
        bounds.append(np.sqrt(squared))
        if isinstance(layer.neuron, Relu):  # below 0 by more than the bound, it is 0 despite rounding
            is_silent = weight.affine(forms[0][0], layer.bias) < -bounds[-1]
            bounds[-1][is_silent] = squared[is_silent] = 0
        forms = [(activations.astype(np.float64), squared, None)]
    return bounds


def _input_forms(network: Network, x: FloatArray) -> list[tuple[DoubleArray, DoubleArray, DoubleArray | None]]:
    """Return inputs of the first layer, their squared bounds, and the shift that the bias has instead of them.

    An artifact standardizes inputs, or has the standardization in its weights and bias, where the means cancel later.
    """
    scaling, values = network.input_scaling, x.astype(np.float64)
    if scaling is None:
        return [(values, np.zeros(x.shape), None)]
    scaled = values * scaling.inverse.astype(np.float64)
    shift = -scaling.mean * scaling.inverse.astype(np.float64)
    return [
        (inputs, (2 * SUM_FACTOR * FLOAT32_UNIT * inputs) ** 2, missing)
        for inputs, missing in ((scaling.standardize(values), None), (scaled, shift))
    ]


def _shifted(weight: WeightOperator, bias: Bias, shift: DoubleArray | None) -> Bias:
    return bias if shift is None else weight.affine(shift[None], bias)[0]


def _spiking(network: Network, x: FloatArray, layers: Sequence[FloatArray], *, is_float16: bool) -> list[DoubleArray]:
    """Bound the readout for equal spikes: the sum over all steps is one product with the counts."""
    *hidden, readout = network.layers
    bounds: list[DoubleArray] = [np.zeros(counts.shape) for counts in layers]
    if readout.neuron.role != "readout":
        return bounds
    steps, weight = network.timesteps, map_leaves(readout.weight, materialize_leaf)
    forms: list[tuple[DoubleArray, DoubleArray, DoubleArray | None]]
    if hidden or network.coding.gives_spikes:
        counts = layers[-2].astype(np.float64) if hidden else reduce(np.add, arriving(network, x.astype(np.float64)))
        forms = [(counts, np.zeros(counts.shape), None)]
    elif network.coding.has_steps:
        forms = [
            (np.abs(each).sum(axis=1), steps * squared.sum(axis=1), shift)
            for each, squared, shift in _input_forms(network, x)
        ]
    else:
        forms = [(steps * each, steps**2 * squared, shift) for each, squared, shift in _input_forms(network, x)]
    squares = []
    for counts, squared, shift in forms:
        bias = _shifted(weight, readout.bias, shift)
        total = None if bias is None else bias * np.float64(steps)
        squares.append(_squared(weight, counts, squared, total, is_float16=is_float16))
    memory = readout.neuron.response(steps).sum(axis=0)  # of each neuron where they differ
    share = memory / steps if network.readout == "mean_membrane" else 1.0
    # Errors of different steps may be correlated, so they add linearly.
    bounds[-1] = np.sqrt(np.maximum.reduce(squares)) * share * np.sqrt(1 + 3 * steps / weight.shape[1])
    return bounds


def _squared(
    operator: WeightOperator, x: DoubleArray, squared: DoubleArray, bias: Bias, *, is_float16: bool
) -> DoubleArray:
    """Compute the squared bounds of `W x + b`, `[batch, n_out]`, from those of x, `[batch, n_in]`."""
    *terms, last_term = leaves(operator)
    multiply = partial(_multiply, is_float16=is_float16)
    total: DoubleArray = np.zeros(())
    for term in (*terms, last_term):
        inner, errors = x, squared
        *factors, last = (factor.to_dense() for factor in term.factors)
        for w in factors:
            inner, errors = inner @ w.T.astype(np.float64), multiply(w, inner, errors, None)
        total = total + multiply(last, inner, errors, bias if term is last_term else None)
    return total


def _multiply(w: FloatArray, x: DoubleArray, squared: DoubleArray, bias: Bias, *, is_float16: bool) -> DoubleArray:
    size, has_errors = np.abs(x), bool(squared.any())
    result = np.empty((len(size), len(w)))
    step = max(1, TILE_ENTRIES // w.shape[1])
    for rows in (slice(start, start + step) for start in range(0, len(w), step)):
        tile = np.abs(w[rows].astype(np.float64))
        n_terms = np.count_nonzero(tile, axis=1) + (bias is not None)
        total = size @ tile.T
        if bias is not None:
            total += np.abs(bias[rows])
        result[:, rows] = n_terms * (SUM_FACTOR * FLOAT32_UNIT * total) ** 2
        if has_errors:
            result[:, rows] += squared @ (tile**2).T
        if is_float16:
            rounding = np.where(tile > 0, np.maximum(FLOAT16_UNIT * tile, FLOAT16_MIN), 0)
            result[:, rows] += size**2 @ ((WEIGHT_FACTOR * rounding) ** 2).T
    return result
