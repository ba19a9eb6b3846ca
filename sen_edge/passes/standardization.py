"""Standardization at export, Network -> Network: folded into weights where that is exact, or left to the caller.

    W ((x - mean) inverse) + b = (W inverse) x + (b - (W inverse) mean)        columns of the first layer
    std (W x + b) + mean       = (std W) x + (std b + mean)                    rows of the last layer

The readout of a spiking network is `W (sum_t c[t] x[t]) + b sum_t c[t]`, so its bias takes `mean / sum_t c[t]`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sen_edge.passes.scale import ONE, is_scalable, scale_weights
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, readout_factors
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import WeightOperator, leaves
from sen_runtime.ir.standardization import CONSTANTS, LEFT_TO_CALLER, Standardization, left_to_caller, metadata_of
from sen_runtime.task import RECONSTRUCTION

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

#: Max root mean square of mean / std of folded features, because float32 cancels far from 0. Max errors of 640-128-4
#: with every feature at that ratio, in standard deviations of an output: 2e-6 at 1 (as without folding), 2e-5 at 16,
#: 1e-4 at 64, 2e-3 at 1024; without folding 2e-6 at all of them.
MAX_OFFSET = 16.0
#: The same for an int8 grid, which includes 0: a range of two standard deviations around the mean does so anyway.
MAX_INT8_OFFSET = 2.0
#: Largest weight of a feature or output: within these limits its weights have all their digits.
FLOAT16_RANGE, FLOAT32_RANGE = (2.0**-13, 2.0**15), (2.0**-110, 2.0**120)


def fold(network: Network, dtype: str = "float32") -> Network:
    """Fold both scalings into the weights, each unless `input_obstacle` or `output_obstacle` gives a reason.

    The network is quantized to `dtype` afterwards. Weights are computed in float64 and rounded once. A layer without a
    bias gets one.
    """
    if network.input_scaling is not None and not input_obstacle(network, dtype):
        network = _fold_input(with_choice(network, "fold"), network.input_scaling)
    if network.output_scaling is not None and not output_obstacle(network, dtype):
        network = _fold_output(network, network.output_scaling)
    return network


def with_choice(network: Network, choice: str) -> Network:
    """State in the metadata how inputs are standardized: `preprocess`, which is "fold", "node" or "none".

    A reconstruction has the constants there, too: its error is in units of the standardization.
    """
    scaling = network.input_scaling if network.task == RECONSTRUCTION else None
    constants = {} if scaling is None else metadata_of(scaling)
    return replace(network, metadata={**network.metadata, "preprocess": choice, **constants})


def strip_input(network: Network) -> Network:
    """Leave the standardization of inputs to the caller, with the constants in the metadata."""
    if network.input_scaling is None:
        return network
    metadata = {**network.metadata, "preprocess": LEFT_TO_CALLER, **metadata_of(network.input_scaling)}
    return replace(network, input_scaling=None, metadata=metadata)


def restore_input(network: Network) -> Network:
    """The inverse of `strip_input`.

    Raises:
        NetworkError: the constants are missing or damaged, or of another number of features.
    """
    scaling = left_to_caller(network.metadata, network.n_features)
    if scaling is None:
        return network
    metadata = {key: text for key, text in network.metadata.items() if key not in ("preprocess", *CONSTANTS)}
    return replace(network, input_scaling=scaling, metadata=metadata)


def input_obstacle(network: Network, dtype: str = "float32") -> str:
    """Why the standardization of inputs is not folded; empty if it can be."""
    scaling, first = network.input_scaling, network.layers[0]
    if scaling is None:
        return ""
    reason = _weights_obstacle(first, "first") or _wiring_obstacle(first, "first")
    if not reason:
        peaks = [np.abs(leaf.factors[0].to_dense()).max(axis=0) for leaf in leaves(first.weight)]
        reason = _dtype_obstacle(peaks, scaling.inverse, scaling, "feature", dtype)
    offsets = _offsets(scaling)
    distance = float(np.sqrt(np.mean(offsets**2)))
    if not reason and distance > MAX_OFFSET:
        worst = int(offsets.argmax())
        names = network.names("feature_names") or {worst: str(worst)}
        reason = (
            f"means are {distance:.3g} standard deviations from 0 (root mean square; feature {names[worst]}: "
            f"{offsets[worst]:.3g}), more than {MAX_OFFSET:g}: float32 would cancel"
        )
    return reason


def output_obstacle(network: Network, dtype: str = "float32") -> str:
    """Why the restoration of outputs is not folded; empty if it can be."""
    scaling, last = network.output_scaling, network.layers[-1]
    if scaling is None:
        return ""
    if not isinstance(last.neuron, Identity) and last.neuron.role != "readout":
        return f"outputs of {type(last.neuron).__name__} neurons are not linear in the weights"
    reason = _weights_obstacle(last, "last") or _wiring_obstacle(last, "last")
    if reason:
        return reason
    peaks = [np.abs(leaf.factors[-1].to_dense()).max(axis=1) for leaf in leaves(last.weight)]
    return _dtype_obstacle(peaks, scaling.std, scaling, "output", dtype)


def _weights_obstacle(layer: Layer, which: str) -> str:
    for leaf in leaves(layer.weight):
        if not is_scalable(leaf):
            return f"the weights of the {which} layer are {leaf.form}"
        dtypes = {array.dtype.name for array in leaf.weight_arrays()} - {"float32"}
        if dtypes:
            return f"the weights of the {which} layer are {min(dtypes)}, and would be rounded again"
    return ""


def _wiring_obstacle(layer: Layer, which: str) -> str:
    return "" if layer.is_instant else f"the {which} layer has delays or synaptic currents, which the first steps lack"


def _dtype_obstacle(
    peaks: list[FloatArray], factors: FloatArray, scaling: Standardization, what: str, dtype: str
) -> str:
    """Why weights times `factors [n]` do not fit a dtype; empty if they do.

    `peaks [n]` are the largest weights in each term of a sum.
    """
    if dtype.startswith("int"):
        reason = _int8_obstacle(scaling, f"{what}s")
        if reason:
            return reason
    low, high = FLOAT16_RANGE if dtype == "float16" else FLOAT32_RANGE
    for term in peaks:
        scaled = term.astype(np.float64) * factors
        is_outside = (scaled > 0) & ((scaled < low) | (scaled > high))
        if is_outside.any():
            worst = int(is_outside.argmax())
            kind = "float16" if dtype == "float16" else "float32"
            return f"weights of {what} {worst} up to {scaled[worst]:.2g} would lose digits in {kind}"
    return ""


def _int8_obstacle(scaling: Standardization, what: str) -> str:
    if len({*zip(scaling.mean.tolist(), scaling.std.tolist(), strict=True)}) > 1:
        return f"int8 has one scale for all {what}, whose means or standard deviations differ"
    offset = float(_offsets(scaling)[0])
    if offset > MAX_INT8_OFFSET:
        return (
            f"the mean of the {what} is {offset:.3g} standard deviations from 0, more than {MAX_INT8_OFFSET:g}: "
            "an int8 grid, which includes 0, would be coarse"
        )
    return ""


def _offsets(scaling: Standardization) -> DoubleArray:
    offsets: DoubleArray = np.abs(scaling.mean.astype(np.float64)) / scaling.std
    return offsets


def _fold_input(network: Network, scaling: Standardization) -> Network:
    """Multiply columns of the first layer, and subtract the contribution of the means from its bias."""
    first, *rest = network.layers
    weight = scale_weights(first.weight, ONE, scaling.inverse)
    added = weight.affine(scaling.mean.astype(np.float64))
    layers = (_with(first, weight, _bias(first) - added), *rest)
    return replace(network, layers=layers, input_scaling=None, folded_scaling=scaling)


def _fold_output(network: Network, scaling: Standardization) -> Network:
    """Multiply rows of the last layer, and add the means to its bias."""
    *rest, last = network.layers
    total = readout_factors(network).sum(axis=0) if network.is_spiking else 1.0
    bias = _bias(last) * scaling.std + scaling.mean / total
    layer = _with(last, scale_weights(last.weight, scaling.std, ONE), bias)
    return replace(network, layers=(*rest, layer), output_scaling=None)


def _bias(layer: Layer) -> DoubleArray:
    return np.zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias.astype(np.float64)


def _with(layer: Layer, weight: WeightOperator, bias: DoubleArray) -> Layer:
    """Layer with these weights and this bias, rounded to float32."""
    return replace(layer, weight=weight, bias=bias.astype(np.float32))
