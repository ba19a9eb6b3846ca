"""Networks with delays, recurrent synapses and synaptic currents in the C library, next to the reference."""

import struct
from dataclasses import replace

import numpy as np
import pytest

from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.engines import native
from sen_runtime.errors import ImageError
from sen_runtime.ir.delays import ConstantDelay, SpatialDelay
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import LeakyIntegrator
from sen_runtime.ir.operators import Coordinates, Dense
from tests.engines.test_native_hostile import load_or_refuse, with_checksum
from tests.support.networks import KINDS, exact_wired_network, random_operator

WAYS = [{}, {"expand": False}, {"kernels": "reference"}, {"kernels": "narrow", "expand": False}, {"pack": False}]


def quarters(rng: np.random.Generator, network: Network, rows: int = 3) -> np.ndarray:
    """Spikes, or inputs that float32 sums exactly."""
    shape = (rows, *network.input_shape)
    return (rng.random(shape) < 0.4).astype(np.float32) * (1 if network.coding.is_binary else 0.5)


@pytest.mark.parametrize("seed", range(40))
def test_outputs_are_those_of_the_reference_to_the_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = exact_wired_network(rng)
    x, data = quarters(rng, network), image.dumps(network)
    expected = reference.run(network, x, np.float32)
    for way in WAYS:
        np.testing.assert_array_equal(native.load(data, **way).run(x), expected, str(way))


@pytest.mark.parametrize("seed", range(10))
def test_a_stream_of_steps_gives_the_outputs_of_a_run(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = exact_wired_network(rng, readout="last_membrane", coding="spikes")
    x = quarters(rng, network)
    with native.load(image.dumps(network)) as session:
        expected = session.run(x)
        for row, outputs in zip(x, expected, strict=True):
            session.reset()
            *_, last = [session.step(inputs) for inputs in row]
            np.testing.assert_array_equal(last, outputs)


def readout(rng: np.random.Generator, kind: str) -> Layer:
    """A layer of any weights without spikes, which rounding cannot flip; of coordinates, delays from the same."""
    operator, delay = random_operator(rng, 5, 6, kind), ConstantDelay(2)
    if isinstance(operator, Coordinates):
        delay = SpatialDelay(operator.source, operator.target, 2.0)
    return Layer(operator, None, LeakyIntegrator(0.5), delay=delay, synapse=0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_any_kind_become_dense(kind: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        network = Network((readout(rng, kind),), 8, "spikes")
        x = quarters(rng, network)
        expected, data = reference.run(network, x), image.dumps(network)
        for way in WAYS:
            np.testing.assert_allclose(native.load(data, **way).run(x), expected, rtol=1e-5, atol=1e-5)


def test_delays_from_positions_are_those_of_the_reference() -> None:
    """One spike of each source in turn arrives at a readout that keeps nothing: the outputs of the steps are delays."""
    rng = np.random.default_rng(2)
    for overflow, limit in (("clamp", 20), ("wrap", 20), ("error", 500)):
        source, target = (rng.normal(size=(n, 3)).astype(np.float32) * 9 for n in (200, 100))
        positions = SpatialDelay(source, target, 1.7, 0.01, limit, overflow, 1)
        weight = Dense(np.ones((100, 200), np.float32))
        steps = positions.steps((100, 200))
        network = Network((Layer(weight, None, LeakyIntegrator(0.0), delay=positions),), 1, "spikes", "last_membrane")
        session = native.load(image.dumps(network), expand=False)
        found = np.zeros_like(steps)
        for source_index in range(0, 200, 40):
            session.reset()
            spike = np.zeros(200, np.float32)
            spike[source_index] = 1
            for t in range(steps.max() + 1):
                found[:, source_index] += t * session.step(spike * (t == 0)).astype(np.int32)
        np.testing.assert_array_equal(found[:, ::40], steps[:, ::40])


@pytest.mark.parametrize("expand", [True, False])
def test_positions_beyond_the_limit_are_refused(expand: bool) -> None:
    far = SpatialDelay(np.array([[0.0], [40.0]], np.float32), np.array([[0.0]], np.float32), limit=39)
    layer = Layer(Dense(np.ones((1, 2), np.float32)), None, LeakyIntegrator(0.5), delay=far)
    for delay in (far, replace(far, overflow="wrap", scale=1e6)):
        network = Network((replace(layer, delay=delay),), 3, "spikes")
        with pytest.raises(ImageError, match="source neuron 1 to target neuron 0"):
            native.load(image.dumps(network), expand=expand)
    native.load(image.dumps(Network((replace(layer, delay=replace(far, limit=40)),), 3, "spikes")), expand=expand)


def test_images_with_any_word_of_the_wiring_replaced_are_refused_or_run() -> None:
    rng = np.random.default_rng(0)
    taken = 0
    for _ in range(4):
        data = image.dumps(exact_wired_network(rng, sizes=(3, 2, 2)))
        for at in range(64, min(len(data), 2400), 4):
            for word in (0, 1, 3, 0x7FFFFFFF, 0xFFFFFFFF, int(rng.integers(2**32))):
                taken += load_or_refuse(with_checksum(data[:at] + struct.pack("<I", word) + data[at + 4 :]))
    assert taken > 0
