"""Networks whose activations are int8, in integers: the plain reference for the C library, equal to it to the bit.

A value of a grid is stored without a sign, as `u = q + 128`; real = scale * (u - zero). A product is summed in int32
with its bias, then multiplied by a fixed-point number and rounded once, halves up, as ai-edge-litert does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
from numpy.typing import NDArray

from sen_runtime.errors import NetworkError
from sen_runtime.ir.checks import Array, require
from sen_runtime.ir.int8 import INT8_MIN, SPIKES, Grid
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, bias_factor, is_constant_readout, output_grid, readout_factors, readout_grid
from sen_runtime.ir.neurons import Lif, Relu
from sen_runtime.ir.operators import LowRank, Sparse, Sum, WeightOperator
from sen_runtime.memory_limits import require_network
from sen_runtime.reference import finish, standardize

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

#: A sum of products, with its bias, stays below this; inputs less their zero point reach 255.
ACCUMULATOR_LIMIT, MAX_STORED = 2**31, 255
MAX_NEURONS = 1 << 16
#: Below, the inverse of a scale exceeds float32.
MIN_SCALE = 2.0**-126
#: Bits of the factor by which a membrane decays, and of the factors of a sum.
DECAY_BITS, SUM_BITS = 15, 20
#: A spike in steps of its grid is 1 << 6.
SPIKE_BITS = 6


def zero_of(grid: Grid) -> int:
    """Stored value of 0."""
    return grid.zero_point - INT8_MIN


def check_integers(network: Network) -> None:
    """Refuse int8 activations that integers of 32 bits cannot compute: a `NetworkError` that names the layer."""
    if network.input_grid is None:
        return
    _check_scale(network.input_grid)
    if network.readout == "spike_count" and network.timesteps > MAX_STORED:
        raise NetworkError(f"{network.timesteps} time steps; int8 counts spikes up to {MAX_STORED}")
    grid = network.input_grid
    for index, layer in enumerate(network.layers):
        try:
            for name in layer.neuron.arrays:
                raise NetworkError(f"int8 activations have no form of a {name} for each neuron", "use --to tflite")
            if layer.neuron.role == "readout":
                grid = readout_grid(network, network.input_grid)
            _check_operator(layer.weight, grid, bias_of(network, layer))
            for each in (layer.grid, *layer.weight.grids):
                _check_scale(each)
        except NetworkError as error:
            raise NetworkError(f"layer {index}: {error.message}", error.hint) from error
        assert layer.grid is not None  # as the network has grids
        grid = SPIKES if network.is_spiking else layer.grid


def _check_scale(grid: Grid | None) -> None:
    if grid is not None:
        require(grid.scale >= MIN_SCALE, f"the scale of a grid is {grid.scale:g}; expected at least {MIN_SCALE:.4g}")


def _check_operator(operator: WeightOperator, grid: Grid, bias: Array | None) -> None:
    if isinstance(operator, Sum):
        _check_operator(operator.a, grid, None)
        _check_operator(operator.b, grid, bias)
        return
    *inner, last = operator.factors
    for factor in inner:
        _check_matrix(factor, grid, None)
        assert isinstance(operator, LowRank) and operator.inner is not None
        grid = operator.inner
    _check_matrix(last, grid, bias)


def _check_matrix(operator: WeightOperator, grid: Grid, bias: Array | None) -> None:
    if operator.scale is None:
        raise NetworkError(f"{operator.form} weights are floating point; int8 activations need int8 weights")
    widest = max(operator.shape)
    require(widest <= MAX_NEURONS, f"it has {widest:,} neurons; a layer of int8 activations has up to {MAX_NEURONS:,}")
    reach = _magnitudes(operator) * float(MAX_STORED)
    if bias is not None:
        reach = reach + np.abs(bias_steps(bias, operator, grid))
    if reach.max() >= ACCUMULATOR_LIMIT:
        row = int(reach.argmax())
        raise NetworkError(
            f"neuron {row} can add up to {reach[row]:.3g}, beyond the 32 bits of an int8 product",
            "take --dtype int8-dynamic or float16",
        )


def _magnitudes(operator: WeightOperator) -> Integers:
    """Sum of the magnitudes of the weights of each row; zeros, which a small file may have many of, are not written."""
    if not isinstance(operator, Sparse):
        magnitudes: Integers = np.abs(operator.stored_matrix().astype(np.int16)).sum(axis=1, dtype=np.int64)
        return magnitudes
    sums = np.zeros(operator.shape[0], np.int64)
    if len(operator.values):  # otherwise a block may have any size
        rows, columns = operator.block
        blocks = np.abs(operator.values.astype(np.int16)).reshape(-1, rows, columns).sum(axis=2, dtype=np.int64)
        row = operator.block_rows()[:, np.newaxis] * rows + np.arange(rows)
        is_inside = row < len(sums)  # values beyond the edge are 0
        np.add.at(sums, row[is_inside], blocks[is_inside])
    return sums


def bias_of(network: Network, layer: Layer) -> NDArray[np.float32] | None:
    """Bias of the product of a layer: of a readout that of all steps."""
    if layer.bias is None:
        return None
    return (layer.bias.astype(np.float64) * bias_factor(network, layer)).astype(np.float32)


def bias_steps(bias: Array, operator: WeightOperator, grid: Grid) -> NDArray[np.float64]:
    """Bias `[n_out]` in steps of the product."""
    assert operator.scale is not None
    return np.rint(bias.astype(np.float64) / (operator.scale.astype(np.float64) * grid.scale))


@dataclass(frozen=True)
class Factor:
    """A positive number as `multiplier / 2 ** shift`, `[1]` or `[n]` each; a multiplier has 31 bits, or is 0."""

    multiplier: Integers
    shift: Integers

    @classmethod
    def of(cls, ratio: NDArray[np.float64]) -> Factor:
        """The nearest number that multiplies an int32 within 64 bits."""
        mantissa, exponent = np.frexp(ratio)
        multiplier = np.floor(mantissa * 2.0**31 + 0.5).astype(np.int64)
        is_carried = multiplier == 2**31
        multiplier = np.where(is_carried, 2**30, multiplier)
        shift = 31 - exponent.astype(np.int64) - is_carried
        is_large, is_small = shift < 1, shift > 62
        multiplier = np.where(is_large, 2**31 - 1, np.where(is_small, 0, multiplier))
        return cls(multiplier, np.where(is_large, 1, np.where(is_small, 62, shift)))

    def apply(self, values: Integers) -> Integers:
        """`values` times the number, rounded to nearest, halves up."""
        product: Integers = (values * self.multiplier + (1 << (self.shift - 1))) >> self.shift
        return product


def quantize(grid: Grid, x: NDArray[np.float32]) -> Bytes:
    """Nearest stored values of an input; halves are rounded to even."""
    zero, inverse = np.float32(zero_of(grid)), np.float32(1) / np.float32(grid.scale)
    with np.errstate(over="ignore"):
        steps = np.clip(x * inverse, -zero, np.float32(MAX_STORED) - zero)
    return (np.rint(steps) + zero).astype(np.uint8)


def dequantize(grid: Grid, stored: Bytes) -> NDArray[np.float32]:
    """Real values of stored ones."""
    return grid.dequantize((stored.astype(np.int64) + INT8_MIN).astype(np.int8))


def store(values: Integers, grid: Grid, low: int = 0) -> Bytes:
    """Stored values, from `low` up, of steps of a grid."""
    return np.clip(values + zero_of(grid), low, MAX_STORED).astype(np.uint8)


@singledispatch
def product(operator: WeightOperator, x: Bytes, grid: Grid, bias: Array | None, out: Grid, low: int) -> Bytes:
    """`W x + b` on the grid `out`, for `x [batch, n_in]` on `grid`: stored values from `low` up."""
    w = operator.stored_matrix().astype(np.float64)
    sums = ((x.astype(np.float64) - zero_of(grid)) @ w.T).astype(np.int64)  # float64 holds every sum exactly
    if bias is not None:
        sums += bias_steps(bias, operator, grid).astype(np.int64)
    return store(product_factor(operator, grid, out).apply(sums), out, low)


def product_factor(operator: WeightOperator, grid: Grid, out: Grid) -> Factor:
    """From the sums of a product, for inputs on `grid`, to steps of `out`; `[1]` or `[n_out]`."""
    assert operator.scale is not None
    return Factor.of(np.float64(grid.scale) * operator.scale.astype(np.float64) / np.float64(out.scale))


@product.register(LowRank)  # Python 3.9 cannot evaluate annotations with `|`, which `register` would do
def _low_rank(operator: LowRank, x: Bytes, grid: Grid, bias: Array | None, out: Grid, low: int) -> Bytes:
    right, left = operator.factors
    assert operator.inner is not None
    inner = product(right, x, grid, None, operator.inner, 0)
    return product(left, inner, operator.inner, bias, out, low)


@product.register(Sum)
def _sum(operator: Sum, x: Bytes, grid: Grid, bias: Array | None, out: Grid, low: int) -> Bytes:
    assert operator.a_grid is not None and operator.b_grid is not None
    a = product(operator.a, x, grid, None, operator.a_grid, 0)
    b = product(operator.b, x, grid, bias, operator.b_grid, 0)
    factors, shift = sum_factors(operator.a_grid, operator.b_grid, out)
    total = factors[0] * (a.astype(np.int64) - zero_of(operator.a_grid))
    total += factors[1] * (b.astype(np.int64) - zero_of(operator.b_grid))
    return store((total + (1 << (shift - 1))) >> shift, out, low)


def sum_factors(a: Grid, b: Grid, out: Grid) -> tuple[list[int], int]:
    """Factors from the steps of two grids to those of `out`, and the shift that follows, such that int32 suffices."""
    ratios = [np.float64(each.scale) / np.float64(out.scale) for each in (a, b)]
    shift = min(max(SUM_BITS - int(np.frexp(max(ratios))[1]), 1), 31)
    return [min(int(np.floor(ratio * 2.0**shift + 0.5)), 1 << SUM_BITS) for ratio in ratios], shift


def run(network: Network, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs `[batch, n_out]` of a network with grids."""
    return trace(network, x)[-1]


