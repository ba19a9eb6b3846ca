"""Passes over arrays that may be larger than memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Values of a chunk: 16 MiB in float32.
CHUNK = 1 << 22


def chunks(array: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the rows of `array [n, ...]` in order, in float32, each chunk with the index of its first row.

    Values beyond float32 become infinite.
    """
    step = max(1, CHUNK // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        with np.errstate(over="ignore"):
            yield start, np.asarray(array[start : start + step], np.float32)
