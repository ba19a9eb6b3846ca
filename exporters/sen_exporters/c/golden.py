"""Golden vectors: inputs, and the outputs of the exported C code for them, computed in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sen_exporters.base import ExportError
from sen_exporters.c.memory import Array
from sen_exporters.c.program import LoweredLayer, Program
from sen_runtime import reference
from sen_runtime.ir.int8 import round_rows
from sen_runtime.ir.network import DEFAULT_INPUT_RANGE, Network, feature_ranges, readout_factors
from sen_runtime.ir.neurons import Lif, RefractoryLif
from sen_runtime.ir.operators import leaves
from sen_runtime.wiring import Wiring

FloatArray = NDArray[np.float64]

#: Number of inputs drawn; those whose membranes stay farthest from their thresholds are used.
CANDIDATES = 32
MAX_VECTORS = 4
#: Values of all inputs together: a self-test must fit next to the network.
MAX_VALUES = 4096
#: Inputs are multiples of 1 / STEPS of their range, which are short in decimal.
STEPS = 64
#: Allowed difference of an output, relative to the largest. In another order of summation, an input of an integer
#: product may be rounded to the neighbouring value.
TOLERANCE, TOLERANCE_INT8 = 1e-4, 1e-2
#: Max change of an output activation for a change of 1 of its inputs; relative error of its rounding.
MAX_SLOPE, ROUNDING = {"none": 1.0, "softmax": 0.5, "sigmoid": 0.25}, 1e-6


@dataclass(frozen=True)
class Golden:
    """Vectors for a self-test.

    Attributes:
        inputs: `[n, n_in]` float32, or `[n, T, n_in]` of spikes.
        outputs: `[n, n_out]` float32.
        tolerance: allowed difference of an output.
    """

    inputs: Array
    outputs: Array
    tolerance: float

    @property
    def relative_tolerance(self) -> float:
        """Allowed difference, relative to the largest output."""
        return self.tolerance / (float(np.abs(self.outputs).max()) or 1.0)

    @property
    def packed(self) -> Array:
        """Spikes as bits, the first in the lowest: `[n, T, bytes]`."""
        return pack(self.inputs)


def golden(program: Program) -> Golden:
    """Seeded vectors for a network.

    Raises:
        ExportError: its outputs exceed float32.
    """
    for input_range in (program.network.input_range, DEFAULT_INPUT_RANGE):
        inputs = draw(program, *feature_ranges(program.network, input_range))
        with np.errstate(over="ignore", invalid="ignore"):
            readouts, margins = _run(program, reference.standardize(program.network, inputs).astype(np.float64))
            outputs = reference.finish(program.network, readouts)
        if (np.abs(outputs) <= np.finfo(np.float32).max).all():
            break
    else:
        raise ExportError(
            "outputs exceed float32 for inputs from 0 to 1, so the self-test has none to compare with",
            hint="check the weights: a device would compute infinities as well",
        )
    count = min(MAX_VECTORS, max(1, MAX_VALUES // program.input_size))
    best = np.sort(np.argsort(-margins, kind="stable")[:count])
    is_int8 = any(weights.uses("SEN_USES_INT8") for weights in program.weights)
    largest = float(np.abs(readouts[best]).max()) or 1.0
    tolerance = _finished(program.network, (TOLERANCE_INT8 if is_int8 else TOLERANCE) * largest, outputs[best])
    return Golden(inputs[best], outputs[best].astype(np.float32), tolerance)


def _finished(network: Network, tolerance: float, outputs: FloatArray) -> float:
    """Allowed difference of an output from that of a readout, times the max slope of each function, plus rounding."""
    if network.output_scaling is None and network.output_activation == "none":
        return tolerance
    std = 1.0 if network.output_scaling is None else float(network.output_scaling.std.max())
    return MAX_SLOPE[network.output_activation] * std * tolerance + ROUNDING * float(np.abs(outputs).max())


def pack(spikes: Array) -> Array:
    """Spikes as bits, the first in the lowest: `[..., n]` to `[..., bytes]`."""
    return np.packbits(spikes.astype(bool), axis=-1, bitorder="little")


def draw(program: Program, low: FloatArray, high: FloatArray) -> Array:
    """Inputs within the range of each feature, or spikes."""
    network, rng = program.network, np.random.default_rng(0)
    if network.coding.is_binary:
        return (rng.random((CANDIDATES, *network.input_shape)) < 0.3).astype(np.float32)
    steps = rng.integers(0, STEPS + 1, (CANDIDATES, *network.input_shape))
    return (low + (high - low) * steps / STEPS).astype(np.float32)


def _run(program: Program, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Outputs `[n, n_out]`, and the distance of each input's membranes from their thresholds, `[n]`."""
    if program.network.is_spiking:
        return _run_spiking(program, x)
    for layer in program.layers:
        x = layer.source.neuron.activate(_Affine(layer)(x))
    return x, np.zeros(len(x))


