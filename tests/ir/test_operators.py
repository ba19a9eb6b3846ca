"""Operators: semantics; sizes of operators and of networks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_runtime.errors import NetworkError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum
from sen_runtime.ir.operators.coordinates import check_distances, check_range
from tests.support.images import f32, i32


def normal(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("gain", "exponent", "min_distance", "max_distance"),
    [
        (1, 1, 0, np.inf),
        (-2.5, 1, 0, 2),
        (1, 2, 0, np.inf),
        (3, 1.5, 0.75, 1.5),
        (1, 0.5, 100, np.inf),
        (1, 0.5, 100, 101),
    ],
)
def test_coordinates_mean_gain_mask_over_distance(gain, exponent, min_distance, max_distance, dtype):
    source, target = normal(5, 3, seed=1, dtype=dtype), normal(4, 3, seed=2, dtype=dtype)
    mask = np.array([-1, -0.5, 0, 0.25, 1], dtype)
    w = Coordinates(source, target, mask, gain, exponent, min_distance, max_distance).to_dense()
    assert w.dtype == np.float32
    assert w.shape == (4, 5)
    for j in range(4):
        for i in range(5):
            between = sum((float(a) - float(b)) ** 2 for a, b in zip(source[i], target[j], strict=True)) ** 0.5
            expected = gain * float(mask[i]) / max(between, min_distance) ** exponent if between <= max_distance else 0
            assert w[j, i] == pytest.approx(expected, rel=1e-7, abs=0)


def test_coordinates_of_one_dimension_by_hand():
    weights = Coordinates(f32([0], [3]), f32([1], [-1], [2]), f32(1, -0.5), gain=2)
    assert weights.to_dense().tolist() == [[2, -0.5], [2, -0.25], [1, -1]]


def test_a_synapse_as_long_as_max_distance_counts_and_a_longer_one_does_not():
    source, target = f32([0, 0], [1, 1]), f32([3, 4], [np.nextafter(np.float32(3), np.float32(4)), 4], [1, 1.5])
    w = Coordinates(source, target, f32(-1, 0.5), max_distance=5).to_dense()
    np.testing.assert_array_equal(w, f32([-1 / 5, 0.5 / 13**0.5], [0, w[0, 1]], [-1 / 3.25**0.5, 1]))
    assert not np.signbit(w[1, 0])


def test_a_weight_that_is_left_out_may_be_beyond_float32():
    weights = Coordinates(f32([0], [1e-20]), f32([2e-20]), f32(1, 1), gain=1e20, max_distance=1.5e-20)
    with pytest.raises(NetworkError, match=r"neuron 1.*neuron 0"):
        weights.to_dense()
    assert Coordinates(f32([0]), f32([2e-20]), f32(1), gain=1e20, max_distance=1e-20).to_dense().tolist() == [[0]]


def test_coincident_neurons_are_both_named():
    weights = Coordinates(f32([0, 0], [1, 1], [2, 5]), f32([9, 9], [2, 5]), f32(1, 1, 1))
    with pytest.raises(NetworkError, match=r"neuron 2.*neuron 1") as caught:
        weights.to_dense()
    assert "min_distance" in caught.value.hint


def test_coincident_neurons_are_at_min_distance():
    assert Coordinates(f32([1, 2]), f32([1, 2]), f32(0.5), min_distance=0.25).to_dense().tolist() == [[2]]


def test_weights_beyond_float32_name_both_neurons():
    weights = Coordinates(f32([9, 0], [1e-30, 0]), f32([8, 0], [0, 0]), f32(1, 1), exponent=2)
    with pytest.raises(NetworkError, match=r"neuron 1.*neuron 1.*1e\+60.*float32"):
        weights.to_dense()
    with pytest.raises(NetworkError, match=r"inf.*float32"):
        Coordinates(f32([1e-30, 0]), f32([0, 0]), f32(1), exponent=20).to_dense()


def test_a_silent_neuron_very_near_is_no_number_either():
    """0 / 0: the distance's power underflows while the mask is 0."""
    with pytest.raises(NetworkError, match=r"nan.*float32"):
        Coordinates(f32([1e-30, 0]), f32([0, 0]), f32(0), exponent=20).to_dense()


