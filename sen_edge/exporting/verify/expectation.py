"""Comparison of a loaded model with outputs of the user's own model, which validates a map.

A `.npz` holds inputs `x`, outputs `y`, and optionally `layer0`, `layer1`, ... of the hidden layers. The loaded network
runs in plain numpy, in float64. File format: docs/how-to/foreign-checkpoints.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.errors import DataError, VerificationError
from sen_edge.model.model import CHUNK, Model
from sen_runtime import reference
from sen_runtime.data import Npz
from sen_runtime.data.subsample import even_indices
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Relu
from sen_runtime.untrusted import listing, quote, read_regular

Float64Array = NDArray[np.float64]

#: Inputs compared, evenly spaced; fewer if `MAX_MACS` is exceeded.
MAX_INPUTS, MIN_INPUTS = 1024, 64
MAX_MACS = 20_000_000_000
#: Max error of float32 arithmetic, relative to the standard deviation of the layer.
TOLERANCE = 1e-3
#: Share of inputs of a spiking network that may exceed it, because rounding flips spikes.
MAX_FLIPPED_INPUTS = 0.1
#: Share of spike counts of a hidden layer that may differ.
MAX_FLIPPED_COUNTS = 1e-3
HINT = "y must be logits before softmax, or the readout; float16 and int8 weights change outputs"
MAP_HINT = (
    "check the map: steepness (tanh(inhibition) is 2), exponent, layer_axis and layer_spacing, gain, bias, first and "
    "transpose; of a spiking network also beta, threshold, the reset and the readout; y are logits, before softmax"
)


@dataclass(frozen=True)
class LayerAgreement:
    """Agreement of one layer of the loaded network with the user's; the last one is the output.

    `max_rel_error` is relative to the standard deviation of the layer. `differing` is the share of inputs (of spike
    counts, in a hidden spiking layer) with an error above the tolerance; `agrees` is whether that share is allowed.
    """

    layer: int
    max_rel_error: float
    differing: float
    agrees: bool


@dataclass(frozen=True)
class Agreement:
    """Agreement of a loaded network with a `.npz` of the user's model, on a number of inputs, in the layers it has.

    JSON in a manifest under these names.
    """

    file: str
    sha256: str
    inputs: int
    layers: tuple[LayerAgreement, ...]


def check(model: Model, path: Path, name: str) -> Agreement:
    """Compare a model, called `name` in messages, with the outputs of the user's model in a `.npz`.

    - `x`: `[n, ...]`, inputs of the network; further axes are flattened.
    - `y`: `[n, n_out]`: logits, or the readout of a spiking network.
    - `layer0`, `layer1`, ...: `[n, n_hidden]`, optional: activations after the ReLU; spike counts over all steps.

    Raises:
        DataError: missing file; wrong keys, shapes, or values.
        NetworkError: neurons coincide.
        VerificationError: a layer differs; names the first.
    """
    network, last = model.network, len(model.network.layers) - 1
    inputs, expected = _read(path, network)
    n_compared, layers = compare(network, inputs, expected)
    first = first_difference(layers)
    if first is None:
        sha256 = hashlib.sha256(read_regular(path, error=DataError)).hexdigest()
        return Agreement(path.name, sha256, n_compared, layers)
    mapped = model.applied_map
    source = name if mapped is None else f"{name}, as {mapped.file} maps it,"
    absent = [f"layer{index}" for index in range(first.layer) if index not in expected]
    hints = [f"add {listing(absent)} to {path.name} to find the first wrong layer"] if absent else []
    hints.append((first.layer == last and softmax_hint(expected[last])) or (HINT if mapped is None else MAP_HINT))
    raise VerificationError(
        f"{source} does not compute the outputs in {path}: {describe(first, network, n_compared)}",
        hint="; ".join(hints),
    )


def compare(
    network: Network, inputs: Float64Array, expected: Mapping[int, Float64Array]
) -> tuple[int, tuple[LayerAgreement, ...]]:
    """Compare a network with values `[n, n_layer]` by layer, on some of the inputs; return their number, and layers."""
    n_compared = min(len(inputs), MAX_INPUTS, max(MIN_INPUTS, MAX_MACS // (network.macs * max(network.timesteps, 1))))
    rows, last = even_indices(len(inputs), n_compared), len(network.layers) - 1
    expanded = reference.expand(network)
    parts = [reference.trace(expanded, inputs[rows[i : i + CHUNK]], np.float64) for i in range(0, len(rows), CHUNK)]
    layers = []
    for index, values in expected.items():
        actual = np.concatenate([part[index] for part in parts])
        is_counts = network.is_spiking and index < last
        layers.append(_compare(index, actual, values[rows], is_spiking=network.is_spiking, is_counts=is_counts))
    return len(rows), tuple(layers)


def first_difference(layers: Sequence[LayerAgreement]) -> LayerAgreement | None:
    """Return the first layer that disagrees."""
    return next((each for each in layers if not each.agrees), None)


def describe(first: LayerAgreement, network: Network, n_inputs: int) -> str:
    """Return the place and the size of a difference, for a message."""
    is_output = first.layer == len(network.layers) - 1
    unit = "spike counts" if network.is_spiking and not is_output else f"{n_inputs} inputs"
    return (
        f"{'the output' if is_output else f'layer {first.layer}'} differs first, by up to {first.max_rel_error:.3g} "
        f"standard deviations, in {first.differing:.2%} of the {unit}"
    )


def _read(path: Path, network: Network) -> tuple[Float64Array, dict[int, Float64Array]]:
    """Return inputs `[n, n_in]` or `[n, T, n_in]`, and values `[n, n_layer]` by layer, the output last."""
    known = ["x", "y", *[*_layer_names(network)][:-1]]
    npz = Npz(path, known.__contains__, listing(known))
    if not {"x", "y"} <= set(npz.headers):
        raise DataError(f"{path} holds the arrays {listing(npz.headers)}; expected {listing(known)}")
    return check_arrays(path, {name: npz.array(name) for name in npz.headers}, network)


def _layer_names(network: Network) -> dict[str, int]:
    """Return the layers by their names in a file."""
    last = len(network.layers) - 1
    return {**{f"layer{index}": index for index in range(last)}, "y": last}


def check_arrays(
    where: Path | str, arrays: Mapping[str, NDArray[Any]], network: Network
) -> tuple[Float64Array, dict[int, Float64Array]]:
    """Return the inputs `x`, and the values of the layers `y`, `layer0`, ... by index, or raise a `DataError`."""
    inputs = _numbers(where, "x", arrays["x"], network.input_shape)
    layers = {
        index: _values(where, name, arrays[name], network.layers[index], len(inputs))
        for name, index in _layer_names(network).items()
        if name in arrays
    }
    return inputs, layers


def _numbers(path: Path | str, name: str, array: NDArray[Any], shape: tuple[int, ...]) -> Float64Array:
    """Convert an array to finite float64 `[n, *shape]`; flattens the axes after the time steps."""
    leading = array.shape[: len(shape)]  # n, and T of spike trains
    expected = f"numbers [n, {', '.join(map(str, shape))}]"
    fits = array.dtype.kind in "fiub" and array.ndim > 0 and len(array) > 0
    if not fits or leading[1:] != shape[:-1] or array.size != len(array) * int(np.prod(shape)):
        found = f"{array.dtype} {quote(list(array.shape))}"
        raise DataError(f"{path}: {name} is {found}; expected {expected}")
    values = array.reshape(len(array), *shape).astype(np.float64)
    if not np.isfinite(values).all():
        at = np.argwhere(~np.isfinite(values))[0].tolist()
        raise DataError(f"{path}: {name} holds {values[tuple(at)]} at {at}; expected finite numbers")
    return values


def _values(path: Path | str, name: str, array: NDArray[Any], layer: Layer, n_inputs: int) -> Float64Array:
    """Check the values of one layer `[n, n_layer]` for its kind of neurons."""
    if len(array.shape) > 2:
        raise DataError(f"{path}: {name} has shape {quote(list(array.shape))}; expected [n, {layer.weight.shape[0]}]")
    values = _numbers(path, name, array, (layer.weight.shape[0],))
    if len(values) != n_inputs:
        raise DataError(f"{path}: {name} has {len(values)} rows; expected {n_inputs}, one for each input in x")
    if isinstance(layer.neuron, Relu) and (values < 0).any():
        raise DataError(f"{path}: {name} holds negative values; expected activations after the ReLU")
    if layer.neuron.role == "spiking" and ((values < 0) | (values != np.round(values))).any():
        raise DataError(f"{path}: {name} holds fractions or negative values; expected spike counts over all time steps")
    return values


def _compare(
    layer: int, actual: Float64Array, expected: Float64Array, *, is_spiking: bool, is_counts: bool
) -> LayerAgreement:
    error = np.abs(actual - expected)
    # The floor is for values that hardly vary: rounding is relative to their size.
    scale = max(float(expected.std()), TOLERANCE * float(np.abs(expected).max())) or 1.0
    wrong = error > TOLERANCE * scale
    differing = float((wrong if is_counts else wrong.any(axis=1)).mean())
    allowed = MAX_FLIPPED_COUNTS if is_counts else MAX_FLIPPED_INPUTS if is_spiking else 0.0
    return LayerAgreement(layer, float(error.max()) / scale, differing, differing <= allowed)


def softmax_hint(y: Float64Array) -> str:
    """Return a hint if the outputs are probabilities or their logarithms."""
    is_softmax = bool((y >= 0).all()) and np.allclose(y.sum(1), 1, atol=1e-3)
    is_log = bool((y <= 0).all()) and np.allclose(np.exp(y).sum(1), 1, atol=1e-3)
    if y.shape[1] < 2 or not (is_softmax or is_log):
        return ""
    return f"y is the {'softmax' if is_softmax else 'log-softmax'} of the output; expected logits"
