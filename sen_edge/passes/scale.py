"""Multiplication of the rows and columns of weight operators by numbers."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.operators import Dense, LowRank, Sparse, WeightOperator, map_leaves

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]

ONE = np.ones(1, np.float32)


def scale_weights(
    operator: WeightOperator, rows: FloatArray | DoubleArray, columns: FloatArray | DoubleArray
) -> WeightOperator:
    """Multiply rows `[n_out]` and columns `[n_in]`, or `[1]` for all, of every term of a sum, rounded to float32.

    `is_scalable` excludes leaves without a form.
    """
    factors = rows.astype(np.float64), columns.astype(np.float64)
    return map_leaves(operator, lambda leaf: _scale(leaf, *factors))


def is_scalable(leaf: WeightOperator) -> bool:
    """Whether `scale_weights` has a form of this type of leaf."""
    return type(leaf) in _scale.registry


@singledispatch
def _scale(operator: WeightOperator, rows: DoubleArray, columns: DoubleArray) -> WeightOperator:
    """Multiply one leaf; one function for each type."""
    raise TypeError(operator)


@_scale.register
def _dense(operator: Dense, rows: DoubleArray, columns: DoubleArray) -> WeightOperator:
    return Dense((operator.w * rows[:, None] * columns).astype(np.float32))


@_scale.register
def _sparse(operator: Sparse, rows: DoubleArray, columns: DoubleArray) -> WeightOperator:
    """Multiply the values of the blocks; those beyond the edge of the matrix are 0."""
    height, width = operator.block
    row = operator.block_rows()[:, None] * height + np.repeat(np.arange(height), width)
    column = operator.columns.astype(np.int64)[:, None] * width + np.tile(np.arange(width), height)
    factors = rows[np.minimum(row, len(rows) - 1)] * columns[np.minimum(column, len(columns) - 1)]
    return replace(operator, values=(operator.values * factors).astype(np.float32))


@_scale.register
def _low_rank(operator: LowRank, rows: DoubleArray, columns: DoubleArray) -> WeightOperator:
    left, right = operator.left * rows[:, None], operator.right * columns
    return LowRank(left.astype(np.float32), right.astype(np.float32))
