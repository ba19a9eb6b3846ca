"""Network -> image."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sen_runtime.errors import ImageError
from sen_runtime.files import write_atomic
from sen_runtime.format import records
from sen_runtime.format.records import ALIGNMENT, DTYPES, HEADER, MAX_DEPTH, NONE, OPERATORS, SECTION
from sen_runtime.ir.checks import Array
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import WeightOperator

_DTYPE_CODES = {dtype: code for code, dtype in DTYPES.items()}
_Section = tuple[int, int, tuple[int, ...], bytes]  # kind, dtype, shape, payload


def write(network: Network, path: Path) -> None:
    """Write `network` to `path` atomically.

    Raises:
        ImageError: see `dumps`.
        OSError: the file cannot be written.
    """
    write_atomic(path, dumps(network))


def dumps(network: Network) -> bytes:
    """Image of `network`; the same network gives the same bytes.

    Raises:
        ImageError: sums nested too deeply, sizes beyond 32 bits, metadata that is not text, or int8 activations.
    """
    if network.input_grid is not None:
        raise ImageError("this version of the image has no int8 activations", "store int8 weights only")
    try:
        return _assemble(_sections(network))
    except struct.error as error:
        raise ImageError(f"the network's sizes do not fit the image's 32-bit fields: {error}") from error


def _sections(network: Network) -> list[_Section]:
    tensors = _Tensors(first=2 if network.metadata else 1)
    operators: list[bytes] = []
    layers = []
    for layer in network.layers:
        operator = _append_operator(layer.weight, operators, tensors, MAX_DEPTH)
        layers.append(records.pack_layer(layer, operator, tensors.add(layer.bias)))
    program = b"".join([records.pack_head(network, len(operators)), *layers, *operators])
    sections: list[_Section] = [(records.KIND_PROGRAM, 0, (), program)]
    if network.metadata:
        sections.append((records.KIND_METADATA, 0, (), _metadata(network.metadata)))
    return sections + [
        (records.KIND_TENSOR, _DTYPE_CODES[array.dtype], array.shape, array.tobytes()) for array in tensors.arrays
    ]


def _metadata(metadata: Mapping[str, str]) -> bytes:
    for name, value in metadata.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise ImageError(f"metadata {name!r} is {value!r}; expected texts")
    text = json.dumps(dict(metadata), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ImageError(f"metadata is not Unicode text: {error}") from error


class _Tensors:
    """Arrays in order of first use; equal ones are stored once."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.arrays: list[Array] = []
        self._index: dict[tuple[str, tuple[int, ...], bytes], int] = {}

    def add(self, array: Array | None) -> int:
        """Section index of `array`; `NONE` for none."""
        if array is None:
            return NONE
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        key = (little.dtype.str, little.shape, little.tobytes())
        if key not in self._index:
            self._index[key] = self.first + len(self.arrays)
            self.arrays.append(little)
        return self._index[key]


def _append_operator(operator: WeightOperator, operators: list[bytes], tensors: _Tensors, depth: int) -> int:
    """Append an operator after its operands, and return its index."""
    if depth == 0:
        raise ImageError(f"sums are nested more than {MAX_DEPTH} deep; an image holds no more")
    _, fields = records.find(OPERATORS, operator)
    operands = [_append_operator(getattr(operator, name), operators, tensors, depth - 1) for name in fields.operands]
    references = [tensors.add(records.encode(operator, name)) for name in (*fields.tensors, *fields.scales)]
    operators.append(records.pack_operator(operator, references, operands))
    return len(operators) - 1


def _assemble(sections: list[_Section]) -> bytes:
    offset = HEADER.size + SECTION.size * len(sections)
    table, payloads = [], []
    for kind, dtype, shape, payload in sections:
        padding = -offset % ALIGNMENT
        offset += padding
        table.append(records.pack_section(kind, dtype, offset, len(payload), shape))
        payloads += [bytes(padding), payload]
        offset += len(payload)
    body = b"".join([*table, *payloads])

    def header(crc: int) -> bytes:
        return HEADER.pack(records.MAGIC, records.VERSION, HEADER.size, len(sections), offset, crc, 0)

    return header(zlib.crc32(body, zlib.crc32(header(0)))) + body
