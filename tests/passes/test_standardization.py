"""Standardization folded into weights: exactness, refusals, and what is left to the caller."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.passes.quantize import to_float16, to_int8_weights
from sen_edge.passes.standardization import (
    MAX_OFFSET,
    fold,
    input_obstacle,
    output_obstacle,
    restore_input,
    strip_input,
)
from sen_runtime import reference
from sen_runtime.errors import NetworkError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator
from sen_runtime.ir.operators import Dense, Sparse
from sen_runtime.ir.standardization import Standardization
from tests.support.networks import KINDS, random_network

STORED_KINDS = tuple(kind for kind in KINDS if kind != "coordinates")
READOUTS = ("mean_membrane", "last_membrane", "spike_count")


def scaling(mean: list[float], std: list[float]) -> Standardization:
    return Standardization(np.array(mean, np.float32), np.array(std, np.float32))


def random_scaling(rng: np.random.Generator, size: int, offset: float = 4) -> Standardization:
    """Standard deviations over five orders of magnitude, means within `offset` of them."""
    std = 10 ** rng.uniform(-2, 3, size)
    mean = std * rng.uniform(-offset, offset, size)
    return Standardization(mean.astype(np.float32), std.astype(np.float32))


def scaled(network: Network, rng: np.random.Generator) -> Network:
    inputs, outputs = random_scaling(rng, network.n_in), random_scaling(rng, network.n_out)
    return replace(network, input_scaling=inputs, output_scaling=outputs)


def one_layer(w: np.ndarray, std: list[float], mean: list[float] | None = None) -> Network:
    layer = Layer(Dense(w.astype(np.float32)), None, Identity())
    return Network((layer,), input_scaling=scaling(mean or [0.0] * w.shape[1], std))


def inputs(network: Network, batch: int = 20) -> np.ndarray:
    assert network.input_scaling is not None
    return network.input_scaling.restore(np.random.default_rng(1).normal(size=(batch, network.n_in)))


@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(STORED_KINDS))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_folded_perceptrons_compute_the_same(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    network = scaled(random_network(rng, kinds=(kind, "dense")), rng)
    folded, x = fold(network), inputs(network)
    assert folded.input_scaling is None
    assert folded.output_scaling is None
    expected = reference.run(network, x)
    scale = np.abs(expected).max(axis=0) + network.output_scaling.std
    assert np.all(np.abs(reference.run(folded, x) - expected) <= 1e-5 * scale)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("sizes", [(5, 9, 3), (5, 3)])
def test_folded_spiking_networks_compute_the_same(readout: str, sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    network = scaled(random_network(rng, spiking=True, readout=readout, sizes=sizes, kinds=("dense",)), rng)
    folded, x = fold(network), inputs(network)
    assert folded.input_scaling is None
    assert (folded.output_scaling is None) == (readout != "spike_count")
    expected = reference.run(network, x)
    is_close = np.isclose(reference.run(folded, x), expected, rtol=1e-4, atol=1e-4 * expected.std(axis=0))
    assert is_close.all(axis=1).mean() > 0.9  # rounding flips spikes


@pytest.mark.parametrize("readout", ["mean_membrane", "last_membrane"])
def test_readouts_of_different_neurons(readout: str) -> None:
    rng = np.random.default_rng(1)
    network = random_network(rng, spiking=True, readout=readout, sizes=(5, 3), kinds=("dense",))
    beta = np.array([0.5, 0.8, 1.0], np.float32)
    network = scaled(replace(network, layers=(replace(network.layers[0], neuron=LeakyIntegrator(beta)),)), rng)
    x = inputs(network)
    assert fold(network).output_scaling is None
    np.testing.assert_allclose(reference.run(fold(network), x), reference.run(network, x), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("block", [(1, 1), (1, 4), (4, 4)])
def test_folding_keeps_the_pattern_and_its_order(block: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    w = np.where(rng.random((6, 7)) < 0.3, rng.normal(size=(6, 7)), 0).astype(np.float32)
    operator = replace(Sparse.from_dense(w, block), order="sources")
    network = Network((Layer(operator, None, Identity()),), input_scaling=random_scaling(rng, 7))
    found = fold(network).layers[0].weight
    assert isinstance(found, Sparse)
    assert (found.block, found.order, found.nnz) == (block, "sources", operator.nnz)
    np.testing.assert_array_equal(found.columns, operator.columns)
    assert network.input_scaling is not None
    np.testing.assert_allclose(found.to_dense(), w * network.input_scaling.inverse, rtol=1e-6)


def test_weights_are_rounded_once() -> None:
    w = np.array([[1 / 3, 2 / 3]])
    network = one_layer(w, [3.0, 7.0], [1.0, 2.0])
    layer = fold(network).layers[0]
    assert network.input_scaling is not None
    expected = (w.astype(np.float32) * network.input_scaling.inverse.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(layer.weight.to_dense(), expected)
    assert layer.bias is not None
    np.testing.assert_array_equal(layer.bias, np.float32(-(expected.astype(np.float64) @ [1, 2])))


def test_coordinates_stay_a_node() -> None:
    rng = np.random.default_rng(0)
    network = scaled(random_network(rng, kinds=("coordinates",), sizes=(4, 3)), rng)
    folded = fold(network)
    assert folded.input_scaling is network.input_scaling
    assert folded.output_scaling is network.output_scaling
    assert "coordinates" in input_obstacle(network)


@pytest.mark.parametrize("quantize", [to_float16, to_int8_weights])
def test_rounded_weights_stay_a_node(quantize) -> None:
    rng = np.random.default_rng(0)
    network = quantize(scaled(random_network(rng, kinds=("dense",), sizes=(4, 3)), rng))
    assert fold(network).input_scaling is not None
    assert "rounded again" in input_obstacle(network)
    assert "rounded again" in output_obstacle(network)


def test_features_far_from_zero_stay_a_node() -> None:
    near = one_layer(np.ones((2, 2)), [1, 1], [0, 1.4 * MAX_OFFSET])
    far = one_layer(np.ones((2, 2)), [1, 1], [0, 1.5 * MAX_OFFSET])
    assert fold(near).input_scaling is None
    assert fold(far).input_scaling is not None
    assert "feature 1" in input_obstacle(far)
    named = replace(far, metadata={"feature_names": json.dumps(["a", "year"])})
    assert "year" in input_obstacle(named)


@pytest.mark.parametrize(
    ("std", "mean", "is_folded"),
    [([2, 2], [1, 1], True), ([2, 3], [1, 1], False), ([2, 2], [1, 0], False), ([2, 2], [9, 9], False)],
)
@pytest.mark.parametrize("dtype", ["int8", "int8-dynamic"])
def test_int8_folds_one_scale_near_zero(dtype: str, std: list[float], mean: list[float], is_folded: bool) -> None:
    network = one_layer(np.ones((2, 2)), std, mean)
    network = replace(network, output_scaling=network.input_scaling)
    folded = fold(network, dtype)
    assert (folded.input_scaling is None) == is_folded
    assert (folded.output_scaling is None) == is_folded


@pytest.mark.parametrize(("std", "is_folded"), [([1, 100], True), ([1, 1e5], False), ([1e-6, 1], False)])
def test_float16_folds_within_its_range(std: list[float], is_folded: bool) -> None:
    network = one_layer(np.full((2, 2), 0.5), std)
    assert (fold(network, "float16").input_scaling is None) == is_folded


@pytest.mark.parametrize("std", [1e-30, 1e30])
def test_weights_beyond_float32_stay_a_node(std: float) -> None:
    network = one_layer(np.full((2, 2), 1e20 if std < 1 else 1e-20), [1, std])
    assert fold(network).input_scaling is not None
    network = replace(network, input_scaling=None, output_scaling=scaling([0, 0], [1, 1 / std]))
    assert fold(network).output_scaling is not None


def test_stripped_inputs_are_in_the_metadata() -> None:
    network = replace(
        one_layer(np.ones((2, 2)), [2, 1e-3], [10, -1]), metadata={"input_range": "-2 16", "feature_names": '["a","b"]'}
    )
    stripped, x = strip_input(network), inputs(network)
    assert stripped.input_scaling is None
    assert network.input_scaling is not None
    np.testing.assert_array_equal(
        reference.run(stripped, network.input_scaling.standardize(x)), reference.run(network, x)
    )
    found = [np.array(json.loads(stripped.metadata[name]), np.float32) for name in ("input_mean", "input_std")]
    np.testing.assert_array_equal(found, [network.input_scaling.mean, network.input_scaling.std])
    assert stripped.input_range == network.input_range
    restored = restore_input(stripped)
    np.testing.assert_array_equal(reference.run(restored, x), reference.run(network, x))
    assert restored.metadata == network.metadata
    assert stripped.names("feature_names") == ("a", "b")


@pytest.mark.parametrize("mean", ["", "1", "[1, 2, 3]", '["a", "b"]', "[1, null]", "[1e99, 0]", "[[1], [2]]"])
def test_damaged_constants_are_refused(mean: str) -> None:
    network = one_layer(np.ones((2, 2)), [2, 2])
    metadata = {"preprocess": "none", "input_mean": mean, "input_std": "[1, 1]"}
    with pytest.raises(NetworkError):
        restore_input(replace(network, input_scaling=None, metadata=metadata))


def test_networks_without_scalings_stay_as_they_are() -> None:
    network = random_network(np.random.default_rng(0), kinds=("dense",))
    assert fold(network) is network
    assert strip_input(network) is network
