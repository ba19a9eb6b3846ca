"""Storage of int8 weights for integer-only kernels: of integer_columns.c, _pairs.c, _source.c and _gather.c."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int8 = NDArray[np.int8]
Bytes = NDArray[np.uint8]

#: What is added to weights that are stored as uint8.
OFFSET = 128
#: Rows that a byte can name.
SEGMENT = 256
#: Rows of a group; columns that `sen_integer_pairs` reads at once.
ROWS, PAIR_COLUMNS = 4, 16
#: Single weights are read in fours, blocks in twos, and those of a row in fours.
WEIGHTS, BLOCKS, ROW_BLOCKS = 4, 2, 4
#: Columns of a block; blocks of a row that a byte can name.
BLOCK, ROW_PLACES = 4, 256
#: `sen_active`, `SEN_ACTIVE`, and the bytes of `sen_run`, which Helium needs instead.
ACTIVE_BYTES, ACTIVE, RUN_BYTES, VECTOR = 8, 256, 8, 16


@dataclass(frozen=True, eq=False)
class BySource:
    """Sparse weights ordered by the inputs that they multiply, in segments of 256 rows.

    Attributes:
        rows: uint8 `[n]`, within the segment.
        values: int8 `[n]`, or `[n, 4]` for blocks of four columns.
        starts: `[segments * places + 1]`, first of each place; a place is a column, or four. uint16 if that suffices.
    """

    rows: Bytes
    values: Int8
    starts: NDArray[Any]


@dataclass(frozen=True, eq=False)
class ByRow:
    """Blocks of four columns of each row, filled up to a multiple of four blocks.

    Attributes:
        places: uint8 `[n]`, number of the four columns.
        values: int8 `[n, 4]`.
        counts: uint8 `[rows]`, blocks of each row in fours.
    """

    places: Bytes
    values: Int8
    counts: Bytes


def round_up(size: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-size // step) * step


def sums_bytes(rows: int) -> int:
    """Scratch for the sums of all rows."""
    return 4 * round_up(rows, ROWS)


def active_bytes(columns: int) -> int:
    """Scratch for a list of nonzero inputs, in eights."""
    return ACTIVE_BYTES * min(ACTIVE, round_up(columns, 8))


def columns_bytes(columns: int) -> int:
    """Scratch of `sen_integer_columns` besides its sums, on any processor."""
    padded = round_up(columns, VECTOR)
    return max(active_bytes(columns), padded + RUN_BYTES * -(-padded // (2 * VECTOR)))


def pairs_bytes(columns: int) -> int:
    """Scratch of `sen_integer_pairs` besides its sums."""
    return 2 * round_up(columns, PAIR_COLUMNS)


def gather_bytes(columns: int) -> int:
    """Scratch of `sen_integer_gather` besides its sums: inputs, on Helium."""
    return round_up(columns, BLOCK)


def columns(w: Int8) -> Bytes:
    """Four rows of a column in a word `[rows / 4, columns, 4]`, each weight plus 128; rows are filled up."""
    padded = np.zeros((round_up(len(w), ROWS), w.shape[1]), np.int16)
    padded[: len(w)] = w
    words = padded.reshape(-1, ROWS, w.shape[1]).transpose(0, 2, 1)
    # sixteen columns are read at once, the last ones beyond the end
    overhang = ROWS * (round_up(w.shape[1], VECTOR) - w.shape[1])
    return np.append((words + OFFSET).astype(np.uint8), np.zeros(overhang, np.uint8))


def pairs(w: Int8) -> Bytes:
    """Two rows of two columns in a word `[rows / 4, columns / 2, 2, 2, 2]`, even rows plus 128; both are filled up."""
    padded = np.zeros((round_up(len(w), ROWS), round_up(w.shape[1], PAIR_COLUMNS)), np.int16)
    padded[: len(w), : w.shape[1]] = w
    padded[::2] += OFFSET
    words = padded.reshape(-1, 2, 2, padded.shape[1] // 2, 2).transpose(0, 3, 1, 4, 2)
    return words.ravel().astype(np.uint8)


def single(w: Int8) -> BySource:
    """Single weights by column."""
    stored = _by_source(w[:, :, np.newaxis], WEIGHTS)
    return replace(stored, values=stored.values[:, 0])


def blocks(w: Int8) -> BySource:
    """Blocks of four columns by their inputs."""
    return _by_source(w.reshape(len(w), -1, BLOCK), BLOCKS)


def _by_source(w: Int8, step: int) -> BySource:
    """Weights `[rows, places, width]` that are not all 0, and others to fill up each place to a multiple of `step`."""
    rows, values, counts = [], [], []
    padded = np.zeros((round_up(len(w), ROWS), *w.shape[1:]), np.int8)
    padded[: len(w)] = w
    for segment in np.split(padded, range(SEGMENT, len(padded), SEGMENT)):
        is_stored = segment.any(axis=2)
        for place in range(w.shape[1]):
            stored = np.flatnonzero(is_stored[:, place])
            fill = np.flatnonzero(~is_stored[:, place])[: -len(stored) % step]  # other rows: vectors write each once
            chosen = np.concatenate([stored, fill])
            rows.append(chosen)
            values.append(segment[chosen, place])
            counts.append(len(chosen))
    starts = np.concatenate([[0], np.cumsum(counts)])
    kind = np.uint16 if starts[-1] <= np.iinfo(np.uint16).max else np.int32
    return BySource(np.concatenate(rows).astype(np.uint8), np.concatenate(values), starts.astype(kind))


def by_row(w: Int8) -> ByRow:
    """Blocks of four columns by row; blocks of zeros fill it up."""
    places, values, counts = [], [], []
    for row in w.reshape(len(w), -1, BLOCK):
        stored = np.flatnonzero(row.any(axis=1))
        fill = -len(stored) % ROW_BLOCKS
        places.append(np.pad(stored, (0, fill)))
        values.append(np.pad(row[stored], ((0, fill), (0, 0))))
        counts.append((len(stored) + fill) // ROW_BLOCKS)
    return ByRow(np.concatenate(places).astype(np.uint8), np.concatenate(values), np.asarray(counts, np.uint8))
