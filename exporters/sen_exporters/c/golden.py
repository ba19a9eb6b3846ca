"""Golden vectors: inputs, and what the network gives for them as its C code computes it, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sen_exporters.base import ExportError
from sen_exporters.c.plan import Array, LayerPlan, Plan
from sen_runtime.ir.int8 import round_rows
from sen_runtime.ir.network import DEFAULT_INPUT_RANGE, Lif, readout_factors
from sen_runtime.ir.operators import leaves

FloatArray = NDArray[np.float64]

#: Inputs that are drawn; those whose spikes hang least on rounding are taken.
CANDIDATES = 32
MOST_VECTORS = 4
#: Values that all inputs together may have: a self-test must fit beside the network.
MOST_VALUES = 4096
#: Inputs are multiples of 1 / STEPS of their range, which are short in decimal.
STEPS = 64
#: Greatest difference of an output, as a share of the greatest output. A product in eight bits may round an input the
#: other way, where a sum of floats before it was taken in another order.
TOLERANCE, TOLERANCE_INT8 = 1e-4, 1e-2


@dataclass(frozen=True)
class Golden:
    """Vectors for a self-test.

    Attributes:
        inputs: `[n, n_in]` float32, or `[n, T, n_in]` of spikes.
        outputs: `[n, n_out]`.
        tolerance: greatest difference of an output.
    """

    inputs: Array
    outputs: FloatArray
    tolerance: float


def golden(plan: Plan) -> Golden:
    """Seeded vectors for a network.

    Raises:
        ExportError: it gives outputs beyond float32.
    """
    network = plan.network
    inputs, outputs, margins = _drawn(plan, *network.input_range)
    if not _fits(outputs):
        inputs, outputs, margins = _drawn(plan, *DEFAULT_INPUT_RANGE)
    if not _fits(outputs):
        raise ExportError(
            "the self-test has no outputs to compare with: they are beyond float32 for inputs from 0 to 1",
            hint="look at the weights: a device would compute infinities as well",
        )
    count = min(MOST_VECTORS, max(1, MOST_VALUES // plan.input_size))
    chosen = np.sort(np.argsort(-margins, kind="stable")[:count])
    share = TOLERANCE_INT8 if any(matrix.uses("SEN_USES_INT8") for matrix in plan.matrices) else TOLERANCE
    greatest = float(np.abs(outputs[chosen]).max())
    return Golden(inputs[chosen], outputs[chosen], share * (greatest or 1.0))


def _drawn(plan: Plan, least: float, greatest: float) -> tuple[Array, FloatArray, FloatArray]:
    """Inputs within a range, or spikes, and what `_run` gives for them."""
    network, rng = plan.network, np.random.default_rng(0)
    if network.input_coding == "spikes":
        inputs = (rng.random((CANDIDATES, network.timesteps, network.n_in)) < 0.3).astype(np.float32)
    else:
        steps = rng.integers(0, STEPS + 1, (CANDIDATES, network.n_in))
        inputs = (least + (greatest - least) * steps / STEPS).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # `golden` looks at what comes out
        return inputs, *_run(plan, inputs.astype(np.float64))


def _fits(outputs: FloatArray) -> bool:
    return bool((np.abs(outputs) <= np.finfo(np.float32).max).all())


def _run(plan: Plan, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Outputs `[n, n_out]`, and how far each input's membranes stay from their thresholds, `[n]`."""
    if plan.network.is_spiking:
        return _run_spiking(plan, x)
    for layer in plan.layers:
        x = layer.layer.neuron.activate(_affine(layer, x))
    return x, np.zeros(len(x))


def _run_spiking(plan: Plan, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    network = plan.network
    spiking = [layer for layer in plan.layers if isinstance(layer.layer.neuron, Lif)]
    factors = readout_factors(network)
    is_train = network.input_coding == "spikes"
    membranes = [np.zeros((len(x), layer.layer.weight.shape[0])) for layer in spiking]
    margin = np.full(len(x), np.inf)
    total: FloatArray = np.zeros(())
    for t, factor in enumerate(factors):
        signal = x[:, t] if is_train else x
        for index, layer in enumerate(spiking):
            neuron = layer.layer.neuron
            assert isinstance(neuron, Lif)
            membranes[index], signal = neuron.advance(membranes[index], _affine(layer, signal))
            margin = np.minimum(margin, np.abs(membranes[index] - neuron.threshold).min(axis=1))
        total = total + factor * signal
    if len(spiking) == len(plan.layers):
        return total, margin
    # step by step the spikes are multiplied, which eight bits hold exactly; all at once their weighted sum
    return _affine(plan.layers[-1], total, factors.sum(), is_exact=is_train), margin


def _affine(layer: LayerPlan, x: FloatArray, bias_factor: float = 1.0, *, is_exact: bool = False) -> FloatArray:
    """`W x + b`, with the inputs in eight bits that the C code takes in eight bits."""
    y: FloatArray = np.zeros((len(x), layer.layer.weight.shape[0]))
    if layer.bias is not None:
        y = y + bias_factor * layer.bias.array.astype(np.float64)
    for term, leaf in zip(layer.terms, leaves(layer.layer.weight), strict=True):
        value = x
        for index, (matrix, factor) in enumerate(zip(reversed(term), leaf.factors, strict=True)):
            in_eight_bits = matrix.uses("SEN_USES_INT8") and not (is_exact and index == 0)
            value = (_quantized(value) if in_eight_bits else value) @ factor.to_dense().astype(np.float64).T
        y = y + value
    return y


def _quantized(x: FloatArray) -> FloatArray:
    """What `sen_quantize` makes of each row."""
    steps, scale = round_rows(x.astype(np.float32))
    return np.multiply(steps, scale, dtype=np.float64)
