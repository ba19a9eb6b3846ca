"""Weight operators: what a layer multiplies its input with, and how that is stored.

Every operator knows its `shape` `(n_out, n_in)`, its `macs`, its `nbytes` and `to_dense()`, the plain
reference of what it means. Arrays are float32; float16 where storage was halved; int8 where it was quartered,
and then a scale per matrix (`[1]`) or per row of it (`[rows]`) goes with them: weight = scale * value. Scalars
are rounded to float32, because that is what a device holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Union

import numpy as np
from numpy.typing import NDArray

from sen_runtime.errors import NetworkError
from sen_runtime.ir.checks import Array, check_index
from sen_runtime.ir.coordinates import Coordinates
from sen_runtime.ir.int8 import Grid, Scale, check_weights, dequantize

__all__ = [
    "Coordinates",
    "Dense",
    "Leaf",
    "LowRank",
    "Sparse",
    "Sum",
    "WeightOperator",
    "leaves",
    "map_leaves",
    "operator_grids",
]


@dataclass(frozen=True, eq=False)
class Dense:
    """A stored weight matrix.

    Attributes:
        w: `[n_out, n_in]`, row-major.
        scale: of int8 weights, `[1]` or `[n_out]`; else None.
    """

    w: Array
    scale: Scale | None = None

    def __post_init__(self) -> None:
        check_weights(self.w, self.scale, "weights")

    @property
    def shape(self) -> tuple[int, int]:
        """`(n_out, n_in)`."""
        return self.w.shape[0], self.w.shape[1]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one product."""
        return int(self.w.size)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        return _nbytes(self.w, self.scale)

    def to_dense(self) -> NDArray[np.float32]:
        """Weights `[n_out, n_in]`."""
        return dequantize(self.w, self.scale)


