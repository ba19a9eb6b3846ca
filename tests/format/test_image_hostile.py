"""Malicious files: rejected with a reason by the reader and by the C library."""

import struct

import numpy as np
import pytest

from sen_runtime import format as image
from sen_runtime.errors import ImageError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity
from tests.support.hostile_images import HOSTILE
from tests.support.images import (
    DENSE,
    INT8_SAMPLE,
    LEAF,
    NONE,
    SAMPLE,
    SOURCE_SAMPLE,
    TINY,
    B,
    W,
    assemble,
    assert_round_trip,
    chain,
    f32,
    i32,
    int4,
    int8,
    int8_dense,
    int8_low_rank,
    int8_spiking,
    layer,
    operator,
    patched,
    program,
    seal,
    section_rows,
    sources,
    sparse,
    spiking,
    sum_,
    with_coordinates,
    with_layer,
    with_metadata,
    with_operator,
    with_sums,
)
from tests.support.networks import random_operator


def test_a_file_cut_off_anywhere_is_refused():
    for size in range(len(TINY)):
        with pytest.raises(ImageError):
            image.loads(TINY[:size])
        if size >= 64:
            with pytest.raises(ImageError):
                image.loads(seal(TINY[:size]))


def test_a_file_cut_off_at_every_section_is_refused():
    for offset, size in section_rows(SAMPLE):
        for end in {offset, offset + 1, offset + size // 2, offset + size} - {len(SAMPLE)}:
            with pytest.raises(ImageError, match="header") as caught:
                image.loads(SAMPLE[:end])
            assert caught.value.hint
            with pytest.raises(ImageError):
                image.loads(seal(SAMPLE[:end]))


def test_hostile_file_is_refused(subtests):
    for name, (data, message) in HOSTILE.items():
        with subtests.test(name), pytest.raises(ImageError, match=message):
            image.loads(data)


def test_the_files_above_are_wrong_in_one_way_only():
    """Their builders give good images where nothing is wrong."""
    assert assemble(program(2, 1, [layer(bias=2)], [DENSE]), [W, B]) == with_layer(layer(bias=2)) == TINY
    good = [
        sparse(),
        sources(),
        sources(rows=(0,), starts=(0, 0, 1), shape=(3, 2), block=(2, 1), values=((1, 2),)),
        with_coordinates(1, 1, 0),
        with_coordinates(1, 1, 1, 2),
        with_metadata(b'{"a":"b"}'),
        with_sums(LEAF, LEAF, sum_(0, 1), top=2),
        chain(32),
        spiking(layer(0, 2, 3, 0.5)),
        spiking(layer(0, 2, 2, 0.5, 1, 1), readout=2),
        int8(f32(2)),
        int8_dense(),
        int8_low_rank(0.5, 3),
        int8_spiking(),
        int4(),
    ]
    for data in good:
        image.loads(data)


def size_fields():
    """Name, offset and struct code of every size, count and offset in SAMPLE."""
    n_sections, n_layers, n_operators = (struct.unpack_from("<I", SAMPLE, at)[0] for at in (12, *program_counts()))
    yield from [("sections", 12, "I"), ("file size", 16, "Q")]
    for index in range(n_sections):
        row = 64 + 48 * index
        yield from [(f"section {index} {name}", row + at, "Q") for name, at in (("offset", 8), ("size", 16))]
        yield from [(f"section {index} {name}", row + at, "I") for name, at in (("rank", 24), ("shape", 28))]
        yield from [(f"section {index} shape[{axis}]", row + 28 + 4 * axis, "I") for axis in (1, 2)]
    start = section_rows(SAMPLE)[0][0]
    yield from [(f"program {name}", start + at, "I") for name, at in (("layers", 0), ("operators", 4))]
    yield from [(f"program {name}", start + at, "I") for name, at in (("inputs", 20), ("outputs", 24))]
    operators = start + 32 + 32 * n_layers
    for index in range(n_operators):
        fields = [("n_out", 4), ("n_in", 8), *((f"tensor {i}", 12 + 4 * i) for i in range(4)), ("operand", 28)]
        fields += [("block rows", 36), ("block columns", 40)]
        for name, at in fields:
            yield f"operator {index} {name}", operators + 64 * index + at, "I"


def program_counts():
    start = section_rows(SAMPLE)[0][0]
    return start, start + 4


def test_absurd_sizes_are_refused():
    for name, offset, code in size_fields():
        (stored,) = struct.unpack_from("<" + code, SAMPLE, offset)
        for value in (0xFFFFFFFF, 0x80000000, *((2**63, 2**64 - 1, 2**64 - 64) if code == "Q" else ())):
            if value == stored:
                continue
            with pytest.raises(ImageError):
                image.loads(patched(SAMPLE, offset, code, value))
                pytest.fail(f"{name} = {value} was read")


def assert_refused_or_sound(data):
    try:
        network = image.loads(data)
    except ImageError:
        return False
    assert_round_trip(network)
    return True


@pytest.mark.parametrize("data", [SAMPLE, INT8_SAMPLE, SOURCE_SAMPLE, int4()], ids=["float", "int8", "sources", "int4"])
def test_any_word_may_hold_anything(data):
    end = sum(section_rows(data)[0])
    for offset in range(28, end, 4):
        for value in (0, 1, 4, 0x3F800000, 0x7F800000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            assert_refused_or_sound(patched(data, offset, "I", value))


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_under_a_right_checksum(seed):
    rng = np.random.default_rng(seed)
    read = 0
    for _ in range(1000):
        data = bytearray(SAMPLE)
        ends = (len(data), sum(section_rows(SAMPLE)[0]))
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(28, ends[int(rng.integers(2))]))] ^= 1 << int(rng.integers(8))
        read += assert_refused_or_sound(patched(bytes(data), 28, "I", 0))
    assert 0 < read < 1000