def test_tiles_are_named_by_their_place_in_the_whole():
    with pytest.raises(NetworkError, match=r"neuron 101\b.*neuron 12\b"):
        check_distances(np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]), first_source=100, first_target=10)
    with pytest.raises(NetworkError, match=r"neuron 100\b.*neuron 11\b"):
        check_range(np.array([[1.0, 1.0], [-1e39, 1.0]]), first_source=100, first_target=10)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_stored_weights_mean_themselves(dtype):
    w = normal(3, 5, dtype=dtype)
    dense = Dense(w).to_dense()
    assert dense.dtype == np.float32
    np.testing.assert_array_equal(dense, w.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_low_rank_means_the_product(dtype):
    left, right = normal(4, 2, dtype=dtype), normal(2, 3, seed=1, dtype=dtype)
    w = LowRank(left, right).to_dense()
    assert w.dtype == np.float32
    exact = [[sum(float(left[j, r]) * float(right[r, i]) for r in range(2)) for i in range(3)] for j in range(4)]
    np.testing.assert_allclose(w, exact, rtol=1e-7)


def test_sum_means_the_sum():
    a, b, c = Dense(f32([1, 2], [3, 4])), Sparse.from_dense(f32([0, 10], [0, 0])), LowRank(f32([1], [2]), f32([100, 0]))
    assert Sum(a, Sum(b, c)).to_dense().tolist() == [[101, 12], [203, 4]]


@pytest.mark.parametrize("block", [(1, 1), (1, 4), (4, 1), (16, 1), (3, 2), (20, 20)])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (16, 8), (12, 12), (17, 3)])
def test_sparse_round_trip_for_every_block(shape, block):
    rng = np.random.default_rng(3)
    for density in (0, 0.15, 1):
        w = np.where(rng.random(shape) < density, rng.normal(size=shape), 0).astype(np.float32)
        sparse = Sparse.from_dense(w, block)
        np.testing.assert_array_equal(sparse.to_dense(), w)
        assert sparse.to_dense().flags.c_contiguous
        assert (sparse.shape, sparse.block, sparse.values.dtype) == (shape, block, np.float32)
        kept = {(j // block[0], i // block[1]) for j, i in np.argwhere(w)}
        assert list(zip(sparse.block_rows().tolist(), sparse.columns.tolist(), strict=True)) == sorted(kept)
        assert sparse.block_grid == (-(-shape[0] // block[0]), -(-shape[1] // block[1]))


def test_sparse_by_hand():
    """A 3 x 5 matrix in 2 x 2 blocks: the third row and the fifth column fill half of their blocks."""
    values = f32([1, 2, 3, 4], [5, 0, 6, 0], [7, 8, 0, 0])
    sparse = Sparse(values, i32(0, 2, 1), i32(0, 2, 3), (3, 5), (2, 2))
    assert sparse.to_dense().tolist() == [[1, 2, 0, 0, 5], [3, 4, 0, 0, 6], [0, 0, 7, 8, 0]]
    assert sparse.block_rows().tolist() == [0, 0, 1]


def test_sparse_keeps_float16():
    w = f32([1, 0], [0, 2]).astype(np.float16)
    assert Sparse.from_dense(w).values.dtype == np.float16
    assert Sparse.from_dense(w).to_dense().dtype == np.float32


def test_sparse_with_empty_rows_at_both_ends():
    w = f32([0, 0], [1, 0], [0, 0], [0, 2], [0, 0])
    assert Sparse.from_dense(w).row_starts.tolist() == [0, 0, 1, 1, 2, 2]
    assert Sparse.from_dense(w).to_dense().tolist() == w.tolist()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    block=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_sparse_is_the_matrix_it_was_made_from(seed, shape, block):
    rng = np.random.default_rng(seed)
    w = np.where(rng.random(shape) < 0.2, rng.normal(size=shape), 0).astype(np.float32)
    np.testing.assert_array_equal(Sparse.from_dense(w, block).to_dense(), w)


def test_sizes_of_operators():
    """shape, macs, nbytes: counted by hand."""
    coordinates = Coordinates(normal(5, 3), normal(4, 3, seed=1), np.ones(5, np.float32))
    sparse = Sparse(f32([1, 2, 3, 4], [5, 0, 6, 0], [7, 8, 0, 0]), i32(0, 2, 1), i32(0, 2, 3), (3, 5), (2, 2))
    low_rank = LowRank(normal(3, 2), normal(2, 5, dtype=np.float16))
    table = [
        (coordinates, (4, 5), 20, 4 * (15 + 12 + 5)),
        (Dense(normal(3, 5)), (3, 5), 15, 60),
        (Dense(normal(3, 5, dtype=np.float16)), (3, 5), 15, 30),
        (sparse, (3, 5), 12, 4 * (12 + 3 + 3)),
        (low_rank, (3, 5), 16, 4 * 6 + 2 * 10),
        (Sum(sparse, low_rank), (3, 5), 28, 72 + 44),
    ]
    for weight, *expected in table:
        assert [weight.shape, weight.macs, weight.nbytes] == expected
    assert coordinates.dimensions == 3
    assert low_rank.rank == 2


def test_sizes_of_networks():
    first = Layer(Dense(normal(3, 5)), f32(1, 2, 3), Relu())
    second = Layer(Dense(normal(2, 3, dtype=np.float16)), None, Identity())
    network = Network((first, second))
    assert (network.n_in, network.n_out, network.layer_sizes) == (5, 2, (5, 3, 2))
    assert (network.macs, network.nbytes) == (21, 60 + 12 + 12)
    assert (first.nbytes, second.nbytes) == (72, 12)
    assert not network.is_spiking
    assert Network((Layer(Dense(f32([1])), None, LeakyIntegrator(0.5)),), 1).is_spiking


def test_scalars_are_what_a_device_holds():
    third = float(np.float32(1 / 3))
    assert (Lif(1 / 3, 1 / 3).beta, Lif(1 / 3, 1 / 3).threshold, LeakyIntegrator(1 / 3).beta) == (third,) * 3
    weights = Coordinates(f32([0]), f32([1]), f32(1), 1 / 3, 1 / 3, 1 / 3)
    assert (weights.gain, weights.exponent, weights.min_distance) == (third,) * 3
    assert Coordinates(f32([0]), f32([1]), f32(1), max_distance=1 / 3).max_distance == third
