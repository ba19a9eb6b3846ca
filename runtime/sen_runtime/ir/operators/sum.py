"""The sum of two operators; the one operator with operands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.checks import Array, require
from sen_runtime.ir.int8 import Grid, on_grid
from sen_runtime.ir.operators.base import WeightOperator


@dataclass(frozen=True, eq=False)
class Sum(WeightOperator):
    """The sum of two operators of one shape, e.g. a low-rank far field and a sparse near field.

    Attributes:
        a: first operand.
        b: second operand.
        a_grid: int8 grid of `a x`, in a network whose activations are int8; else None.
        b_grid: int8 grid of `b x + bias`, likewise.
    """

    a: WeightOperator
    b: WeightOperator
    a_grid: Grid | None = None
    b_grid: Grid | None = None

    def __post_init__(self) -> None:
        shapes = self.a.shape, self.b.shape
        require(shapes[0] == shapes[1], f"cannot add weights of shape {shapes[0]} and {shapes[1]}")

    @property
    def shape(self) -> tuple[int, int]:
        """`(n_out, n_in)`."""
        return self.a.shape

    @property
    def form(self) -> str:
        """Names of the operands."""
        return f"{self.a.form} + {self.b.form}"

    @property
    def operands(self) -> tuple[WeightOperator, WeightOperator]:
        """`a` and `b`."""
        return self.a, self.b

    @property
    def grids(self) -> tuple[Grid | None, ...]:
        """Grids of the operands' products, then those inside the operands."""
        return (self.a_grid, self.b_grid, *self.a.grids, *self.b.grids)

    def to_dense(self) -> NDArray[np.float32]:
        """Weights `[n_out, n_in]`."""
        return self.a.to_dense() + self.b.to_dense()

    def expanded_bytes(self, bytes_per_weight: int) -> int:
        """Bytes of the operand that needs more: one is written out at a time."""
        return max(operand.expanded_bytes(bytes_per_weight) for operand in self.operands)

    def affine(self, x: Array, bias: Array | None = None) -> Array:
        """See `WeightOperator`."""
        return on_grid(self.a.affine(x), self.a_grid) + on_grid(self.b.affine(x, bias), self.b_grid)


def leaves(operator: WeightOperator) -> Iterator[WeightOperator]:
    """Operators without operands whose sum `operator` is, left to right."""
    if isinstance(operator, Sum):
        yield from leaves(operator.a)
        yield from leaves(operator.b)
    else:
        yield operator


def map_leaves(operator: WeightOperator, transform: Callable[[WeightOperator], WeightOperator]) -> WeightOperator:
    """Operator with `transform` applied to each of its leaves."""
    if isinstance(operator, Sum):
        a, b = map_leaves(operator.a, transform), map_leaves(operator.b, transform)
        return Sum(a, b, operator.a_grid, operator.b_grid)
    return transform(operator)