@pytest.mark.parametrize("size", [0, 2**31, NONE])
def test_blocks_of_any_size_cost_nothing_where_there_are_none(size):
    """Four billion rows in a block that is not there."""
    empty = np.zeros((0, 1), np.float32)
    data = bytearray(with_operator(operator(2, 1, 2, (1, 2, 3), block=(size, 1)), [empty, i32(), i32(0, 0)]))
    struct.pack_into("<I", data, 64 + 48 + 32, size)  # values [0, size]
    data = seal(data)
    if size == 0:
        with pytest.raises(ImageError, match="sizes"):
            image.loads(data)
    else:
        weight = image.loads(data).layers[0].weight
        assert weight.block == (size, 1)
        assert weight.to_dense().tolist() == [[0, 0]]


def test_sizes_beyond_counting_of_an_array_without_bytes():
    data = bytearray(with_operator(DENSE, [np.zeros((0, 1, 1), np.float32)]))
    struct.pack_into("<II", data, 64 + 48 + 32, NONE, NONE)
    with pytest.raises(ImageError, match=r"section 1\b.*\[0, 4294967295, 4294967295\]"):
        image.loads(seal(data))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("kind", ["coordinates", "dense", "blocks", "low_rank", "nested_sum"])
def test_nonfinite_numbers_are_rejected(kind, dtype, value):
    weight = random_operator(np.random.default_rng(0), 4, 5, kind, dtype)
    data = image.dumps(Network((Layer(weight, np.ones(4, dtype), Identity()),)))
    seen = 0
    for index, (offset, size) in enumerate(section_rows(data)):
        if struct.unpack_from("<I", data, 64 + 48 * index + 4)[0] in (1, 2):
            code = "f" if dtype is np.float32 else "e"
            for at in (offset, offset + size - struct.calcsize(code)):
                with pytest.raises(ImageError, match="finite"):
                    image.loads(patched(data, at, code, value))
                seen += 1
    assert seen >= 4
