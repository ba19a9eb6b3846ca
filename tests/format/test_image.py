"""The .sen image: exact bytes and round trips."""

import json
import re
import struct
import zlib
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_exporters.base import ExportError
from sen_exporters.sen.exporter import SenExporter, SenOptions
from sen_runtime import format as image
from sen_runtime.errors import ImageError
from sen_runtime.format import records
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.network import MAX_TIMESTEPS, OUTPUT_ACTIVATIONS, READOUTS, Layer, Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum
from sen_runtime.ir.operators.sparse import ORDERS
from tests.support.images import (
    MAGIC,
    NONE,
    PAGE,
    SAMPLE,
    TINY,
    assemble,
    assert_round_trip,
    assert_same,
    f32,
    i32,
    layer,
    operator,
    program,
    sample,
    section_rows,
    tiny,
)
from tests.support.networks import KINDS, by_source, random_input, random_network


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


@pytest.mark.parametrize("name", ["header", "section", "program", "layer", "operator", "grid", "scaling", "neuron"])
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
        "input coding": numbered(records.INPUT_CODINGS),
        "readout": numbered(READOUTS),
        "output activation": numbered(OUTPUT_ACTIVATIONS),
    }


def test_equal_arrays_are_stored_once():
    shared = f32([1, 2], [3, 4])
    again = Network((Layer(Dense(shared), None, Relu()), Layer(Dense(shared.copy()), None, Identity())))
    assert len(section_rows(image.dumps(again))) == 2
    other_type = replace(again, layers=(again.layers[0], replace(again.layers[1], weight=Dense(shared.astype("f2")))))
    assert len(section_rows(image.dumps(other_type))) == 3


def test_sections_start_at_multiples_of_64_and_lie_close():
    end = 64 + 48 * len(section_rows(SAMPLE))
    for offset, size in section_rows(SAMPLE):
        assert offset % 64 == 0
        assert end <= offset < end + 64
        end = offset + size
    assert end == len(SAMPLE)


# There and back


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_operator_round_trip(kind, dtype):
    rng = np.random.default_rng(1)
    network = random_network(rng, sizes=(5, 7, 3), kinds=(kind,), dtype=dtype)
    assert_round_trip(network)
    assert_round_trip(by_source(network))


@pytest.mark.parametrize(("reset", "readout", "coding"), [*product(records.RESETS, READOUTS, records.FIRST_CODINGS)])
def test_spiking_network_round_trip(reset, readout, coding):
    rng = np.random.default_rng(2)
    assert_round_trip(
        random_network(
            rng,
            spiking=True,
            sizes=(4, 6, 2),
            reset=reset[0],
            reset_delay=reset[1],
            readout=readout,
            input_coding=coding,
        )
    )


@pytest.mark.parametrize(
    "metadata",
    [{}, {"": ""}, {"a": "1", "b": 'x\n"\\\0'}, {"héllo": "日本 🎉"}],
    ids=["none", "empty", "escapes", "unicode"],
)
def test_metadata_round_trip(metadata):
    assert_round_trip(replace(tiny(), metadata=metadata))


def test_order_of_metadata_does_not_matter():
    one, two = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    assert image.dumps(replace(tiny(), metadata=one)) == image.dumps(replace(tiny(), metadata=two))


def test_arrays_without_values_come_back():
    nothing = Sparse.from_dense(np.zeros((3, 2), np.float32))
    loaded = assert_round_trip(Network((Layer(nothing, None, Identity()),)))
    assert loaded.layers[0].weight.to_dense().tolist() == [[0, 0]] * 3


def test_bits_are_kept():
    weights = f32([-0.0, np.finfo("f4").tiny / 4, np.finfo("f4").max])
    assert_round_trip(Network((Layer(Dense(weights), None, Identity()),)))


def test_arrays_are_views_that_cannot_be_written():
    data = bytearray(TINY)
    loaded = image.loads(memoryview(data)).layers[0]
    assert not loaded.weight.w.flags.writeable
    data[section_rows(TINY)[1][0] + 3] ^= 0x80  # the sign of the first weight
    assert loaded.weight.w.tolist() == [[-0.5, -2.0]]


def test_arrays_in_another_order_are_written_in_rows():
    weights = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert image.loads(image.dumps(Network((Layer(Dense(weights), None, Identity()),)))).layers[
        0
    ].weight.w.tolist() == [[0, 1, 2], [3, 4, 5]]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    spiking=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float16]),
    coding=st.sampled_from(records.FIRST_CODINGS),
    readout=st.sampled_from(READOUTS),
    reset=st.sampled_from(records.RESETS),
    timesteps=st.integers(1, MAX_TIMESTEPS),
    metadata=st.dictionaries(st.text(), st.text(), max_size=3),
)
def test_network_round_trip(seed, spiking, dtype, coding, readout, reset, timesteps, metadata):
    network = random_network(
        np.random.default_rng(seed),
        spiking=spiking,
        dtype=dtype,
        input_coding=coding,
        readout=readout,
        reset=reset[0],
        reset_delay=reset[1],
        timesteps=timesteps,
    )
    network = replace(network, metadata=metadata)
    loaded = assert_round_trip(network)
    for before, after in zip(network.layers, loaded.layers, strict=True):
        np.testing.assert_array_equal(before.weight.to_dense(), after.weight.to_dense())


