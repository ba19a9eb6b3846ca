"""Network representation: rejected contradictions, and passes over weights."""

import numpy as np
import pytest

from sen_runtime.errors import NetworkError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, map_weights
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
from tests.support.images import f32, i32

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
