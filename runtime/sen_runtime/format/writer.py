"""Network -> image. The same network gives the same bytes."""

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
from sen_runtime.format.records import DELTA, GRID, HEADER, NEURON, NONE, READOUT, SCALING, SECTION, WIRING
from sen_runtime.integer import check_integers
from sen_runtime.ir.checks import Array
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import WeightOperator

_Content = tuple[int, int, tuple[int, ...], bytes]  # kind, dtype, shape, payload


def write(network: Network, path: Path) -> None:
    """Write `network` to `path` atomically; raises as `dumps`, and OSError."""
    write_atomic(path, dumps(network))


def dumps(network: Network) -> bytes:
    """Image of `network`; the same network gives the same bytes.

    Refuses sums nested too deeply, sizes beyond 32 bits, metadata that is not text, and int8 activations that integers
    of 32 bits cannot compute.
    """
    check_integers(network)
    try:
        return _assemble(_content(network), records.version_of(network))
    except struct.error as error:
        raise ImageError(f"the network's sizes do not fit the image's 32-bit fields: {error}") from error


def _content(network: Network) -> list[_Content]:
    first = 2 if network.metadata else 1
    codes = {dtype: code for code, dtype in records.DTYPES.items()}
    tensors: dict[tuple[int, tuple[int, ...], bytes], int] = {}  # equal ones are stored once
    operators: list[bytes] = []

    def add(array: Array | None) -> int:
        """Section of an array."""
        if array is None:
            return NONE
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        return tensors.setdefault((codes[little.dtype], little.shape, little.tobytes()), first + len(tensors))

    def append(operator: WeightOperator, depth: int) -> int:
        """Append an operator after its operands, and return its index."""
        if depth == 0:
            raise ImageError(f"sums are nested more than {records.MAX_DEPTH} deep; an image holds no more")
        _, fields = records.find(records.OPERATORS, operator)
        operands = [append(getattr(operator, name), depth - 1) for name in fields.operands]
        references = [add(tensor) for tensor in records.tensors_of(operator)]
        operators.append(records.pack_operator(operator, references, operands))
        return len(operators) - 1

    layers, neurons, wires = [], [], []
    for layer in network.layers:
        layers.append(records.pack_layer(layer, append(layer.weight, records.MAX_DEPTH), add(layer.bias)))
        neurons.append(NEURON.pack(*(add(layer.neuron.arrays.get(name)) for name in ("beta", "threshold"))))
        recurrent = layer.recurrent
        operator = NONE if recurrent is None else append(recurrent.weight, records.MAX_DEPTH)
        delays = (layer.delay, None if recurrent is None else recurrent.delay)
        wires.append(WIRING.pack(layer.synapse, operator))
        wires += [
            records.pack_delay(delay, [add(each) for each in records.tensors_of_delay(delay)]) for delay in delays
        ]
    has_grid, has_scalings = records.tail_of(records.version_of(network))
    tail = [GRID.pack(*records.encode_grid(network.input_grid))] if has_grid else []
    if has_scalings:
        scalings = (network.input_scaling, network.output_scaling)
        pairs = [(None, None) if scaling is None else (scaling.mean, scaling.std) for scaling in scalings]
        tail.append(SCALING.pack(*(add(array) for pair in pairs for array in pair)))
        tail += neurons
    if not network.is_instant:
        tail += [*wires, READOUT.pack(network.readout_decay)]
    if network.delta:
        tail.append(DELTA.pack(network.delta))
    program = b"".join([records.pack_head(network, len(operators)), *layers, *operators, *tail])
    metadata = [(records.KIND_METADATA, 0, (), _encode_metadata(network.metadata))] if network.metadata else []
    return [(records.KIND_PROGRAM, 0, (), program), *metadata, *((records.KIND_TENSOR, *tensor) for tensor in tensors)]


def _encode_metadata(metadata: Mapping[str, str]) -> bytes:
    for name, value in metadata.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise ImageError(f"metadata {name!r} is {value!r}; expected texts")
    text = json.dumps(dict(metadata), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ImageError(f"metadata is not Unicode text: {error}") from error


def _assemble(sections: list[_Content], version: int) -> bytes:
    offset = HEADER.size + SECTION.size * len(sections)
    table, payloads = [], []
    for kind, dtype, shape, payload in sections:
        padding = -offset % records.ALIGNMENT
        offset += padding
        table.append(records.pack_section(kind, dtype, offset, len(payload), shape))
        payloads += [bytes(padding), payload]
        offset += len(payload)
    body = b"".join([*table, *payloads])

    def header(crc: int) -> bytes:
        return HEADER.pack(records.MAGIC, version, HEADER.size, len(sections), offset, crc, 0)

    return header(zlib.crc32(body, zlib.crc32(header(0)))) + body
