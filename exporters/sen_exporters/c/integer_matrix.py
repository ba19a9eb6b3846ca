"""Matrices of networks with int8 activations, in the storage of the C kernels: `sen_integer_weights` of integer.h."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sen_exporters.c.memory import dtype
from sen_exporters.c.weights import Members, Place, Weights
from sen_runtime.format.records import block_columns
from sen_runtime.integer import bias_steps, product_factor, zero_of
from sen_runtime.ir.checks import Array
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.operators import Dense, Sparse

#: Shifts from here on do not need the lower half of a product: SEN_LARGE_SHIFTS of integer.h.
LARGE_SHIFT = 33


@dataclass(frozen=True, eq=False)
class Product:
    """A product with a matrix, from stored values to stored values.

    A value is `zero + round((sum + bias) * multiplier / 2 ** shift)`, from `low` to 255; `sum` is that of weights times
    stored inputs.

    Attributes:
        matrix: int8 weights `[rows, columns]`.
        bias: int32 `[rows]`; contains the zero point of the inputs.
        multiplier: int32 `[rows]`.
        shift: uint8 `[rows]`, 1 to 62.
        zero: stored value of 0 of the output.
        low: min stored value of the output.
    """

    matrix: Dense | Sparse
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.uint8]
    zero: int
    low: int

    @classmethod
    def of(cls, matrix: Dense | Sparse, grid: Grid, bias: Array | None, out: Grid, low: int) -> Product:
        """The product of inputs on `grid`, plus `bias`, on the grid `out`."""
        rows = matrix.shape[0]
        added = -zero_of(grid) * matrix.stored_matrix().sum(axis=1, dtype=np.int64)
        if bias is not None:
            added += bias_steps(bias, matrix, grid).astype(np.int64)
        factor = product_factor(matrix, grid, out)
        multiplier, shift = (np.broadcast_to(each, rows) for each in (factor.multiplier, factor.shift))
        return cls(
            matrix, added.astype(np.int32), multiplier.astype(np.int32), shift.astype(np.uint8), zero_of(out), low
        )

    @property
    def has_large_shifts(self) -> bool:
        """Whether `SEN_LARGE_SHIFTS` applies."""
        return bool(self.shift.min() >= LARGE_SHIFT)


def lower_matrix(product: Product, place: Place, part: str) -> tuple[Weights, int]:
    """Kernel and storage of a product, and the bytes of scratch that the kernel needs.

    `part` is "weights", or "right" or "left" of a low-rank matrix.
    """
    if isinstance(product.matrix, Sparse):
        return _weights(product, place, part, "sen_integer_sparse", _blocks(product.matrix, place, part)), 0
    values: Members = {"values": place.constant(f"{part}_values", product.matrix.w, part)}
    return _weights(product, place, part, "sen_integer_dense", values), 0


def _blocks(matrix: Sparse, place: Place, part: str) -> Members:
    columns = block_columns(matrix)
    return {
        "values": place.constant(f"{part}_values", matrix.values, part),
        "indices": place.constant(f"{part}_columns", columns, "block column of each block"),
        "starts": place.constant(f"{part}_starts", matrix.row_starts, "first block of each block row"),
        "index_dtype": dtype(columns),
        "block_rows": matrix.block[0],
        "block_columns": matrix.block[1],
    }


def _weights(product: Product, place: Place, part: str, kernel: str, storage: Members) -> Weights:
    """A `sen_integer_weights` with the members that every storage has and those of `storage`."""
    rows, columns = product.matrix.shape
    members: Members = {
        "rows": rows,
        "columns": columns,
        **storage,
        "bias": place.constant(f"{part}_bias", product.bias, "bias in steps of the product"),
        "multiplier": place.constant(f"{part}_multiplier", product.multiplier, "factor of sums, times 2^shift"),
        "shift": place.constant(f"{part}_shift", product.shift, "its shift"),
        "zero": product.zero,
        "low": product.low,
    }
    return Weights(f"{place.name}_{part}", kernel, members)
