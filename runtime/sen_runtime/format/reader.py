"""Image -> network; the file is untrusted."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np

from sen_runtime.errors import ImageError, NetworkError
from sen_runtime.format.layout import (
    ALIGNMENT,
    CRC_OFFSET,
    DTYPES,
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
from sen_runtime.format.records import NEURONS, OPERATORS, RESETS, decode
from sen_runtime.ir.checks import Array
from sen_runtime.ir.network import INPUT_CODINGS, READOUTS, Layer, Network
from sen_runtime.ir.operators import WeightOperator
from sen_runtime.untrusted import listing, load_json, read_regular

Buffer = Union[bytes, memoryview]


@dataclass(frozen=True)
class Section:
    """One row of the section table."""

    kind: int
    dtype: int
    offset: int
    nbytes: int
    shape: tuple[int, ...]


def read(path: Path) -> Network:
    """Read the image at `path`.

    Raises:
        ImageError: the file cannot be read, or is not an image; the message names the path.
    """
    data = read_regular(path, error=ImageError)
    try:
        return loads(data)
    except ImageError as error:
        raise ImageError(f"{path}: {error.message}", error.hint) from error


def loads(data: Buffer) -> Network:
    """The network in an image.

    Raises:
        ImageError: it is not a valid image.
    """
    view = memoryview(data).cast("B").toreadonly()
    sections = _sections(view, _check_header(view))
    if sections[0].dtype != 0 or sections[0].shape:
        raise ImageError("the program section has a dtype or a shape")
    program = view[sections[0].offset : sections[0].offset + sections[0].nbytes]
    has_metadata = len(sections) > 1 and sections[1].kind == KIND_METADATA
    metadata = _metadata(view, sections[1]) if has_metadata else {}
    tensors = {
        index: _tensor(view, index, section) for index, section in enumerate(sections) if section.kind == KIND_TENSOR
    }
    return _network(program, tensors, metadata)


def _check_header(view: memoryview) -> int:
    """Check header, length and checksum, and return the number of sections."""
    if len(view) < HEADER.size:
        raise ImageError(f"the file has {len(view)} bytes; an image has a header of {HEADER.size}")
    magic, version, header_bytes, n_sections, file_bytes, crc, flags = HEADER.unpack_from(view)
    if magic != MAGIC:
        raise ImageError(
            "not a .sen image: the first eight bytes are wrong", "export one with sen-edge export --to sen"
        )
    if version != VERSION:
        raise ImageError(f"image version is {version}; this runtime reads version {VERSION}", "update sen-edge-runtime")
    if header_bytes != HEADER.size or flags != 0 or any(view[32 : HEADER.size]):
        raise ImageError("the header has a wrong size, unknown flags or reserved bytes that are not zero")
    if file_bytes != len(view):
        raise ImageError(
            f"the file has {len(view)} bytes; its header says {file_bytes}", "copy it again: it is truncated"
        )
    actual = zlib.crc32(view[CRC_OFFSET + 4 :], zlib.crc32(bytes(4), zlib.crc32(view[:CRC_OFFSET])))
    if crc != actual:
        raise ImageError(f"the checksum is {actual:08x}; the header says {crc:08x}", "copy it again: it is damaged")
    return int(n_sections)


def _sections(view: memoryview, n_sections: int) -> list[Section]:
    end = HEADER.size + SECTION.size * n_sections
    if n_sections == 0 or end > len(view):
        raise ImageError(f"a table of {n_sections} sections does not fit a file of {len(view)} bytes")
    sections = []
    for index in range(n_sections):
        kind, dtype, offset, nbytes, rank, *shape, reserved = SECTION.unpack_from(
            view, HEADER.size + SECTION.size * index
        )
        if rank > 3 or any(shape[rank:]) or reserved != 0:
            raise ImageError(f"section {index}: rank {rank}, shape {shape} or reserved bytes are wrong")
        start = end + -end % ALIGNMENT
        if offset != start:
            raise ImageError(f"section {index} is at {offset}; expected {start}, the next multiple of {ALIGNMENT}")
        if nbytes > len(view) - offset:
            raise ImageError(f"section {index} holds {nbytes} bytes from {offset}; the file ends at {len(view)}")
        if any(view[end:offset]):
            raise ImageError(f"the padding before section {index} is not zero")
        _check_kind(index, kind)
        sections.append(Section(kind, dtype, offset, nbytes, tuple(shape[:rank])))
        end = offset + nbytes
    if end != len(view):
        raise ImageError(f"{len(view) - end} bytes follow the last section")
    return sections


def _check_kind(index: int, kind: int) -> None:
    allowed = {0: (KIND_PROGRAM,), 1: (KIND_METADATA, KIND_TENSOR)}.get(index, (KIND_TENSOR,))
    if kind not in allowed:
        raise ImageError(
            f"section {index} is of kind {kind}; expected the program ({KIND_PROGRAM}), perhaps metadata "
            f"({KIND_METADATA}), then tensors ({KIND_TENSOR})"
        )


def _metadata(view: memoryview, section: Section) -> dict[str, str]:
    if section.dtype != 0 or section.shape:
        raise ImageError("the metadata section has a dtype or a shape")
    content = view[section.offset : section.offset + section.nbytes].tobytes()
    values = load_json(content, "the metadata", error=ImageError)
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise ImageError("the metadata is not an object of texts")
    return values


def _tensor(view: memoryview, index: int, section: Section) -> Array:
    dtype = DTYPES.get(section.dtype)
    if dtype is None:
        raise ImageError(f"section {index} has the unknown dtype {section.dtype}")
    expected = dtype.itemsize
    for size in section.shape:
        expected *= size
    if not section.shape or expected != section.nbytes:
        raise ImageError(
            f"section {index} holds {section.nbytes} bytes; its shape {list(section.shape)} needs {expected}"
        )
    flat = np.frombuffer(view[section.offset : section.offset + section.nbytes], dtype)
    try:
        return flat.reshape(section.shape)
    except ValueError as error:  # no bytes, but sizes whose product numpy cannot count
        raise ImageError(f"section {index} has the shape {list(section.shape)}: {error}") from error


def _network(program: memoryview, tensors: dict[int, Array], metadata: dict[str, str]) -> Network:
    if len(program) < PROGRAM.size:
        raise ImageError(f"the program has {len(program)} bytes; expected at least {PROGRAM.size}")
    n_layers, n_operators, timesteps, coding, readout, n_in, n_out, reserved = PROGRAM.unpack_from(program)
    expected = PROGRAM.size + LAYER.size * n_layers + OPERATOR.size * n_operators
    if len(program) != expected or reserved != 0:
        raise ImageError(
            f"the program has {len(program)} bytes; {n_layers} layers and {n_operators} operators need {expected}"
        )
    unused = _Unused(tensors)
    start = PROGRAM.size + LAYER.size * n_layers
    operators = _operators(
        [OPERATOR.unpack_from(program, start + OPERATOR.size * i) for i in range(n_operators)], unused
    )
    layers = []
    for index in range(n_layers):
        record = LAYER.unpack_from(program, PROGRAM.size + LAYER.size * index)
        try:
            layers.append(_layer(record, operators, unused))
        except (NetworkError, ImageError) as error:
            raise ImageError(f"layer {index}: {error.message}", error.hint) from error
    if operators or unused.names:
        raise ImageError(
            f"operators [{listing(operators)}] and sections [{listing(sorted(unused.names))}] belong to no layer"
        )
    try:
        network = Network(
            tuple(layers),
            timesteps,
            _word(INPUT_CODINGS, coding, "input coding"),
            _word(READOUTS, readout, "readout"),
            metadata,
        )
    except NetworkError as error:
        raise ImageError(error.message, error.hint) from error
    if (network.n_in, network.n_out) != (n_in, n_out):
        raise ImageError(f"the program says {n_in} inputs, {n_out} outputs; its layers {network.n_in}, {network.n_out}")
    return network


class _Unused:
    """Tensors by section index, and which are not used yet."""

    def __init__(self, tensors: dict[int, Array]) -> None:
        self.tensors = tensors
        self.names = set(tensors)

    def take(self, index: int) -> Array:
        """The tensor at a section index."""
        if index not in self.tensors:
            raise ImageError(f"section {index} is asked for as a tensor; the tensors are {listing(self.tensors)}")
        self.names.discard(index)
        return self.tensors[index]


def _operators(records: list[tuple[Any, ...]], tensors: _Unused) -> dict[int, WeightOperator]:
    """Operators by index, without operands of others.

    They are in post-order and each is used once: no cycles, and no small file that expands to a huge tree.
    """
    free: dict[int, WeightOperator] = {}
    depths: dict[int, int] = {}
    for index, record in enumerate(records):
        try:
            operator, operands = _operator(record, free, tensors)
        except (NetworkError, ImageError) as error:
            raise ImageError(f"operator {index}: {error.message}", error.hint) from error
        if operator.shape != record[1:3]:
            raise ImageError(f"operator {index} says {list(record[1:3])}; its tensors give {list(operator.shape)}")
        depths[index] = 1 + max((depths[operand] for operand in operands), default=0)
        if depths[index] > MAX_DEPTH:
            raise ImageError(f"operator {index} is nested more than {MAX_DEPTH} deep")
        for operand in operands:
            del free[operand]
        free[index] = operator
    return free


def _operator(
    record: tuple[Any, ...], free: dict[int, WeightOperator], tensors: _Unused
) -> tuple[WeightOperator, tuple[int, ...]]:
    """Operator of a record, and the indices of its operands."""
    kind, n_out, n_in, *rest = record
    references, operands, block, scalars, reserved = rest[:4], rest[4:6], rest[6:8], rest[8:12], rest[12]
    fields = OPERATORS[_index(OPERATORS, kind, "operator kind")]
    names = (*fields.tensors, *fields.scales)
    unused_fields = [
        *(reference != NONE for reference in references[len(names) :]),
        *(operand != NONE for operand in operands[len(fields.operands) :]),
        *scalars[len(fields.scalars) :],
        not fields.has_block and block != [0, 0],
        reserved,
    ]
    if any(unused_fields):
        raise ImageError(f"fields that a {fields.type.__name__} does not use are set")
    if fields.operands and operands != list(free)[-len(fields.operands) :]:
        raise ImageError(f"operands {operands} must be the two before it that nothing uses yet, in order")
    values: dict[str, Any] = {name: free[operand] for name, operand in zip(fields.operands, operands)}
    for name, reference in zip(names, references):
        is_left_out = name in fields.scales and reference == NONE
        values[name] = None if is_left_out else decode(name, tensors.take(reference))
    values.update((name, decode(name, scalar)) for name, scalar in zip(fields.scalars, scalars))
    if fields.has_block:
        values.update(shape=(n_out, n_in), block=tuple(block))
    return fields.type(**values), tuple(operands[: len(fields.operands)])


def _layer(record: tuple[Any, ...], operators: dict[int, WeightOperator], tensors: _Unused) -> Layer:
    operator, bias, kind, beta, threshold, reset, *reserved = record
    if operator != next(iter(operators), None):
        raise ImageError(f"operator {operator} does not exist, is used elsewhere, or not in the order of the layers")
    fields, scalars = NEURONS[_index(NEURONS, kind, "neuron kind")], (beta, threshold)
    if any((*reserved, *scalars[len(fields.scalars) :], not fields.has_reset and reset)):
        raise ImageError(f"fields that {fields.type.__name__} neurons do not use are set")
    values = {name: decode(name, scalar) for name, scalar in zip(fields.scalars, scalars)}
    if fields.has_reset:
        values["reset"], values["reset_delay"] = RESETS[_index(RESETS, reset, "reset")]
    neuron = fields.type(**values)
    return Layer(operators.pop(operator), None if bias == NONE else tensors.take(bias), neuron)


def _index(choices: tuple[Any, ...], index: int, what: str) -> int:
    if index >= len(choices):
        raise ImageError(f"{what} is {index}; expected 0 to {len(choices) - 1}")
    return index


def _word(words: tuple[str, ...], index: int, what: str) -> str:
    return words[_index(words, index, what)]
