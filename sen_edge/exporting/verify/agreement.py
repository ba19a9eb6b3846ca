"""Agreement of outputs by task: units of their errors, and decisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.network import Network
from sen_runtime.task import CLASSIFICATION, MULTILABEL, RECONSTRUCTION, REGRESSION

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: Outputs that vary less than this share of the largest have no scale; rounding is relative to size.
MIN_VARIATION = 1e-2


def scale_of(values: FloatArray) -> float:
    """Compute the standard deviation of values, at least `MIN_VARIATION` of the largest; 1 if all are 0."""
    largest = float(np.abs(values).max())
    return max(float(values.std(dtype=np.float64)), MIN_VARIATION * largest) or 1.0


def output_scales(network: Network, outputs: FloatArray) -> DoubleArray:
    """Return the unit of the error of each output, `[n_out]`, for outputs `[batch, n_out]`.

    The standard deviation of all outputs; of a regression that of each output, whose units differ; of a
    reconstruction that of all outputs, where each is standardized like the inputs.
    """
    if network.task == REGRESSION:
        scaling = network.output_scaling
        centred = outputs if scaling is None else outputs - scaling.mean
        return np.array([scale_of(column) for column in centred.T])
    scaling = network.input_scaling if network.task == RECONSTRUCTION else None
    if scaling is not None:
        return scale_of(scaling.standardize(outputs)) * scaling.std.astype(np.float64)
    return np.full(outputs.shape[1], scale_of(outputs))


def same_decisions(
    network: Network, expected: FloatArray, actual: FloatArray, margin: DoubleArray, activation: str
) -> BoolArray | None:
    """Return equal decisions, or those that rounding beyond the tolerance may change; None for continuous outputs.

    One of each input for classes, `[batch]`; one of each output for labels, `[batch, n_out]`. `margin` is the excess of
    the rounding bound over the tolerance, or 0; it and outputs, after `activation`, are `[batch, n_out]`.
    """
    compare = _SAME.get(network.task)
    if compare is None or (network.task == CLASSIFICATION and network.n_out == 1):
        return None
    zero = 0.5 if activation == "sigmoid" else 0.0
    return compare(expected - np.float32(zero), actual - np.float32(zero), margin)


def _same_classes(expected: FloatArray, actual: FloatArray, margin: DoubleArray) -> BoolArray:
    rows, wanted, got = np.arange(len(expected)), expected.argmax(1), actual.argmax(1)
    lead = expected[rows, wanted].astype(np.float64) - expected[rows, got]
    is_same: BoolArray = (wanted == got) | (lead < margin[rows, wanted] + margin[rows, got])
    return is_same


def _same_labels(expected: FloatArray, actual: FloatArray, margin: DoubleArray) -> BoolArray:
    is_same: BoolArray = ((expected > 0) == (actual > 0)) | (np.abs(expected) < margin)
    return is_same


_SAME: Mapping[str, Callable[[FloatArray, FloatArray, DoubleArray], BoolArray]] = {
    CLASSIFICATION: _same_classes,
    MULTILABEL: _same_labels,
}
