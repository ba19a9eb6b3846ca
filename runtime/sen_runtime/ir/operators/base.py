"""The interface of weight operators: one file for each, registered nowhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.checks import Array
from sen_runtime.ir.int8 import Grid, Scale


@dataclass(frozen=True, eq=False)
class WeightOperator(ABC):
    """A matrix `[n_out, n_in]` in one form of storage; a subclass is a frozen dataclass.

    Arrays are float32, float16, or int8 with a scale per matrix (`[1]`) or per row (`[rows]`): weight = scale * value.
    Scalars are rounded to float32, because a device holds them so.

    Attributes:
        weight_fields: names of the fields that hold weights or positions, without indices and scales.
    """

    weight_fields: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """`(n_out, n_in)`."""

    @property
    @abstractmethod
    def form(self) -> str:
        """Name of the form of storage, for people."""

    @abstractmethod
    def to_dense(self) -> NDArray[np.float32]:
        """Weights `[n_out, n_in]`: the plain reference."""

    @property
    def operands(self) -> tuple[WeightOperator, ...]:
        """Operators that this one is computed from."""
        return ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one product."""
        own = sum(int(getattr(self, name).size) for name in self.weight_fields)
        return own + sum(operand.macs for operand in self.operands)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        own = sum(int(value.nbytes) for value in vars(self).values() if isinstance(value, np.ndarray))
        return own + sum(operand.nbytes for operand in self.operands)

    @property
    def nnz(self) -> int:
        """Stored weights that are not zero."""
        own = sum(int(np.count_nonzero(getattr(self, name))) for name in self.weight_fields)
        return own + sum(operand.nnz for operand in self.operands)

    @property
    def scale(self) -> Scale | None:
        """Scale of `stored_matrix`, `[1]` or `[n_out]`; None unless it is int8."""
        return None

    @property
    def factors(self) -> tuple[WeightOperator, ...]:
        """Matrices whose product a leaf is, in the order in which they are applied to an input."""
        return (self,)

    @property
    def grids(self) -> tuple[Grid | None, ...]:
        """Int8 grids of the values inside; None for each that has none."""
        return ()

    def stored_matrix(self) -> Array:
        """Values `[n_out, n_in]` before multiplication with `scale`, zeros included."""
        return self.to_dense()

    def weight_arrays(self) -> Iterator[Array]:
        """Arrays of weights or positions; indices and scales are not among them."""
        yield from (getattr(self, name) for name in self.weight_fields)
        for operand in self.operands:
            yield from operand.weight_arrays()

    def map_arrays(self, transform: Callable[[Array], Array]) -> WeightOperator:
        """Leaf with `transform` applied to each of `weight_arrays`."""
        return replace(self, **{name: transform(getattr(self, name)) for name in self.weight_fields})

    def expanded_bytes(self, bytes_per_weight: int) -> int:
        """Bytes of work that needs `bytes_per_weight` for each weight of a matrix without zeros left out."""
        return bytes_per_weight * self.shape[0] * self.shape[1]

    def affine(self, x: Array, bias: Array | None = None) -> Array:
        """`W x + b` for `x [..., n_in]`: `[..., n_out]`, in the precision of `x`; values inside on their grids."""
        y: Array = x @ self.to_dense().astype(x.dtype).T
        return y if bias is None else y + bias.astype(x.dtype)
