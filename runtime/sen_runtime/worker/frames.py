"""Messages between parent and worker: length, JSON head, bytes of arrays. No pickle."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sen_runtime import errors
from sen_runtime.errors import EngineError, SenError

Array = NDArray[Any]

LENGTH = struct.Struct("<Q")


def send(stream: BinaryIO, message: Mapping[str, Any], arrays: Mapping[str, Array] | None = None) -> None:
    """Write a message and numeric arrays; raises OSError if the reader ended."""
    given = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    described = [[name, array.dtype.str, array.shape] for name, array in given.items()]
    head = json.dumps({**message, "arrays": described}).encode()
    stream.write(LENGTH.pack(len(head)) + head)
    for array in given.values():
        stream.write(array.reshape(-1).view(np.uint8).data)
    stream.flush()


def receive(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read a message and its arrays; raises EOFError if the writer ended."""
    head = json.loads(_read_exactly(stream, LENGTH.unpack(_read_exactly(stream, LENGTH.size))[0]))
    arrays = {}
    for name, dtype, shape in head.pop("arrays"):
        n_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        arrays[name] = np.frombuffer(_read_exactly(stream, n_bytes), dtype).reshape(shape)
    return head, arrays


def encode_error(error: SenError) -> dict[str, str]:
    """Convert an error to plain values."""
    return {"kind": type(error).__name__, "message": error.message, "hint": error.hint}


def decode_error(values: Mapping[str, str]) -> SenError:
    """Restore an error; a class outside `sen_runtime.errors` becomes an `EngineError`."""
    kind = getattr(errors, values["kind"], EngineError)
    error: SenError = kind.__new__(kind)
    SenError.__init__(error, values["message"], values["hint"])
    return error


def _read_exactly(stream: BinaryIO, n_bytes: int) -> bytearray:
    data = bytearray(n_bytes)
    view, filled = memoryview(data), 0
    while filled < n_bytes:
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        filled += count
    return data