def trace(network: Network, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Outputs of every layer, as `sen_runtime.reference.trace`."""
    assert network.input_grid is not None
    require_network(network, 8)
    with np.errstate(over="ignore"):
        stored = quantize(network.input_grid, standardize(network, x))
    hidden, last = _trace(network, stored)
    grid = output_grid(network)
    assert grid is not None
    return [*hidden, finish(network, dequantize(grid, last))]


def run_stored(network: Network, stored: Bytes) -> Bytes:
    """Stored outputs `[batch, n_out]`, before restoration and activation, for stored standardized inputs."""
    return _trace(network, stored)[1]


def _trace(network: Network, stored: Bytes) -> tuple[list[NDArray[np.float32]], Bytes]:
    """Outputs of the hidden layers, and stored outputs."""
    assert network.input_grid is not None
    return (_trace_spiking if network.is_spiking else _trace_mlp)(network, network.input_grid, stored)


def _trace_mlp(network: Network, grid: Grid, stored: Bytes) -> tuple[list[NDArray[np.float32]], Bytes]:
    outputs = []
    for layer in network.layers:
        assert layer.grid is not None
        stored = _layer(network, layer, stored, grid)
        grid = layer.grid
        outputs.append(dequantize(grid, stored))
    return outputs[:-1], stored


def _layer(network: Network, layer: Layer, x: Bytes, grid: Grid) -> Bytes:
    assert layer.grid is not None
    return product(layer.weight, x, grid, bias_of(network, layer), layer.grid, low_of(layer))


def low_of(layer: Layer) -> int:
    """Min stored value of the products of a layer."""
    assert layer.grid is not None
    return zero_of(layer.grid) if isinstance(layer.neuron, Relu) else 0


#: Spikes are 0 and 64 without an offset, so that kernels skip zeros.
STORED_SPIKES = Grid(SPIKES.scale, INT8_MIN)


def _spike_trains(network: Network, grid: Grid, x: Bytes) -> Iterator[list[Integers]]:
    """Spikes `[batch, n]`, 0 or 1, of the spiking layers in each step."""
    spiking = [layer for layer in network.layers if layer.neuron.role == "spiking"]
    membranes = [np.zeros((len(x), layer.weight.shape[0]), np.int64) for layer in spiking]
    for t in range(network.timesteps):
        arriving, arriving_grid = (x[:, t] if x.ndim == 3 else x), grid
        spikes = []
        for index, layer in enumerate(spiking):
            assert layer.grid is not None and isinstance(layer.neuron, Lif)
            current = _layer(network, layer, arriving, arriving_grid).astype(np.int64) - zero_of(layer.grid)
            membranes[index], fired = advance(layer.neuron, layer.grid, membranes[index], current)
            spikes.append(fired)
            arriving = (fired << SPIKE_BITS).astype(np.uint8)
            arriving_grid = STORED_SPIKES
        yield spikes


def advance(neuron: Lif, grid: Grid, before: Integers, current: Integers) -> tuple[Integers, Integers]:
    """One time step, in steps of the grid from 0: the next membrane, and spikes 0 or 1; see `Lif`."""
    low, high = -zero_of(grid), MAX_STORED - zero_of(grid)
    threshold, decay = lif_steps(neuron, grid)
    fired = (before > threshold).astype(np.int64)
    if neuron.subtracts_before_decay:
        before = np.clip(before - threshold * fired, low, high)
    after = np.clip((before * decay + (1 << (DECAY_BITS - 1))) >> DECAY_BITS, low, high)
    if neuron.reset == "zero":
        after = after * (1 - fired)
    after = np.clip(after + current, low, high)
    if neuron.reset == "subtract" and neuron.reset_delay:
        after = np.clip(after - threshold * fired, low, high)
    return after, (after > threshold).astype(np.int64)


def lif_steps(neuron: Lif, grid: Grid) -> tuple[int, int]:
    """Threshold in steps of the grid, and decay in units of 2^-15."""
    threshold = int(np.rint(np.float64(neuron.threshold) / np.float64(grid.scale)))
    return threshold, min(int(np.floor(np.float64(neuron.beta) * 2.0**DECAY_BITS + 0.5)), 2**DECAY_BITS - 1)


def _trace_spiking(network: Network, grid: Grid, x: Bytes) -> tuple[list[NDArray[np.float32]], Bytes]:
    """Spike counts of the spiking layers, and the stored readout."""
    last = network.layers[-1]
    trains = list(_spike_trains(network, grid, x))
    outputs = [np.sum(steps, axis=0).astype(np.float32) for steps in zip(*trains)]
    if last.neuron.role == "spiking":
        return outputs[:-1], outputs[-1].astype(np.uint8)
    assert last.grid is not None
    out = readout_grid(network, grid)
    if not is_constant_readout(network):
        arriving = [steps[-1] << SPIKE_BITS for steps in trains] if outputs else _centred(grid, x)
        x = weigh(network, out, arriving)
    return outputs, _layer(network, last, x, out)


def _centred(grid: Grid, x: Bytes) -> list[Integers]:
    return [each.astype(np.int64) - zero_of(grid) for each in x.transpose(1, 0, 2)]


def weigh(network: Network, out: Grid, arriving: list[Integers]) -> Bytes:
    """Input of a membrane readout: the spikes of all steps, in steps of `SPIKES`, weighted."""
    factors = factor_steps(network, out)
    terms = [(n * x + (1 << (SPIKE_BITS - 1))) >> SPIKE_BITS for n, x in zip(factors, arriving)]
    total: Integers = np.sum([np.maximum(term, 0) for term in terms], axis=0)
    return store(total, out)


def factor_steps(network: Network, out: Grid) -> Integers:
    """Factors `[T]` of the readout in steps of its input; 1 of a spike count."""
    factors: Integers = np.rint(readout_factors(network, out) / out.scale).astype(np.int64)
    return factors
