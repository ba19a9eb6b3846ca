"""Materialization: parity with the plain reference, memory, errors."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.passes.materialize import materialize, weights
from sen_runtime.errors import NetworkError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Coordinates, Dense, Sparse, Sum


def coordinates(seed: int, n_in: int, n_out: int, d: int, scale: float = 1.0, **options: float) -> Coordinates:
    rng = np.random.default_rng(seed)
    return Coordinates(
        (scale * rng.normal(size=(n_in, d))).astype(np.float32),
        (scale * rng.normal(size=(n_out, d))).astype(np.float32),
        rng.uniform(-1, 1, n_in).astype(np.float32),
        **options,
    )


def ulps(a: np.ndarray, b: np.ndarray) -> int:
    """Greatest distance of two float32 arrays of equal signs, in units in the last place."""
    assert np.array_equal(np.sign(a), np.sign(b))
    return int(np.max(np.abs(a.view(np.int32).astype(np.int64) - b.view(np.int32))))


def float64_weights(operator: Coordinates) -> np.ndarray:
    """Written out independently of the package."""
    source, target, mask = (a.astype(np.float64) for a in (operator.source, operator.target, operator.mask))
    distance = np.sqrt(((target[:, None] - source[None]) ** 2).sum(-1))
    w = operator.gain * mask / np.maximum(distance, operator.min_distance) ** operator.exponent
    return np.where(distance > operator.max_distance, 0, w)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_in=st.integers(1, 70),
    n_out=st.integers(1, 70),
    d=st.integers(1, 40),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    exponent=st.sampled_from([0.5, 1.0, 2.0, 3.0]),
    min_distance=st.sampled_from([0.0, 0.7]),
    max_distance=st.sampled_from([np.inf, 1.0, 2.0]),
)
@settings(max_examples=60, deadline=None)
def test_within_one_ulp(
    seed: int, n_in: int, n_out: int, d: int, scale: float, exponent: float, min_distance: float, max_distance: float
) -> None:
    limits = {"min_distance": min_distance, "max_distance": max(scale, 1.0) * max_distance * d**0.5}
    operator = coordinates(seed, n_in, n_out, d, scale, gain=1.3, exponent=exponent, **limits)
    expected = float64_weights(operator).astype(np.float32)
    assert ulps(weights(operator), expected) <= 1
    assert ulps(operator.to_dense(), expected) <= 1


@pytest.mark.parametrize("offset", [1e-6, 1e-4, 1e-2])
def test_near_points_far_from_the_origin_keep_all_digits(offset: float) -> None:
    base = coordinates(0, 300, 200, 3, scale=100.0)
    source = base.source.copy()
    source[:200] = np.nextafter(base.target, np.inf) + np.float32(offset) * (offset > 1e-6)
    operator = Coordinates(source, base.target, base.mask)
    assert ulps(weights(operator), float64_weights(operator).astype(np.float32)) <= 1


@pytest.mark.parametrize("far", [0, 1, 1000])
def test_pairs_at_max_distance_are_decided_as_in_the_reference(far: int) -> None:
    """Whole numbers over 64, so that many pairs are exactly 7 apart; the expanded form alone puts some beyond."""
    rng = np.random.default_rng(far)
    source = rng.integers(-10 * 64, 10 * 64, (300, 3))
    step = rng.permuted(np.tile([2, 3, 6], (300, 1)), axis=1) * rng.choice([-64, 64], (300, 3))
    target = source + step + np.repeat([[0, 0, 0], [1, 0, 0]], 150, axis=0)
    at = rng.normal(0, far, 3).astype(np.float16).astype(np.float32)
    operator = Coordinates(
        (source / 64 + at).astype(np.float32), (target / 64 + at).astype(np.float32), np.ones(300, np.float32),
        max_distance=7,
    )  # fmt: skip
    is_beyond = ((target[:, None] - source) ** 2).sum(-1) > (7 * 64) ** 2
    assert 0.2 < np.mean(np.diag(is_beyond)) < 0.3
    np.testing.assert_array_equal(weights(operator) == 0, is_beyond)
    np.testing.assert_array_equal(operator.to_dense() == 0, is_beyond)


def test_max_distance_gives_sparse_weights() -> None:
    first, second = coordinates(0, 40, 30, 3, max_distance=1.5), coordinates(1, 30, 20, 3)
    network = materialize(Network((Layer(first, None, Relu()), Layer(second, None, Identity()))))
    weight = network.layers[0].weight
    assert isinstance(weight, Sparse) and weight.block == (1, 1) and isinstance(network.layers[1].weight, Dense)
    assert 0 < weight.macs == np.count_nonzero(float64_weights(first)) < 0.8 * first.macs
    np.testing.assert_array_equal(weight.to_dense(), weights(first))


def test_more_than_one_tile_in_both_directions() -> None:
    operator = coordinates(0, 9000, 600, 64)
    assert ulps(weights(operator), operator.to_dense()) <= 1


def test_a_mask_of_zero_silences_a_neuron() -> None:
    base = coordinates(0, 5, 4, 3)
    mask = base.mask.copy()
    mask[2] = 0
    result = weights(Coordinates(base.source, base.target, mask))
    assert np.all(result[:, 2] == 0) and np.all(result[:, 3] != 0)


def two_layers(second: Coordinates) -> Network:
    first = coordinates(0, 6, second.shape[1], 3)
    return Network((Layer(first, None, Relu()), Layer(second, None, Identity())))


def test_coincident_neurons_are_named() -> None:
    second = coordinates(1, 5, 4, 3)
    target = second.target.copy()
    target[3] = second.source[1]
    network = two_layers(Coordinates(second.source, target, second.mask))
    with pytest.raises(NetworkError, match=r"layer 1.*neuron 1.*neuron 3"):
        materialize(network)


def test_max_distance_hides_no_coincident_neurons() -> None:
    base = coordinates(1, 5, 4, 3)
    with pytest.raises(NetworkError, match=r"neuron 0.*neuron 0"):
        weights(Coordinates(base.source, base.source[:4].copy(), base.mask, max_distance=1e-3))


def test_coincident_neurons_with_a_floor_are_fine() -> None:
    base = coordinates(1, 5, 4, 3)
    operator = Coordinates(base.source, base.source[:4].copy(), base.mask, min_distance=0.25)
    np.testing.assert_allclose(np.diag(weights(operator)), base.mask[:4] / 0.25, rtol=1e-6)


def test_a_weight_beyond_float32_is_named() -> None:
    base = coordinates(1, 5, 4, 3)
    source = np.zeros_like(base.source)
    target = base.target.copy()
    target[2], source[0] = 1e-30, 2e-30
    network = two_layers(Coordinates(source + np.eye(5, 3, -1, np.float32), target, base.mask, exponent=2.0))
    with pytest.raises(NetworkError, match=r"layer 1.*neuron \d.*neuron 2.*float32"):
        materialize(network)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_coordinates_must_be_finite(value: float) -> None:
    base = coordinates(1, 5, 4, 3)
    source = base.source.copy()
    source[4, 1] = value
    with pytest.raises(NetworkError, match=r"source.*\[4, 1\]"):
        Coordinates(source, base.target, base.mask)


def test_only_coordinates_change() -> None:
    operator = coordinates(0, 6, 5, 3)
    dense = Dense(np.ones((5, 6), np.float32))
    network = materialize(Network((Layer(Sum(dense, operator), None, Identity()),)))
    weight = network.layers[0].weight
    assert isinstance(weight, Sum) and weight.a is dense
    np.testing.assert_array_equal(weight.b.to_dense(), weights(operator))


MEMORY_SCRIPT = """
import sys
import numpy as np
from sen_edge.passes.materialize import weights
from sen_runtime.ir.operators import Coordinates
from sen_runtime.bench.memory import peak_bytes
n, d = 8192, int(sys.argv[1])
rng = np.random.default_rng(0)
points = [rng.normal(size=(n, d)).astype(np.float32) for _ in range(2)]
operator = Coordinates(*points, np.full(n, 0.5, np.float32))
before = peak_bytes()
weights(operator)
print(peak_bytes() - before)
"""


@pytest.mark.parametrize("d", [3, 32])
def test_peak_memory_is_the_result_and_256_mib(d: int) -> None:
    run = subprocess.run([sys.executable, "-c", MEMORY_SCRIPT, str(d)], capture_output=True, text=True, check=True)
    assert int(run.stdout) <= 8192 * 8192 * 4 + 256 * 2**20
