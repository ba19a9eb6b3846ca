"""A builder of TFLite graphs: values and operators by name, equal arrays stored once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from sen_exporters.base import ExportError
from sen_exporters.tflite.options import TfliteOptions
from sen_exporters.tflite.schema import little_endian, serialize, set_properties
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.operators import Sparse

Array = NDArray[Any]

SCHEMA_VERSION = 3
TENSOR_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
}


@dataclass(frozen=True)
class Affine:
    """real = scale * (stored - zero_point), per tensor, or per row of a matrix where `scale` has several values.

    Attributes:
        scale: `[1]` or `[n_out]` float32.
        zero_point: of all rows.
    """

    scale: NDArray[np.float32]
    zero_point: int = 0


@dataclass(frozen=True)
class Signal:
    """A value of the graph, `[rows, n]`.

    Attributes:
        name: of the tensor.
        rows: None where a caller may change them.
        grid: int8 grid; None for float32.
        activation: function that its operator applies, as the schema calls it.
    """

    name: str
    rows: int | None
    grid: Grid | None = None
    activation: str = "NONE"

    @property
    def activation_code(self) -> int:
        """The schema's number of the activation."""
        code: int = getattr(schema.ActivationFunctionType, self.activation)
        return code

    def named(self, name: str) -> Signal:
        """Another signal of the same rows and grid, without an activation."""
        return Signal(name, self.rows, self.grid)


