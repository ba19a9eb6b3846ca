"""int8 and int4 weights: choice of scales, and rounding.

Without calibration inputs a scale covers the largest weight, and each weight is rounded to the nearest value. With
them, the error of the product is minimized: the scale is searched, and weights are rounded one column at a time, with
the error of each column compensated in the columns after it (E. Frantar et al., "GPTQ", 2023; B. Hassibi and D. Stork,
"Second order derivatives for network pruning", 1993).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.int8 import WEIGHT_LIMIT, Scale
from sen_runtime.ir.operators import Int4, Sparse
from sen_runtime.ir.operators.int4 import GROUP, INT4_MAX, INT4_MIN, MAX_STEP, spread

FloatArray = NDArray[np.float64]

GRANULARITIES = ("channel", "tensor")
#: Share of the mean square of all inputs that is added to each, so that inputs without calibration values count.
DAMPING = 0.01
#: Candidates for a scale, relative to the one that covers the largest weight.
SHRINKS = np.geomspace(1, 0.01, 60)
#: The same of int4, whose steps span another factor of 15.
INT4_SHRINKS = np.geomspace(1, 0.3, 12)
#: Min and max of a rounded weight.
INT8, INT4 = (-WEIGHT_LIMIT, WEIGHT_LIMIT), (INT4_MIN, INT4_MAX)
#: Columns that are rounded before later blocks are compensated: one matrix product instead of many outer products.
BLOCK_COLUMNS = 64
#: With more inputs weights are rounded to the nearest: the cost of compensation is cubic.
MAX_COMPENSATED_INPUTS = 4096
MIN_SCALE = float(np.finfo(np.float32).tiny)


def damped_moment(inputs: NDArray[np.float32]) -> FloatArray:
    """Compute the second moment `[n_in, n_in]` of inputs `[rows, n_in]`, with `DAMPING` on its diagonal.

    For more than `MAX_COMPENSATED_INPUTS` only the diagonal, `[n_in]`.
    """
    x = inputs.astype(np.float64)
    squares: FloatArray = np.mean(x**2, axis=0)
    damping = DAMPING * float(squares.mean()) or 1.0
    if len(squares) > MAX_COMPENSATED_INPUTS:
        return squares + damping
    moment: FloatArray = x.T @ x / len(x)
    moment[np.diag_indices_from(moment)] += damping
    return moment


def round_weights(
    w: NDArray[np.float32], granularity: str, moment: FloatArray | None, min_scale: FloatArray | float = 0.0
) -> tuple[NDArray[np.int8], Scale]:
    """Round weights `[n_out, n_in]` to int8; return values and scale `[n_out]`, or `[1]` for granularity "tensor".

    The moment is that of calibration inputs, from `damped_moment`.
    """
    weights = w.astype(np.float64)
    scale = choose_scale(weights, granularity, moment, min_scale)
    return round_to_steps(weights, _column(scale), INT8, moment), scale


def round_int4(w: NDArray[np.float32], moment: FloatArray | None, min_scale: FloatArray | float = 0.0) -> Int4:
    """Round weights `[n_out, n_in]` to int4; moment and min scale as in `round_weights`."""
    weights = w.astype(np.float64)
    scale, group_steps = choose_group_steps(weights, moment, min_scale)
    steps = _column(scale) * np.maximum(spread(group_steps, weights.shape[1]), 1)
    return Int4.from_values(round_to_steps(weights, steps, INT4, moment), group_steps, scale)


def round_sparse(
    operator: Sparse, granularity: str, moment: FloatArray | None, min_scale: FloatArray | float = 0.0
) -> Sparse:
    """Round stored weights to the nearest int8 value; compensation would fill zeros."""
    weights = operator.to_dense().astype(np.float64)
    scale = choose_scale(weights, granularity, moment, min_scale)
    return operator.with_values_of(round_to_steps(weights, _column(scale), INT8, None), scale)


def choose_scale(
    weights: FloatArray, granularity: str, moment: FloatArray | None, min_scale: FloatArray | float
) -> Scale:
    """Choose scales: min error for inputs with this moment, or without it the smallest that cover all weights."""
    largest = np.abs(weights).max(axis=1)
    if granularity == "tensor":
        largest = np.full_like(largest, largest.max())
    widest = _widest(largest / WEIGHT_LIMIT, min_scale)
    best = widest
    if moment is not None:
        importance = moment if moment.ndim == 1 else np.diag(moment)
        min_error = np.full(len(weights), np.inf)
        for shrink in SHRINKS:
            column = (widest * shrink)[:, np.newaxis]
            rounded = np.clip(np.rint(weights / column), -WEIGHT_LIMIT, WEIGHT_LIMIT) * column
            error = (rounded - weights) ** 2 @ importance
            if granularity == "tensor":
                error = np.full_like(error, error.sum())
            best = np.where(error < min_error, widest * shrink, best)
            min_error = np.minimum(error, min_error)
    best = np.maximum(np.maximum(best, min_scale), MIN_SCALE)
    scale: Scale = (best.max(keepdims=True) if granularity == "tensor" else best).astype(np.float32)
    return scale


def _widest(scale: FloatArray, min_scale: FloatArray | float) -> FloatArray:
    """Scales that cover all weights; a row of zeros has that of its bias."""
    return np.where(scale > 0, scale, np.where(np.asarray(min_scale) > 0, MIN_SCALE, 1.0))


def choose_group_steps(
    weights: FloatArray, moment: FloatArray | None, min_scale: FloatArray | float
) -> tuple[Scale, NDArray[np.uint8]]:
    """Choose scales `[n_out]` and steps `[n_out, groups]` of int4 weights with the min error, as `choose_scale`."""
    columns = weights.shape[1]
    importance = np.ones(columns) if moment is None else moment if moment.ndim == 1 else np.diag(moment)
    starts = np.arange(0, columns, GROUP)
    widest = _widest(np.abs(weights).max(axis=1) / (INT4_MAX * MAX_STEP), min_scale)
    min_error, best, best_steps = np.full(len(weights), np.inf), widest, np.ones((len(weights), len(starts)), np.uint8)
    for shrink in INT4_SHRINKS:
        scale = np.maximum(np.maximum(widest * shrink, min_scale), MIN_SCALE)
        errors = []
        for step in range(1, MAX_STEP + 1):
            column = _column(scale) * step
            error = (np.clip(np.rint(weights / column), *INT4) * column - weights) ** 2 * importance
            errors.append(np.add.reduceat(error, starts, axis=1))
        steps, error = np.argmin(errors, axis=0) + 1, np.min(errors, axis=0).sum(axis=1)
        is_better = error < min_error
        best, min_error = np.where(is_better, scale, best), np.where(is_better, error, min_error)
        best_steps = np.where(is_better[:, np.newaxis], steps, best_steps).astype(np.uint8)
    return best.astype(np.float32), best_steps


def _column(scale: NDArray[np.floating[Any]]) -> FloatArray:
    return scale.astype(np.float64)[:, np.newaxis]


def round_to_steps(
    weights: FloatArray, steps: FloatArray, limits: tuple[int, int], moment: FloatArray | None
) -> NDArray[np.int8]:
    """Round weights `[n_out, n_in]` to multiples of steps `[n_out, n_in or 1]`, and return these within the limits.

    They are the nearest without the whole moment. With it, the columns of the strongest inputs are rounded first, and
    their errors are compensated in later columns.
    """
    if moment is None or moment.ndim == 1:
        nearest: NDArray[np.int8] = np.clip(np.rint(weights / steps), *limits).astype(np.int8)
        return nearest
    order = np.argsort(-np.diag(moment), kind="stable")
    inverse = np.linalg.inv(moment[np.ix_(order, order)])
    factor = np.linalg.cholesky((inverse + inverse.T) / 2).T  # row j distributes the error of column j
    left, each = weights[:, order], np.broadcast_to(steps, weights.shape)[:, order]
    rounded = np.empty(left.shape, np.int8)
    for start in range(0, left.shape[1], BLOCK_COLUMNS):
        block = slice(start, min(start + BLOCK_COLUMNS, left.shape[1]))
        errors = np.empty((len(left), block.stop - start))
        for j in range(start, block.stop):
            rounded[:, j] = np.clip(np.rint(left[:, j] / each[:, j]), *limits)
            errors[:, j - start] = (left[:, j] - rounded[:, j] * each[:, j]) / factor[j, j]
            left[:, j + 1 : block.stop] -= np.outer(errors[:, j - start], factor[j, j + 1 : block.stop])
        left[:, block.stop :] -= errors @ factor[block, block.stop :]
    result = np.empty_like(rounded)
    result[:, order] = rounded
    return result
