"""How far the median of a series may be off, where its neighbours resemble each other, and all of a load even more."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 1000
CONFIDENCE, NORMAL_QUANTILE = 0.95, 1.959964
#: Of fewer loads than these nothing is known of how loads differ.
LEAST_LOADS = 4
#: Values that are drawn at once: 16 MiB.
CHUNK = 1 << 21


def sizes_of_loads(loads: Sequence[int] | None, n: int) -> NDArray[np.intp]:
    """How many of `n` values belong to each load, of which `loads` tells the rounds; the values are an even choice.

    One group where nothing is known of loads, there are too few of them, or fewer rounds than values.
    """
    if loads is not None and sum(loads) >= n:
        of_load = np.repeat(np.arange(len(loads)), loads)
        sizes: NDArray[np.intp] = np.unique(of_load[even_choice(len(of_load), n)], return_counts=True)[1]
        if len(sizes) >= LEAST_LOADS:
            return sizes
    return np.array([n])


def even_choice(n: int, most: int) -> NDArray[np.intp]:
    """At most so many places of `n`, spread evenly."""
    return np.linspace(0, n - 1, min(most, n)).astype(np.intp)


def medians(values: Floats, sizes: NDArray[np.intp], seed: int = 0) -> Floats:
    """Medians `[RESAMPLES]` of groups of the series `values [n]` drawn anew, each made of blocks of that group.

    A circular block bootstrap (Politis and Romano, "A circular block-resampling procedure for stationary data", 1992)
    with blocks of the root of a group's size: latencies that follow each other share clock, temperature and other load,
    and drawn one by one they would seem to say more than they do. Groups are rings.

    Args:
        values: in the order in which they were measured.
        sizes: of the groups that follow each other in it, see `sizes_of_loads`.
        seed: of the drawing.
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
    """The middle part of what was drawn, with `centre` in it.

    Of few groups the interval of the percentiles is too narrow; it is widened about the centre as Hesterberg describes
    ("What teachers should know about the bootstrap", 2015, expanded percentiles).
    """
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    wider = _widening(groups)
    return min(centre - wider * (centre - float(low)), centre), max(centre + wider * (float(high) - centre), centre)


def _widening(groups: int) -> float:
    """Student's quantile over the normal one, and n for n - 1; 1 where groups are not what was drawn."""
    if groups < LEAST_LOADS:
        return 1.0
    n, z = groups - 1, NORMAL_QUANTILE
    # Student's quantile by the expansion of Abramowitz and Stegun, 26.7.5.
    t = z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    return t / z * sqrt(groups / n)
