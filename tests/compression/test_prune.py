"""Pruning: removed weights, compensation, errors."""

from dataclasses import replace

import numpy as np
import pytest

from sen_edge.compression.lowrank import factorize, fold_linear
from sen_edge.compression.moments import COMMON, CompressionWarning, moments, sensitivities
from sen_edge.compression.prune import keep_neurons, prune
from sen_edge.errors import DataError, UsageError
from sen_edge.passes.materialize import materialize
from sen_runtime import reference
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sum
from tests.support.networks import random_input, random_network

pytestmark = pytest.mark.filterwarnings("ignore::sen_edge.compression.moments.CompressionWarning")

RNG = np.random.default_rng


def perceptron(seed: int = 0, kinds: tuple[str, ...] = ("dense",)) -> Network:
    return random_network(RNG(seed), kinds=kinds, sizes=(24, 32, 12, 5))


def inputs(network: Network, n: int = 400, seed: int = 1) -> np.ndarray:
    """Inputs that hang together, as real ones do."""
    if network.input_coding == "spikes":
        return random_input(RNG(seed), network, n)
    rng = RNG(seed)
    return (rng.random((n, 6)) @ rng.random((6, network.n_in)) / 3).astype(np.float32)


def error(network: Network, other: Network, x: np.ndarray) -> float:
    expected, actual = reference.run(network, x), reference.run(other, x)
    return float(np.sqrt(np.mean((actual - expected) ** 2) / np.var(expected)))


def density(network: Network) -> float:
    values = [layer.weight.to_dense() for layer in materialize(network).layers]
    return sum(int(np.count_nonzero(w)) for w in values) / sum(w.size for w in values)


