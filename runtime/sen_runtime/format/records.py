"""Fields of operators and neurons in an image: one table, from which the reader and the writer work.

A new operator or neuron model is one row; its kind is its index, so rows are only ever appended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sen_runtime.errors import ImageError
from sen_runtime.ir.checks import Array
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum

#: Block columns that uint16 can name; the indices of a matrix with more are int32.
UINT16_COLUMNS = 1 << 16
#: `reset` and `reset_delay`.
RESETS = (("subtract", True), ("zero", True), ("subtract", False), ("zero", False))


@dataclass(frozen=True)
class Fields:
    """Attributes of an operator or a neuron model, by the place in the record that holds them.

    Attributes:
        type: class of the attributes.
        tensors: arrays.
        scales: arrays after those; None is `NONE`.
        operands: operators.
        scalars: numbers.
        has_block: whether `block` and `shape` are attributes.
        has_reset: whether `reset` and `reset_delay` are attributes.
    """

    type: type[Any]
    tensors: tuple[str, ...] = ()
    scales: tuple[str, ...] = ()
    operands: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()
    has_block: bool = False
    has_reset: bool = False


OPERATORS = (
    Fields(Coordinates, ("source", "target", "mask"), scalars=("gain", "exponent", "min_distance", "max_distance")),
    Fields(Dense, ("w",), ("scale",)),
    Fields(Sparse, ("values", "columns", "row_starts"), ("scale",), has_block=True),
    Fields(LowRank, ("left", "right"), ("left_scale", "right_scale")),
    Fields(Sum, operands=("a", "b")),
)
NEURONS = (
    Fields(Identity),
    Fields(Relu),
    Fields(Lif, scalars=("beta", "threshold"), has_reset=True),
    Fields(LeakyIntegrator, scalars=("beta",)),
)


def encode(owner: object, name: str) -> Any:
    """Stored value of an attribute."""
    value = getattr(owner, name)
    return ENCODERS[name](owner, value) if name in ENCODERS else value


def decode(name: str, stored: Any) -> Any:
    """Attribute of a stored value.

    Raises:
        ImageError: no writer stores such a value.
    """
    return DECODERS[name](stored) if name in DECODERS else stored


def _read_distance(stored: float) -> float:
    if stored == math.inf or (stored == 0 and math.copysign(1, stored) < 0):
        raise ImageError(f"max_distance is {stored:g}; expected a finite number, 0 for none")
    return math.inf if stored == 0 else stored


def block_columns(operator: Sparse) -> Array:
    """Block columns of sparse weights as images and exported C store them: in 16 bits where they fit."""
    return operator.columns.astype(np.uint16) if operator.block_grid[1] <= UINT16_COLUMNS else operator.columns


#: Attributes that are stored as another value: columns in 16 bits where they fit, and 0 for no limit.
ENCODERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "columns": lambda owner, columns: block_columns(owner),
    "max_distance": lambda owner, distance: 0.0 if distance == math.inf else distance,
}
DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "columns": lambda columns: columns.astype(np.int32) if columns.dtype == np.uint16 else columns,
    "max_distance": _read_distance,
}