@dataclass(frozen=True, eq=False)
class Sparse:
    """Block compressed sparse rows; 1x1 blocks are plain CSR.

    The matrix is cut into blocks of `block = (rows, columns)`; block row r holds the blocks
    `row_starts[r] .. row_starts[r + 1]`, ordered by column. At the right and bottom edge a block may
    reach beyond `shape`; what lies outside is zero.

    Attributes:
        values: `[n_blocks, rows * columns]`, each block row-major.
        columns: `[n_blocks]` int32 block column.
        row_starts: `[ceil(n_out / rows) + 1]` int32.
        shape: `(n_out, n_in)`.
        block: `(rows, columns)`.
        scale: of int8 values, `[1]` or `[n_out]`; else None.
    """

    values: Array
    columns: NDArray[np.int32]
    row_starts: NDArray[np.int32]
    shape: tuple[int, int]
    block: tuple[int, int] = (1, 1)
    scale: Scale | None = None

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or min(self.block) < 1:
            raise NetworkError(f"sparse weights of shape {self.shape} in blocks of {self.block}; expected sizes >= 1")
        check_weights(self.values, self.scale, "sparse values", self.shape[0], may_be_empty=True)
        n_blocks, width = self.values.shape
        if width != self.block[0] * self.block[1]:
            raise NetworkError(f"sparse values have {width} columns; expected {self.block[0]} x {self.block[1]}")
        check_index(self.columns, "sparse columns", n_blocks)
        check_index(self.row_starts, "sparse row_starts", self.block_grid[0] + 1)
        starts = self.row_starts.astype(np.int64)
        if starts[0] != 0 or starts[-1] != n_blocks or np.any(np.diff(starts) < 0):
            raise NetworkError(f"sparse row_starts must rise from 0 to {n_blocks}, the number of blocks")
        if n_blocks and (self.columns.min() < 0 or self.columns.max() >= self.block_grid[1]):
            raise NetworkError(f"sparse columns must lie in 0..{self.block_grid[1] - 1}")
        inside_row = np.ones(n_blocks, bool)
        inside_row[starts[:-1][starts[:-1] < n_blocks]] = False
        if np.any(np.diff(self.columns, prepend=-1)[inside_row] <= 0):
            raise NetworkError("sparse columns must rise strictly within a row")
        self._check_overhang()

    def _check_overhang(self) -> None:
        """Values beyond the matrix's edge are zero, so that every kernel may ignore or use them."""
        if not len(self.values):  # a block then costs nothing, and may claim any size
            return
        rows, columns = self.block
        if self.shape[0] % rows == 0 and self.shape[1] % columns == 0:
            return
        row = self.block_rows()[:, None] * rows + np.repeat(np.arange(rows), columns)
        column = self.columns.astype(np.int64)[:, None] * columns + np.tile(np.arange(columns), rows)
        outside = (row >= self.shape[0]) | (column >= self.shape[1])
        if np.any(self.values[outside] != 0):
            raise NetworkError("sparse values outside the matrix must be 0")

    @property
    def block_grid(self) -> tuple[int, int]:
        """Number of block rows and block columns."""
        return -(-self.shape[0] // self.block[0]), -(-self.shape[1] // self.block[1])

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one product."""
        return int(self.values.size)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        return _nbytes(self.values, self.scale, self.columns, self.row_starts)

    def block_rows(self) -> NDArray[np.int64]:
        """Block row of every block, `[n_blocks]`."""
        return np.repeat(np.arange(self.block_grid[0]), np.diff(self.row_starts))

    def to_dense(self) -> NDArray[np.float32]:
        """Weights `[n_out, n_in]`."""
        return dequantize(self.written_out(), self.scale)

    def written_out(self) -> Array:
        """The stored values `[n_out, n_in]`, zeros included, in their own type."""
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
        """Keep the blocks of `w [n_out, n_in]` that hold a non-zero value."""
        tiles = _tiles(w, block)
        kept = np.any(tiles != 0, axis=(2, 3))
        return cls(
            values=tiles[kept].reshape(-1, block[0] * block[1]),
            columns=np.nonzero(kept)[1].astype(np.int32),
            row_starts=np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32),
            shape=(w.shape[0], w.shape[1]),
            block=block,
        )

    def with_values_of(self, w: Array, scale: Scale | None = None) -> Sparse:
        """The same pattern, with the values that `w [n_out, n_in]` has there."""
        kept = _tiles(w, self.block)[self.block_rows(), self.columns]
        return replace(self, values=kept.reshape(self.values.shape), scale=scale)


def _tiles(w: Array, block: tuple[int, int]) -> Array:
    """`[block rows, block columns, rows, columns]`, filled up with zeros."""
    rows, columns = block
    padded = np.pad(w, ((0, -w.shape[0] % rows), (0, -w.shape[1] % columns)))
    tiled: Array = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns)
    return tiled.transpose(0, 2, 1, 3)


@dataclass(frozen=True, eq=False)
class LowRank:
    """A product of two thin matrices, `left @ right`.

    Attributes:
        left: `[n_out, r]`.
        right: `[r, n_in]`.
        left_scale: of an int8 `left`, `[1]` or `[n_out]`; else None.
        right_scale: of an int8 `right`, `[1]` or `[r]`; else None.
        inner: int8 grid of `right x`, in a network whose activations are int8; else None.
    """

    left: Array
    right: Array
    left_scale: Scale | None = None
    right_scale: Scale | None = None
    inner: Grid | None = None

    def __post_init__(self) -> None:
        check_weights(self.left, self.left_scale, "left factor")
        check_weights(self.right, self.right_scale, "right factor")
        if self.left.shape[1] != self.right.shape[0]:
            raise NetworkError(
                f"left factor is {list(self.left.shape)}, right factor is {list(self.right.shape)}; "
                "the inner sizes differ"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """`(n_out, n_in)`."""
        return self.left.shape[0], self.right.shape[1]

    @property
    def rank(self) -> int:
        """Inner size r."""
        return int(self.left.shape[1])

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one product."""
        return int(self.left.size + self.right.size)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        return _nbytes(self.left, self.left_scale, self.right, self.right_scale)

    def to_dense(self) -> NDArray[np.float32]:
        """Weights `[n_out, n_in]`: multiplied in float64, rounded once."""
        left, right = dequantize(self.left, self.left_scale), dequantize(self.right, self.right_scale)
        return (left.astype(np.float64) @ right.astype(np.float64)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Sum:
    """The sum of two operators of one shape, e.g. a low-rank far field and a sparse near field.

    Attributes:
        a: first operand.
        b: second operand.
        a_grid: int8 grid of `a x`, in a network whose activations are int8; else None.
        b_grid: int8 grid of `b x + bias`, likewise.
    """

    a: WeightOperator
    b: WeightOperator
    a_grid: Grid | None = None
    b_grid: Grid | None = None

    def __post_init__(self) -> None:
        if self.a.shape != self.b.shape:
            raise NetworkError(f"cannot add weights of shape {self.a.shape} and {self.b.shape}")

    @property
    def shape(self) -> tuple[int, int]:
        """`(n_out, n_in)`."""
        return self.a.shape

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one product."""
        return self.a.macs + self.b.macs

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        return self.a.nbytes + self.b.nbytes

    def to_dense(self) -> NDArray[np.float32]:
        """Weights `[n_out, n_in]`."""
        return self.a.to_dense() + self.b.to_dense()


WeightOperator = Union[Coordinates, Dense, Sparse, LowRank, Sum]


Leaf = Union[Coordinates, Dense, Sparse, LowRank]


def leaves(operator: WeightOperator) -> Iterator[Leaf]:
    """The operators without operands that make up `operator`, left to right."""
    if isinstance(operator, Sum):
        yield from leaves(operator.a)
        yield from leaves(operator.b)
    else:
        yield operator


def operator_grids(operator: WeightOperator) -> Iterator[Grid | None]:
    """The grids of the values inside `operator`; None for each that has none."""
    if isinstance(operator, Sum):
        yield from (operator.a_grid, operator.b_grid)
        yield from operator_grids(operator.a)
        yield from operator_grids(operator.b)
    elif isinstance(operator, LowRank):
        yield operator.inner


def map_leaves(operator: WeightOperator, transform: Callable[[Leaf], WeightOperator]) -> WeightOperator:
    """The operator with `transform` applied to all that have no operands."""
    if isinstance(operator, Sum):
        a, b = map_leaves(operator.a, transform), map_leaves(operator.b, transform)
        return Sum(a, b, operator.a_grid, operator.b_grid)
    return transform(operator)


def _nbytes(*arrays: Array | None) -> int:
    return sum(int(array.nbytes) for array in arrays if array is not None)


def weight_arrays(operator: WeightOperator) -> Iterator[Array]:
    """The arrays of weights, or of positions, that an operator stores; its indices and scales are not among them."""
    for leaf in leaves(operator):
        if isinstance(leaf, Coordinates):
            yield from (leaf.source, leaf.target, leaf.mask)
        elif isinstance(leaf, Dense):
            yield leaf.w
        elif isinstance(leaf, Sparse):
            yield leaf.values
        else:
            yield from (leaf.left, leaf.right)


def count_nonzero(operator: WeightOperator) -> int:
    """Numbers that an operator stores and that are not zero; of coordinates the weights that they stand for."""
    return sum(
        leaf.macs if isinstance(leaf, Coordinates) else sum(int(np.count_nonzero(a)) for a in weight_arrays(leaf))
        for leaf in leaves(operator)
    )
