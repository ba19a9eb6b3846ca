"""A product of two thin matrices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.checks import Array, require
from sen_runtime.ir.int8 import Grid, Scale, check_weights, on_grid
from sen_runtime.ir.operators.base import WeightOperator
from sen_runtime.ir.operators.dense import Dense


@dataclass(frozen=True, eq=False)
class LowRank(WeightOperator):
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

    weight_fields = ("left", "right")

    def __post_init__(self) -> None:
        check_weights(self.left, self.left_scale, "left factor")
        check_weights(self.right, self.right_scale, "right factor")
        left, right = list(self.left.shape), list(self.right.shape)
        require(left[1] == right[0], f"left factor is {left}, right factor is {right}; the inner sizes differ")

    @property
    def shape(self) -> tuple[int, int]:
        """`(n_out, n_in)`."""
        return self.left.shape[0], self.right.shape[1]

    @property
    def rank(self) -> int:
        """Inner size r."""
        return int(self.left.shape[1])

    @property
    def form(self) -> str:
        """Name with the rank."""
        return f"rank {self.rank}"

    @property
    def factors(self) -> tuple[Dense, Dense]:
        """Right and left matrix."""
        return Dense(self.right, self.right_scale), Dense(self.left, self.left_scale)

    @property
    def grids(self) -> tuple[Grid | None, ...]:
        """Grid between the factors."""
        return (self.inner,)

    def to_dense(self) -> NDArray[np.float32]:
        """Weights `[n_out, n_in]`: multiplied in float64, rounded once."""
        right, left = (factor.to_dense().astype(np.float64) for factor in self.factors)
        return (left @ right).astype(np.float32)

    def expanded_bytes(self, bytes_per_weight: int) -> int:
        """None: the product of the factors is never written out."""
        return 0

    def affine(self, x: Array, bias: Array | None = None) -> Array:
        """See `WeightOperator`."""
        right, left = self.factors
        return left.affine(on_grid(right.affine(x), self.inner), bias)
