"""Block compressed sparse rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.checks import Array, check_choice, check_index, require
from sen_runtime.ir.int8 import Scale, check_weights, dequantize
from sen_runtime.ir.operators.base import WeightOperator

Order = Literal["rows", "sources"]
ORDERS: tuple[Order, ...] = ("rows", "sources")
#: Block rows of weights by source, which 16 bits name; a small image cannot expand to many row starts.
MAX_SOURCE_ROWS = 1 << 16


@dataclass(frozen=True, eq=False)
class Sparse(WeightOperator):
    """Block compressed sparse rows; 1x1 blocks are plain CSR.

    The matrix is divided into blocks of `block = (rows, columns)`; block row r holds the blocks
    `row_starts[r] .. row_starts[r + 1]`, ordered by column. At the right and bottom edge a block may extend
    beyond `shape`; values outside are zero.

    Attributes:
        values: `[n_blocks, rows * columns]`, each block row-major.
        columns: `[n_blocks]` int32 block column.
        row_starts: `[ceil(n_out / rows) + 1]` int32.
        shape: `(n_out, n_in)`.
        block: `(rows, columns)`.
        scale: of int8 values, `[1]` or `[n_out]`; else None.
        order: of the blocks in a `.sen` image; the arrays above are in rows in both.
    """

    values: Array
    columns: NDArray[np.int32]
    row_starts: NDArray[np.int32]
    shape: tuple[int, int] = (0, 0)
    block: tuple[int, int] = (1, 1)
    scale: Scale | None = None
    order: Order = "rows"

    weight_fields = ("values",)

    def __post_init__(self) -> None:
        grid = _block_grid(self.shape, self.block)
        check_weights(self.values, self.scale, "sparse values", self.shape[0], may_be_empty=True)
        n_blocks, width = self.values.shape
        expected = self.block[0] * self.block[1]
        require(width == expected, f"sparse values have {width} columns; expected {self.block[0]} x {self.block[1]}")
        _check_blocks("row", self.row_starts, grid[0], "column", self.columns, grid[1], n_blocks)
        _check_order(self.order, grid[0])
        self._check_overhang()

    def _check_overhang(self) -> None:
        """Require zeros beyond the edge of the matrix, so that a kernel may ignore or use them."""
        if not len(self.values):  # the block may have any size then
            return
        rows, columns = self.block
        if self.shape[0] % rows == 0 and self.shape[1] % columns == 0:
            return
        row = self.block_rows()[:, None] * rows + np.repeat(np.arange(rows), columns)
        column = self.columns.astype(np.int64)[:, None] * columns + np.tile(np.arange(columns), rows)
        outside = (row >= self.shape[0]) | (column >= self.shape[1])
        require(not np.any(self.values[outside]), "sparse values outside the matrix must be 0")

    @property
    def block_grid(self) -> tuple[int, int]:
        """Number of block rows and block columns."""
        return _block_grid(self.shape, self.block)

    @property
    def form(self) -> str:
        """Name with the block."""
        return f"sparse {self.block[0]}x{self.block[1]}"

    def block_rows(self) -> NDArray[np.int64]:
        """Block row of every block, `[n_blocks]`."""
        return np.repeat(np.arange(self.block_grid[0]), np.diff(self.row_starts))

    def to_dense(self) -> NDArray[np.float32]:
        """Weights `[n_out, n_in]`."""
        return dequantize(self.stored_matrix(), self.scale)

    def expanded_bytes(self, bytes_per_weight: int) -> int:
        """Bytes of the matrix in float32, which is written out once at most."""
        return super().expanded_bytes(4)

    def stored_matrix(self) -> Array:
        """Stored values `[n_out, n_in]` in their own type, zeros included."""
        dtype = self.values.dtype
        if not len(self.values):
            return np.zeros(self.shape, dtype)
        (grid_rows, grid_columns), (rows, columns) = self.block_grid, self.block
        tiles = np.zeros((grid_rows, grid_columns, rows, columns), dtype)
        tiles[self.block_rows(), self.columns] = self.values.reshape(-1, rows, columns)
        whole = tiles.transpose(0, 2, 1, 3).reshape(grid_rows * rows, grid_columns * columns)
        return np.ascontiguousarray(whole[: self.shape[0], : self.shape[1]])

    @classmethod
    def from_dense(cls, w: Array, block: tuple[int, int] = (1, 1)) -> Sparse:
        """Keep the blocks of `w [n_out, n_in]` with a non-zero value."""
        tiles = _tiles(w, block)
        kept = np.any(tiles != 0, axis=(2, 3))
        return cls(
            values=tiles[kept].reshape(-1, block[0] * block[1]),
            columns=np.nonzero(kept)[1].astype(np.int32),
            row_starts=np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32),
            shape=(w.shape[0], w.shape[1]),
            block=block,
        )

    @classmethod
    def from_sources(
        cls,
        values: Array,
        rows: NDArray[np.int32],
        column_starts: NDArray[np.int32],
        shape: tuple[int, int],
        block: tuple[int, int],
        scale: Scale | None = None,
    ) -> Sparse:
        """Inverse of `by_source`."""
        n_rows, n_columns = _block_grid(shape, block)
        _check_order("sources", n_rows)
        _check_blocks("column", column_starts, n_columns, "row", rows, n_rows, len(values))
        columns = np.repeat(np.arange(n_columns, dtype=np.int32), np.diff(column_starts))
        order = np.argsort(rows, kind="stable")
        starts = np.searchsorted(rows[order], np.arange(n_rows + 1)).astype(np.int32)
        return cls(values[order], columns[order], starts, shape, block, scale, "sources")

    def by_source(self) -> tuple[Array, NDArray[np.int32], NDArray[np.int32]]:
        """Values and block rows `[n_blocks]` by block column, and the starts of each `[ceil(n_in / columns) + 1]`."""
        order = np.argsort(self.columns, kind="stable")
        starts = np.searchsorted(self.columns[order], np.arange(self.block_grid[1] + 1))
        return self.values[order], self.block_rows()[order].astype(np.int32), starts.astype(np.int32)

    def with_values_of(self, w: Array, scale: Scale | None = None) -> Sparse:
        """The same pattern, in rows, with the values of `w [n_out, n_in]`."""
        kept = _tiles(w, self.block)[self.block_rows(), self.columns]
        return replace(self, values=kept.reshape(self.values.shape), scale=scale, order="rows")


def _block_grid(shape: tuple[int, int], block: tuple[int, int]) -> tuple[int, int]:
    sizes = f"sparse weights of shape {shape} in blocks of {block}"
    require(min(*shape, *block) >= 1, f"{sizes}; expected sizes >= 1")
    return -(-shape[0] // block[0]), -(-shape[1] // block[1])


def _check_order(order: Order, n_rows: int) -> None:
    check_choice(order, "order of sparse weights", ORDERS)
    is_short = order == "rows" or n_rows <= MAX_SOURCE_ROWS
    require(is_short, f"sparse weights by source have {n_rows} block rows; expected at most {MAX_SOURCE_ROWS}")


def _check_blocks(
    line: str, starts: NDArray[np.int32], n_lines: int, name: str, indices: NDArray[np.int32], limit: int, n_blocks: int
) -> None:
    """Require `starts` of lines that rise from 0 to `n_blocks`, and indices below `limit` that rise within a line."""
    check_index(indices, f"sparse {name}s", n_blocks)
    check_index(starts, f"sparse {line}_starts", n_lines + 1)
    firsts = starts.astype(np.int64)
    is_rising = firsts[0] == 0 and firsts[-1] == n_blocks and np.all(np.diff(firsts) >= 0)
    require(is_rising, f"sparse {line}_starts must rise from 0 to {n_blocks}, the number of blocks")
    is_inside = np.all((indices >= 0) & (indices < limit))
    require(is_inside, f"sparse {name}s must lie in 0..{limit - 1}")
    inside_line = np.ones(n_blocks, bool)
    inside_line[firsts[:-1][firsts[:-1] < n_blocks]] = False
    steps = np.diff(indices, prepend=-1)[inside_line]
    require(np.all(steps > 0), f"sparse {name}s must rise strictly within a {line}")


def _tiles(w: Array, block: tuple[int, int]) -> Array:
    """`[block rows, block columns, rows, columns]`, padded with zeros."""
    rows, columns = block
    padded = np.pad(w, ((0, -w.shape[0] % rows), (0, -w.shape[1] % columns)))
    tiled: Array = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns)
    return tiled.transpose(0, 2, 1, 3)
