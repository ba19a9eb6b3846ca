"""Version 4 of the image: scalings and output activations."""

import struct
from dataclasses import replace

import numpy as np
import pytest

from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_runtime import format as image
from sen_runtime.errors import ImageError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import OUTPUT_ACTIVATIONS, Network
from sen_runtime.ir.neurons import LeakyIntegrator
from sen_runtime.ir.standardization import Standardization
from tests.support.images import NONE, assert_round_trip, assert_same, f32, patched, section_rows, tiny
from tests.support.networks import KINDS, by_source, random_input, random_network
from tests.support.scalings import (
    HOSTILE_SCALINGS,
    MEAN,
    SCALED_INT8_SAMPLE,
    SCALED_SAMPLE,
    SCALED_TINY,
    STD,
    VARIED,
    int8_of_sources,
    int8_without_a_grid,
    scaled,
    spiking,
    with_scaling,
)


def version(data: bytes) -> int:
    (found,) = struct.unpack_from("<H", data, 8)
    return int(found)


def test_input_scaling_byte_for_byte() -> None:
    network = replace(tiny(), input_scaling=Standardization(MEAN, STD), output_activation="sigmoid")
    assert image.dumps(network) == SCALED_TINY
    assert_same(image.loads(SCALED_TINY), network)


def test_output_scaling_byte_for_byte() -> None:
    """An array that is also the bias is stored once."""
    network = replace(tiny(), output_scaling=Standardization(f32(1.5), f32(4)))
    expected = with_scaling(NONE, NONE, 2, 3, tensors=[f32(4)])
    assert image.dumps(network) == expected
    assert_same(image.loads(expected), network)


def test_parameters_of_neurons_byte_for_byte() -> None:
    weights = Layer(tiny().layers[0].weight, tiny().layers[0].bias, LeakyIntegrator(f32(0.5)))
    network = Network((weights,), 3)
    assert image.dumps(network) == VARIED
    assert_same(image.loads(VARIED), network)


def test_change_of_an_input_coding_byte_for_byte() -> None:
    weights = Layer(tiny().layers[0].weight, tiny().layers[0].bias, LeakyIntegrator(0.5))
    network = Network((weights,), 3, "delta", delta=0.25)
    expected = spiking(0.5, coding=4, delta=(0.25,))
    assert image.dumps(network) == expected
    assert_same(image.loads(expected), network)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_spiking", [False, True])
def test_round_trip_with_any_weights(kind: str, is_spiking: bool) -> None:
    rng = np.random.default_rng(1)
    network = random_network(rng, spiking=is_spiking, kinds=(kind,), sizes=(5, 4, 3))
    networks = [network, by_source(network)]
    if kind != "coordinates":
        networks += [to_int8_weights(network), to_int8(network, random_input(rng, network, 64))]
    for each in networks:
        for activation in OUTPUT_ACTIVATIONS:
            assert_round_trip(scaled(rng, each, activation))


@pytest.mark.parametrize("part", ["input_scaling", "output_scaling", "output_activation"])
def test_each_part_alone_is_version_4(part: str) -> None:
    network = scaled(np.random.default_rng(2), tiny(), "softmax")
    alone: Network = replace(tiny(), **{part: getattr(network, part)})
    assert version(image.dumps(alone)) == 4
    assert_round_trip(alone)


def test_sources_with_int8_activations_are_not_stored() -> None:
    rng = np.random.default_rng(3)
    network = random_network(rng, kinds=("sparse",), sizes=(5, 4, 3))
    network = scaled(rng, by_source(to_int8(network, random_input(rng, network, 64))))
    with pytest.raises(ImageError) as caught:
        image.dumps(network)
    assert caught.value.hint


def test_hostile_file_is_refused(subtests: pytest.Subtests) -> None:
    for name, (data, message) in HOSTILE_SCALINGS.items():
        with subtests.test(name), pytest.raises(ImageError, match=message):
            image.loads(data)


def test_the_files_above_are_wrong_in_one_way_only() -> None:
    with pytest.raises(ImageError, match="version 1"):
        image.loads(with_scaling(*[NONE] * 4))
    with pytest.raises(ImageError, match="version 3"):
        image.loads(int8_of_sources(grid=(0.0, 0)))
    with pytest.raises(ImageError, match="version 2"):
        image.loads(int8_without_a_grid((0.5, -128)))
    image.loads(with_scaling(3, 4, NONE, NONE, tensors=[MEAN, STD]))


@pytest.mark.parametrize(
    "data", [SCALED_TINY, SCALED_SAMPLE, SCALED_INT8_SAMPLE, VARIED], ids=["tiny", "float", "int8", "neurons"]
)
def test_any_word_may_hold_anything(data: bytes) -> None:
    end = sum(section_rows(data)[0])
    for offset in range(28, end, 4):
        for value in (0, 1, 4, 0x3F800000, 0x7F800000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            try:
                network = image.loads(patched(data, offset, "I", value))
            except ImageError:
                continue
            assert_round_trip(network)
