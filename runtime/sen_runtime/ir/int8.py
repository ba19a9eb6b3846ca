"""Numbers in eight bits: weights with a scale, activations on a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sen_runtime.errors import NetworkError
from sen_runtime.ir.checks import Array, check_array, store_float32

Scale = NDArray[np.float32]

#: Weights use a symmetric range, so that a product never needs the weights' zero point.
WEIGHT_LIMIT = 127
LEAST, GREATEST = -128, 127
#: A vector without a greater magnitude than this counts as zeros where it is rounded to eight bits.
LEAST_MAGNITUDE = 1e-30


@dataclass(frozen=True)
class Grid:
    """The 256 values an int8 activation can take: real = scale * (stored - zero_point).

    Attributes:
        scale: distance of two neighbouring values, > 0; rounded to float32.
        zero_point: the stored value that means 0, in -128..127.
    """

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        store_float32(self, "scale")
        if self.scale <= 0:
            raise NetworkError(f"the scale of a grid is {self.scale:g}; expected a value > 0")
        if not LEAST <= self.zero_point <= GREATEST:
            raise NetworkError(f"the zero point of a grid is {self.zero_point}; expected {LEAST} to {GREATEST}")

    @property
    def limits(self) -> tuple[float, float]:
        """Least and greatest value on the grid."""
        return self.scale * (LEAST - self.zero_point), self.scale * (GREATEST - self.zero_point)

    @classmethod
    def covering(cls, least: float, greatest: float) -> Grid:
        """The finest grid on which 0 lies and which reaches from `least` to `greatest`, to half a step."""
        least, greatest = min(float(least), 0.0), max(float(greatest), 0.0)
        scale = (greatest - least) / (GREATEST - LEAST)
        return cls(scale, LEAST - round(least / scale) if scale else LEAST)

    def quantize(self, x: Array) -> NDArray[np.int8]:
        """The nearest stored values; halves go to even, what lies outside to the nearest end."""
        steps: NDArray[np.float64] = np.rint(np.asarray(x, np.float64) / self.scale) + self.zero_point
        return np.clip(steps, LEAST, GREATEST).astype(np.int8)

    def dequantize(self, stored: NDArray[np.int8]) -> NDArray[np.float32]:
        """The values that stored ones mean."""
        centred = stored.astype(np.float32) - np.float32(self.zero_point)
        return centred * np.float32(self.scale)

    def round(self, x: Array) -> Array:
        """`x` on the grid, in its own precision."""
        return self.dequantize(self.quantize(x)).astype(x.dtype)


def on_grid(x: Array, grid: Grid | None) -> Array:
    """`x` rounded to `grid`, if there is one."""
    return x if grid is None else grid.round(x)


#: Spikes in int8: 0 and 64 mean 0 and 1, because a bias is stored in steps of the product's, which 1 makes coarse.
SPIKES = Grid(1 / 64, 0)


def round_rows(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows `[n, m]` in whole numbers from -127 to 127, and their scales `[n, 1]`: `sen_quantize` of the C library."""
    greatest = np.abs(x).max(axis=1, keepdims=True)
    limit = np.float32(WEIGHT_LIMIT)
    inverse = np.divide(limit, greatest, out=np.zeros_like(greatest), where=greatest > LEAST_MAGNITUDE)
    return np.rint(x * inverse), greatest / limit


def check_weights(
    array: Array, scale: Scale | None, name: str, rows: int | None = None, *, may_be_empty: bool = False
) -> None:
    """A finite matrix of floats, or of int8 with a positive scale `[1]` or `[rows]`; `rows` are the array's if None.

    Raises:
        NetworkError: it is neither.
    """
    if scale is None:
        check_array(array, name, 2, may_be_empty=may_be_empty)
        return
    if array.dtype != np.int8 or array.ndim != 2 or (array.size == 0 and not may_be_empty):
        raise NetworkError(f"{name}: {array.dtype} {list(array.shape)} with a scale; expected an int8 matrix")
    rows = len(array) if rows is None else rows
    check_array(scale, f"scale of {name}", 1)
    if scale.dtype != np.float32 or scale.shape not in ((1,), (rows,)):
        raise NetworkError(
            f"scale of {name}: {scale.dtype} {list(scale.shape)}; expected float32, one value or {rows}, one per row"
        )
    if np.any(scale <= 0):
        raise NetworkError(f"scale of {name}: {scale.min():g}; expected values > 0")


def dequantize(array: Array, scale: Scale | None) -> NDArray[np.float32]:
    """Weights `[rows, columns]` in float32."""
    weights: NDArray[np.float32] = array.astype(np.float32)
    return weights if scale is None else weights * scale[:, np.newaxis]
