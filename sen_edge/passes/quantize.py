"""Quantization passes, Network -> Network: float16 weights; int8 or int4 weights; int8 activations too.

The ranges of int8 activations come from calibration inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

import numpy as np
from numpy.typing import NDArray

from sen_edge.errors import DataError, UsageError
from sen_edge.passes.gptq import GRANULARITIES, damped_moment, round_int4, round_sparse, round_weights
from sen_edge.passes.membranes import fits_grid, membrane_grid
from sen_runtime import reference
from sen_runtime.data.subsample import subsample
from sen_runtime.errors import NetworkError
from sen_runtime.ir.checks import Array
from sen_runtime.ir.int8 import INT8_MAX, INT8_MIN, SPIKES, Grid
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, bias_factor, map_weights, readout_grid
from sen_runtime.ir.neurons import Lif
from sen_runtime.ir.operators import Dense, LowRank, Sparse, Sum, WeightOperator, leaves

FloatArray = NDArray[np.float32]

RANGES = ("percentile", "minmax", "mse")
#: Percentage of values outside the range "percentile" at each end.
OUTSIDE_PERCENT = 0.01
#: Factors by which range "mse" may shrink.
RANGE_SHRINKS = np.linspace(1, 0.3, 36)
#: Values sampled for the squared error of range "mse".
RANGE_SAMPLE = 1 << 20
#: Steps of inputs that are bytes, as they are or from 0 to 1; their max, and the max rounding error of a float32.
PIXEL_STEPS, MAX_PIXEL, PIXEL_ERROR = (1.0, 1 / 255), 255, 1e-4
#: Max correction of a bias, as a share of the largest output of its neuron.
CORRECTION = 0.05
#: Max steps of a bias in int32; the product takes the other half.
BIAS_STEPS = 2.0**30
#: Share of the weights below which the last layer stays int8.
SMALL_SHARE = 1 / 8
#: Max time steps whose spike counts fit int8.
MAX_INT8_TIMESTEPS = INT8_MAX - INT8_MIN


def to_float16(network: Network) -> Network:
    """Store weights in float16; biases stay float32, and engines compute in float32."""
    return map_weights(network, lambda leaf: leaf.map_arrays(_round))


def to_int8_weights(
    network: Network, granularity: str = "channel", calibration: FloatArray | None = None, *, bits: int = 8
) -> Network:
    """Store weights in int8; activations and biases stay in float ("dynamic" quantization).

    Args:
        network: without coordinates.
        granularity: a scale per output "channel" (row) or per "tensor".
        calibration: inputs `[n, n_in]`, or `[n, T, n_in]` for input coding "spikes"; with them, scales and rounding
            make the products' error small instead of the weights', and biases take up its mean.
        bits: 4 for dense weights of `int4_layers` in int4.

    Raises:
        UsageError: another granularity, or no layer has an int4 form.
    """
    return _quantize(network, granularity, calibration, bits=bits)


def to_int8(
    network: Network,
    calibration: FloatArray,
    granularity: str = "channel",
    activation_range: str = "percentile",
    *,
    bits: int = 8,
) -> Network:
    """Store weights in int8 and put activations on static int8 grids ("full" quantization); see `to_int8_weights`.

    Ranges come from the calibration inputs: "percentile" (all but 0.01 % at either end); "minmax"; "mse" (min squared
    error).

    Raises:
        UsageError: another granularity or range, too many time steps to count in int8, neurons that differ, or no
            layer has an int4 form.
        DataError: a layer gives 0 for every calibration input.
    """
    if activation_range not in RANGES:
        raise UsageError(f"--activation-range is {activation_range!r}; expected one of {', '.join(RANGES)}")
    if network.readout == "spike_count" and network.timesteps > MAX_INT8_TIMESTEPS:
        raise UsageError(
            f"{network.timesteps} time steps: int8 counts spikes up to {MAX_INT8_TIMESTEPS}",
            hint="use --dtype int8-dynamic",
        )
    if network.input_coding not in ("direct", "spikes"):
        raise UsageError(
            f"--dtype int8 has no form of input coding {network.input_coding}", hint="use --dtype int8-dynamic"
        )
    for index, layer in enumerate(network.layers):
        names = [name for name, values in layer.neuron.arrays.items() if not fits_grid(name, values)]
        if names:
            raise UsageError(
                f"layer {index} has {' and '.join(names)} of each neuron; int8 membranes need one number",
                hint="use --dtype int8-dynamic",
            )
    return _quantize(network, granularity, calibration, activation_range, bits)


@dataclass(frozen=True)
class LayerError:
    """Quantization error of one layer: root mean square error over the root mean square.

    That of `output` is on calibration inputs, if there are any, with all layers before quantized too.
    """

    layer: int
    weights: float
    output: float | None


def quantization_errors(before: Network, after: Network, calibration: FloatArray | None) -> list[LayerError]:
    """Compute the error of each layer of `after`, the quantized form of `before`."""
    outputs: list[float | None] = [None] * len(before.layers)
    if calibration is not None:
        traces = (reference.trace(network, calibration, np.float32) for network in (before, after))
        outputs = [_relative_error(expected, actual) for expected, actual in zip(*traces, strict=True)]
    return [
        LayerError(index, _relative_error(old.weight.to_dense(), new.weight.to_dense()), output)
        for index, (old, new, output) in enumerate(zip(before.layers, after.layers, outputs, strict=True))
    ]


def _relative_error(expected: Array, actual: Array) -> float:
    size = float(np.sqrt(np.mean(np.square(expected, dtype=np.float64))))
    error = float(np.sqrt(np.mean(np.square(actual.astype(np.float64) - expected))))
    return error / size if size else error


def _round(array: Array) -> NDArray[np.float16]:
    largest = float(np.max(np.abs(array), initial=0))
    if largest > float(np.finfo(np.float16).max):  # numpy 2 would compare in float16
        raise NetworkError(
            f"the value {largest:g} does not fit float16, whose largest is 65504", hint="export with --dtype float32"
        )
    return array.astype(np.float16)


def _quantize(
    network: Network,
    granularity: str,
    calibration: FloatArray | None,
    activation_range: str | None = None,
    bits: int = 8,
) -> Network:
    """Quantize weights; activations too if `activation_range` is given."""
    if not network.is_instant and (bits < 8 or activation_range is not None):
        raise UsageError(
            "networks with delays, recurrence or synaptic currents have neither int4 weights nor int8 activations",
            hint="use --dtype int8-dynamic",
        )
    if granularity not in GRANULARITIES:
        raise UsageError(f"--granularity is {granularity!r}; expected one of {', '.join(GRANULARITIES)}")
    inputs: list[FloatArray] | list[None] = [None] * len(network.layers)
    values: list[FloatArray] | list[None] = inputs
    if calibration is not None:
        inputs, values = reference.layer_inputs(network, calibration)
    coarse = _int4_layers(network) if bits == 4 else set()
    fit, input_grid = _Fit(granularity, activation_range), None
    if activation_range is not None:
        input_grid = SPIKES if network.coding.is_binary else _input_grid(fit, inputs[0])
    layers: list[Layer] = []
    for index, (layer, x, value) in enumerate(zip(network.layers, inputs, values, strict=True)):
        if layer.neuron.role == "readout":
            grid = None if input_grid is None else readout_grid(network, input_grid)
        elif not layers or input_grid is None:
            grid = input_grid
        else:
            grid = SPIKES if network.is_spiking else layers[-1].grid
        try:
            fitted = replace(fit, x=x, x_grid=grid, bits=4 if index in coarse else 8)
            quantized = (
                _quantize_layer(network, layer, fitted, value) if layer.is_instant else _quantize_wired(layer, fit)
            )
            layers.append(quantized)
        except (NetworkError, DataError) as error:
            raise type(error)(f"layer {index}: {error.message}", error.hint) from error
    return replace(network, layers=tuple(layers), input_grid=input_grid)


def int4_layers(shapes: Sequence[tuple[int, int]]) -> range:
    """Layers whose dense weights become int4: all but a small last one, which is sensitive."""
    sizes = [n_out * n_in for n_out, n_in in shapes]
    return range(len(sizes) - (sizes[-1] < SMALL_SHARE * sum(sizes)))


def _int4_layers(network: Network) -> set[int]:
    """Layers that become int4: those with dense weights among `int4_layers`."""
    layers = network.layers
    found = {
        index
        for index in int4_layers([layer.weight.shape for layer in layers])
        if any(isinstance(leaf, Dense) for leaf in leaves(layers[index].weight))
    }
    if not found:
        raise UsageError(
            "only dense weights have an int4 form, and no layer has them, or the last one alone, which stays int8",
            hint="use --dtype int8 or int8-dynamic",
        )
    return found


def _input_grid(fit: _Fit, x: FloatArray | None) -> Grid:
    """Return the grid of the inputs; of pixels that of the pixels, so that their bytes are the stored values."""
    grid = fit.grid(x, "the input")
    assert x is not None  # as above
    for step in PIXEL_STEPS:
        pixels = x.astype(np.float64) / step
        is_byte = float(x.min()) >= 0 and MAX_PIXEL / 2 < pixels.max() < MAX_PIXEL + 0.5
        if is_byte and float(np.abs(pixels - np.rint(pixels)).max()) < PIXEL_ERROR:
            return Grid(step, INT8_MIN)
    return grid


def _quantize_layer(network: Network, layer: Layer, fit: _Fit, values: FloatArray | None) -> Layer:
    bias, grid = layer.bias, None
    if bias is None or fit.x is None:
        weight = fit.operator(layer.weight)
    else:
        factor = bias_factor(network, layer)
        added = (bias.astype(np.float64) * factor).astype(np.float32)
        expected = layer.weight.affine(fit.x, added)
        # Leave room for the correction of the bias.
        reach = np.abs(added) + CORRECTION * np.abs(expected).max(axis=0)
        weight = replace(fit, bias=added, reach=reach).operator(layer.weight)
        missing = np.mean(expected - weight.affine(fit.x, added), axis=0, dtype=np.float64)
        limit = reach - np.abs(added)
        bias = (bias + np.clip(missing, -limit, limit) / factor).astype(np.float32)
    if fit.x_grid is not None:
        assert fit.x is not None and values is not None  # grids come from calibration inputs; for mypy
        steps, neuron = network.timesteps, layer.neuron
        grid = membrane_grid(layer, neuron, steps, fit.x, values) if isinstance(neuron, Lif) else fit.grid(values)
    return replace(layer, weight=weight, bias=bias, grid=grid)


def _quantize_wired(layer: Layer, fit: _Fit) -> Layer:
    """Quantize a layer with delays, recurrent synapses or synaptic currents, without calibration inputs.

    Dense weights of both connections get the same scales, so that engines can add them as integers.
    """
    recurrent = layer.recurrent
    weights = [weight for weight, _ in layer.connections]
    if recurrent is None or not all(isinstance(weight, Dense) and weight.scale is None for weight in weights):
        own = [fit.operator(weight) for weight in weights]
    else:
        values, scale = fit.matrix(np.concatenate([weight.to_dense() for weight in weights], axis=1))
        own = [Dense(each.copy(), scale) for each in np.split(values, [weights[0].shape[1]], axis=1)]
    return replace(layer, weight=own[0], recurrent=None if recurrent is None else replace(recurrent, weight=own[1]))


@dataclass(frozen=True)
class _Fit:
    """Options, calibration inputs `[rows, n_in]` with their grid, and a bias `[n_out]`, that an operator is fitted to.

    `reach [n_out]` is the max magnitude of the corrected bias.
    """

    granularity: str
    activation_range: str | None
    bits: int = 8
    x: FloatArray | None = None
    x_grid: Grid | None = None
    bias: FloatArray | None = None
    reach: FloatArray | None = None

    @property
    def moment(self) -> NDArray[np.float64] | None:
        """Second moment of the inputs."""
        return None if self.x is None else damped_moment(self.x)

    @property
    def min_scale(self) -> NDArray[np.float64] | float:
        """Min scale of weights with which a bias up to `reach`, in steps of the product, fits 32 bits."""
        if self.reach is None or self.x_grid is None:
            return 0.0
        return self.reach.astype(np.float64) / (self.x_grid.scale * BIAS_STEPS)

    def operator(self, operator: WeightOperator) -> WeightOperator:
        """Quantize an operator."""
        if any(array.dtype == np.int8 for array in operator.weight_arrays()):
            raise NetworkError("the weights are int8 already", hint="quantize its source")
        return _to_int8(operator, self)

    def matrix(self, w: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Quantize a matrix to int8 values and scales."""
        return round_weights(w.astype(np.float32), self.granularity, self.moment, self.min_scale)

    def grid(self, values: FloatArray | None, what: str = "it") -> Grid:
        low, high = self._range(values)
        if low == high:
            raise DataError(
                f"{what} gives 0 for every calibration input, so it has no int8 range",
                hint="use inputs like those that the network was trained on",
            )
        return Grid.covering(low, high)

    def _range(self, values: FloatArray | None) -> tuple[float, float]:
        """Return min and max to cover, 0 included."""
        assert values is not None  # callers have calibration inputs; for mypy
        bottom, top = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        if self.activation_range == "percentile":
            low, high = np.percentile(values, [OUTSIDE_PERCENT, 100 - OUTSIDE_PERCENT])
            if min(low, 0) < max(high, 0):  # else the few values that are not 0 are the signal
                bottom, top = min(float(low), 0.0), max(float(high), 0.0)
        elif self.activation_range == "mse" and bottom < top:
            sample = subsample(values, max(1, RANGE_SAMPLE * len(values) // values.size))  # whole rows: all neurons
            errors = [
                float(np.mean((sample - Grid.covering(bottom * s, top * s).round(sample)) ** 2)) for s in RANGE_SHRINKS
            ]
            best = float(RANGE_SHRINKS[int(np.argmin(errors))])
            bottom, top = bottom * best, top * best
        return bottom, top


@singledispatch
def _to_int8(operator: WeightOperator, fit: _Fit) -> WeightOperator:
    """Quantize an operator; one function for each type with an int8 form."""
    del fit
    raise NetworkError(f"{operator.form} have no int8 form", hint="use --weights dense, or --dtype float16")


@_to_int8.register
def _dense(operator: Dense, fit: _Fit) -> WeightOperator:
    if fit.bits == 4:
        return round_int4(operator.w.astype(np.float32), fit.moment, fit.min_scale)
    return Dense(*fit.matrix(operator.w))


@_to_int8.register
def _sparse(operator: Sparse, fit: _Fit) -> WeightOperator:
    return round_sparse(operator, fit.granularity, fit.moment, fit.min_scale)


@_to_int8.register
def _low_rank(operator: LowRank, fit: _Fit) -> WeightOperator:
    right, right_scale = replace(fit, bias=None, reach=None).matrix(operator.right)
    inner = None if fit.x is None else fit.x @ operator.right.astype(np.float32).T
    grid = None if inner is None or fit.x_grid is None else fit.grid(inner, "the right factor")
    left, left_scale = replace(fit, x=inner, x_grid=grid).matrix(operator.left)
    return LowRank(left, right, left_scale, right_scale, grid)


@_to_int8.register
def _sum(operator: Sum, fit: _Fit) -> WeightOperator:
    a, b = replace(fit, bias=None, reach=None).operator(operator.a), fit.operator(operator.b)
    if fit.x is None or fit.x_grid is None:
        return Sum(a, b)
    a_grid = fit.grid(operator.a.affine(fit.x), "the first operand of a sum")
    b_grid = fit.grid(operator.b.affine(fit.x, fit.bias), "the second operand of a sum")
    return Sum(a, b, a_grid, b_grid)