def _run_spiking(program: Program, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    network = program.network
    currents = [_current(network, index, layer, len(x)) for index, layer in enumerate(program.layers)]
    spiking = [
        (layer.source.neuron, current)
        for layer, current in zip(program.layers, currents, strict=True)
        if isinstance(layer.source.neuron, (Lif, RefractoryLif))
    ]
    factors = readout_factors(network)
    membranes = [np.zeros((len(x), n)) for n in network.layer_sizes[1:]]
    margin = np.full(len(x), np.inf)
    total: FloatArray = np.zeros(())
    last = currents[-1]
    is_stepped = not network.has_summed_readout and len(spiking) < len(program.layers)
    for factor, arriving in zip(factors, reference.arriving(network, x), strict=True):
        signal = arriving
        for index, (neuron, current) in enumerate(spiking):
            membranes[index], signal = neuron.advance(membranes[index], current(signal))
            if isinstance(current, _Delayed):
                current.wiring.spike(signal)
            margin = np.minimum(margin, np.abs(membranes[index] - neuron.threshold).min(axis=1))
        total = total + factor * (last(signal) if is_stepped else signal)
    if is_stepped or len(spiking) == len(program.layers):
        return total, margin
    # the self-test runs trains step by step: the readout multiplies spikes, which int8 holds exactly
    assert isinstance(last, _Affine)  # has_summed_readout; for mypy
    return last(total, factors.sum(), is_exact=network.coding.is_binary), margin


class _Delayed:
    """Currents of a layer with delays, recurrent synapses or synaptic currents."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring

    def __call__(self, x: FloatArray) -> FloatArray:
        return self.wiring.current(x)


def _current(network: Network, index: int, layer: LoweredLayer, batch: int) -> _Affine | _Delayed:
    if layer.source.is_instant:
        return _Affine(layer)
    return _Delayed(Wiring(layer.source, batch, np.float64, network.gives_spikes(index)))


class _Affine:
    """`W x + b` of a layer, with the inputs of integer products quantized; `w` are the factors of each term."""

    def __init__(self, layer: LoweredLayer) -> None:
        bias = layer.source.bias
        self.bias = np.zeros(layer.source.weight.shape[0]) if bias is None else bias.astype(np.float64)
        self.terms = [
            [
                (factor.to_dense().astype(np.float64).T, weights.uses("SEN_USES_INT8"))
                for factor, weights in zip(leaf.factors, term, strict=True)
            ]
            for leaf, term in zip(leaves(layer.source.weight), layer.terms, strict=True)
        ]

    def __call__(self, x: FloatArray, bias_factor: float = 1.0, *, is_exact: bool = False) -> FloatArray:
        y: FloatArray = np.broadcast_to(bias_factor * self.bias, (len(x), len(self.bias)))
        for term in self.terms:
            value = x
            for index, (w, is_int8) in enumerate(term):
                value = (_quantized(value) if is_int8 and not (is_exact and index == 0) else value) @ w
            y = y + value
        return y


def _quantized(x: FloatArray) -> FloatArray:
    """Values of each row as `sen_quantize` rounds them."""
    steps, scale = round_rows(x.astype(np.float32))
    return np.multiply(steps, scale, dtype=np.float64)
