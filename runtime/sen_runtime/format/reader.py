"""Image -> network. Files are untrusted: the reader packs each record again, and compares it with that of the file."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sen_runtime.errors import ImageError, NetworkError
from sen_runtime.format import records
from sen_runtime.format.records import (
    DELAY,
    DELTA,
    GRID,
    HEADER,
    LAYER,
    NEURON,
    NONE,
    OPERATOR,
    PROGRAM,
    READOUT,
    SCALING,
    SECTION,
    WIRING,
)
from sen_runtime.integer import check_integers
from sen_runtime.ir.checks import Array
from sen_runtime.ir.delays import OVERFLOWS, ConstantDelay, Delay, SpatialDelay, StoredDelay
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import OUTPUT_ACTIVATIONS, READOUTS, Network
from sen_runtime.ir.neurons import Lif
from sen_runtime.ir.operators import Int4, Sparse, WeightOperator
from sen_runtime.ir.operators.sparse import ORDERS
from sen_runtime.ir.standardization import Standardization
from sen_runtime.untrusted import listing, load_json, read_regular


class _Section(NamedTuple):
    kind: int
    dtype: int
    shape: tuple[int, ...]
    payload: memoryview


class _Operator(NamedTuple):
    """An operator that none uses yet: its index in the program, its levels of sums, and itself."""

    number: int
    depth: int
    operator: WeightOperator


def read(path: Path) -> Network:
    """Read the image at `path`; an `ImageError` names the path."""
    data = read_regular(path, error=ImageError)
    with _within(f"{path}: "):
        return loads(data)


def loads(data: bytes | memoryview) -> Network:
    """The network in an image; an `ImageError` if it is not valid."""
    view = memoryview(data).cast("B").toreadonly()
    version, n_sections = _check_header(view)
    sections = _sections(view, n_sections)
    has_metadata = len(sections) > 1 and sections[1].kind == records.KIND_METADATA
    metadata = _metadata(sections[1].payload.tobytes()) if has_metadata else {}
    tensors = {
        index: _tensor(index, section) for index, section in enumerate(sections) if section.kind == records.KIND_TENSOR
    }
    return _network(sections[0].payload, version, _Tensors(tensors), metadata)


@contextmanager
def _within(where: str) -> Iterator[None]:
    """Put the place in front of errors."""
    try:
        yield
    except (NetworkError, ImageError) as error:
        raise ImageError(f"{where}{error.message}", error.hint) from error


def _check_record(layout: struct.Struct, found: memoryview, expected: bytes, what: str) -> None:
    if found != expected:
        raise ImageError(f"{what} is stored as {layout.unpack(found)}; expected {layout.unpack(expected)}")


def _check_header(view: memoryview) -> tuple[int, int]:
    """Check header, length and checksum, and return the version and the number of sections."""
    if len(view) < HEADER.size:
        raise ImageError(f"the file has {len(view)} bytes; an image has a header of {HEADER.size}")
    magic, version, _, n_sections, file_bytes, crc, _ = HEADER.unpack_from(view)
    if magic != records.MAGIC:
        raise ImageError("not a .sen image: the first 8 bytes are wrong", "export one with sen-edge export --to sen")
    if not records.VERSION <= version <= records.LATEST:
        raise ImageError(
            f"image version is {version}; expected version {records.VERSION} to {records.LATEST}",
            "update sen-edge-runtime",
        )
    expected = HEADER.pack(magic, version, HEADER.size, n_sections, file_bytes, crc, 0)
    if view[: HEADER.size] != expected:
        raise ImageError("the header has a wrong size, unknown flags or reserved bytes that are not zero")
    if file_bytes != len(view):
        raise ImageError(f"the file has {len(view)} bytes; its header says {file_bytes}", "copy it again: truncated")
    actual = zlib.crc32(view[records.CRC_OFFSET + 4 :], zlib.crc32(bytes(4), zlib.crc32(view[: records.CRC_OFFSET])))
    if crc != actual:
        raise ImageError(f"the checksum is {actual:08x}; the header says {crc:08x}", "copy it again: it is damaged")
    return int(version), int(n_sections)


def _sections(view: memoryview, n_sections: int) -> list[_Section]:
    end = HEADER.size + SECTION.size * n_sections
    if n_sections == 0 or end > len(view):
        raise ImageError(f"a table of {n_sections} sections does not fit a file of {len(view)} bytes")
    sections = []
    for index, row in enumerate(_rows(SECTION, view[HEADER.size : end])):
        kind, dtype, _, nbytes, rank, *sizes, _ = SECTION.unpack(row)
        start, shape = end + -end % records.ALIGNMENT, tuple(sizes[:rank])
        _check_record(SECTION, row, records.pack_section(kind, dtype, start, nbytes, shape), f"section {index}")
        if nbytes > len(view) - start:
            raise ImageError(f"section {index} holds {nbytes} bytes from {start}; the file ends at {len(view)}")
        if any(view[end:start]):
            raise ImageError(f"the padding before section {index} is not zero")
        if kind not in {0: (records.KIND_PROGRAM,), 1: (records.KIND_METADATA, records.KIND_TENSOR)}.get(
            index, (records.KIND_TENSOR,)
        ):
            raise ImageError(
                f"section {index} is of kind {kind}; expected the program ({records.KIND_PROGRAM}), perhaps metadata "
                f"({records.KIND_METADATA}), then tensors ({records.KIND_TENSOR})"
            )
        end = start + nbytes
        sections.append(_Section(kind, dtype, shape, view[start:end]))
    if end != len(view):
        raise ImageError(f"{len(view) - end} bytes follow the last section")
    for section, what in zip(sections, ("program", "metadata")):
        if section.kind != records.KIND_TENSOR and (section.dtype or section.shape):
            raise ImageError(f"the {what} section has a dtype or a shape")
    return sections


def _rows(layout: struct.Struct, view: memoryview) -> Iterator[memoryview]:
    return (view[at : at + layout.size] for at in range(0, len(view), layout.size))


def _metadata(content: bytes) -> dict[str, str]:
    values = load_json(content, "the metadata", error=ImageError)
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise ImageError("the metadata is not an object of texts")
    return values


def _tensor(index: int, section: _Section) -> Array:
    dtype = records.DTYPES.get(section.dtype)
    if dtype is None:
        raise ImageError(f"section {index} has the unknown dtype {section.dtype}")
    found, expected = len(section.payload), dtype.itemsize * math.prod(section.shape)
    if not section.shape or expected != found:
        raise ImageError(f"section {index} holds {found} bytes; its shape {list(section.shape)} needs {expected}")
    try:
        return np.frombuffer(section.payload, dtype).reshape(section.shape)
    except ValueError as error:  # no bytes, but sizes whose product numpy cannot count
        raise ImageError(f"section {index} has the shape {list(section.shape)}: {error}") from error


class _Tensors:
    """Tensors by section index, and which are not used yet."""

    def __init__(self, tensors: dict[int, Array]) -> None:
        self.tensors = tensors
        self.unused = set(tensors)

    def take(self, index: int) -> Array:
        if index not in self.tensors:
            raise ImageError(f"section {index} is asked for as a tensor; the tensors are {listing(self.tensors)}")
        self.unused.discard(index)
        return self.tensors[index]


def _network(program: memoryview, version: int, tensors: _Tensors, metadata: dict[str, str]) -> Network:
    head, layer_records, operator_records, grid, scaling, neurons, wiring, decay, delta = _records(program, version)
    n_layers, n_operators, timesteps, coding, readout, _, _, activation = PROGRAM.unpack(head)
    with _within("the input: "):
        input_grid = _input_grid(grid, version)
    operators = iter(_operators(_rows(OPERATOR, operator_records), tensors))
    layers = []
    each = list(_rows(NEURON, neurons)) or [memoryview(NEURON.pack(NONE, NONE))] * n_layers
    wires = list(_rows(_WIRES, wiring)) or [memoryview(b"")] * n_layers
    for index, (record, neuron, wire) in enumerate(zip(_rows(LAYER, layer_records), each, wires)):
        with _within(f"layer {index}: "):
            layers.append(_wired(_layer(record, _next(operators), neuron, tensors), wire, operators, tensors))
    if rest := [each.number for each in operators]:
        raise ImageError(f"the operators [{listing(rest)}] belong to no layer")
    ends = _scaling("input", scaling[:8], tensors), _scaling("output", scaling[8:], tensors)
    if tensors.unused:
        raise ImageError(f"sections [{listing(sorted(tensors.unused))}] belong to no layer")
    codings = records.INPUT_CODINGS if version >= records.VERSION_WITH_SCALINGS else records.FIRST_CODINGS
    coding, readout = _pick(codings, coding, "input coding"), _pick(READOUTS, readout, "readout")
    activation = _pick(OUTPUT_ACTIVATIONS, activation, "output activation") if scaling else "none"
    with _within(""):
        change = DELTA.unpack(delta)[0] if delta else 0.0
        network = Network(
            tuple(layers), timesteps, coding, readout, metadata, input_grid, *ends, activation, change,
            readout_decay=READOUT.unpack(decay)[0] if decay else 1.0,
        )  # fmt: skip
        check_integers(network)
    if version != (expected := records.version_of(network)):
        raise ImageError(f"the image has version {version}; its network is stored as version {expected}")
    _check_record(PROGRAM, head, records.pack_head(network, n_operators), "the head of the program")
    return network


def _records(program: memoryview, version: int) -> list[memoryview]:
    """Head, layers, operators, grid of the input, scaling, neurons, wiring, decay, delta; empty where there is none."""
    if len(program) < PROGRAM.size:
        raise ImageError(f"the program has {len(program)} bytes; expected at least {PROGRAM.size}")
    n_layers, n_operators, _, coding, *_ = PROGRAM.unpack_from(program)
    has_grid, has_scalings = records.tail_of(version)
    has_delta = has_scalings and records.INPUT_CODINGS[coding : coding + 1] == ("delta",)
    neurons = NEURON.size * n_layers * has_scalings
    has_wiring = version == records.VERSION_WITH_DELAYS
    wiring, decay = _WIRES.size * n_layers * has_wiring, READOUT.size * has_wiring
    tail = [GRID.size * has_grid, SCALING.size * has_scalings, neurons, wiring, decay, DELTA.size * has_delta]
    sizes = [PROGRAM.size, LAYER.size * n_layers, OPERATOR.size * n_operators, *tail]
    if len(program) != sum(sizes):
        raise ImageError(
            f"the program has {len(program)} bytes; {n_layers} layers, {n_operators} operators need {sum(sizes)}"
        )
    return [program[end - size : end] for size, end in zip(sizes, accumulate(sizes))]


def _input_grid(record: memoryview, version: int) -> Grid | None:
    if not record:
        return None
    grid = records.decode_grid(*GRID.unpack(record))
    if grid is None and version == records.VERSION_WITH_GRIDS:
        raise ImageError(f"an image of version {version} has no grid of the input")
    _check_record(GRID, record, GRID.pack(*records.encode_grid(grid)), "the grid")
    return grid


def _scaling(what: str, references: memoryview, tensors: _Tensors) -> Standardization | None:
    mean, std = struct.unpack("<2I", references) if references else (NONE, NONE)
    if mean == std == NONE:
        return None
    with _within(f"the {what} scaling: "):
        return Standardization(tensors.take(mean), tensors.take(std))


def _operators(rows: Iterator[memoryview], tensors: _Tensors) -> list[_Operator]:
    """Operators that are not operands of others.

    They are in post-order and each is used once: no cycles, and no small file that expands to a huge tree.
    """
    stack: list[_Operator] = []
    for index, record in enumerate(rows):
        with _within(f"operator {index}: "):
            stack.append(_operator(index, record, stack, tensors))
    return stack


def _operator(index: int, record: memoryview, stack: list[_Operator], tensors: _Tensors) -> _Operator:
    """Operator of a record; its operands are removed from the stack."""
    kind, n_out, n_in, *rest = OPERATOR.unpack(record)
    block, scalars = tuple(rest[6:8]), rest[8:12]
    fields = _pick(records.OPERATORS, kind, "operator kind")
    names, first = (*fields.tensors, *fields.scales), len(stack) - len(fields.operands)
    if first < 0:
        raise ImageError(f"its operands {rest[4:6]} do not precede it")
    operands, references = stack[first:], rest[: len(names)]
    del stack[first:]
    values: dict[str, Any] = {name: operand.operator for name, operand in zip(fields.operands, operands)}
    for name, reference in zip(names, references):
        is_left_out = name in fields.scales and reference == NONE
        values[name] = None if is_left_out else tensors.take(reference)
    values.update((name, records.decode(name, scalar)) for name, scalar in zip(fields.scalars, scalars))
    pairs = zip(scalars[len(fields.scalars) :: 2], scalars[len(fields.scalars) + 1 :: 2])
    values.update((name, records.decode_grid(*pair)) for name, pair in zip(fields.grids, pairs))
    operator: WeightOperator
    if fields.type is Sparse:
        order = _pick(ORDERS, rest[12], "order of sparse weights")
        operator = records.sparse_of(**values, shape=(n_out, n_in), block=block, order=order)
    elif fields.type is Int4:
        operator = Int4.from_packed(**values, n_in=n_in)
    else:
        operator = fields.type(**values)
    expected = records.pack_operator(operator, references, [operand.number for operand in operands])
    _check_record(OPERATOR, record, expected, fields.type.__name__)
    depth = 1 + max((operand.depth for operand in operands), default=0)
    if depth > records.MAX_DEPTH:
        raise ImageError(f"it is nested more than {records.MAX_DEPTH} deep")
    return _Operator(index, depth, operator)


def _layer(record: memoryview, operator: _Operator, neuron: memoryview, tensors: _Tensors) -> Layer:
    _, bias, kind, *scalars, reset, grid_scale, zero_point = LAYER.unpack(record)
    fields = _pick(records.NEURONS, kind, "neuron kind")
    values: dict[str, Any] = dict(zip(fields.scalars, scalars))
    references = dict(zip(("beta", "threshold"), NEURON.unpack(neuron)))
    for name, reference in references.items():
        if reference != NONE and name not in values:
            raise ImageError(f"{fields.type.__name__} neurons have no {name}")
        if reference != NONE:
            values[name] = tensors.take(reference)
    if fields.type is Lif:
        values["reset"], values["reset_delay"] = _pick(records.RESETS, reset, "reset")
    grid = records.decode_grid(grid_scale, zero_point)
    layer = Layer(operator.operator, None if bias == NONE else tensors.take(bias), fields.type(**values), grid)
    what = f"operator {operator.number} with {fields.type.__name__} neurons"
    _check_record(LAYER, record, records.pack_layer(layer, operator.number, bias), what)
    return layer


#: Records of a layer in the wiring: that of its synapses, its delays, and its recurrent delays.
_WIRES = struct.Struct(f"<{WIRING.size + 2 * DELAY.size}s")


def _next(operators: Iterator[_Operator]) -> _Operator:
    operator = next(operators, None)
    if operator is None:
        raise ImageError("it has no operator")
    return operator


def _wired(layer: Layer, record: memoryview, operators: Iterator[_Operator], tensors: _Tensors) -> Layer:
    """Layer with the delays, recurrent synapses and synaptic current of its record, empty for none of them."""
    if not record:
        return layer
    synapse, number = WIRING.unpack_from(record)
    delay, later = (_delay(each, tensors) for each in _rows(DELAY, record[WIRING.size :]))
    recurrent = None
    if number != NONE:
        operator = _next(operators)
        if operator.number != number:
            raise ImageError(f"its recurrent operator is {number}; expected {operator.number}")
        if later is None:
            raise ImageError("its recurrent synapses have no delay")
        recurrent = Recurrence(operator.operator, later)
    elif later is not None:
        raise ImageError("it has recurrent delays, but no recurrent operator")
    return replace(layer, delay=delay, recurrent=recurrent, synapse=synapse)


def _delay(record: memoryview, tensors: _Tensors) -> Delay | None:
    kind, value, first, second, *scalars, overflow, shift = DELAY.unpack(record)
    delay: Delay | None = None
    kind = _pick(records.DELAYS, kind, "kind of delay")
    if kind is ConstantDelay:
        delay = ConstantDelay(value)
    elif kind is StoredDelay:
        delay = StoredDelay(tensors.take(first))
    elif kind is SpatialDelay:
        scale, softening, limit = scalars
        named = _pick(OVERFLOWS, overflow, "overflow of delays")
        delay = SpatialDelay(tensors.take(first), tensors.take(second), scale, softening, limit, named, shift)
    _check_record(DELAY, record, records.pack_delay(delay, (first, second)), "its delay")
    return delay


def _pick(choices: Sequence[Any], index: int, what: str) -> Any:
    if index >= len(choices):
        raise ImageError(f"{what} is {index}; expected 0 to {len(choices) - 1}")
    return choices[index]
