"""A stored weight matrix of 4 bits a weight.

Each row has a scale, and each group of its columns an integer step: weight = scale * step * value. `step * value` fits
int8, so the matrix is that of a `Dense` with one scale per row, and products have the same integer sums. A scale per
group would need a multiplication in floats, or a requantization, of each group.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.checks import Array, require
from sen_runtime.ir.int8 import Scale
from sen_runtime.ir.operators.dense import Dense

Nibbles = NDArray[np.uint8]

#: Columns of a group.
GROUP = 64
#: Range of a value, and max of a step.
INT4_MIN, INT4_MAX = -8, 7
MAX_STEP = 15


@dataclass(frozen=True, eq=False)
class Int4(Dense):
    """A dense int8 matrix of numbers of 4 bits, each times the step of its group of columns.

    Targets without a form of it store it as `Dense`, which gives the same results.

    Attributes:
        w: `[n_out, n_in]` int8, `step * value`.
        scale: `[1]` or `[n_out]`.
        group_steps: `[n_out, groups]`, 0 to 15, one for each `GROUP` columns; with 0 all weights of the group are 0.
    """

    group_steps: Nibbles = field(default_factory=lambda: np.zeros((0, 0), np.uint8))

    form = "int4"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scale is not None, "int4 weights have no scale")
        steps, expected = self.group_steps, (self.shape[0], n_groups(self.shape[1]))
        is_sound = steps.dtype == np.uint8 and steps.shape == expected
        require(is_sound, f"steps of int4 weights: {steps.dtype} {list(steps.shape)}; expected uint8 {list(expected)}")
        require(steps.max() <= MAX_STEP, f"a step of int4 weights is {steps.max()}; expected 0 to {MAX_STEP}")
        values = self.values()
        is_int4 = np.array_equal(values * spread(steps, self.shape[1]), self.w)
        is_int4 = is_int4 and values.min() >= INT4_MIN and values.max() <= INT4_MAX
        require(is_int4, f"int4 weights: expected {INT4_MIN} to {INT4_MAX} times the step of the group")

    def values(self) -> NDArray[np.int8]:
        """Numbers `[n_out, n_in]` from -8 to 7; 0 where the step is 0."""
        values: NDArray[np.int8] = self.w // np.maximum(spread(self.group_steps, self.shape[1]), 1)
        return values

    @classmethod
    def from_values(cls, values: NDArray[np.int8], group_steps: Nibbles, scale: Scale) -> Int4:
        """Weights from numbers `[n_out, n_in]` from -8 to 7 and steps of the groups."""
        return cls(values * spread(group_steps, values.shape[1]), scale, group_steps)

    @classmethod
    def from_packed(cls, packed: Nibbles, packed_steps: Nibbles, scale: Scale, n_in: int) -> Int4:
        """Inverse of `packed` and `packed_steps`."""
        for what, array, count in (("weights", packed, n_in), ("steps", packed_steps, n_groups(n_in))):
            expected = [len(packed), -(-count // 2)]
            is_sound = array.dtype == np.uint8 and list(array.shape) == expected
            require(is_sound, f"int4 {what}: {array.dtype} {list(array.shape)}; expected uint8 {expected}")
        values = _unpack(packed, n_in).astype(np.int8) + np.int8(INT4_MIN)
        weights = cls.from_values(values, _unpack(packed_steps, n_groups(n_in)), scale)
        is_same = np.array_equal(weights.packed, packed) and np.array_equal(weights.packed_steps, packed_steps)
        require(is_same, "int4 weights: expected zeros in groups of step 0 and at the end of odd rows")
        return weights

    @property
    def packed(self) -> Nibbles:
        """Values + 8, two per byte, the first in the low bits: `[n_out, ceil(n_in / 2)]`."""
        return _pack(self.values() - np.int8(INT4_MIN), -INT4_MIN)

    @property
    def packed_steps(self) -> Nibbles:
        """Steps, two per byte: `[n_out, ceil(groups / 2)]`."""
        return _pack(self.group_steps, 0)

    @property
    def nbytes(self) -> int:
        """Bytes in a file."""
        assert self.scale is not None
        return self.packed.nbytes + self.packed_steps.nbytes + self.scale.nbytes


def n_groups(n_in: int) -> int:
    """Groups of a row of `n_in` columns."""
    return -(-n_in // GROUP)


def spread(group_steps: Nibbles, n_in: int) -> NDArray[np.int8]:
    """Step `[n_out, n_in]` of each column."""
    steps: NDArray[np.int8] = group_steps.astype(np.int8)[:, np.arange(n_in) // GROUP]
    return steps


def _pack(numbers: Array, rest: int) -> Nibbles:
    """Numbers `[rows, n]` from 0 to 15, two per byte; `rest` ends an odd row."""
    even = np.pad(numbers.astype(np.uint8), ((0, 0), (0, numbers.shape[1] % 2)), constant_values=rest)
    return np.ascontiguousarray(even[:, ::2] | even[:, 1::2] << 4)


def _unpack(packed: Nibbles, count: int) -> Nibbles:
    """Inverse of `_pack`: `[rows, count]`."""
    numbers: Nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)[:, :count]
    return numbers
