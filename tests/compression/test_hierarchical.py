"""Layers as hierarchical matrices in three sparse layers, compared with the materialized matrix."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.compression.clusters import STEP, grow, partition
from sen_edge.compression.hierarchical import _Blocks, hierarchical
from sen_edge.errors import UsageError
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.engines import native
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Lif, Relu
from sen_runtime.ir.operators import Coordinates, Dense
from tests.support.clouds import assert_judged, float64_weights, mixed, planes, relative


def product(layers: tuple[Layer, Layer, Layer]) -> np.ndarray:
    gather, couple, spread = (layer.weight.to_dense().astype(np.float64) for layer in layers)
    return spread @ (couple @ gather)


@pytest.mark.parametrize(
    "operator",
    [
        pytest.param(planes(0, 1500, 1200, 3, 12.0), id="wide planes"),
        pytest.param(planes(1, 1203, 1501, 3, 12.0, exponent=2.0), id="exponent 2"),
        pytest.param(planes(2, 1501, 999, 2, 40.0), id="lines"),
        pytest.param(planes(3, 1000, 1000, 4, 3.0, exponent=0.5), id="volumes"),
        pytest.param(mixed(4, 1201), id="one cloud"),
        pytest.param(mixed(5, 1200, min_distance=0.2), id="one cloud with a floor"),
        pytest.param(planes(6, 1500, 1500, 3, 12.0, zeros=0, max_distance=6.0), id="radius"),
        pytest.param(planes(7, 2000, 70, 3, 12.0), id="few outputs"),
        pytest.param(planes(8, 70, 2000, 3, 12.0), id="few inputs"),
    ],
)
@pytest.mark.parametrize("tolerance", [0.03, 0.002])
def test_three_layers_are_the_layer(operator: Coordinates, tolerance: float) -> None:
    bias = np.arange(operator.shape[0], dtype=np.float32)
    layers, estimate = hierarchical(Layer(operator, bias, Relu()), tolerance=tolerance, leaf_size=16)
    assert_judged(estimate, relative(product(layers), float64_weights(operator)), tolerance)
    assert sum(layer.nbytes for layer in layers) < 4 * operator.macs
    assert [layer.bias is bias for layer in layers] == [False, False, True]
    assert [layer.neuron for layer in layers] == [Identity(), Identity(), Relu()]


def test_near_blocks_are_exact_and_beyond_the_radius_nothing_is() -> None:
    operator = planes(6, 1500, 1500, 3, 12.0, zeros=0, max_distance=6.0)
    found = product(hierarchical(Layer(operator, None, Identity()), tolerance=0.01, leaf_size=16)[0])
    w = float64_weights(operator)
    distance = np.sqrt(((operator.target[:, None] - operator.source[None]) ** 2).sum(-1))
    assert not found[distance > 20].any()
    edge = np.abs(distance - 6) < 1e-3  # such a pair is in a near block: on either side of the radius there is another
    np.testing.assert_allclose(found[edge], w[edge], rtol=1e-5)


def test_a_layer_of_near_blocks_alone_is_exact() -> None:
    operator = planes(0, 300, 300, max_distance=1.1)
    layers, estimate = hierarchical(Layer(operator, None, Identity()), tolerance=1e-9, leaf_size=64)
    assert estimate.error == 0 and not len(_Blocks.of(operator, 64).far)
    np.testing.assert_allclose(product(layers), float64_weights(operator), rtol=1e-6)


def test_larger_tolerance_takes_fewer_bytes() -> None:
    layer = Layer(planes(0, 2000, 2000, 3, 6.0), None, Identity())
    forms = [hierarchical(layer, tolerance=tolerance)[0] for tolerance in (0.1, 0.01, 0.001)]
    sizes = [sum(part.nbytes for part in form) for form in forms]
    assert sizes == sorted(sizes) and sizes[0] < 0.6 * sizes[2] and sizes[1] < 0.07 * 4 * layer.weight.macs


@pytest.mark.parametrize("operator", [planes(0, 1000, 900, 3, 12.0), mixed(4, 1001)], ids=["planes", "one cloud"])
def test_engines_agree_on_the_three_layers(operator: Coordinates) -> None:
    layer = Layer(operator, np.linspace(-1, 1, operator.shape[0], dtype=np.float32), Relu())
    layers = hierarchical(layer, tolerance=0.01, leaf_size=16)[0]
    x = np.random.default_rng(0).random((3, operator.shape[1]), np.float32)
    network = Network(layers)
    expected = reference.run(network, x)
    found = native.load(image.dumps(network)).run(x)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())
    exact = reference.run(Network((layer,)), x)
    assert relative(expected, exact) < 0.03


def test_the_seed_decides_the_layers() -> None:
    layer = Layer(planes(0, 1500, 1500, 3, 12.0), None, Identity())
    runs = [hierarchical(layer, tolerance=0.03, seed=seed)[0] for seed in (1, 1, 2)]
    first, again, other = ([part.weight.values for part in layers] for layers in runs)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


GRID = Grid(1.0, 0)
PLANES = planes(0, 400, 400)


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        pytest.param(Layer(Dense(np.ones((3, 4), np.float32)), None, Identity()), {}, "Dense", id="dense"),
        pytest.param(Layer(PLANES, None, Lif(0.9)), {}, "Lif", id="spiking"),
        pytest.param(Layer(PLANES, None, Identity(), GRID), {}, "int8", id="int8"),
        pytest.param(Layer(PLANES, None, Identity()), {"tolerance": 1.5}, r"tolerance.*\b1\.5\b", id="tolerance"),
        pytest.param(Layer(PLANES, None, Identity()), {"leaf_size": 7}, r"leaf_size.*\b7\b", id="leaf"),
        pytest.param(Layer(planes(0, 9, 9, zeros=1), None, Identity()), {}, r"mask.*\b0\b", id="silent"),
        pytest.param(Layer(planes(0, 9, 9, gain=0), None, Identity()), {}, r"weights.*\b0\b", id="no gain"),
        pytest.param(Layer(planes(0, 300, 300, 20, zeros=0), None, Identity()), {}, r"\d+ bytes", id="size"),
    ],
)
def test_hierarchical_requests_that_make_no_sense(layer: Layer, options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hierarchical(layer, **({"tolerance": 0.1} | options))


def test_near_blocks_that_take_too_much_are_refused_before_bases_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Blocks, "bases", None)
    with pytest.raises(UsageError, match=r"\d+ bytes"):
        hierarchical(Layer(planes(0, 300, 300, 20, zeros=0), None, Identity()), tolerance=0.1)


def test_tolerance_below_float32_reports_the_reached_error() -> None:
    layer = Layer(planes(0, 2000, 2000, 3, 12.0), None, Identity())
    with pytest.raises(UsageError, match=r"\b1e-09\b|bytes"):
        hierarchical(layer, tolerance=1e-9)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_in=st.integers(1, 300),
    n_out=st.integers(1, 300),
    d=st.integers(1, 5),
    ratio=st.sampled_from([0.5, 1.0, 4.0]),
    min_distance=st.sampled_from([0.0, 0.5]),
    max_distance=st.sampled_from([1.0, np.inf]),
)
@settings(max_examples=50, deadline=None)
def test_blocks_cover_the_matrix_once(
    seed: int, n_in: int, n_out: int, d: int, ratio: float, min_distance: float, max_distance: float
) -> None:
    rng = np.random.default_rng(seed)
    p, q = (np.round(rng.normal(size=(n, d)), 1) for n in (n_in, n_out))  # some at one point
    source, target = grow(p, STEP), grow(q, STEP)
    distance = np.sqrt(((q[:, None] - p[None]) ** 2).sum(-1))
    covered = np.zeros((n_out, n_in), int)
    for blocks, is_far in zip(partition(target, source, ratio, min_distance, max_distance), (True, False), strict=True):
        for t, s in blocks:
            block = np.ix_(target.points(t), source.points(s))
            covered[block] += 1
            assert is_far or (target.child[t] == 0 and source.child[s] == 0)
            if is_far:
                width = max(np.ptp(a, axis=0) @ np.ptp(a, axis=0) for a in (p[block[1][0]], q[block[0][:, 0]])) ** 0.5
                assert width <= ratio * max(distance[block].min(), min_distance) + 1e-9
                assert distance[block].max() <= max_distance
    assert covered.max() <= 1 and np.all(covered[distance <= max_distance] == 1)


def test_clusters_hold_each_point_once() -> None:
    points = np.random.default_rng(0).normal(size=(1000, 3))
    tree = grow(points, 20)
    assert np.array_equal(np.sort(np.concatenate([tree.points(leaf) for leaf in tree.leaves])), np.arange(1000))
    assert tree.size[tree.leaves].max() <= 20
    for leaf in map(int, tree.leaves):
        inside, path = points[tree.points(leaf)], tree.path(leaf)
        assert np.array_equal(inside.min(axis=0), tree.low[leaf]) and np.array_equal(
            inside.max(axis=0), tree.high[leaf]
        )
        assert path[0] == 0 and path[-1] == leaf
        assert all(set(tree.points(inner)) < set(tree.points(outer)) for outer, inner in pairwise(path))
