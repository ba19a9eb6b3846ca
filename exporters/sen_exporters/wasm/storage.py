"""Stores float16 and int8 weights in their own type; a module expands them to float32 when it is loaded.

The C kernels that read them directly are for devices without memory for float32 weights; in a browser they are 4 to 50
times slower.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import singledispatch

import numpy as np

from sen_exporters.c.memory import ALIGNMENT, Array, Constant, placed
from sen_exporters.c.program import Program
from sen_runtime.ir.network import Network, map_weights
from sen_runtime.ir.operators import Dense, LowRank, Sparse, WeightOperator


@dataclass(frozen=True)
class Part:
    """A constant in the stored bytes, and its place in memory.

    Attributes:
        to: place in memory.
        start: first stored byte.
        count: number of values; of bytes for "RAW".
        kind: "RAW" (copied), "HALF" or "INT8", as in weights.c.
        scale: first stored byte of the scales; value i has number (i / row) % scales.
        row: consecutive values with the same scale.
        scales: number of scales.
    """

    to: int
    start: int
    count: int
    kind: str
    scale: int = 0
    row: int = 1
    scales: int = 1


def to_float32(network: Network) -> Network:
    """Convert float16 and int8 weights to float32, exactly; sparse int8 weights remain."""
    return map_weights(network, _to_float32)


@singledispatch
def _to_float32(operator: WeightOperator) -> WeightOperator:
    return operator


@_to_float32.register
def _dense(operator: Dense) -> WeightOperator:
    return Dense(operator.to_dense())


@_to_float32.register
def _low_rank(operator: LowRank) -> WeightOperator:
    right, left = operator.factors
    return LowRank(left.to_dense(), right.to_dense())


@_to_float32.register
def _sparse(operator: Sparse) -> WeightOperator:
    is_half = operator.values.dtype == np.float16
    return replace(operator, values=operator.values.astype(np.float32)) if is_half else operator


def store(program: Program, original: Program) -> tuple[bytes, list[Part]]:
    """Serialize the constants of `program`, those of `original` where these expand to the same values.

    `original` is the program of the network before `to_float32`.
    """
    stored, data, parts = {each.symbol: each for each in original.constants}, bytearray(), []

    def add(array: Array) -> int:
        data.extend(bytes(-len(data) % ALIGNMENT))
        start = len(data)
        data.extend(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return start

    for constant, to in placed(program.constants):
        found = stored.get(constant.symbol, constant)
        scale = stored.get(f"{constant.symbol.removesuffix('_values')}_scale")
        count = int(constant.array.size)
        if found.array.dtype == np.float16 and np.array_equal(found.array.astype(np.float32), constant.array):
            parts.append(Part(to, add(found.array), count, "HALF"))
        elif found.array.dtype == np.int8 and scale is not None and (row := _row(found, scale, constant)):
            parts.append(Part(to, add(found.array), count, "INT8", add(scale.array), row, len(scale.array)))
        else:
            parts.append(Part(to, add(constant.array), constant.nbytes, "RAW"))
    return bytes(data), parts


def _row(stored: Constant, scale: Constant, expected: Constant) -> int:
    """Consecutive values with the same scale, by rows or by columns; 0 if the weights differ from `expected`."""
    width = stored.array.shape[-1]
    for row in (width, 1) if len(scale.array) > 1 else (1,):
        factors = scale.array[np.arange(stored.array.size) // row % len(scale.array)]
        if np.array_equal(stored.array.ravel().astype(np.float32) * factors, expected.array.ravel()):
            return int(row)
    return 0


def is_plain(parts: Iterable[Part]) -> bool:
    """Whether all constants are copied."""
    return all(part.kind == "RAW" for part in parts)