NETWORKS = {
    "perceptron": perceptron(),
    "coordinates": random_network(RNG(5), kinds=("coordinates",), sizes=(24, 32, 12, 5)),
    "forms": random_network(RNG(6), kinds=("low_rank", "sparse", "sum"), sizes=(24, 32, 12, 5)),
    "spiking": random_network(RNG(7), spiking=True, kinds=("dense",), sizes=(24, 32, 12, 5)),
    "spikes": random_network(RNG(8), spiking=True, kinds=("dense",), sizes=(24, 32, 5), input_coding="spikes"),
    "spike count": random_network(RNG(9), spiking=True, kinds=("dense",), sizes=(24, 32, 5), readout="spike_count"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_pruned_to_the_sparsity(name: str) -> None:
    network = NETWORKS[name]
    x = inputs(network)
    result = prune(network, sparsity=0.5, calibration=x)
    assert density(result) <= 0.501
    assert np.isfinite(reference.run(result, x)).all()
    again = prune(network, sparsity=0.5, calibration=x)
    assert np.array_equal(reference.run(result, x), reference.run(again, x))


def test_second_order_is_better_than_magnitude_and_bias_better_than_none() -> None:
    network = perceptron()
    x, fresh = inputs(network), inputs(network, seed=2)
    errors = [
        error(network, prune(network, sparsity=0.6, **options), fresh)
        for options in (
            {"calibration": x},
            {"criterion": "magnitude", "calibration": x},
            {"criterion": "magnitude"},
        )
    ]
    assert errors[0] < 0.5 * errors[1] < 0.5 * errors[2]


def test_biases_keep_the_means_of_every_layer() -> None:
    network = NETWORKS["coordinates"]
    x = inputs(network)
    for options in ({"sparsity": 0.5}, {"sparsity": 0.4, "criterion": "magnitude"}):
        result = prune(network, calibration=x, **options)
        before = [layer.weight.affine(x_, layer.bias) for layer, x_ in _fed(materialize(network), x)]
        after = [layer.weight.affine(x_, layer.bias) for layer, x_ in _fed(materialize(result), x)]
        for a, b in zip(before, after, strict=True):
            assert np.allclose(a.mean(0), b.mean(0), atol=1e-4 * np.abs(a).max())


def _fed(network: Network, x: np.ndarray):
    return zip(network.layers, reference.layer_inputs(network, x)[0], strict=True)


def test_no_sparsity_changes_nothing() -> None:
    network = perceptron()
    x = inputs(network)
    assert error(network, prune(network, sparsity=0.0, calibration=x), x) < 1e-5


@pytest.mark.parametrize(("pattern", "zeros"), [("16x1", 0.5), ("1x4", 0.5), ("4x1", 0.5), ("2:4", 0.5), ("1:4", 0.75)])
def test_patterns(pattern: str, zeros: float) -> None:
    network = random_network(RNG(3), kinds=("dense",), sizes=(32, 48, 16))
    given = {} if ":" in pattern else {"sparsity": zeros}
    result = prune(network, pattern=pattern, calibration=inputs(network), **given)
    assert density(result) == pytest.approx(1 - zeros, abs=0.01)


def test_scopes_and_layers() -> None:
    network = perceptron()
    x = inputs(network)
    by_layer = prune(network, sparsity=0.5, scope="layer", calibration=x)
    shares = [np.mean(layer.weight.to_dense() == 0) for layer in by_layer.layers]
    assert shares == pytest.approx([0.5] * 3, abs=0.01)
    first = prune(network, sparsity=0.5, layers=[0], calibration=x)
    assert [bool((layer.weight.to_dense() == 0).any()) for layer in first.layers] == [True, False, False]


def test_thresholds() -> None:
    network = perceptron()
    x = inputs(network)
    by_weight = prune(network, threshold=0.2, criterion="magnitude")
    for before, after in zip(network.layers, by_weight.layers, strict=True):
        w = before.weight.to_dense()
        assert np.array_equal(after.weight.to_dense(), np.where(np.abs(w) >= 0.2, w, 0))
    by_error = [prune(network, threshold=t, calibration=x) for t in (0.02, 0.2)]
    assert error(network, by_error[0], x) < error(network, by_error[1], x)
    assert density(by_error[0]) > density(by_error[1])


def test_a_radius_keeps_coordinates_and_needs_no_mask() -> None:
    network = NETWORKS["coordinates"]
    whole = tuple(replace(each, weight=replace(each.weight, max_distance=np.inf)) for each in network.layers)
    network = replace(network, layers=whole)
    result = prune(network, sparsity=0.4, criterion="distance", scope="layer")
    for layer in result.layers:
        assert isinstance(layer.weight, Coordinates) and layer.weight.has_max_distance
        assert np.mean(layer.weight.to_dense() != 0) == pytest.approx(0.6, abs=0.02)
    radius = prune(network, threshold=2.5, criterion="distance")
    assert {layer.weight.max_distance for layer in radius.layers} == {2.5}


def test_neurons_go_whole_and_the_dead_at_no_cost() -> None:
    network = perceptron()
    x = inputs(network)
    smaller = prune(network, sparsity=0.5, pattern="neurons", calibration=x)
    assert smaller.layer_sizes == (24, 16, 6, 5)
    first = network.layers[0]
    bias = np.zeros(32, np.float32) if first.bias is None else first.bias.copy()
    bias[:7] = -1000  # never above 0
    dead = replace(network, layers=(replace(first, bias=bias), *network.layers[1:]))
    without = prune(dead, sparsity=0.0, pattern="neurons", layers=[0], calibration=x)
    assert without.layer_sizes[1] <= 25
    assert error(dead, without, x) < 1e-4


def test_without_inputs_neurons_of_coordinates_leave_coordinates() -> None:
    network = NETWORKS["coordinates"]
    smaller = prune(network, sparsity=0.5, pattern="neurons", criterion="magnitude")
    assert smaller.layer_sizes == (24, 16, 6, 5)
    assert all(isinstance(layer.weight, Coordinates) for layer in smaller.layers)
    kept = keep_neurons(network, {0: np.arange(32)})
    assert error(network, kept, inputs(network)) == 0


def test_unreachable_neuron_is_named() -> None:
    w = np.ones((3, 4), np.float32)
    w[1] = 1e-6
    network = Network((Layer(Dense(w), None, Identity()),))
    with pytest.warns(CompressionWarning, match=r"layer 0.*neuron 1\b"):
        prune(network, sparsity=0.5, criterion="magnitude")


def test_rank_deficient_calibration_gives_a_warning() -> None:
    network = perceptron()
    with pytest.warns(CompressionWarning, match=r"layer 0.*\b400\b.*\b24\b"):
        prune(network, sparsity=0.5, calibration=inputs(network))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "sparsity"),
        ({"sparsity": -0.1}, "sparsity"),
        ({"sparsity": float("nan")}, "sparsity"),
        ({}, "pattern"),
        ({"sparsity": 0.5, "threshold": 0.1}, r"sparsity.*threshold"),
        ({"threshold": 0.0}, "threshold"),
        ({"rank": 3}, "pattern"),
        ({"sparsity": 0.5, "criterion": "random"}, r"criterion.*'random'"),
        ({"sparsity": 0.5, "scope": "all"}, r"scope.*'all'"),
        ({"sparsity": 0.5, "pattern": "3"}, r"pattern.*'3'"),
        ({"sparsity": 0.5, "layers": [3]}, "layer 3"),
        ({"sparsity": 0.5, "layers": []}, "layers"),
        ({"sparsity": 0.7, "pattern": "2:4"}, "sparsity"),
        ({"threshold": 0.7, "pattern": "2:4"}, "threshold"),
        ({"threshold": 0.7, "pattern": "neurons"}, "threshold"),
        ({"sparsity": 0.5, "criterion": "distance"}, "coordinates"),
        ({"sparsity": 0.5, "criterion": "distance", "pattern": "1x4"}, r"pattern.*1x4"),
        ({"sparsity": 0.5, "pattern": "neurons", "layers": [2]}, "hidden"),
    ],
)
def test_bad_requests_are_refused(options: dict, message: str) -> None:
    network = perceptron()
    with pytest.raises(UsageError, match=message):
        prune(network, calibration=inputs(network), **options)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (None, "calibration"),
        (np.ones((9, 23), np.float32), r"\[9, 23\].*\[batch, 24\]"),
        (np.full((9, 24), np.nan, np.float32), r"input 0.*nan"),
        (np.ones((0, 24), np.float32), r"\[0, 24\]"),
    ],
)
def test_bad_calibration_is_refused(calibration: np.ndarray | None, message: str) -> None:
    from sen_runtime.errors import SenError

    for compress in (prune, factorize):
        options = {"sparsity": 0.5} if compress is prune else {"rank": 2}
        with pytest.raises(SenError, match=message) as caught:
            compress(perceptron(), calibration=calibration, **options)
        assert calibration is not None or isinstance(caught.value, DataError)


