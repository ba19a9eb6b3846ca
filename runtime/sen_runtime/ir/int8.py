"""Int8 numbers: weights with a scale, activations on a grid, of 8 or 16 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.checks import Array, check_array, is_positive, require, store_float32

Scale = NDArray[np.float32]

#: The range of weights is symmetric, so that a product needs no zero point of the weights.
WEIGHT_LIMIT = 127
INT8_MIN, INT8_MAX = -128, 127
#: A vector whose max magnitude is not above this is rounded to zeros.
MIN_MAGNITUDE = 1e-30


@dataclass(frozen=True)
class Grid:
    """The values of an integer activation: real = scale * (stored - zero_point).

    Attributes:
        scale: step between values, > 0; rounded to float32.
        zero_point: stored value of 0, in -128..127.
        bits: 8, or 16 in files of some targets; networks have 8.
    """

    scale: float
    zero_point: int
    bits: int = 8

    def __post_init__(self) -> None:
        store_float32(self, "scale", "> 0", is_positive)
        is_stored = INT8_MIN <= self.zero_point <= INT8_MAX
        require(is_stored, f"the zero point of a grid is {self.zero_point}; expected {INT8_MIN} to {INT8_MAX}")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        return np.dtype(f"int{self.bits}")

    @property
    def largest(self) -> int:
        """Max stored value."""
        return int(np.iinfo(self.dtype).max)

    @classmethod
    def covering(cls, low: float, high: float) -> Grid:
        """The finest grid that includes 0 and reaches from `low` to `high`, to half a step."""
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        scale = (high - low) / (INT8_MAX - INT8_MIN)
        return cls(scale, INT8_MIN - round(low / scale) if scale else INT8_MIN)

    def quantize(self, x: Array) -> NDArray[Any]:
        """Nearest stored values; halves are rounded to even, values outside the limits are clipped."""
        steps: NDArray[np.float64] = np.rint(np.asarray(x, np.float64) / self.scale) + self.zero_point
        return np.clip(steps, -self.largest - 1, self.largest).astype(self.dtype)

    def dequantize(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Real values of stored ones."""
        centred = stored.astype(np.float32) - np.float32(self.zero_point)
        return centred * np.float32(self.scale)

    def widen(self, reach: float) -> Grid:
        """The 16-bit grid, symmetric around 0, that reaches `reach` times as far as all 256 values of this one."""
        scale = self.scale * (INT8_MAX - INT8_MIN) * reach / np.iinfo(np.int16).max
        return Grid(scale, 0, 16)

    def round(self, x: Array) -> Array:
        """Round `x` to the grid, in its own precision."""
        return self.dequantize(self.quantize(x)).astype(x.dtype)


def on_grid(x: Array, grid: Grid | None) -> Array:
    """`x` rounded to `grid`, if there is one."""
    return x if grid is None else grid.round(x)


#: Int8 spikes: 0 and 64 for 0 and 1. A bias is stored in steps of the product, which a step of 1 would make coarse.
SPIKES = Grid(1 / 64, 0)


def round_rows(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Round rows `[n, m]` to integers from -127 to 127 with scales `[n, 1]`, as `sen_quantize` of the C library."""
    largest = np.abs(x).max(axis=1, keepdims=True)
    limit = np.float32(WEIGHT_LIMIT)
    inverse = np.divide(limit, largest, out=np.zeros_like(largest), where=largest > MIN_MAGNITUDE)
    return np.rint(x * inverse), largest / limit


def check_weights(
    array: Array, scale: Scale | None, name: str, rows: int | None = None, *, may_be_empty: bool = False
) -> None:
    """Require a finite float matrix, or int8 with a positive scale `[1]` or `[rows]`; by default rows of the array."""
    if scale is None:
        check_array(array, name, 2, may_be_empty=may_be_empty)
        return
    is_matrix = array.dtype == np.int8 and array.ndim == 2 and (array.size or may_be_empty)
    require(is_matrix, f"{name}: {array.dtype} {list(array.shape)} with a scale; expected an int8 matrix")
    rows = len(array) if rows is None else rows
    check_array(scale, f"scale of {name}", 1)
    require(
        scale.dtype == np.float32 and scale.shape in ((1,), (rows,)),
        f"scale of {name}: {scale.dtype} {list(scale.shape)}; expected float32, one value or {rows}, one per row",
    )
    require(scale.min() > 0, f"scale of {name}: {scale.min():g}; expected values > 0")


def dequantize(array: Array, scale: Scale | None) -> NDArray[np.float32]:
    """Weights `[rows, columns]` in float32: the array times its scale, if it has one."""
    weights: NDArray[np.float32] = array.astype(np.float32)
    return weights if scale is None else weights * scale[:, np.newaxis]
