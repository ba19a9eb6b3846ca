"""Network -> image."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sen_runtime.errors import ImageError
from sen_runtime.files import write_atomic
from sen_runtime.format.layout import (
    ALIGNMENT,
    DTYPE_CODES,
    HEADER,
    KIND_METADATA,
    KIND_PROGRAM,
    KIND_TENSOR,
    LAYER,
    MAGIC,
    MAX_DEPTH,
    NONE,
    OPERATOR,
    PROGRAM,
    SECTION,
    VERSION,
)
from sen_runtime.format.records import NEURONS, OPERATORS, RESETS, Fields, encode
from sen_runtime.ir.checks import Array
from sen_runtime.ir.network import INPUT_CODINGS, READOUTS, Layer, Network
from sen_runtime.ir.operators import WeightOperator

_SectionContent = tuple[int, int, tuple[int, ...], bytes]  # kind, dtype, shape, payload


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
        return _dumps(network)
    except struct.error as error:
        raise ImageError(f"the network's sizes do not fit the image's 32-bit fields: {error}") from error


def _dumps(network: Network) -> bytes:
    tensors = _Tensors(first=2 if network.metadata else 1)
    operators: list[bytes] = []
    layers = [_layer_record(layer, operators, tensors) for layer in network.layers]
    head = PROGRAM.pack(
        len(layers),
        len(operators),
        network.timesteps,
        INPUT_CODINGS.index(network.input_coding),
        READOUTS.index(network.readout),
        network.n_in,
        network.n_out,
        0,
    )
    sections: list[_SectionContent] = [(KIND_PROGRAM, 0, (), b"".join([head, *layers, *operators]))]
    if network.metadata:
        sections.append((KIND_METADATA, 0, (), _metadata(network.metadata)))
    sections += [(KIND_TENSOR, DTYPE_CODES[array.dtype], array.shape, array.tobytes()) for array in tensors.arrays]
    return _assemble(sections)


def _metadata(metadata: Mapping[str, str]) -> bytes:
    for item in metadata.items():
        if not all(isinstance(text, str) for text in item):
            raise ImageError(f"metadata {item[0]!r} is {item[1]!r}; expected texts")
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

    def add(self, array: Array) -> int:
        """Section index of `array`."""
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        key = (little.dtype.str, little.shape, little.tobytes())
        if key not in self._index:
            self._index[key] = self.first + len(self.arrays)
            self.arrays.append(little)
        return self._index[key]


def _layer_record(layer: Layer, operators: list[bytes], tensors: _Tensors) -> bytes:
    operator = _append_operator(layer.weight, operators, tensors, MAX_DEPTH)
    bias = NONE if layer.bias is None else tensors.add(layer.bias)
    kind, fields = _find(NEURONS, layer.neuron)
    scalars = [encode(layer.neuron, name) for name in fields.scalars]
    reset = 0
    if fields.has_reset:
        reset = RESETS.index((encode(layer.neuron, "reset"), encode(layer.neuron, "reset_delay")))
    return LAYER.pack(operator, bias, kind, *_fill(scalars, 2, 0.0), reset, 0, 0)


def _append_operator(operator: WeightOperator, operators: list[bytes], tensors: _Tensors, depth: int) -> int:
    """Append an operator after its operands, and return its index."""
    if depth == 0:
        raise ImageError(f"sums are nested more than {MAX_DEPTH} deep; an image holds no more")
    kind, fields = _find(OPERATORS, operator)
    operands = [_append_operator(getattr(operator, name), operators, tensors, depth - 1) for name in fields.operands]
    arrays = [encode(operator, name) for name in (*fields.tensors, *fields.scales)]
    references = [NONE if array is None else tensors.add(array) for array in arrays]
    block = encode(operator, "block") if fields.has_block else (0, 0)
    scalars = [encode(operator, name) for name in fields.scalars]
    operators.append(
        OPERATOR.pack(
            kind,
            *operator.shape,
            *_fill(references, 4, NONE),
            *_fill(operands, 2, NONE),
            *block,
            *_fill(scalars, 4, 0.0),
            0,
        )
    )
    return len(operators) - 1


def _find(table: Sequence[Fields], owner: object) -> tuple[int, Fields]:
    """Kind and fields of an operator or a neuron model.

    Raises:
        ImageError: the format has none.
    """
    for kind, fields in enumerate(table):
        if fields.type is type(owner):
            return kind, fields
    raise ImageError(f"version {VERSION} of the image has no {type(owner).__name__}")


def _fill(values: list[Any], size: int, rest: float) -> list[Any]:
    return values + [rest] * (size - len(values))


def _assemble(sections: list[_SectionContent]) -> bytes:
    offset = HEADER.size + SECTION.size * len(sections)
    table, payloads = [], []
    for kind, dtype, shape, payload in sections:
        padding = -offset % ALIGNMENT
        offset += padding
        table.append(SECTION.pack(kind, dtype, offset, len(payload), len(shape), *shape, *(0,) * (3 - len(shape)), 0))
        payloads += [bytes(padding), payload]
        offset += len(payload)
    body = b"".join([*table, *payloads])

    def header(crc: int) -> bytes:
        return HEADER.pack(MAGIC, VERSION, HEADER.size, len(sections), HEADER.size + len(body), crc, 0)

    return header(zlib.crc32(body, zlib.crc32(header(0)))) + body
