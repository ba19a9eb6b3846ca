"""Sparse int8 weights in the order in which a device reads them: the storage of `sen_runtime/c/src/streams.c`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.operators import Sparse

Array: TypeAlias = NDArray[Any]

#: Max gap in one byte, and max position of a block's inputs in 16 bits.
WIDEST_GAP, LAST_PLACE = 255, 65535
#: Bytes that four inputs take where streams.c finds them.
PLACE = 8
#: What the magnitudes of a row's weights may add up to where sums are kept 256 times as large.
MOST_IN_ROW = 2**23 // 127 - 1


def takes_blocks(operator: Sparse) -> bool:
    """Whether blocks of 1 x 4 can be stored as a stream."""
    values = operator.values.astype(np.int64).reshape(-1, 4)
    rows = np.bincount(operator.block_rows(), np.abs(values).sum(axis=1), operator.shape[0])
    is_narrow = operator.shape[1] % 4 == 0 and PLACE * (operator.shape[1] // 4 - 1) <= LAST_PLACE
    return bool(is_narrow and rows.max(initial=0) <= MOST_IN_ROW and values.min(initial=0) > -128)


def single(operator: Sparse) -> tuple[Array, Array]:
    """Single weights: words int32 `[n, 3]`, and the first word of each row, int32 `[rows + 1]`."""
    starts, columns = operator.row_starts, operator.columns.astype(np.int64)
    values = operator.values.ravel()
    rows = [_gaps(columns[a:b], values[a:b]) for a, b in pairwise(starts)]
    return _stream(rows)


def blocks(operator: Sparse) -> tuple[Array, Array]:
    """Blocks of 1 x 4, likewise."""
    starts, values = operator.row_starts, operator.values.reshape(-1, 4).astype(np.int16)
    halves = 256 * values[:, 1::2] + values[:, ::2]
    places = PLACE * operator.columns.astype(np.int64)
    rows = [_two_blocks(places[a:b], halves[a:b]) for a, b in pairwise(starts)]
    return _stream(rows)


def _gaps(columns: Array, values: Array) -> Array:
    """Groups `[n, 3]` of one row's single weights."""
    gaps = np.diff(columns, prepend=0)
    steps = np.maximum(-(-gaps // WIDEST_GAP), 1)  # weights of 0 on the way
    last = np.cumsum(steps) - 1
    count = -(-int(steps.sum()) // 4) * 4
    bytes_, weights = np.zeros(count, np.uint8), np.zeros(count, "<i2")
    bytes_[: steps.sum()] = WIDEST_GAP
    bytes_[last] = gaps - WIDEST_GAP * (steps - 1)
    weights[last] = values
    return np.hstack([bytes_.view("<u4").reshape(-1, 1), weights.view("<u4").reshape(-1, 2)])


def _two_blocks(places: Array, halves: Array) -> Array:
    """Groups `[n, 3]` of one row's blocks."""
    count = -(-len(places) // 2) * 2
    padded, weights = np.zeros(count, "<u2"), np.zeros((count, 2), "<i2")
    padded[: len(places)], weights[: len(places)] = places, halves
    return np.hstack([padded.view("<u4").reshape(-1, 1), weights.view("<u4").reshape(-1, 2)])


def _stream(rows: list[Array]) -> tuple[Array, Array]:
    starts = np.concatenate([[0], np.cumsum([row.size for row in rows])]).astype(np.int32)
    words = np.concatenate(rows) if rows else np.zeros((0, 3), "<u4")
    return words.astype("<u4").view("<i4").astype(np.int32), starts