# --- low rank ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_factorized(name: str) -> None:
    network = NETWORKS[name]
    x = inputs(network)
    result = factorize(network, rank=4, calibration=x)
    assert any(isinstance(layer.weight, LowRank) for layer in result.layers)
    assert result.macs < sum(np.prod(layer.weight.shape) for layer in network.layers)
    assert np.isfinite(reference.run(result, x)).all()


def test_rank_follows_from_operations_or_error() -> None:
    network = perceptron()
    x = inputs(network)
    for share in (0.3, 0.6):
        assert factorize(network, macs=share, calibration=x).macs <= share * network.macs
    exact, rough = (factorize(network, error=e, calibration=x) for e in (0.01, 0.3))
    assert error(network, exact, x) < error(network, rough, x)
    assert rough.macs < exact.macs


def test_outputs_count_more_than_weights() -> None:
    network = perceptron()
    x = inputs(network)
    result = factorize(network, rank=6, layers=[0], calibration=x)
    u, s, v = np.linalg.svd(network.layers[0].weight.to_dense(), full_matrices=False)
    plain = replace(network.layers[0], weight=LowRank((u[:, :6] * s[:6]).astype(np.float32), v[:6].astype(np.float32)))
    assert error(network, result, x) < 0.5 * error(network, replace(network, layers=(plain, *network.layers[1:])), x)


def test_near_field_next_to_the_factors() -> None:
    network = perceptron()
    x = inputs(network)
    both = factorize(network, rank=2, near=0.2, layers=[0], calibration=x)
    assert isinstance(both.layers[0].weight, Sum)
    alone = factorize(network, rank=2, layers=[0], calibration=x)
    assert error(network, both, x) < error(network, alone, x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank"),
        ({"rank": 25}, r"rank.*\b24\b"),
        ({}, "rank"),
        ({"rank": 2, "macs": 0.5}, "rank"),
        ({"macs": 0.0}, "macs"),
        ({"macs": 0.001}, "rank 1"),
        ({"error": 1.0}, r"\berror\b"),
        ({"rank": 2, "near": 1.0}, "near"),
        ({"rank": 2, "near": 0.1, "pattern": "2:4"}, "pattern"),
        ({"rank": 2, "layers": [7]}, "layer 7"),
    ],
)
def test_bad_ranks_are_refused(options: dict, message: str) -> None:
    network = perceptron()
    with pytest.raises(UsageError, match=message):
        factorize(network, calibration=inputs(network), **options)


