"""TFLite files as the objects of TFLite's schema.fbs, version 3: parsed, changed and written.

ai-edge-litert contains the schema and its object interface; `flatbuffers` writes the file.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    builder = _Builder(size + (1 << 16))
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


class _Builder(flatbuffers.Builder):  # type: ignore[misc]
    """Aligns buffers for kernels that load vectors, and stores equal zero points, eight bytes a row, once."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._zero_points: dict[bytes, int] = {}

    def StartVector(self, size: int, count: int, alignment: int) -> int:  # noqa: N802 - a name of flatbuffers
        offset: int = super().StartVector(size, count, ALIGNMENT if size == 1 else alignment)
        return offset

    def CreateNumpyVector(self, x: Array) -> int:  # noqa: N802
        key = x.tobytes() if x.dtype == np.int64 else b""
        offset: int = self._zero_points.get(key) or super().CreateNumpyVector(x)
        if key:
            self._zero_points[key] = offset
        return offset


def little_endian(array: Array) -> NDArray[np.uint8]:
    """Bytes of an array."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.ravel().view(np.uint8)
