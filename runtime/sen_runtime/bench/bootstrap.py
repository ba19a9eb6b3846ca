"""How far the median of a series may be off, where its neighbours resemble each other."""

from __future__ import annotations

from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 0.95
#: Values that are drawn at once: 16 MiB.
CHUNK = 1 << 21


def medians(series: NDArray[Any], seed: int = 0, resamples: int = RESAMPLES) -> Floats:
    """Medians `[resamples]` of the series `[n]` drawn anew from blocks of it.

    A circular block bootstrap (Politis and Romano, "A circular block-resampling procedure for stationary data", 1992)
    with blocks of sqrt(n) values: latencies that follow each other share clock, temperature and other load, and drawn
    one by one they would seem to say more than they do.
    """
    values = np.asarray(series, np.float64)
    n = len(values)
    length = ceil(sqrt(n))
    rng = np.random.default_rng(seed)
    found = []
    step = max(1, CHUNK // n)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        starts = rng.integers(0, n, (count, ceil(n / length), 1))
        indices = ((starts + np.arange(length)) % n).reshape(count, -1)[:, :n]
        found.append(np.median(values[indices], axis=1))
    return np.concatenate(found)


def interval(drawn: Floats, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The middle part of what was drawn."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
