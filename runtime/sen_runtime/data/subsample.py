"""Evenly spaced subsampling."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def even_indices(n: int, count: int) -> NDArray[np.intp]:
    """Return at most `count` evenly spaced indices of 0 to n - 1, including both ends."""
    return np.linspace(0, n - 1, min(count, n)).round().astype(np.intp)


def subsample(x: NDArray[Any], count: int) -> NDArray[Any]:
    """Return at most `count` evenly spaced rows of `x [n, ...]`; all of them if it has no more."""
    return np.asarray(x) if len(x) <= count else x[even_indices(len(x), count)]
