"""The .sen image: layout, round trips, files."""

import json
import re
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
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import MAX_TIMESTEPS, READOUTS, Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Dense, Sparse, Sum
from tests.support.images import (
    SAMPLE,
    TINY,
    assert_round_trip,
    assert_same,
    f32,
    i32,
    sample,
    section_rows,
    tiny,
)
from tests.support.networks import KINDS, by_source, random_input, random_network


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
