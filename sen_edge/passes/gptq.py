"""Weights to int8: which scale, and which way to round.

Without calibration inputs a scale covers the greatest weight, and each weight is rounded to the nearest value.
With them, what counts is the error of the product: the scale is searched, and weights are rounded one column at a
time, each column's error compensated in the columns that are still to come (E. Frantar et al., "GPTQ", 2023;
B. Hassibi and D. Stork, "Second order derivatives for network pruning", 1993).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.int8 import WEIGHT_LIMIT, Scale
from sen_runtime.ir.operators import Sparse

FloatArray = NDArray[np.float64]

GRANULARITIES = ("channel", "tensor")
#: Share of the inputs' mean square that is added to each: an input that calibration never saw still counts.
DAMPING = 0.01
#: Candidates for a scale, relative to the one that covers the greatest weight.
SHRINKS = np.geomspace(1, 0.01, 60)
#: Columns that are rounded before the rest learns of their errors: two products of matrices instead of many vectors'.
BLOCK_COLUMNS = 64
#: Beyond, the compensation's cubic cost outgrows its use, and weights are rounded to the nearest.
MAX_COMPENSATED_INPUTS = 4096
LEAST_SCALE = float(np.finfo(np.float32).tiny)


def damped_moment(inputs: NDArray[np.float32]) -> FloatArray:
    """Second moment `[n_in, n_in]` of inputs `[rows, n_in]`, with `DAMPING` on its diagonal.

    Only the diagonal, `[n_in]`, of more inputs than are compensated for.
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
    w: NDArray[np.float32], granularity: str, moment: FloatArray | None, least_scale: FloatArray | float = 0.0
) -> tuple[NDArray[np.int8], Scale]:
    """Int8 values of `w [n_out, n_in]`, and their scale `[n_out]`, or `[1]` for granularity "tensor".

    Args:
        w: weights.
        granularity: "channel" (a scale per row) or "tensor".
        moment: of the inputs, from `damped_moment`; None if there are no calibration inputs.
        least_scale: no scale may be less, `[n_out]` or one for all.
    """
    weights = w.astype(np.float64)
    scale = choose_scale(weights, granularity, _importance(moment), least_scale)
    if moment is None or moment.ndim == 1:
        return _nearest(weights, scale), scale
    return _compensated(weights, scale, moment), scale


def round_sparse(
    operator: Sparse, granularity: str, moment: FloatArray | None, least_scale: FloatArray | float = 0.0
) -> Sparse:
    """The same pattern in int8: rounded to the nearest, for compensation would fill the zeros."""
    weights = operator.to_dense().astype(np.float64)
    scale = choose_scale(weights, granularity, _importance(moment), least_scale)
    return operator.with_values_of(_nearest(weights, scale), scale)


def choose_scale(
    weights: FloatArray, granularity: str, importance: FloatArray | None, least_scale: FloatArray | float
) -> Scale:
    """Scales for rounding to the nearest: least error weighted with `importance [n_in]`, or room for the greatest."""
    greatest = np.abs(weights).max(axis=1)
    if granularity == "tensor":
        greatest = np.full_like(greatest, greatest.max())
    # where every weight is 0 the scale is the bias's alone
    widest = np.where(greatest > 0, greatest / WEIGHT_LIMIT, np.where(np.asarray(least_scale) > 0, LEAST_SCALE, 1.0))
    best = widest
    if importance is not None:
        least = np.full(len(weights), np.inf)
        for shrink in SHRINKS:
            error = _rounding_error(weights, widest * shrink, importance)
            if granularity == "tensor":
                error = np.full_like(error, error.sum())
            best = np.where(error < least, widest * shrink, best)
            least = np.minimum(error, least)
    best = np.maximum(np.maximum(best, least_scale), LEAST_SCALE)
    scale: Scale = (best.max(keepdims=True) if granularity == "tensor" else best).astype(np.float32)
    return scale


def _importance(moment: FloatArray | None) -> FloatArray | None:
    return moment if moment is None or moment.ndim == 1 else np.diag(moment)


def _rounding_error(weights: FloatArray, scale: FloatArray, importance: FloatArray) -> FloatArray:
    column = scale[:, np.newaxis]
    rounded = np.clip(np.rint(weights / column), -WEIGHT_LIMIT, WEIGHT_LIMIT) * column
    error: FloatArray = (rounded - weights) ** 2 @ importance
    return error


def _nearest(weights: FloatArray, scale: Scale) -> NDArray[np.int8]:
    whole = np.rint(weights / scale.astype(np.float64)[:, np.newaxis])
    return np.clip(whole, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)


def _compensated(weights: FloatArray, scale: Scale, moment: FloatArray) -> NDArray[np.int8]:
    """Round the columns of the strongest inputs first; later ones make up for their errors."""
    order = np.argsort(-np.diag(moment), kind="stable")
    inverse = np.linalg.inv(moment[np.ix_(order, order)])
    factor = np.linalg.cholesky((inverse + inverse.T) / 2).T  # upper: row j says how column j's error is spread
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
