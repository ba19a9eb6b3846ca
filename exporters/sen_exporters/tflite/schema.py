"""TFLite files as the objects of TFLite's schema.fbs, version 3: parsed, changed and written.

ai-edge-litert contains the schema and its object interface; `flatbuffers` writes the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from sen_exporters.base import ExportError
from sen_runtime.engines import tflite_file
from sen_runtime.errors import EngineError

Array = NDArray[Any]

ALIGNMENT = 16
#: Offsets in a flatbuffer are 32 bits, signed where it matters.
MAX_BYTES = 2**31 - 1


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


def little_endian(array: Array) -> NDArray[np.uint8]:
    """Bytes of an array."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return np.frombuffer(little.tobytes(), np.uint8)
