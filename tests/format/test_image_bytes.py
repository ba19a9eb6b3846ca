"""The .sen image byte for byte, and the page that documents it."""

import re
import struct
import zlib

import numpy as np
import pytest

from sen_runtime import format as image
from sen_runtime.format import records
from sen_runtime.ir.delays import OVERFLOWS
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import OUTPUT_ACTIVATIONS, READOUTS, Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum
from sen_runtime.ir.operators.sparse import ORDERS
from tests.support.images import (
    MAGIC,
    NONE,
    PAGE,
    TINY,
    assemble,
    assert_same,
    f32,
    i32,
    layer,
    operator,
    program,
)


def test_multilayer_perceptron_byte_for_byte():
    metadata = '{"a":"1","b":"é"}'.encode()
    expected = (
        MAGIC
        + struct.pack("<HHIQII", 1, 64, 4, 516, 0, 0)
        + bytes(32)
        + struct.pack("<IIQQIIIIQ", 1, 0, 256, 128, 0, 0, 0, 0, 0)
        + struct.pack("<IIQQIIIIQ", 2, 0, 384, len(metadata), 0, 0, 0, 0, 0)
        + struct.pack("<IIQQIIIIQ", 3, 2, 448, 4, 2, 1, 2, 0, 0)
        + struct.pack("<IIQQIIIIQ", 3, 1, 512, 4, 1, 1, 0, 0, 0)
        + struct.pack("<8I", 1, 1, 0, 0, 0, 2, 1, 0)
        + struct.pack("<3I2f3I", 0, 3, 0, 0.0, 0.0, 0, 0, 0)
        + struct.pack("<3I4I2I2I4fI", 1, 1, 2, 2, NONE, NONE, NONE, NONE, NONE, 0, 0, 0.0, 0.0, 0.0, 0.0, 0)
        + metadata
        + bytes(448 - 384 - len(metadata))
        + struct.pack("<2e", 0.5, -2.0)
        + bytes(512 - 452)
        + struct.pack("<f", 1.5)
    )
    expected = expected[:24] + struct.pack("<I", zlib.crc32(expected)) + expected[28:]
    weights = Dense(np.array([[0.5, -2.0]], np.float16))
    network = Network((Layer(weights, f32(1.5), Identity()),), metadata={"b": "é", "a": "1"})
    assert image.dumps(network) == expected
    assert_same(image.loads(expected), network)


@pytest.mark.parametrize(("max_distance", "stored"), [(np.inf, 0.0), (1.75, 1.75)])
def test_spiking_network_with_every_operator_byte_for_byte(max_distance, stored):
    source, target, mask = f32([0, 0], [1, 0]), f32([0, 2], [1, 2], [2, 2]), f32(1, -0.5)
    left, right = np.array([[1], [2]], np.float16), np.array([[1, 0, 3]], np.float16)
    values, columns, row_starts, bias = f32([1, 2, 3, 0], [4, 5, 6, 0]), i32(0, 1), i32(0, 2), f32(7, 8)
    values[1] = [4, 0, 5, 0]  # a 2x2 block that reaches one column beyond the matrix
    sum_of = Sum(LowRank(left, right), Sparse(values, columns, row_starts, (2, 3), (2, 2)))
    network = Network(
        (
            Layer(Coordinates(source, target, mask, 2.0, 1.5, 0.25, max_distance), None, Lif(0.5, 0.75, "zero")),
            Layer(sum_of, bias, Lif(0.25)),
            Layer(Dense(f32([1, 1])), None, LeakyIntegrator(1.0)),
        ),
        timesteps=9,
        input_coding="spikes",
        readout="last_membrane",
    )
    layers = [
        layer(0, NONE, neuron=2, beta=0.5, threshold=0.75, reset=1),
        layer(3, 9, neuron=2, beta=0.25, threshold=1.0, reset=0),
        layer(4, NONE, neuron=3, beta=1.0),
    ]
    operators = [
        operator(0, 3, 2, (1, 2, 3), scalars=(2.0, 1.5, 0.25, stored)),
        operator(3, 2, 3, (4, 5)),
        operator(2, 2, 3, (6, 7, 8), block=(2, 2)),
        operator(4, 2, 3, operands=(1, 2)),
        operator(1, 1, 2, (10,)),
    ]
    tensors = [source, target, mask, left, right, values, columns.astype(np.uint16), row_starts, bias, f32([1, 1])]
    expected = assemble(program(2, 1, layers, operators, timesteps=9, coding=1, readout=1), tensors)
    assert image.dumps(network) == expected
    assert_same(image.loads(expected), network)