class Graph:
    """Builds a model with one subgraph; values have the names of the file.

    Attributes:
        options: of the export.
    """

    def __init__(self, options: TfliteOptions) -> None:
        self.options = options
        self._tensors: list[Any] = []
        self._index: dict[str, int] = {}
        self._operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}
        self._buffers: list[Array | None] = [None]  # buffer 0 is empty by convention
        self._stored: dict[tuple[object, ...], str] = {}

    def value(
        self, name: str, shape: Sequence[int | None], dtype: Any = np.float32, affine: Affine | None = None
    ) -> str:
        """Declare a computed value or an input; None in `shape` is a dynamic size."""
        self._add(name, [size or 1 for size in shape], np.dtype(dtype), 0, affine)
        if None in shape:
            self._tensors[-1].shapeSignature = [-1 if size is None else size for size in shape]
        return name

    def constant(self, name: str, array: Array, affine: Affine | None = None) -> str:
        """Store `array`, and return its name; equal arrays share the first one's."""
        key = (array.dtype.str, array.shape, array.tobytes(), _key(affine))
        if key not in self._stored:
            self._add(name, list(array.shape), array.dtype, self._buffer(array), affine)
            self._stored[key] = name
        return self._stored[key]

    def sparse_constant(self, name: str, operator: Sparse) -> str:
        """Store weights `[n_out, n_in]` as compressed rows of blocks, whose columns divide `n_in`."""
        columns_per_block = operator.block[1]
        traversal, block_map = [0, 1], []
        if columns_per_block > 1:
            traversal, block_map = [0, 1, 2], [1]
        self._add(name, list(operator.shape), operator.values.dtype, self._buffer(operator.values.ravel()), None)
        dimensions = [
            schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=operator.shape[0]),
            schema.DimensionMetadataT(
                format=schema.DimensionType.SPARSE_CSR,
                arraySegmentsType=schema.SparseIndexVector.Int32Vector,
                arraySegments=schema.Int32VectorT(values=operator.row_starts.astype(np.int32)),
                **_index_vector(operator.columns),
            ),
        ]
        if columns_per_block > 1:
            dimensions.append(schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=columns_per_block))
        self._tensors[-1].sparsity = schema.SparsityParametersT(
            traversalOrder=traversal, blockMap=block_map, dimMetadata=dimensions
        )
        return name

    def has(self, name: str) -> bool:
        """Whether a value or an array of this name is known."""
        return name in self._index

    def shape(self, name: str) -> list[int]:
        """Shape of a known value."""
        shape: list[int] = self._tensors[self._index[name]].shape
        return shape

    def operator(
        self, name: str, version: int, inputs: Sequence[str | None], outputs: Sequence[str], options: Any = None
    ) -> None:
        """Add the builtin operator `name` (as `BuiltinOperator` calls it); None is an absent input."""
        code = getattr(schema.BuiltinOperator, name)
        operator = schema.OperatorT(
            opcodeIndex=self._codes.setdefault((code, version), len(self._codes)),
            inputs=[-1 if value is None else self._index[value] for value in inputs],
            outputs=[self._index[value] for value in outputs],
        )
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = options
        self._operators.append(operator)

    def declare(self, signal: Signal, *size: int | None) -> Signal:
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

    def binary(self, operator: str, a: Signal, b: Signal, y: Signal) -> Signal:
        """Add ADD, SUB or MUL with the result `y`; all signals are float32, or all int8."""
        self.declare(y, max(self.shape(a.name)[-1], self.shape(b.name)[-1]))
        kind = {"ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT}[operator]
        options = kind(fusedActivationFunction=y.activation_code)
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

    def finish(
        self,
        *,
        name: str,
        description: str,
        signature: str,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        properties: Mapping[str, str],
    ) -> bytes:
        """The file. `inputs` and `outputs` map the signature's names to values."""
        border = {*inputs.values(), *outputs.values()}
        for value, index in self._index.items():
            if value not in border:  # an interpreter derives inner sizes from those of the inputs
                self._tensors[index].shapeSignature = None
        graph = schema.SubGraphT(
            tensors=self._tensors,
            inputs=[self._index[value] for value in inputs.values()],
            outputs=[self._index[value] for value in outputs.values()],
            operators=self._operators,
            name=name,
        )
        signature_def = schema.SignatureDefT(
            inputs=[schema.TensorMapT(name=key, tensorIndex=self._index[value]) for key, value in inputs.items()],
            outputs=[schema.TensorMapT(name=key, tensorIndex=self._index[value]) for key, value in outputs.items()],
            signatureKey=signature,
            subgraphIndex=0,
        )
        model = schema.ModelT(
            version=SCHEMA_VERSION,
            # interpreters before 2.4 read codes below 127 from the deprecated field
            operatorCodes=[
                schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version)
                for code, version in self._codes
            ],
            subgraphs=[graph],
            description=description,
            buffers=[schema.BufferT(data=None if array is None else little_endian(array)) for array in self._buffers],
            metadata=[],
            signatureDefs=[signature_def],
        )
        set_properties(model, properties)
        return serialize(model)

    def _add(self, name: str, shape: list[int], dtype: np.dtype[Any], buffer: int, affine: Affine | None) -> None:
        if name in self._index:
            raise ExportError(f"two values are called {name!r}", hint="this is a defect of sen-edge: please report it")
        self._index[name] = len(self._tensors)
        tensor = schema.TensorT(shape=shape, type=TENSOR_TYPES[dtype], buffer=buffer, name=name)
        if affine is not None:
            tensor.quantization = schema.QuantizationParametersT(
                scale=affine.scale.astype(np.float32),
                zeroPoint=np.full(len(affine.scale), affine.zero_point, np.int64),
                quantizedDimension=0,
            )
        self._tensors.append(tensor)

    def _buffer(self, array: Array) -> int:
        self._buffers.append(array)
        return len(self._buffers) - 1


def affine_of(grid: Grid) -> Affine:
    """Quantization of a tensor on a grid."""
    return Affine(np.array([grid.scale], np.float32), grid.zero_point)


def _index_vector(indices: NDArray[np.int32]) -> dict[str, Any]:
    """Column indices in the narrowest type that holds them."""
    largest = int(indices.max(initial=0))
    if largest < 1 << 8:
        kind, vector = schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT(values=indices.astype(np.uint8))
    elif largest < 1 << 16:
        kind, vector = schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT(values=indices.astype(np.uint16))
    else:
        kind, vector = schema.SparseIndexVector.Int32Vector, schema.Int32VectorT(values=indices)
    return {"arrayIndicesType": kind, "arrayIndices": vector}


def _key(affine: Affine | None) -> tuple[object, ...]:
    return () if affine is None else (affine.scale.tobytes(), affine.zero_point)
