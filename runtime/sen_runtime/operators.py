"""Weight operators: what a layer multiplies its input with, and how that is stored.

Every operator knows its `shape` `(n_out, n_in)`, its `macs`, its `nbytes` and `to_dense()`, the plain
reference of what it means. Arrays are float32, or float16 where storage was halved; scalars are rounded
to float32, because that is what a device holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Union

import numpy as np
from numpy.typing import NDArray

from sen_runtime.checks import Array, check_array, check_index, store_float32
from sen_runtime.errors import NetworkError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Weights given by where neurons sit; O(n) storage.

        w[j, i] = gain * mask[i] / max(|| source[i] - target[j] ||_2, min_distance) ** exponent

    Attributes:
        source: `[n_in, d]` positions of the presynaptic neurons.
        target: `[n_out, d]` positions of the postsynaptic neurons.
        mask: `[n_in]` inhibition mask of the presynaptic neurons, in [-1, 1]; 0 silences a neuron.
        gain: factor of the layer.
        exponent: power of the distance, > 0; the paper's form is 1.
        min_distance: floor of the distance, >= 0; at 0 coincident neurons are an error.

    Source: arXiv 2506.13410, section on spatially embedded networks.
    """

    source: Array
    target: Array
    mask: Array
    gain: float = 1.0
    exponent: float = 1.0
    min_distance: float = 0.0

    def __post_init__(self) -> None:
        check_array(self.source, "source positions", 2)
        check_array(self.target, "target positions", 2)
        check_array(self.mask, "mask", 1)
        if self.source.shape[1] != self.target.shape[1]:
            raise NetworkError(
                f"source positions have {self.source.shape[1]} coordinates, target positions have "
                f"{self.target.shape[1]}; both need the same number"
            )
        if self.mask.shape[0] != self.source.shape[0]:
            raise NetworkError(
                f"mask has {self.mask.shape[0]} values for {self.source.shape[0]} source neurons; expected one each"
            )
        if np.any(np.abs(self.mask) > 1):
            raise NetworkError("mask has values outside [-1, 1]; expected 2 * sigmoid(k * inhibition) - 1")
        for name in ("gain", "exponent", "min_distance"):
            store_float32(self, name)
        if self.exponent <= 0:
            raise NetworkError(f"distance exponent is {self.exponent:g}; expected a value > 0")
        if self.min_distance < 0:
            raise NetworkError(f"min_distance is {self.min_distance:g}; expected a value >= 0")

    @property
    def shape(self) -> tuple[int, int]:
        """`(n_out, n_in)`."""
        return self.target.shape[0], self.source.shape[0]

    @property
    def dimensions(self) -> int:
        """Number of coordinates d of a position."""
        return int(self.source.shape[1])

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one product, once the weights are expanded."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        return int(self.source.nbytes + self.target.nbytes + self.mask.nbytes)

    def to_dense(self) -> NDArray[np.float32]:
        """Weights `[n_out, n_in]`: computed in float64, rounded once. The plain reference.

        Raises:
            NetworkError: two neurons at the same point while `min_distance` is 0, or a weight beyond float32.
        """
        source = self.source.astype(np.float64)
        numerator = self.gain * self.mask.astype(np.float64)
        weights = np.empty(self.shape, np.float32)
        for j, target in enumerate(self.target.astype(np.float64)):
            distance = np.sqrt(np.sum((source - target) ** 2, axis=1))
            distance = np.maximum(distance, self.min_distance)
            check_distances(distance[np.newaxis, :], first_target=j)
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # check_range reports it
                row = numerator / distance**self.exponent
            check_range(row[np.newaxis, :], first_target=j)
            weights[j] = row
        return weights


