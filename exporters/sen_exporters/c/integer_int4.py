"""Int4 matrices of networks with int8 activations, in the storage of integer_int4_columns.c: words of eight rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.checks import Array
from sen_runtime.ir.operators import Int4
from sen_runtime.ir.operators.int4 import INT4_MIN, n_groups

#: Rows of a word, chunks of inputs in a group of columns, numbers of a chunk before its inputs: integer_int4_columns.c.
ROWS, CHUNKS_PER_GROUP, HEAD = 8, 4, 3


def words(weights: Int4) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Numbers `[blocks, n_in]` and steps `[blocks, groups]`, a word for each block of `ROWS` rows."""
    return _words(weights.values() - np.int8(INT4_MIN)), _words(weights.group_steps)


def scratch_bytes(rows: int, columns: int) -> int:
    """Bytes of the sums, and of the list of inputs."""
    return 4 * (rows + -rows % ROWS) + 2 * (columns + HEAD * CHUNKS_PER_GROUP * n_groups(columns) + 1)


def _words(numbers: Array) -> NDArray[np.uint32]:
    """Numbers `[rows, columns]` of 4 bits, of row k in bits 4 k to 4 k + 3 of its block; 0 in rows beyond the last."""
    rows, columns = numbers.shape
    padded = np.pad(numbers.astype(np.uint32), ((0, -rows % ROWS), (0, 0))).reshape(-1, ROWS, columns)
    shifts = 4 * np.arange(ROWS, dtype=np.uint32)[:, np.newaxis]
    packed: NDArray[np.uint32] = np.bitwise_or.reduce(padded << shifts, axis=1)
    return packed
