"""Equalization: Network -> Network that computes the same, whose matrices lose little with one int8 scale each.

A ReLU and the inside of a low-rank product are homogeneous: a row may be multiplied by any positive number if the
column of the next matrix is divided by it. A spiking neuron gives the same spikes if its row, bias and threshold are
multiplied by the same number. All factors are powers of two, so the results are equal to the bit.

Factors of rows and columns: M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
2019, section 4.1.
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

import numpy as np
from numpy.typing import NDArray

from sen_edge.passes.scale import ONE, scale_weights
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Lif, Neuron, Relu
from sen_runtime.ir.operators import LowRank, WeightOperator, leaves, map_leaves

DoubleArray = NDArray[np.float64]

#: Equalizations of all pairs of matrices, one after the other; more change little.
SWEEPS = 3
#: A row below this share of the largest counts as that large: it may belong to a dead neuron.
MIN_RANGE = 2.0**-10
#: Min and max exponent of the factor of a threshold. An int8 grid holds thresholds of 1 to 64 steps; the currents of
#: rows far above the median exceed the threshold by so much that a coarse one serves.
THRESHOLD_OCTAVES = (-5, 1)
#: Metadata of a network whose hidden activations are multiplied.
SCALED_HIDDEN = ("hidden_activations", "scaled")


def equalize(network: Network) -> Network:
    """Bring the ranges of the rows of each matrix together; the outputs are equal to the bit.

    Weights are float32, without coordinates. Activations of hidden ReLU neurons, and membranes and thresholds of
    spiking ones, are multiplied by powers of two. Rows of the last layer of a perceptron, or of a membrane readout,
    have nothing to be divided by and stay.
    """
    layers = list(network.layers)
    for _ in range(SWEEPS):
        layers = [replace(layer, weight=map_leaves(layer.weight, _equalize_inside)) for layer in layers]
        for index in range(len(layers) - 1):
            layers[index : index + 2] = _equalize_pair(layers[index].neuron, *layers[index : index + 2])
    layers = [_equalize_thresholds(layer.neuron, layer) for layer in layers]
    metadata = network.metadata if network.is_spiking else {**network.metadata, SCALED_HIDDEN[0]: SCALED_HIDDEN[1]}
    return replace(network, layers=tuple(layers), metadata=metadata)


@singledispatch
def _equalize_pair(neuron: Neuron, layer: Layer, following: Layer) -> tuple[Layer, Layer]:
    """Scale the neurons between two layers; by default not at all."""
    return layer, following


@_equalize_pair.register
def _relu(neuron: Relu, layer: Layer, following: Layer) -> tuple[Layer, Layer]:
    rows = _ranges(layer.weight, axis=1)
    if layer.bias is not None:  # a bias far above its weights would make the activations large
        rows = np.maximum(rows, layer.bias)
    factors = _balance(rows, _ranges(following.weight, axis=0))
    return _scale_rows(layer, factors), replace(following, weight=scale_weights(following.weight, ONE, 1 / factors))


@singledispatch
def _equalize_thresholds(neuron: Neuron, layer: Layer) -> Layer:
    """Scale neurons with a threshold; by default none."""
    return layer


@_equalize_thresholds.register
def _lif(neuron: Lif, layer: Layer) -> Layer:
    ranges = _ranges(layer.weight, axis=1)
    is_live = ranges > MIN_RANGE * ranges.max()
    octaves = np.where(is_live, np.rint(np.log2(np.median(ranges[is_live]) / ranges)), 0)
    factors: DoubleArray = 2.0 ** np.clip(octaves, *THRESHOLD_OCTAVES)
    if np.all(factors == 1):
        return layer
    threshold = (np.asarray(neuron.threshold) * factors).astype(np.float32)
    return replace(_scale_rows(layer, factors), neuron=replace(neuron, threshold=threshold))


def _scale_rows(layer: Layer, factors: DoubleArray) -> Layer:
    bias = None if layer.bias is None else (layer.bias * factors).astype(np.float32)
    return replace(layer, weight=scale_weights(layer.weight, factors, ONE), bias=bias)


def _equalize_inside(leaf: WeightOperator) -> WeightOperator:
    if not isinstance(leaf, LowRank):
        return leaf
    factors = _balance(_peaks(leaf.right, 1), _peaks(leaf.left, 0))
    left, right = leaf.left / factors, leaf.right * factors[:, None]
    return LowRank(left.astype(np.float32), right.astype(np.float32))


def _balance(rows: DoubleArray, columns: DoubleArray) -> DoubleArray:
    """Factors of rows, powers of two, after which rows and columns have about the same ranges."""
    factors: DoubleArray = 2.0 ** np.rint(np.log2(columns / rows) / 2)
    return factors


def _ranges(operator: WeightOperator, axis: int) -> DoubleArray:
    """Largest magnitude in each row (axis 1) or column (axis 0) of the outer matrices of all terms of a sum."""
    outer = [leaf.factors[-axis].to_dense() for leaf in leaves(operator)]
    ranges: DoubleArray = np.max([_peaks(matrix, axis) for matrix in outer], axis=0)
    return ranges


def _peaks(matrix: NDArray[np.float32], axis: int) -> DoubleArray:
    peaks = np.abs(matrix).max(axis=axis).astype(np.float64)
    floored: DoubleArray = np.maximum(peaks, MIN_RANGE * peaks.max() or 1.0)
    return floored