def test_int8_activations_byte_for_byte():
    """Version 2: grids in the records of layers and operators, that of the input behind them."""
    w, one = np.array([[1, -2]], np.int8), f32(1)
    leaf = operator(3, 1, 2, (2, 1, 3, 3), scalars=(0.5, 3))
    dense = operator(1, 1, 2, (1, 3))
    both = operator(4, 1, 2, operands=(0, 1), scalars=(1.0, -4, 2.0, 5))
    records_ = program(2, 1, [layer(2, 4, neuron=1, grid=(0.25, -128))], [leaf, dense, both])
    expected = assemble(records_ + struct.pack("<fi", 2.0, -7), [w, np.array([[1]], np.int8), one, f32(3)], version=2)
    low_rank = LowRank(np.array([[1]], np.int8), w, one, one, Grid(0.5, 3))
    weight = Sum(low_rank, Dense(w, one), Grid(1.0, -4), Grid(2.0, 5))
    network = Network((Layer(weight, f32(3), Relu(), Grid(0.25, -128)),), input_grid=Grid(2.0, -7))
    assert_same(image.loads(expected), network)
    stored = image.dumps(network)
    assert (len(stored), image.dumps(image.loads(expected))) == (len(expected), stored)


def test_sparse_weights_by_source_byte_for_byte():
    """Version 3: blocks of 2x2 by block column, the last of which reaches beyond the matrix."""
    weight = Sparse(
        f32([1, 2, 3, 4], [5, 0, 6, 0], [7, 8, 9, 10]), i32(0, 1, 0), i32(0, 2, 3), (4, 3), (2, 2), order="sources"
    )
    network = Network((Layer(weight, None, Relu()),))
    tensors = [f32([1, 2, 3, 4], [7, 8, 9, 10], [5, 0, 6, 0]), np.array([0, 1, 0], np.uint16), i32(0, 2, 3)]
    record = operator(2, 4, 3, (1, 2, 3), block=(2, 2), order=1)
    expected = assemble(program(3, 4, [layer(neuron=1)], [record]), tensors, version=3)
    assert image.dumps(network) == expected
    assert_same(image.loads(expected), network)


def test_example_of_the_page_is_what_the_code_writes():
    """Lines `offset  bytes  meaning`, where `n x 00` stands for n zeros."""
    data = b""
    for line in re.findall(r"^[0-9a-f]{4}  .*", PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        offset, content = line.split("  ")[:2]
        assert int(offset, 16) == len(data), line
        zeros = re.fullmatch(r"(\d+) x 00", content)
        data += bytes(int(zeros[1])) if zeros else bytes.fromhex(content)
    assert data == TINY


@pytest.mark.parametrize(
    "name",
    ["header", "section", "program", "layer", "operator", "grid", "scaling", "neuron", "wiring", "delay", "readout"],
)
def test_tables_of_the_page_are_the_records_of_the_code(name):
    text = PAGE.read_text(encoding="utf-8").split(f"<!-- {name} -->")[1].split("\n\n")[1]
    codes = {"u8": "s", "u16": "H", "u32": "I", "u64": "Q", "i32": "i", "f32": "f"}
    record, offsets = "<", []
    for row in text.splitlines()[2:]:
        offset, kind, field = (cell.strip(" `") for cell in row.split("|")[1:4])
        word, count = re.fullmatch(r"(\w+?)(?:\[(\d+)\])?", kind).groups()
        offsets.append((int(offset), struct.calcsize(record)))
        record += (count or "") + ("x" if word == "u8" and field == "reserved" else codes[word])
    assert all(told == counted for told, counted in offsets)
    written_out = re.sub(r"(\d+)([HIQfi])", lambda m: int(m[1]) * m[2], getattr(records, name.upper()).format)
    assert re.sub(r"(\d+)([HIQfi])", lambda m: int(m[1]) * m[2], record) == written_out


def test_enumerations_of_the_page_are_those_of_the_code():
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([\w ]+) \| (0 .*|1 .*) \|$", text, re.MULTILINE))
    listed = {name: dict(re.findall(r"(\d+) `(\w+)`", row)) for name, row in rows.items()}

    def numbered(values, first=0):
        return {str(index): value for index, value in enumerate(values, first)}

    assert listed == {
        "section kind": numbered(["program", "metadata", "tensor"], 1),
        "dtype": {str(code): str(dtype) for code, dtype in records.DTYPES.items()},
        "operator kind": numbered(fields.type.__name__ for fields in records.OPERATORS),
        "neuron kind": numbered(fields.type.__name__ for fields in records.NEURONS),
        "order": numbered(ORDERS),
        "reset": numbered(reset for reset, _ in records.RESETS),
        "delay": numbered((kind.__name__ for kind in records.DELAYS[1:]), 1),
        "overflow": numbered(OVERFLOWS),
        "input coding": numbered(records.INPUT_CODINGS),
        "readout": numbered(READOUTS),
        "output activation": numbered(OUTPUT_ACTIVATIONS),
    }
