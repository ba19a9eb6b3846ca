"""Matrices of networks with int8 activations, in the storage of the C kernels: `sen_integer_weights` of integer.h."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sen_exporters.c import integer_int4, layouts
from sen_exporters.c.memory import dtype
from sen_exporters.c.weights import Members, Place, Weights
from sen_runtime import integer
from sen_runtime.format.records import block_columns
from sen_runtime.integer import bias_steps, product_factor, zero_of
from sen_runtime.ir.checks import Array
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.operators import Dense, Int4, Sparse

Simd: TypeAlias = Literal["none", "dsp", "mve"]

#: From this shift on, the upper half of a product of 64 bits gives the value, rounding included.
UPPER_SHIFT = 33
#: Kernels for any product.
PLAIN = ("sen_integer_dense", "sen_integer_sparse")
#: Limits of a sum, and of that of an odd row of `sen_integer_pairs`.
SUM_LIMIT, ODD_LIMIT = 1 << 31, 1 << 23
#: Weights whose product in rows takes little time.
SMALL = 8192


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
        has_zeros: whether inputs may be stored as 0 often: activations that cannot be negative, and spikes.
        offset: what the kernel subtracts from stored inputs.
    """

    matrix: Dense | Sparse
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.uint8]
    zero: int
    low: int
    has_zeros: bool
    offset: int = 0

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
            matrix,
            added.astype(np.int32),
            multiplier.astype(np.int32),
            shift.astype(np.uint8),
            zero_of(out),
            low,
            zero_of(grid) == 0,
        )

    @cached_property
    def prescale(self) -> int | None:
        """Doublings of a sum after which every shift is at least 33; None if 32 bits do not hold such a sum."""
        doublings = max(0, UPPER_SHIFT - int(self.shift.min()))
        w = self.matrix.stored_matrix()
        bounds = [
            self.bias + integer.MAX_STORED * part.sum(axis=1, dtype=np.int64) for part in (w.clip(0), w.clip(max=0))
        ]
        reach = int(np.abs(bounds).max())
        return doublings if reach << doublings < SUM_LIMIT else None

    @property
    def takes_upper_half(self) -> bool:
        """Whether `requantize_sums` of integer_sums.h computes its values."""
        return self.low == 0 and self.prescale is not None


def lower_matrix(
    product: Product, place: Place, part: str, simd: Simd, *, is_compact: bool = False
) -> tuple[Weights, int]:
    """Kernel and storage of a product, and the bytes of scratch that the kernel needs.

    `part` is "weights", or "right" or "left" of a low-rank matrix; `simd` as in `COptions`; `is_compact` keeps
    code and storage of small matrices small.
    """
    w, (rows, columns) = product.matrix.stored_matrix(), product.matrix.shape
    is_small = isinstance(product.matrix, Dense) and rows * columns <= SMALL and not isinstance(product.matrix, Int4)
    if not product.takes_upper_half or (is_compact and is_small):
        return _plain(product, place, part), 0
    if isinstance(product.matrix, Sparse):
        if product.matrix.block == (1, layouts.BLOCK) and columns % layouts.BLOCK == 0:
            if simd == "mve" and columns <= layouts.BLOCK * layouts.ROW_PLACES:
                scratch = layouts.sums_bytes(rows) + layouts.gather_bytes(columns)
                return _by_row(product, place, part, layouts.by_row(w)), scratch
            return _by_source(product, place, part, "sen_integer_source4", layouts.blocks(w)), layouts.sums_bytes(rows)
        stored, scratch = layouts.single(w), layouts.active_bytes(columns)
        return _by_source(product, place, part, "sen_integer_source", stored), layouts.sums_bytes(rows) + scratch
    if isinstance(product.matrix, Int4):
        storage, scratch = _int4(product.matrix, place, part)
        return _weights(product, place, part, "sen_integer_int4_columns", storage), scratch
    if simd == "dsp" and not product.has_zeros and _is_narrow(w):
        kernel, values, scratch = "sen_integer_pairs", layouts.pairs(w), layouts.pairs_bytes(columns)
    else:
        kernel, values, scratch = "sen_integer_columns", layouts.columns(w), layouts.columns_bytes(columns)
    return _dense(product, place, part, kernel, values), layouts.sums_bytes(rows) + scratch


