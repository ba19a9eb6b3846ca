"""Seeded verification inputs, and the detection of constant outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.network import Network, feature_ranges
from sen_runtime.memory_limits import require

FloatArray = NDArray[np.float32]

#: Outputs that vary by at most this share of the largest are constant up to rounding.
CONSTANT_VARIATION = 2.0**-20
#: Verification inputs: max and min number, and values of all of them from which on there are fewer. With `MIN_INPUTS`,
#: one input in which rounding moves a spike is still within the tolerances of spiking networks.
MAX_INPUTS, MIN_INPUTS, MAX_VALUES = 288, 72, 1 << 26


def n_verification_inputs(network: Network) -> int:
    """Number of verification inputs: `MAX_INPUTS`, of long sequences as many as have `MAX_VALUES`, or `MIN_INPUTS`."""
    return min(MAX_INPUTS, max(MIN_INPUTS, MAX_VALUES // math.prod(network.input_shape)))


def fewer_inputs(network: Network) -> str | None:
    """Return a warning if long sequences have fewer verification inputs, else None."""
    n = n_verification_inputs(network)
    if n == MAX_INPUTS:
        return None
    return (
        f"{n} inputs were compared instead of {MAX_INPUTS}, because each has {math.prod(network.input_shape):,} values"
    )


def verification_inputs(network: Network, seed: int = 0) -> FloatArray:
    """Draw seeded inputs `[n, n_in]`, or spike trains `[n, T, n_in]`, of the number `n_verification_inputs`.

    4 of 9 dense, uniform over the input range; 1 of 3 sparse with 2 % to 30 % nonzero; the others with every value at
    one end of the range; all min, all max, all zero. The range of each feature is that of `feature_ranges`.
    """
    rng = np.random.default_rng(seed)
    low, high = feature_ranges(network)
    shape, n = network.input_shape, n_verification_inputs(network)
    n_dense, n_sparse = 4 * n // 9, n // 3
    n_extreme = n - n_dense - n_sparse - 3
    require(8 * n * math.prod(shape), f"{n} inputs of {' x '.join(f'{length:,}' for length in shape)} values")
    n_axes = (1,) * len(shape)
    dense: NDArray[Any] = rng.uniform(low, high, (n_dense, *shape))
    density = np.linspace(0.02, 0.3, n_sparse).reshape(n_sparse, *n_axes)
    is_nonzero = rng.random((n_sparse, *shape)) < density
    sparse: NDArray[Any] = np.where(is_nonzero, rng.uniform(low, high, (n_sparse, *shape)), 0)
    extreme = np.where(rng.random((n_extreme, *shape)) < rng.random((n_extreme, *n_axes)), high, low)
    flat = np.stack([np.broadcast_to(value, shape) for value in (low, high, 0.0)])
    if network.coding.is_binary:  # spike trains hold 0 and 1, at all rates
        dense = rng.random((n_dense, *shape)) < rng.random((n_dense, *n_axes))
        sparse = sparse != 0
        extreme, flat = extreme == high, flat == high
    inputs: FloatArray = np.concatenate([dense, sparse, extreme, flat]).astype(np.float32)
    return inputs


def constant_output(network: Network, inputs: FloatArray, layers: Sequence[FloatArray]) -> str | None:
    """Return a warning that names the first constant layer if the output is constant, else None.

    `layers` are the outputs `[batch, n]` of every layer for inputs `[batch, ...]`; equal inputs give no warning.
    """
    if not _is_constant(layers[-1]) or np.array_equal(inputs, np.broadcast_to(inputs[:1], inputs.shape)):
        return None
    first = next(index for index, values in enumerate(layers) if _is_constant(values))
    cause = f"the values of layer {first} do not depend on them"
    if not layers[first].any():
        does = "spikes" if network.layers[first].neuron.role == "spiking" else "is active"
        cause = f"no neuron of layer {first} {does}"
    return (
        f"the output is constant: it is the same for all {len(inputs):,} tested inputs ({cause}); "
        "agreement with it does not verify the weights"
    )


def _is_constant(values: FloatArray) -> bool:
    spread = np.max(values.max(axis=0).astype(np.float64) - values.min(axis=0))
    return bool(spread <= CONSTANT_VARIATION * float(np.abs(values).max()))
