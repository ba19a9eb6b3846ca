"""Network representation: semantics of operators, and rejected contradictions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_runtime.errors import NetworkError
from sen_runtime.ir.network import Layer, Network, map_weights
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import (
    Coordinates,
    Dense,
    LowRank,
    Sparse,
    Sum,
    leaves,
    map_leaves,
)
from sen_runtime.ir.operators.coordinates import check_distances, check_range


def f32(*values):
    return np.array(values, np.float32)


def i32(*values):
    return np.array(values, np.int32)


def normal(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# What an operator means


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


# Sizes


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


# What is refused

ONE = Dense(f32([1]))
TWO = Dense(f32([1, 2]))
POINT = f32([0, 0])


def coordinates(source=POINT, target=POINT, mask=(1,), **scalars):
    return lambda: Coordinates(source, target, np.asarray(mask, np.float32), **scalars)


def sparse(values=((1,), (2,)), columns=(0, 1), starts=(0, 2), shape=(1, 2), block=(1, 1)):
    return lambda: Sparse(np.array(values, np.float32), i32(*columns), i32(*starts), shape, block)


def network(*layers, **fields):
    return lambda: Network(tuple(Layer(weight, None, neuron) for weight, neuron in layers), **fields)


REFUSED = {
    # checks.py, through Dense
    "a list": (lambda: Dense([[1.0]]), r"weights.*list.*float32.*float16"),
    "float64": (lambda: Dense(np.ones((1, 1))), r"weights.*float64.*float32.*float16"),
    "integers": (lambda: Dense(np.ones((1, 1), int)), r"weights.*int64"),
    "big-endian": (lambda: Dense(np.ones((1, 1), ">f4")), r"weights.*>f4"),
    "a vector": (lambda: Dense(f32(1)), r"weights.*shape.*\[1\].*2"),
    "three axes": (lambda: Dense(f32([[1]])), r"weights.*shape.*\[1, 1, 1\].*2"),
    "empty": (lambda: Dense(np.zeros((0, 3), np.float32)), r"weights.*shape.*\[0, 3\]"),
    "NaN": (lambda: Dense(f32([1, 2], [np.nan, 3])), r"weights.*\[1, 0\].*nan.*finite"),
    "infinite": (lambda: Dense(f32([1, -np.inf])), r"weights.*\[0, 1\].*finite"),
    "infinite float16": (lambda: Dense(np.array([[np.inf]], np.float16)), r"weights.*\[0, 0\].*inf"),
    # Coordinates
    "source": (coordinates(source=f32(1)), r"source.*shape.*\[1\]"),
    "target": (coordinates(target=f32(1)), r"target.*shape.*\[1\]"),
    "mask axes": (coordinates(mask=[[1]]), r"mask.*shape.*\[1, 1\]"),
    "dimensions": (
        coordinates(target=f32([0, 0, 1])),
        r"source.*2.*target.*3",
    ),
    "mask length": (coordinates(mask=(1, 1)), r"mask.*2 values.*1 source"),
    "mask above 1": (coordinates(mask=(1.0001,)), r"mask.*values outside \[-1, 1\]"),
    "mask below -1": (coordinates(mask=(-1.0001,)), r"mask.*values outside \[-1, 1\]"),
    "gain": (coordinates(gain=np.nan), r"gain.*nan.*finite"),
    "gain beyond float32": (coordinates(gain=1e39), r"gain.*inf.*finite"),
    "exponent": (coordinates(exponent=0), r"exponent.*0.*0"),
    "exponent that rounds to 0": (coordinates(exponent=1e-60), r"exponent.*0.*0"),
    "exponent infinite": (coordinates(exponent=np.inf), r"exponent.*inf.*finite"),
    "min_distance": (coordinates(min_distance=-0.5), r"min_distance.*-0\.5.*0"),
    "min_distance infinite": (coordinates(min_distance=np.inf), r"min_distance.*inf"),
    "max_distance": (coordinates(max_distance=0), r"max_distance.*0.*min_distance.*0"),
    "max_distance negative": (coordinates(max_distance=-np.inf), r"max_distance.*-inf.*finite"),
    "max_distance NaN": (coordinates(max_distance=np.nan), r"max_distance.*nan.*finite"),
    "max_distance beyond float32": (coordinates(max_distance=1e39), r"max_distance.*inf.*finite"),
    "max_distance at the floor": (
        coordinates(min_distance=2, max_distance=2 + 1e-9),
        r"max_distance.*2.*min_distance.*2",
    ),
    # Sparse
    "shape": (sparse(shape=(0, 2)), r"weights.*shape \(0, 2\).*\(1, 1\).*sizes.*1"),
    "block": (sparse(block=(1, 0)), r"weights.*shape \(1, 2\).*\(1, 0\).*sizes.*1"),
    "values axes": (sparse(values=(1, 2)), r"values.*shape.*\[2\]"),
    "values NaN": (sparse(values=((1,), (np.nan,))), r"values.*\[1, 0\].*nan"),
    "values width": (sparse(block=(1, 2)), r"values.*1 columns.*1.*2"),
    "columns count": (sparse(columns=(0,)), r"columns.*int32 \[1\].*int32 \[2\]"),
    "columns dtype": (
        lambda: Sparse(f32([1]), np.zeros(1, np.int64), i32(0, 1), (1, 1)),
        r"columns.*int64 \[1\].*int32 \[1\]",
    ),
    "columns a list": (
        lambda: Sparse(f32([1]), [0], i32(0, 1), (1, 1)),
        r"columns.*list.*int32 \[1\]",
    ),
    "row_starts count": (sparse(starts=(0, 1, 2)), r"row_starts.*int32 \[3\].*int32 \[2\]"),
    "row_starts, first": (sparse(starts=(1, 2)), r"row_starts.*0.*2"),
    "row_starts, last": (sparse(starts=(0, 1)), r"row_starts.*0.*2"),
    "row_starts fall": (sparse(starts=(0, 2, 1, 2), shape=(3, 2)), r"row_starts.*0.*2"),
    "columns negative": (sparse(columns=(-1, 1)), r"columns.*0\.\.1"),
    "columns too far": (sparse(columns=(0, 2)), r"columns.*0\.\.1"),
    "columns too far, blocks": (
        sparse(values=((1, 0),), columns=(2,), starts=(0, 1), shape=(1, 3), block=(1, 2)),
        r"columns.*0\.\.1",
    ),
    "columns fall": (sparse(columns=(1, 0)), "columns"),
    "columns twice": (sparse(columns=(1, 1)), "columns"),
    "columns fall, last row": (
        sparse(values=((1,), (2,), (3,)), columns=(1, 1, 0), starts=(0, 1, 1, 3), shape=(3, 2)),
        "columns",
    ),
    "overhang right": (
        sparse(values=((1, 2),), columns=(1,), starts=(0, 1), shape=(1, 3), block=(1, 2)),
        r"values outside.*0",
    ),
    "overhang below": (
        sparse(values=((1, 2),), columns=(0,), starts=(0, 1), shape=(1, 1), block=(2, 1)),
        r"values outside.*0",
    ),
    # LowRank, Sum
    "left": (lambda: LowRank(f32(1), f32([1])), r"left factor.*shape.*\[1\]"),
    "right": (lambda: LowRank(f32([1]), f32(1)), r"right factor.*shape.*\[1\]"),
    "rank": (
        lambda: LowRank(f32([1, 2]), f32([1, 2])),
        r"left factor.*\[1, 2\].*right factor.*\[1, 2\].*sizes",
    ),
    "sum": (lambda: Sum(ONE, TWO), r"weights.*shape \(1, 1\).*\(1, 2\)"),
    # neurons
    "beta above 1": (lambda: Lif(1.5), r"beta.*1\.5.*\[0, 1\]"),
    "beta below 0": (lambda: LeakyIntegrator(-0.1), r"beta.*-0\.1.*\[0, 1\]"),
    "beta NaN": (lambda: LeakyIntegrator(np.nan), r"beta.*nan.*finite"),
    "threshold 0": (lambda: Lif(0.5, 0), r"threshold.*0.*0"),
    "threshold negative": (lambda: Lif(0.5, -1), r"threshold.*-1.*0"),
    "threshold infinite": (lambda: Lif(0.5, np.inf), r"threshold.*inf.*finite"),
    "threshold beyond float32": (lambda: Lif(0.5, 1e39), r"threshold.*inf.*finite"),
    "reset": (lambda: Lif(0.5, 1, "none"), r"reset.*'none'"),
    # layers and networks
    "bias": (lambda: Layer(ONE, np.zeros(1), Relu()), r"bias.*float64"),
    "bias axes": (lambda: Layer(ONE, f32([1]), Relu()), r"bias.*shape.*\[1, 1\]"),
    "bias length": (lambda: Layer(ONE, f32(1, 2), Relu()), r"bias.*2 values.*1"),
    "no layers": (network(), "layer"),
    "timesteps": (network((ONE, Relu()), timesteps=-1), r"timesteps.*-1.*0"),
    "coding": (network((ONE, Relu()), input_coding="tempo"), r"input_coding.*'tempo'"),
    "readout": (
        network((ONE, Relu()), readout="max"),
        r"readout.*'max'.*mean_membrane.*last_membrane.*spike_count",
    ),
    "chain": (
        network((ONE, Relu()), (ONE, Relu()), (TWO, Relu())),
        r"layer 1.*1 outputs.*layer 2.*2 inputs",
    ),
    "spikes into a perceptron": (
        network((ONE, Relu()), input_coding="spikes"),
        r"coding 'spikes'.*timesteps.*0",
    ),
    "Lif in a perceptron": (network((ONE, Lif(1))), r"layer 0.*Lif"),
    "Relu that spikes": (
        network((ONE, Relu()), (ONE, LeakyIntegrator(1)), timesteps=2),
        r"layer 0.*Relu",
    ),
    "hidden integrator": (
        network((ONE, LeakyIntegrator(1)), (ONE, LeakyIntegrator(1)), timesteps=2),
        r"layer 0.*LeakyIntegrator",
    ),
    "membrane of Lif": (
        network((ONE, Lif(1)), (ONE, Lif(1)), timesteps=2, readout="last_membrane"),
        r"layer 1.*Lif",
    ),
    "spike count of an integrator": (
        network((ONE, LeakyIntegrator(1)), timesteps=2, readout="spike_count"),
        r"layer 0.*LeakyIntegrator",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_contradiction_is_refused(make, message):
    with pytest.raises(NetworkError, match=message):
        make()


def test_the_edge_of_what_is_allowed():
    """The nearest neighbours of what is refused above."""
    for make in (
        coordinates(mask=(-1,), gain=-3e38, exponent=1e-30, min_distance=0),
        coordinates(min_distance=2, max_distance=np.nextafter(np.float32(2), np.float32(3))),
        coordinates(max_distance=np.inf),
        sparse(),
        sparse(values=((1, 0),), columns=(1,), starts=(0, 1), shape=(1, 3), block=(1, 2)),
        sparse(values=((1, 0),), columns=(0,), starts=(0, 1), shape=(1, 1), block=(2, 1)),
        sparse(values=((1,), (2,)), columns=(1, 0), starts=(0, 1, 2), shape=(2, 2)),
        lambda: (Lif(0), Lif(1, 1e-30), LeakyIntegrator(1)),
        network((ONE, Relu()), readout="spike_count"),
        network((ONE, Lif(1)), timesteps=1, readout="spike_count", input_coding="spikes"),
    ):
        make()


# Passes


def test_leaves_come_from_left_to_right():
    a, b, c, d = (Dense(f32([value])) for value in range(4))
    assert list(leaves(Sum(Sum(a, b), Sum(c, d)))) == [a, b, c, d]
    assert list(leaves(a)) == [a]


def test_map_leaves_keeps_the_sums():
    a, b, c = (Dense(f32([value])) for value in (1, 2, 3))
    twice = map_leaves(Sum(a, Sum(b, c)), lambda leaf: Sum(leaf, leaf))
    assert isinstance(twice.b, Sum)
    assert list(leaves(twice)) == [a, a, b, b, c, c]
    assert twice.to_dense().tolist() == [[12]]


def test_map_weights_changes_weights_only():
    before = Network(
        (Layer(TWO, f32(7), Lif(0.5)), Layer(ONE, None, Lif(0.25))), 3, "spikes", "spike_count", {"a": "b"}
    )
    after = map_weights(before, lambda leaf: Dense(2 * leaf.w))
    assert [layer.weight.to_dense().tolist() for layer in after.layers] == [[[2, 4]], [[2]]]
    assert [layer.bias for layer in after.layers] == [layer.bias for layer in before.layers]
    assert [layer.neuron for layer in after.layers] == [Lif(0.5), Lif(0.25)]
    assert (after.timesteps, after.input_coding, after.readout) == (3, "spikes", "spike_count")
    assert after.metadata == {"a": "b"}


def test_map_weights_names_the_layer():
    meeting = Coordinates(f32([1, 2]), f32([1, 2]), f32(1))
    with pytest.raises(NetworkError, match=r"^layer 1.*neuron 0.*neuron 0") as caught:
        map_weights(
            Network((Layer(ONE, None, Relu()), Layer(meeting, None, Identity()))), lambda leaf: Dense(leaf.to_dense())
        )
    assert "min_distance" in caught.value.hint


def test_map_weights_names_the_layer_whose_shape_no_longer_fits():
    with pytest.raises(NetworkError, match=r"layer 0.*bias.*\b1\b.*\b2\b"):
        map_weights(Network((Layer(ONE, f32(1), Relu()),)), lambda leaf: Dense(f32([1], [2])))


def test_stored_numbers_that_are_not_zero() -> None:
    w = np.array([[1, 0, 2], [0, 0, 3]], np.float32)
    bias = np.array([0, 1], np.float32)
    places = [np.array([[0.0], [1.0], [2.0]], np.float32), np.array([[5.0], [6.0]], np.float32)]
    for weight, expected in (
        (Dense(w), 3),
        (Sparse.from_dense(w), 3),
        (LowRank(w[:, :1], w[:1]), 1 + 2),
        (Sum(Dense(w), Sparse.from_dense(w)), 6),
        (Coordinates(*places, np.ones(3, np.float32)), 6),
    ):
        assert Network((Layer(weight, bias, Relu()),)).nnz == expected + 1
