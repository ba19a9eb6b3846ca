"""Evenly spaced examples of a larger set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def even_indices(n: int, count: int) -> NDArray[np.intp]:
    """At most `count` of the indices 0 to n - 1, evenly spaced, both ends among them."""
    return np.linspace(0, n - 1, min(count, n)).round().astype(np.intp)


def subsample(x: NDArray[Any], count: int) -> NDArray[Any]:
    """At most `count` rows of `x [n, ...]`, evenly spaced; the array itself where there are no more."""
    return x if len(x) <= count else x[even_indices(len(x), count)]
