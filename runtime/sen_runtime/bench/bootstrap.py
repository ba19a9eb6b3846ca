"""Confidence interval of the median of an autocorrelated series that consists of groups (loads)."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 1000
CONFIDENCE, NORMAL_QUANTILE = 0.95, 1.959964
#: Min number of loads from which their variance is estimated.
MIN_LOADS = 4
#: Values per draw: 16 MiB.
CHUNK = 1 << 21


def sizes_of_loads(loads: Sequence[int] | None, n: int) -> NDArray[np.intp]:
    """Values of each load, where `n` values are an even choice of the rounds.

    One group where loads are not known, too few, or have fewer rounds than there are values.

    Args:
        loads: rounds of each load.
        n: number of values.
    """
    if loads is not None and sum(loads) >= n:
        of_load = np.repeat(np.arange(len(loads)), loads)
        sizes: NDArray[np.intp] = np.unique(of_load[even_choice(len(of_load), n)], return_counts=True)[1]
        if len(sizes) >= MIN_LOADS:
            return sizes
    return np.array([n])


def even_choice(n: int, limit: int) -> NDArray[np.intp]:
    """At most `limit` indices of `n`, spread evenly."""
    return np.linspace(0, n - 1, min(limit, n)).astype(np.intp)


def medians(values: Floats, sizes: NDArray[np.intp], seed: int = 0) -> Floats:
    """Medians `[RESAMPLES]` of resampled groups of the series `values [n]`.

    A circular block bootstrap (Politis and Romano, "A circular block-resampling procedure for stationary data", 1992)
    within resampled groups, with blocks of the root of a group's size: successive latencies share clock, temperature
    and other load, so that resampling them one by one would give too narrow an interval.

    Args:
        values: in the order of the measurement.
        sizes: of the successive groups in it, see `sizes_of_loads`.
        seed: of the resampling.
    """
    groups, typical = len(sizes), int(np.median(sizes))
    length = ceil(sqrt(typical))
    blocks, starts = ceil(typical / length), np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rng = np.random.default_rng(seed)
    found, step = [], max(1, CHUNK // (groups * blocks * length))
    for done in range(0, RESAMPLES, step):
        count = min(step, RESAMPLES - done)
        drawn: NDArray[Any] = rng.integers(0, groups, (count, groups, 1, 1))
        size = sizes[drawn]
        first = (rng.random((count, groups, blocks, 1)) * size).astype(int)
        index = starts[drawn] + (first + np.arange(length)) % size
        found.append(np.median(values[index.reshape(count, -1)], axis=1))
    return np.concatenate(found)


def interval(drawn: Floats, centre: float, groups: int) -> tuple[float, float]:
    """Percentile interval of resampled medians, which contains `centre`.

    For few groups it is widened about the centre: Hesterberg, "What teachers should know about the bootstrap", 2015,
    expanded percentiles.
    """
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    wider = _widening(groups)
    return min(centre - wider * (centre - float(low)), centre), max(centre + wider * (float(high) - centre), centre)


def _widening(groups: int) -> float:
    """Student's quantile over the normal one, and n for n - 1; 1 for a single series."""
    if groups < MIN_LOADS:
        return 1.0
    n, z = groups - 1, NORMAL_QUANTILE
    # Student's quantile by the expansion of Abramowitz and Stegun, 26.7.5.
    t = z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    return t / z * sqrt(groups / n)