def _is_narrow(w: layouts.Int8) -> bool:
    """Whether sums of all rows stay within `ODD_LIMIT`."""
    return bool(integer.MAX_STORED * np.abs(w.astype(np.int64)).sum(axis=1).max() < ODD_LIMIT)


def _dense(product: Product, place: Place, part: str, kernel: str, values: Array) -> Weights:
    return _weights(product, place, part, kernel, {"values": place.constant(f"{part}_values", values, part)})


def _by_source(product: Product, place: Place, part: str, kernel: str, stored: layouts.BySource) -> Weights:
    storage: Members = {
        "values": place.constant(f"{part}_values", stored.values, f"{part} by input"),
        "indices": place.constant(f"{part}_rows", stored.rows, "row of each weight or block in its segment"),
        "starts": place.constant(f"{part}_starts", stored.starts, "first of each segment and input"),
        "index_dtype": dtype(stored.starts),
    }
    return _weights(product, place, part, kernel, storage)


def _by_row(product: Product, place: Place, part: str, stored: layouts.ByRow) -> Weights:
    """Blocks of four columns in the order of Helium."""
    storage: Members = {
        "values": place.constant(f"{part}_values", stored.values, f"{part} by row"),
        "indices": place.constant(f"{part}_columns", stored.places, "four columns of each block"),
        "starts": place.constant(f"{part}_counts", stored.counts, "blocks of each row in fours"),
    }
    return _weights(replace(product, offset=layouts.OFFSET), place, part, "sen_integer_gather", storage)


def _plain(product: Product, place: Place, part: str) -> Weights:
    """The kernels in rows, for any product; of int8 weights."""
    if isinstance(product.matrix, Sparse):
        return _weights(product, place, part, "sen_integer_sparse", _blocks(product.matrix, place, part))
    return _dense(product, place, part, "sen_integer_dense", product.matrix.w)


def _int4(matrix: Int4, place: Place, part: str) -> tuple[Members, int]:
    numbers, steps = integer_int4.words(matrix)
    members: Members = {
        "values": place.constant(f"{part}_values", numbers, f"{part}: numbers of 4 bits of eight rows"),
        "indices": place.constant(f"{part}_steps", steps, "steps of 4 bits of 64 columns of eight rows"),
    }
    return members, integer_int4.scratch_bytes(*matrix.shape)


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
        **(_rows if kernel in PLAIN else _scaled_rows)(product, place, part),
        "zero": product.zero,
    }
    return Weights(f"{place.name}_{part}", kernel, members)


def _rows(product: Product, place: Place, part: str) -> Members:
    """How sums become values, for any product."""
    exponent = 31 - product.shift.astype(np.int32)
    return {
        "bias": place.constant(f"{part}_bias", product.bias, "bias in steps of the product"),
        "multiplier": place.constant(f"{part}_multiplier", product.multiplier, "factor of sums, times 2^31"),
        "exponent": place.constant(f"{part}_exponent", exponent, "exponent of a power of 2 that follows"),
        "low": product.low,
    }


def _scaled_rows(product: Product, place: Place, part: str) -> Members:
    """The same for `requantize_sums` of integer_sums.h."""
    prescale = product.prescale
    assert prescale is not None  # `takes_upper_half`
    bias = product.bias + product.offset * product.matrix.stored_matrix().sum(axis=1, dtype=np.int32)
    both = np.column_stack([bias, product.multiplier])
    shift = (product.shift + prescale - UPPER_SHIFT).astype(np.uint8)
    return {
        "bias_multiplier": place.constant(f"{part}_bias_multiplier", both, "bias, and factor of sums times 2^shift"),
        "shift": place.constant(f"{part}_shift", shift, "its shift, less 33"),
        **({"prescale": prescale} if prescale else {}),
    }
