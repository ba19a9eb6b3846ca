"""Values with rows and a grid, and operators without weights, on top of `ModelBuilder`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from sen_exporters.tflite.options import TfliteOptions
from sen_exporters.tflite.schema import Affine, ModelBuilder
from sen_runtime.ir.int8 import Grid


@dataclass(frozen=True)
class Signal:
    """A value of the graph, `[rows, n]`.

    Attributes:
        name: of the tensor.
        rows: None where a caller may change them.
        grid: int8 grid; None for float32.
    """

    name: str
    rows: int | None
    grid: Grid | None = None


class Graph(ModelBuilder):
    """Builds a model from operators on signals.

    Attributes:
        options: of the export.
    """

    def __init__(self, options: TfliteOptions) -> None:
        super().__init__()
        self.options = options

    def declare(self, signal: Signal, *size: int) -> Signal:
        """Declare the tensor `[rows, *size]` of a signal."""
        grid = signal.grid
        dtype = np.float32 if grid is None else np.int8
        self.value(signal.name, [signal.rows, *size], dtype, None if grid is None else affine_of(grid))
        return signal

    def scalar(self, name: str, value: float, grid: Grid | None = None) -> Signal:
        """Store a number, on `grid` if there is one."""
        array = np.array([value], np.float32)
        if grid is None:
            return Signal(self.constant(name, array), 1)
        return Signal(self.constant(name, grid.quantize(array), affine_of(grid)), 1, grid)

    def binary(self, operator: str, a: Signal, b: Signal, y: Signal, size: int, activation: str = "NONE") -> Signal:
        """Add ADD, SUB or MUL with the result `y [rows, size]`; all signals are float32, or all int8."""
        self.declare(y, size)
        kind = {"ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT}[operator]
        options = kind(fusedActivationFunction=activation_code(activation))
        self.operator(operator, 1 if y.grid is None else 2, [a.name, b.name], [y.name], options)
        return y

    def convert(self, x: Signal, y: Signal, *size: int) -> Signal:
        """Add the conversion of `x` to `y [rows, *size]`: onto the grid of `y`, or to float32."""
        self.declare(y, *size)
        if y.grid is not None:
            self.operator("QUANTIZE", 1 if x.grid is None else 2, [x.name], [y.name], schema.QuantizeOptionsT())
        else:
            self.operator("DEQUANTIZE", 2, [x.name], [y.name], schema.DequantizeOptionsT())
        return y

    def join(self, parts: Sequence[Signal], name: str, size: int) -> Signal:
        """Concatenate the rows of `parts`, which all have the same number of rows."""
        rows = parts[0].rows
        joined = self.declare(Signal(name, None if rows is None else rows * len(parts), parts[0].grid), size)
        version = 1 if joined.grid is None else 2
        names = [part.name for part in parts]
        self.operator("CONCATENATION", version, names, [name], schema.ConcatenationOptionsT(axis=0))
        return joined

    def split(self, joined: Signal, names: Sequence[str], size: int) -> list[Signal]:
        """Split into parts of the same number of rows; the inverse of `join`."""
        rows = None if joined.rows is None else joined.rows // len(names)
        parts = [self.declare(Signal(name, rows, joined.grid), size) for name in names]
        axis = self.constant("rows_axis", np.array(0, np.int32))
        self.operator(
            "SPLIT",
            1 if joined.grid is None else 2,
            [axis, joined.name],
            list(names),
            schema.SplitOptionsT(numSplits=len(names)),
        )
        return parts

    def time_first(self, x: Signal, name: str, steps: int, size: int) -> Signal:
        """Transpose `[rows, steps, size]` to `[steps * rows, size]`."""
        turned = f"{name}_time_first"
        affine = None if x.grid is None else affine_of(x.grid)
        dtype: Any = np.float32 if x.grid is None else np.int8
        self.value(turned, [steps, x.rows, size], dtype, affine)
        order = self.constant(f"{name}_order", np.array([1, 0, 2], np.int32))
        self.operator("TRANSPOSE", 1 if x.grid is None else 2, [x.name, order], [turned], schema.TransposeOptionsT())
        rows = self.declare(Signal(name, None if x.rows is None else x.rows * steps, x.grid), size)
        shape = self.constant(f"{name}_shape", np.array([-1, size], np.int32))
        self.operator("RESHAPE", 1, [turned, shape], [name], schema.ReshapeOptionsT(newShape=[-1, size]))
        return rows


def affine_of(grid: Grid) -> Affine:
    """Quantization of a tensor on a grid."""
    return Affine(np.array([grid.scale], np.float32), grid.zero_point)


def activation_code(name: str) -> int:
    """The schema's number of a fused activation."""
    code: int = getattr(schema.ActivationFunctionType, name)
    return code
