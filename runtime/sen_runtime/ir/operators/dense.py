"""A stored weight matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.checks import Array
from sen_runtime.ir.int8 import Scale, check_weights, dequantize
from sen_runtime.ir.operators.base import WeightOperator


@dataclass(frozen=True, eq=False)
class Dense(WeightOperator):
    """A stored weight matrix.

    Attributes:
        w: `[n_out, n_in]`, row-major.
        scale: of int8 weights, `[1]` or `[n_out]`; else None.
    """

    w: Array
    scale: Scale | None = None

    weight_fields = ("w",)
    form = "dense"

    def __post_init__(self) -> None:
        check_weights(self.w, self.scale, "weights")

    @property
    def shape(self) -> tuple[int, int]:
        """`(n_out, n_in)`."""
        return self.w.shape[0], self.w.shape[1]

    def to_dense(self) -> NDArray[np.float32]:
        """Weights `[n_out, n_in]`."""
        return dequantize(self.w, self.scale)

    def stored_matrix(self) -> Array:
        """Stored values `[n_out, n_in]` in their own type."""
        return self.w
