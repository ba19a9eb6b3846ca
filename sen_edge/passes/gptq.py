"""int8 weights: choice of scales, and rounding.

Without calibration inputs a scale covers the largest weight, and each weight is rounded to the nearest value. With
them, the error of the product is minimized: the scale is searched, and weights are rounded one column at a time, with
the error of each column compensated in the columns after it (E. Frantar et al., "GPTQ", 2023; B. Hassibi and D. Stork,
"Second order derivatives for network pruning", 1993).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.int8 import WEIGHT_LIMIT, Scale
from sen_runtime.ir.operators import Sparse

FloatArray = NDArray[np.float64]

GRANULARITIES = ("channel", "tensor")
#: Share of the mean square of all inputs that is added to each, so that inputs without calibration values count.
DAMPING = 0.01
#: Candidates for a scale, relative to the one that covers the largest weight.
SHRINKS = np.geomspace(1, 0.01, 60)
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
    if moment is None or moment.ndim == 1:
        return _nearest(weights, scale), scale
    return _compensated(weights, scale, moment), scale


def round_sparse(
    operator: Sparse, granularity: str, moment: FloatArray | None, min_scale: FloatArray | float = 0.0
) -> Sparse:
    """Round stored weights to the nearest int8 value; compensation would fill zeros."""
    weights = operator.to_dense().astype(np.float64)
    scale = choose_scale(weights, granularity, moment, min_scale)
    return operator.with_values_of(_nearest(weights, scale), scale)


def choose_scale(
    weights: FloatArray, granularity: str, moment: FloatArray | None, min_scale: FloatArray | float
) -> Scale:
    """Choose scales: min error for inputs with this moment, or without it the smallest that cover all weights."""
    largest = np.abs(weights).max(axis=1)
    if granularity == "tensor":
        largest = np.full_like(largest, largest.max())
    # A row of zeros has the scale of its bias.
    widest = np.where(largest > 0, largest / WEIGHT_LIMIT, np.where(np.asarray(min_scale) > 0, MIN_SCALE, 1.0))
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


def _nearest(weights: FloatArray, scale: Scale) -> NDArray[np.int8]:
    whole = np.rint(weights / scale.astype(np.float64)[:, np.newaxis])
    return np.clip(whole, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)


def _compensated(weights: FloatArray, scale: Scale, moment: FloatArray) -> NDArray[np.int8]:
    """Round the columns of the strongest inputs first, and compensate their errors in later columns."""
    order = np.argsort(-np.diag(moment), kind="stable")
    inverse = np.linalg.inv(moment[np.ix_(order, order)])
    factor = np.linalg.cholesky((inverse + inverse.T) / 2).T  # row j distributes the error of column j
    steps = scale.astype(np.float64)[:, np.newaxis]
    left = weights[:, order]
    rounded = np.empty(left.shape, np.int8)
    for start in range(0, left.shape[1], BLOCK_COLUMNS):
        block = slice(start, min(start + BLOCK_COLUMNS, left.shape[1]))
        errors = np.empty((len(left), block.stop - start))
        for j in range(start, block.stop):
            column = left[:, j : j + 1]
            rounded[:, j : j + 1] = np.clip(np.rint(column / steps), -WEIGHT_LIMIT, WEIGHT_LIMIT)
            errors[:, j - start] = ((column - rounded[:, j : j + 1] * steps) / factor[j, j])[:, 0]
            left[:, j + 1 : block.stop] -= np.outer(errors[:, j - start], factor[j, j + 1 : block.stop])
        left[:, block.stop :] -= errors @ factor[block, block.stop :]
    result = np.empty_like(rounded)
    result[:, order] = rounded
    return result
