"""Equalization: the same outputs to the bit, and matrices that one int8 scale serves."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.passes.equalize import SCALED_HIDDEN, THRESHOLD_OCTAVES, equalize
from sen_edge.passes.quantize import to_int8
from sen_edge.passes.scale import ONE, scale_weights
from sen_runtime import reference
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Dense
from tests.support.networks import random_input, random_network

KINDS = ("dense", "sparse", "blocks", "low_rank", "sum", "nested_sum")


def stretch(network, rng, octaves=6):
    """The network, with rows of very different ranges in every layer."""
    layers = []
    for layer in network.layers:
        rows = 2.0 ** rng.uniform(-octaves, octaves, layer.weight.shape[0])
        layers.append(replace(layer, weight=scale_weights(layer.weight, rows, ONE)))
    return replace(network, layers=tuple(layers))


@given(
    seed=st.integers(0, 2**32 - 1),
    spiking=st.booleans(),
    readout=st.sampled_from(["mean_membrane", "last_membrane", "spike_count"]),
    reset=st.sampled_from(["subtract", "zero"]),
    reset_delay=st.booleans(),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_outputs_are_equal_to_the_bit(seed, spiking, readout, reset, reset_delay):
    rng = np.random.default_rng(seed)
    options = {"readout": readout, "reset": reset, "reset_delay": reset_delay}
    network = stretch(random_network(rng, spiking=spiking, kinds=KINDS, **options), rng)
    equalized, x = equalize(network), random_input(rng, network, 8)
    expected, actual = reference.trace(network, x), reference.trace(equalized, x)
    np.testing.assert_array_equal(actual[-1], expected[-1])
    for hidden, scaled in zip(expected[:-1], actual[:-1], strict=True):
        factors = scaled.max(axis=0) / np.where(hidden.max(axis=0) > 0, hidden.max(axis=0), 1)
        factors = np.where(factors > 0, factors, 1)
        assert np.all(np.log2(factors) % 1 == 0)
        assert not spiking or np.all(factors == 1)
        np.testing.assert_array_equal(scaled, hidden * factors)
    has_scaled_layers = equalized.metadata.get(SCALED_HIDDEN[0]) == SCALED_HIDDEN[1]
    assert has_scaled_layers != spiking


def unequal(rng, neuron, last):
    """40-60-5, whose hidden rows differ by a factor of up to 4096, each compensated in its column."""
    rows = 2.0 ** rng.uniform(-6, 6, 60)
    first, second = rng.normal(size=(60, 40)) * 40**-0.5, rng.normal(size=(5, 60)) * 60**-0.5
    if not isinstance(neuron, Lif):
        second = second / rows
    layers = (
        Layer(Dense((first * rows[:, None]).astype(np.float32)), None, neuron),
        Layer(Dense(second.astype(np.float32)), rng.normal(size=5).astype(np.float32), last),
    )
    return Network(layers, timesteps=8 if isinstance(neuron, Lif) else 0)


def test_one_scale_is_as_good_as_one_per_row_after_equalization():
    rng = np.random.default_rng(0)
    network = unequal(rng, Relu(), Identity())
    x, held_out = (rng.random((n, 40)).astype(np.float32) for n in (512, 256))
    expected = reference.run(network, held_out)

    def error(quantized):
        return float(np.sqrt(np.mean((reference.run(quantized, held_out) - expected) ** 2)) / expected.std())

    per_row, naive = error(to_int8(network, x)), error(to_int8(network, x, "tensor"))
    equalized = error(to_int8(equalize(network), x, "tensor"))
    assert equalized < 2 * per_row
    assert equalized < naive / 5


def test_thresholds_are_multiples_that_a_grid_contains():
    rng = np.random.default_rng(0)
    network = unequal(rng, Lif(0.9, 0.3), LeakyIntegrator(0.9))
    neuron = equalize(network).layers[0].neuron
    factors = neuron.threshold / np.float32(0.3)
    low, high = THRESHOLD_OCTAVES
    assert set(np.log2(factors)) <= set(range(low, high + 1)) and len(set(factors)) > 2
    quantized = to_int8(equalize(network), rng.random((256, 40)).astype(np.float32), "tensor")
    stored = quantized.layers[0].neuron.threshold / quantized.layers[0].grid.scale
    np.testing.assert_allclose(stored, np.rint(stored), rtol=1e-6)


@pytest.mark.parametrize("row", [0.0, 1e-30], ids=["zeros", "tiny"])
def test_dead_neurons_do_not_blow_up_the_others(row):
    rng = np.random.default_rng(0)
    network = unequal(rng, Relu(), Identity())
    w = network.layers[0].weight.w.copy()
    w[3] = row
    network = replace(network, layers=(replace(network.layers[0], weight=Dense(w)), network.layers[1]))
    x = rng.random((64, 40)).astype(np.float32)
    equalized = equalize(network)
    np.testing.assert_array_equal(reference.run(equalized, x), reference.run(network, x))
    peaks = [np.abs(layer.weight.to_dense()).max() for layer in equalized.layers]
    assert max(peaks) < 1e3


def one_scale_error(network, x, held_out):
    expected, quantized = reference.run(network, held_out), to_int8(equalize(network), x, "tensor")
    error = np.sqrt(np.mean((reference.run(quantized, held_out) - expected) ** 2))
    return float(error / (expected - expected.mean(axis=0)).std())


@pytest.mark.parametrize("row", [0.0, 1e-30, 2e-3], ids=["zeros", "tiny", "small"])
def test_biases_of_neurons_without_inputs_do_not_widen_the_activations(row):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(60, 40)) * 40**-0.5, rng.normal(size=(5, 60)) * 60**-0.5
    first[:6] = row
    bias = np.where(np.arange(60) < 6, 1, 0.1 * rng.normal(size=60)).astype(np.float32)
    layers = (
        Layer(Dense(first.astype(np.float32)), bias, Relu()),
        Layer(Dense(second.astype(np.float32)), None, Identity()),
    )
    x, held_out = (rng.random((n, 40)).astype(np.float32) for n in (512, 256))
    assert one_scale_error(Network(layers), x, held_out) < 0.08


@pytest.mark.parametrize("dead", [6, 35, 55])
def test_spiking_neurons_without_inputs_leave_the_thresholds_of_others(dead):
    rng = np.random.default_rng(0)
    network = unequal(rng, Lif(0.9, 1.0), LeakyIntegrator(0.9))
    w = (rng.normal(size=(60, 40)) * 40**-0.5).astype(np.float32)
    w[:dead] = 0
    network = replace(network, layers=(replace(network.layers[0], weight=Dense(w)), network.layers[1]))
    threshold = np.broadcast_to(equalize(network).layers[0].neuron.threshold, 60)
    assert np.all(threshold[:dead] == 1)
    assert threshold.min() >= 0.5
    x, held_out = (rng.random((n, 40)).astype(np.float32) for n in (512, 256))
    assert one_scale_error(network, x, held_out) < 0.2
