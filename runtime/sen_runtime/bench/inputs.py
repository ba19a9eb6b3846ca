"""Random inputs of a benchmark."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sen_runtime.memory_limits import require

FloatArray = NDArray[np.float32]

#: Different inputs that take turns.
N_INPUTS = 64
#: Share of ones in random spike trains.
FIRING = 0.2
#: SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
GAMMA, MULTIPLIERS = 0x9E3779B97F4A7C15, ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def random_inputs(shape: tuple[int, ...], n: int, seed: int, low: float, high: float) -> FloatArray:
    """`[n, *shape]`: uniform in [low, high), or random spikes where a row has time steps.

    `sen_bench` (c/tools/images.c) draws the same numbers.
    """
    values = math.prod(shape)
    require(4 * n * values, f"{n} inputs of {' x '.join(f'{size:,}' for size in shape)} values")
    x = np.empty((n, values), np.float32)
    span = np.float32(high) - np.float32(low)
    for index in range(n):
        unit = _uniform(seed, index * values, values)
        x[index] = unit < FIRING if len(shape) > 1 else unit * span + np.float32(low)
    return x.reshape(n, *shape)


def _uniform(seed: int, start: int, count: int) -> FloatArray:
    """`[count]` numbers in [0, 1) of the sequence of a seed, from `start` on."""
    z = np.arange(start + 1, start + count + 1, dtype=np.uint64) * np.uint64(GAMMA) + np.uint64(seed % 2**64)
    for shift, multiplier in MULTIPLIERS:
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(multiplier)
    bits = (z ^ (z >> np.uint64(31))) >> np.uint64(40)
    return bits.astype(np.float32) / np.float32(1 << 24)
