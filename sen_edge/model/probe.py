"""Seeded inputs on which every model is tried, and whether its output depends on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.network import Lif, Network
from sen_runtime.memory_limits import require

FloatArray = NDArray[np.float32]

#: Outputs that vary by no more than this share of the largest are constant but for rounding.
CONSTANT_VARIATION = 2.0**-20


def verification_inputs(network: Network, seed: int = 0) -> FloatArray:
    """288 seeded inputs `[288, n_in]`, or `[288, T, n_in]` of spikes.

    128 dense, uniform over the input range; 96 sparse with 2 % to 30 % non-zero; 61 with every value at one end
    of the range; all least, all greatest, all zero.
    """
    rng = np.random.default_rng(seed)
    least, greatest = network.input_range
    shape = network.input_shape
    require(8 * 288 * math.prod(shape), f"288 inputs of {' x '.join(f'{length:,}' for length in shape)} values")
    n_axes = (1,) * len(shape)
    dense: NDArray[Any] = rng.uniform(least, greatest, (128, *shape))
    density = np.linspace(0.02, 0.3, 96).reshape(96, *n_axes)
    sparse: NDArray[Any] = np.where(rng.random((96, *shape)) < density, rng.uniform(least, greatest, (96, *shape)), 0)
    extreme = np.where(rng.random((61, *shape)) < rng.random((61, *n_axes)), greatest, least)
    flat = np.stack([np.full(shape, value) for value in (least, greatest, 0.0)])
    if network.input_coding == "spikes":  # a spike train holds 0 and 1 only, at every rate
        dense = rng.random((128, *shape)) < rng.random((128, *n_axes))
        sparse = sparse != 0
        extreme, flat = extreme == greatest, flat == greatest
    inputs: FloatArray = np.concatenate([dense, sparse, extreme, flat]).astype(np.float32)
    return inputs


def constant_output(network: Network, inputs: FloatArray, layers: Sequence[FloatArray]) -> str | None:
    """A warning where the output is the same for all inputs, with the first layer that is; None where it is not.

    Args:
        network: the model's.
        inputs: `[batch, ...]`; if they are all equal, they tell nothing.
        layers: what every layer gives for them, `[batch, n]` each.
    """
    if not _is_constant(layers[-1]) or np.array_equal(inputs, np.broadcast_to(inputs[:1], inputs.shape)):
        return None
    first = next(index for index, values in enumerate(layers) if _is_constant(values))
    cause = f"the values of layer {first} do not depend on them"
    if not layers[first].any():
        does = "spikes" if isinstance(network.layers[first].neuron, Lif) else "is active"
        cause = f"no neuron of layer {first} {does}"
    return (
        f"the output is constant: it is the same for all {len(inputs):,} inputs that were tried ({cause}); "
        "agreement with it tells nothing about the weights"
    )


def _is_constant(values: FloatArray) -> bool:
    spread = np.max(values.max(axis=0).astype(np.float64) - values.min(axis=0))
    return bool(spread <= CONSTANT_VARIATION * float(np.abs(values).max()))