@dataclass(frozen=True, eq=False)
class Dense:
    """A stored weight matrix.

    Attributes:
        w: `[n_out, n_in]`, row-major.
    """

    w: Array

    def __post_init__(self) -> None:
        check_array(self.w, "weights", 2)

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
        return int(self.w.nbytes)

    def to_dense(self) -> NDArray[np.float32]:
        """Weights `[n_out, n_in]`."""
        return self.w.astype(np.float32)


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
    """

    values: Array
    columns: NDArray[np.int32]
    row_starts: NDArray[np.int32]
    shape: tuple[int, int]
    block: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or min(self.block) < 1:
            raise NetworkError(f"sparse weights of shape {self.shape} in blocks of {self.block}; expected sizes >= 1")
        check_array(self.values, "sparse values", 2, may_be_empty=True)
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
        return int(self.values.nbytes + self.columns.nbytes + self.row_starts.nbytes)

    def block_rows(self) -> NDArray[np.int64]:
        """Block row of every block, `[n_blocks]`."""
        return np.repeat(np.arange(self.block_grid[0]), np.diff(self.row_starts))

    def to_dense(self) -> NDArray[np.float32]:
        """Weights `[n_out, n_in]`."""
        if not len(self.values):
            return np.zeros(self.shape, np.float32)
        (grid_rows, grid_columns), (rows, columns) = self.block_grid, self.block
        tiles = np.zeros((grid_rows, grid_columns, rows, columns), np.float32)
        tiles[self.block_rows(), self.columns] = self.values.reshape(-1, rows, columns)
        whole = tiles.transpose(0, 2, 1, 3).reshape(grid_rows * rows, grid_columns * columns)
        return np.ascontiguousarray(whole[: self.shape[0], : self.shape[1]])

    @classmethod
    def from_dense(cls, w: Array, block: tuple[int, int] = (1, 1)) -> Sparse:
        """Keep the blocks of `w [n_out, n_in]` that hold a non-zero value."""
        rows, columns = block
        n_out, n_in = w.shape
        padded = np.pad(w, ((0, -n_out % rows), (0, -n_in % columns)))
        tiles = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns).transpose(0, 2, 1, 3)
        kept = np.any(tiles != 0, axis=(2, 3))
        return cls(
            values=tiles[kept].reshape(-1, rows * columns),
            columns=np.nonzero(kept)[1].astype(np.int32),
            row_starts=np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32),
            shape=(n_out, n_in),
            block=block,
        )


@dataclass(frozen=True, eq=False)
class LowRank:
    """A product of two thin matrices, `left @ right`.

    Attributes:
        left: `[n_out, r]`.
        right: `[r, n_in]`.
    """

    left: Array
    right: Array

    def __post_init__(self) -> None:
        check_array(self.left, "left factor", 2)
        check_array(self.right, "right factor", 2)
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
        return int(self.left.nbytes + self.right.nbytes)

    def to_dense(self) -> NDArray[np.float32]:
        """Weights `[n_out, n_in]`: multiplied in float64, rounded once."""
        return (self.left.astype(np.float64) @ self.right.astype(np.float64)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Sum:
    """The sum of two operators of one shape, e.g. a low-rank far field and a sparse near field."""

    a: WeightOperator
    b: WeightOperator

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


def map_leaves(operator: WeightOperator, transform: Callable[[Leaf], WeightOperator]) -> WeightOperator:
    """The operator with `transform` applied to all that have no operands."""
    if isinstance(operator, Sum):
        return Sum(map_leaves(operator.a, transform), map_leaves(operator.b, transform))
    return transform(operator)


def check_distances(distance: FloatArray, first_source: int = 0, first_target: int = 0) -> None:
    """Refuse coincident neurons in a tile of distances `[targets, sources]`, naming the first pair.

    Raises:
        NetworkError: a distance is 0.
    """
    if np.min(distance) > 0:
        return
    j, i = np.unravel_index(int(np.argmin(distance)), distance.shape)
    raise NetworkError(
        f"source neuron {first_source + int(i)} and target neuron {first_target + int(j)} sit at the same point: "
        "the weight between them is infinite",
        hint="move one of them, or train and save with a positive min_distance",
    )


def check_range(weights: FloatArray, first_source: int = 0, first_target: int = 0) -> None:
    """Refuse weights that float32 cannot hold in a tile `[targets, sources]`, naming the first.

    Raises:
        NetworkError: a weight is not finite in float32.
    """
    magnitude = np.abs(weights)
    if np.max(magnitude) <= np.finfo(np.float32).max:  # False for NaN too
        return
    j, i = np.unravel_index(int(np.argmax(magnitude)), weights.shape)
    raise NetworkError(
        f"the weight from source neuron {first_source + int(i)} to target neuron {first_target + int(j)} is "
        f"{weights[j, i]:.3g}: beyond float32",
        hint="the two neurons nearly coincide; train and save with a positive min_distance",
    )
