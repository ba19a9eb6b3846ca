"""Inputs that stay in a file: rows are read where they are used, and passes go in chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

#: Values of a chunk: 16 MiB in float32.
CHUNK = 1 << 22


class MappedRows:
    """Rows of a memory map, in float32 like an array of inputs: `rows[indices]` reads some, `numpy.asarray` all.

    Attributes:
        shape: `[n, n_in]`, or `[n, T, n_in]` of sequences.
        dtype: of the rows, float32; the file may hold any numbers.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, array: NDArray[Any], chosen: NDArray[np.intp] | None = None) -> None:
        """Represent `array [n, ...]`, or its rows `chosen`."""
        self._array, self._chosen = array, chosen
        self.shape: tuple[int, ...] = (len(array) if chosen is None else len(chosen), *array.shape[1:])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Min and max, NaN if a value is; computed in one pass."""
        return _limits(cast("NDArray[Any]", self))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):  # values beyond float32 become inf, which Examples reports
            return np.array(self._array[rows if self._chosen is None else self._chosen[rows]], np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)

    def take(self, indices: NDArray[np.intp]) -> MappedRows:
        """Return the rows at these indices, unread."""
        return MappedRows(self._array, indices if self._chosen is None else self._chosen[indices])


def chunks(inputs: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the rows of inputs `[n, ...]` in order, each chunk with the index of its first row."""
    step = max(1, CHUNK // max(1, math.prod(inputs.shape[1:])))
    for start in range(0, len(inputs), step):
        yield start, inputs[start : start + step]


def limits(inputs: NDArray[Any]) -> tuple[float, float]:
    """Return min and max of inputs, NaN if a value is."""
    return inputs.limits if isinstance(inputs, MappedRows) else _limits(inputs)


def _limits(inputs: NDArray[Any]) -> tuple[float, float]:
    ends = np.array([(chunk.min(), chunk.max()) for _, chunk in chunks(inputs)])
    return float(ends[:, 0].min()), float(ends[:, 1].max())


def take(inputs: NDArray[Any], indices: NDArray[np.intp]) -> NDArray[Any]:
    """Return rows of inputs; those of a memory map stay in the file."""
    return inputs.take(indices) if isinstance(inputs, MappedRows) else inputs[indices]