# What cannot be written


def nested(levels):
    weight = Dense(f32([1]))
    for _ in range(levels - 1):
        weight = Sum(weight, Dense(f32([1])))
    return Network((Layer(weight, None, Identity()),))


def no_blocks(shape, block):
    grid = -(-shape[0] // block[0])
    return Sparse(np.zeros((0, block[0] * block[1]), "f4"), i32(), np.zeros(grid + 1, np.int32), shape, block)


def test_sums_may_be_nested_32_deep_and_no_deeper():
    assert_round_trip(nested(32))
    with pytest.raises(ImageError, match=r"\b32\b"):
        image.dumps(nested(33))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        pytest.param(Network((Layer(no_blocks((1, 2**32), (1, 1)), None, Relu()),)), "32-bit", id="shape"),
        pytest.param(Network((Layer(no_blocks((1, 1), (2**32, 1)), None, Relu()),)), "32-bit", id="block"),
        pytest.param(replace(tiny(), metadata={"a": 1}), r"metadata 'a'.*\b1\b", id="metadata-number"),
        pytest.param(replace(tiny(), metadata={1: "a"}), r"metadata 1\b.*'a'", id="metadata-key"),
        pytest.param(replace(tiny(), metadata={"a": "\ud800"}), "Unicode", id="metadata-surrogate"),
    ],
)
def test_what_does_not_fit_an_image_is_refused(network, message):
    with pytest.raises(ImageError, match=message):
        image.dumps(network)


def test_write_and_read(tmp_path):
    path = tmp_path / "net.sen"
    image.write(sample(), path)
    assert path.read_bytes() == SAMPLE
    assert_same(image.read(path), sample())
    image.write(tiny(), path)
    assert path.read_bytes() == TINY
    assert [file.name for file in tmp_path.iterdir()] == ["net.sen"]


def test_read_names_the_path(tmp_path):
    path = tmp_path / "net.sen"
    with pytest.raises(ImageError, match=re.escape(str(path))):
        image.read(path)
    with pytest.raises(ImageError, match=re.escape(str(tmp_path))):
        image.read(tmp_path)
    path.write_bytes(TINY[:-1])
    with pytest.raises(ImageError, match=rf"{re.escape(str(path))}.*\b451\b") as caught:
        image.read(path)
    assert caught.value.hint


def test_write_into_nowhere_names_the_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "nowhere"))):
        image.write(tiny(), tmp_path / "nowhere" / "net.sen")


def test_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "net.sen"
    image.write(tiny(), path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        image.write(sample(), path)
    with pytest.raises(OSError, match="No space left"):
        image.write(sample(), tmp_path / "other.sen")
    with pytest.raises(ImageError):
        image.write(nested(33), tmp_path / "deep.sen")
    assert [file.name for file in tmp_path.iterdir()] == ["net.sen"]
    assert path.read_bytes() == TINY


def test_exporter_stamps_the_metadata():
    exporter = SenExporter()
    artifact = exporter.stamp(exporter.export(sample(), SenOptions(name="net")), {"sha": "1", "made by": "me"})
    assert list(artifact.files) == ["net.sen"]
    assert exporter.properties(artifact.main) == {"made by": "me", "sha": "1"}
    assert_same(replace(image.loads(artifact.main), metadata=sample().metadata), sample())


def test_metadata_is_plain_json():
    offset, size = section_rows(SAMPLE)[1]
    assert json.loads(SAMPLE[offset : offset + size]) == {"made by": "test"}


# The order of sparse weights


def test_exporter_sets_the_order_of_sparse_weights_or_leaves_it():
    network = random_network(np.random.default_rng(3), kinds=("sum",))
    stored = {
        order: SenExporter().export(network, SenOptions(sparse_order=order)).main for order in ("rows", "sources")
    }
    assert stored == {"rows": image.dumps(network), "sources": image.dumps(by_source(network))}
    again = SenExporter().export(image.loads(stored["sources"]), SenOptions())
    assert again.main == stored["sources"]
    assert SenExporter().stamp(again, {}).main == stored["sources"]


def test_an_order_that_weights_do_not_have_is_refused():
    rng = np.random.default_rng(4)
    network = random_network(rng, kinds=("sparse",), sizes=(5, 4))
    tall = Network((Layer(no_blocks((65537, 1), (1, 1)), None, Relu()),))
    for refused, message in (
        (random_network(rng, kinds=("dense",)), "no layer has sparse weights"),
        (to_int8(network, random_input(rng, network, 32)), "int8 activations"),
        (tall, r"layer 0.*65537.*65536"),
    ):
        with pytest.raises(ExportError, match=message) as caught:
            SenExporter().check(refused, SenOptions(sparse_order="sources"))
        assert caught.value.exit_code == 2
    with pytest.raises(ImageError, match="by source with int8 activations"):
        image.dumps(by_source(to_int8(network, random_input(rng, network, 32))))


def test_new_values_of_weights_by_source_are_in_rows():
    """int8 activations of an image by source have a form."""
    rng = np.random.default_rng(4)
    network = by_source(random_network(rng, kinds=("sparse",), sizes=(5, 4)))
    assert image.dumps(to_int8(network, random_input(rng, network, 32)))[8] == 2
    assert image.dumps(to_int8_weights(network))[8] == 1