def test_linear_layers_are_multiplied_out_exactly() -> None:
    rng = RNG(0)
    w1, w2 = (rng.normal(size=shape).astype(np.float32) for shape in ((10, 12), (4, 10)))
    for first in (Dense(w1), LowRank(w1[:, :3].copy(), np.eye(3, 12, dtype=np.float32))):
        for bias in (None, rng.normal(size=10).astype(np.float32)):
            for last in (Identity(), Relu()):
                network = Network(
                    (
                        Layer(first, bias, Identity()),
                        Layer(Dense(w2), None, last),
                        Layer(Dense(w1.T[:5, :4].copy()), None, Identity()),
                    )
                )
                folded = fold_linear(network)
                assert len(folded.layers) < 3 and folded.macs <= network.macs
                x = rng.normal(size=(6, 12)).astype(np.float32)
                assert np.allclose(reference.run(network, x), reference.run(folded, x), atol=1e-4)


# --- what it rests on ----------------------------------------------------------------------------


def test_moments_are_those_of_all_inputs_at_once() -> None:
    network, other = perceptron(0), perceptron(0)
    changed = replace(other, layers=(replace(other.layers[0], bias=np.ones(32, np.float32)), *other.layers[1:]))
    x = inputs(network, 2300)
    found = moments(network, changed, x)
    before, after = (reference.layer_inputs(each, x)[0] for each in (network, changed))
    for one, a, b in zip(found, before, after, strict=True):
        a, b = a.astype(np.float64), b.astype(np.float64)
        assert np.allclose(one.mean, a.mean(0)) and np.allclose(one.compressed_mean, b.mean(0))
        assert np.allclose(one.covariance, np.cov(b.T, bias=True), atol=1e-9)
        lost = (a - b - (a - b).mean(0)).T @ (b - b.mean(0)) / len(a)
        assert np.allclose(one.lost, lost, atol=1e-7)


def test_sensitivities_are_derivatives_of_the_outputs() -> None:
    network = perceptron()
    x = inputs(network, 40)
    found = sensitivities(network, x)
    metric = np.eye(5) - (1 - COMMON) / 5
    assert np.allclose(found[-1], metric)
    hidden = network.layers[1]
    w, bias = network.layers[2].weight.to_dense().astype(float), hidden.bias
    y = hidden.weight.affine(reference.layer_inputs(network, x)[0][1], bias)
    expected = sum(np.outer(on, on) * (w.T @ metric @ w) for on in (y > 0).astype(float)) / len(x)
    assert np.allclose(found[1], expected, atol=1e-5 * np.abs(expected).max())


def test_many_outputs_are_mixed_at_random() -> None:
    network = random_network(RNG(0), kinds=("dense",), sizes=(10, 6, 400))
    found = sensitivities(network, inputs(network, 50))
    w = network.layers[1].weight.to_dense().astype(float)
    on = reference.layer_inputs(network, inputs(network, 50))[0][1] > 0
    metric = np.eye(400) - (1 - COMMON) / 400
    expected = np.mean([np.outer(row, row) for row in on.astype(float)], axis=0) * (w.T @ metric @ w)
    assert np.linalg.norm(found[0] - expected) < 0.5 * np.linalg.norm(expected)


def test_a_radius_on_a_large_layer_writes_no_matrix_out() -> None:
    rng = RNG(0)
    source, target = rng.normal(size=(2, 70_000, 3)).astype(np.float32)  # 20 GB as a matrix
    network = Network((Layer(Coordinates(source, target, np.ones(70_000, np.float32)), None, Identity()),))
    weight = prune(network, threshold=0.5, criterion="distance").layers[0].weight
    assert isinstance(weight, Coordinates) and weight.max_distance == 0.5
