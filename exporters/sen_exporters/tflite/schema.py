"""A thin layer over the TFLite schema: tensors and operators by name, equal arrays stored once and aligned.

ai-edge-litert contains the schema and its object interface; `flatbuffers` writes the file. Source: TFLite's schema.fbs,
version 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from sen_exporters.base import ExportError
from sen_runtime.engines import tflite_file
from sen_runtime.errors import EngineError
from sen_runtime.ir.operators import Sparse

Array = NDArray[Any]

SCHEMA_VERSION = 3
ALIGNMENT = 16
#: Offsets in a flatbuffer are 32 bits, signed where it matters.
MAX_BYTES = 2**31 - 1

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


class ModelBuilder:
    """Builds a model with one subgraph; values have the names of the file."""

    def __init__(self) -> None:
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
            buffers=[schema.BufferT(data=None if array is None else _raw(array)) for array in self._buffers],
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


def parse(data: bytes) -> Any:
    """The `ModelT` in a file.

    Raises:
        EngineError: the bytes are not a TFLite model, or a damaged one.
    """
    tflite_file.read_properties(data)
    try:
        return schema.ModelT.InitFromPackedBuf(data)
    except Exception as error:  # the generated reader raises any error for a wrong offset
        raise EngineError(
            f"this TFLite file is damaged: {error}", hint="it may be truncated: export the model again"
        ) from error


def serialize(model: Any) -> bytes:
    """The file of a `ModelT`; the same model gives the same bytes.

    Raises:
        ExportError: it takes 2 GiB or more.
    """
    size = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    if size > MAX_BYTES - (1 << 20):
        raise ExportError(
            f"the model takes {size / 1e9:.1f} GB; one TFLite file holds less than 2 GB",
            hint="prune or factorize the network, or store it with --dtype float16 or int8",
        )
    builder = flatbuffers.Builder(size + (1 << 16))
    model = copy(model)
    model.buffers = [_AlignedBuffer(buffer.data) for buffer in model.buffers]
    model.subgraphs = [_with_shared_zero_points(graph) for graph in model.subgraphs]
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return tflite_file.seal(bytes(builder.Output()))


def set_properties(model: Any, values: Mapping[str, str]) -> None:
    """Replace the model's properties by `values`."""
    data = np.frombuffer(tflite_file.encode_properties(values), np.uint8)
    for entry in model.metadata:
        if entry.name == tflite_file.PROPERTIES:
            model.buffers[entry.buffer].data = data
            return
    model.metadata.append(schema.MetadataT(name=tflite_file.PROPERTIES, buffer=len(model.buffers)))
    model.buffers.append(schema.BufferT(data=data))


class _AlignedBuffer:
    """A buffer that starts at a multiple of 16 bytes, for kernels that load vectors."""

    def __init__(self, data: Array | None) -> None:
        self.data = data

    def Pack(self, builder: Any) -> Any:  # noqa: N802 - the name that ModelT.Pack calls
        vector = None
        if self.data is not None and len(self.data):
            size = len(self.data)
            builder.StartVector(1, size, ALIGNMENT)
            builder.head -= size
            builder.Bytes[builder.head : builder.head + size] = self.data.tobytes()
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


def _with_shared_zero_points(graph: Any) -> Any:
    """Copy of the subgraph in which equal vectors of zero points, eight bytes a row, are stored once."""
    graph = copy(graph)
    stored: dict[bytes, int] = {}
    graph.tensors = [copy(tensor) for tensor in graph.tensors]
    for tensor in graph.tensors:
        if tensor.quantization is not None and tensor.quantization.scale is not None:
            tensor.quantization = _SharedQuantization(tensor.quantization, stored)
    return graph


class _SharedQuantization:
    """Quantization parameters that share their zero points with other tensors."""

    def __init__(self, parameters: Any, stored: dict[bytes, int]) -> None:
        self.parameters = parameters
        self.stored = stored

    def Pack(self, builder: Any) -> Any:  # noqa: N802 - the name that TensorT.Pack calls
        zero_point = np.asarray(self.parameters.zeroPoint, np.int64)
        key = zero_point.tobytes()
        if key not in self.stored:
            self.stored[key] = builder.CreateNumpyVector(zero_point)
        scale = builder.CreateNumpyVector(np.asarray(self.parameters.scale, np.float32))
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddScale(builder, scale)
        schema.QuantizationParametersAddZeroPoint(builder, self.stored[key])
        return schema.QuantizationParametersEnd(builder)


def _raw(array: Array) -> NDArray[np.uint8]:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return np.frombuffer(little.tobytes(), np.uint8)


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
