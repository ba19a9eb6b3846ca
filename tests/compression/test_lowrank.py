"""Low rank: optimal factors, error limits, near field, and merged linear layers."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.compression.lowrank import factorize, fold_linear, low_rank_plus_sparse
from sen_edge.compression.moments import CompressionWarning, moments, sensitivities
from sen_edge.compression.patterns import Pattern
from sen_edge.compression.prune import prune
from sen_edge.compression.quadratic import INPUT_DAMPING, OUTPUT_DAMPING, Quadratic
from sen_edge.errors import UsageError
from sen_edge.passes.materialize import materialize, to_sparse_layout
from sen_edge.passes.quantize import to_int8_weights
from sen_runtime import reference
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Dense, LowRank, Sparse, Sum
from tests.support.networks import random_network, random_operator

pytestmark = pytest.mark.filterwarnings("ignore::sen_edge.compression.moments.CompressionWarning")
RNG = np.random.default_rng
SIZES = (24, 32, 12, 5)


def perceptron(seed: int = 0, sizes: tuple[int, ...] = SIZES) -> Network:
    return random_network(RNG(seed), kinds=("dense",), sizes=sizes)


def inputs(network: Network, n: int = 300, seed: int = 1) -> np.ndarray:
    """Inputs that are far from independent, as pixels are."""
    rng = RNG(seed)
    mixed = rng.random((n, 6)) @ rng.random((6, network.n_in)) / 3
    return (mixed + 0.02 * rng.random(mixed.shape)).astype(np.float32)


def problem(n_out: int = 10, n_in: int = 16, seed: int = 0) -> tuple[Quadratic, np.ndarray, np.ndarray, np.ndarray]:
    """A problem, and its weights, C and A as they were given."""
    rng = RNG(seed)
    x, y = rng.normal(size=(60, n_in)) @ rng.normal(size=(n_in, n_in)), rng.normal(size=(30, n_out))
    w, c, a = rng.normal(size=(n_out, n_in)), x.T @ x / 60, y.T @ y / 30
    return Quadratic.of(w, c, a), w, c, a


def damped(matrix: np.ndarray, share: float) -> np.ndarray:
    return matrix + np.eye(len(matrix)) * share * np.trace(matrix) / len(matrix)


# --- one layer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 3, 9])
def test_factors_are_the_whitened_singular_value_decomposition(rank: int) -> None:
    task, w, c, a = problem()
    # any square roots L^T L = A and R R^T = C give the same optimum; Cholesky's share no code with the module
    left = np.linalg.cholesky(damped(a, OUTPUT_DAMPING)).T
    right = np.linalg.cholesky(damped(c, INPUT_DAMPING))
    u, values, vt = np.linalg.svd(left @ w @ right)
    best = np.linalg.solve(left, (u[:, :rank] * values[:rank]) @ vt[:rank]) @ np.linalg.inv(right)
    found = low_rank_plus_sparse(task, rank)
    assert isinstance(found, LowRank) and found.rank == rank
    assert np.allclose(found.to_dense(), best, atol=1e-5 * np.abs(w).max())
    assert np.allclose(task.tail_energies[: len(values)], np.cumsum(values[::-1] ** 2)[::-1])


def test_a_full_rank_reproduces_the_weights() -> None:
    task, w, _, _ = problem()
    assert np.allclose(low_rank_plus_sparse(task, 10).to_dense(), w, atol=1e-5)
    network = perceptron()
    dense = network.layers[0].weight.to_dense()
    x = inputs(network)
    here = Quadratic.of(
        dense.astype(np.float64), moments(network, network, x)[0].covariance, sensitivities(network, x)[0]
    )
    whole = replace(
        network, layers=(replace(network.layers[0], weight=low_rank_plus_sparse(here, 24)), *network.layers[1:])
    )
    assert np.allclose(reference.run(whole, x), reference.run(network, x), atol=1e-4)


@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_a_near_field_is_a_sparse_part_of_the_size_asked_for(pattern: str) -> None:
    task = problem()[0]
    found = low_rank_plus_sparse(task, 3, Pattern.parse(pattern), 32 / task.weight.size)
    assert isinstance(found, Sum) and isinstance(found.a, LowRank) and found.a.rank == 3
    assert isinstance(found.b, Sparse) and np.count_nonzero(found.b.to_dense()) == 32
    assert found.b.block == Pattern.parse(pattern).block
    alone = low_rank_plus_sparse(task, 3)
    errors = [task.relative_error(task.to_scaled(each.to_dense().astype(np.float64))) for each in (found, alone)]
    assert errors[0] < errors[1]


def test_a_single_far_connection_is_left_to_the_near_field() -> None:
    """Rank 1 and one odd weight: together they are exact, and no low rank alone would be."""
    rng = RNG(0)
    w = np.outer(rng.uniform(1, 2, 12), rng.uniform(1, 2, 15))
    w[3, 4] += 9
    task = Quadratic.of(w, np.eye(15), np.eye(12))
    found = low_rank_plus_sparse(task, 1, near=1 / w.size)
    assert isinstance(found, Sum) and np.argwhere(found.b.to_dense()).tolist() == [[3, 4]]
    # rounds of alternation come near, they are no closed form
    assert np.abs(found.to_dense() - w).max() < 0.05
    assert np.abs(low_rank_plus_sparse(task, 1).to_dense() - w).max() > 1


# --- networks ------------------------------------------------------------------------------------


def test_a_layer_for_which_a_rank_saves_nothing_stays() -> None:
    network = perceptron()  # break-even ranks: 24*32/56 = 13.7, 32*12/44 = 8.7, 12*5/17 = 3.5
    x = inputs(network)
    for rank, kinds in ((3, (LowRank, LowRank, LowRank)), (4, (LowRank, LowRank, Dense)), (9, (LowRank, Dense, Dense))):
        result = factorize(network, rank=rank, calibration=x)
        assert tuple(type(layer.weight) for layer in result.layers) == kinds
        assert result.macs < network.macs
        assert {layer.weight.rank for layer in result.layers if isinstance(layer.weight, LowRank)} == {rank}


def test_a_rank_that_saves_nothing_anywhere_changes_nothing() -> None:
    network = perceptron()
    with pytest.warns(CompressionWarning, match="MACs"):
        result = factorize(network, rank=20, calibration=inputs(network))
    for before, after in zip(network.layers, result.layers, strict=True):
        assert before.weight is after.weight and before.bias is after.bias


def test_a_sparse_layer_is_factorized_only_where_that_saves() -> None:
    network = perceptron(sizes=(40, 60, 50, 20))
    x = inputs(network)
    sparse = prune(network, sparsity=0.85, calibration=x)
    same = factorize(sparse, rank=8, calibration=x)  # less than dense, more than what is left
    assert [type(layer.weight) for layer in same.layers] == [type(layer.weight) for layer in sparse.layers]
    assert same.macs == sparse.macs
    half = factorize(sparse, macs=0.5, calibration=x)
    assert half.macs <= 0.5 * sparse.macs


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
@pytest.mark.parametrize("near", [0.0, 0.1])
def test_a_share_of_the_operations_is_kept_to(share: float, near: float) -> None:
    network = perceptron(sizes=(32, 40, 24, 20))
    result = factorize(network, macs=share, near=near, calibration=inputs(network))
    assert result.macs <= share * network.macs + 1  # the near field is rounded to whole weights
    assert result.macs > (share - 0.12) * network.macs
    same = factorize(network, macs=share, near=near, calibration=inputs(network))
    assert [layer.weight.macs for layer in result.layers] == [layer.weight.macs for layer in same.layers]


def test_layers_that_are_not_chosen_count_but_keep_their_form() -> None:
    network = perceptron()
    result = factorize(network, macs=0.7, layers=[0], calibration=inputs(network))
    assert [type(layer.weight) for layer in result.layers] == [LowRank, Dense, Dense]
    assert result.macs <= 0.7 * network.macs
    with pytest.raises(UsageError, match="rank 1"):
        factorize(network, macs=0.3, layers=[0], calibration=inputs(network))


@pytest.mark.parametrize("allowed", [0.02, 0.1, 0.4])
def test_error_limit_selects_the_min_rank(allowed: float) -> None:
    network = perceptron(sizes=(32, 40))
    x = inputs(network)
    task = Quadratic.of(
        network.layers[0].weight.to_dense().astype(np.float64),
        moments(network, network, x)[0].covariance,
        sensitivities(network, x)[0],
    )
    result = factorize(network, error=allowed, calibration=x).layers[0].weight
    assert isinstance(result, LowRank)
    assert task.relative_error(task.to_scaled(result.to_dense().astype(np.float64))) <= allowed + 1e-5
    if result.rank > 1:
        assert task.relative_error(task.truncated(task.weight, result.rank - 1)) > allowed


def test_means_of_the_outputs_stay() -> None:
    network = perceptron()
    x = inputs(network)
    result = factorize(network, rank=2, calibration=x)
    before, after = reference.run(network, x), reference.run(result, x)
    assert np.allclose(before.mean(0), after.mean(0), atol=1e-4)
    assert np.abs(before - after).max() > 1e-3


def test_later_layers_make_up_for_the_ones_before() -> None:
    network = perceptron(sizes=(24, 32, 10))
    x, fresh = inputs(network), inputs(network, seed=2)
    result = factorize(network, rank=2, layers=[0], calibration=x)
    assert not np.array_equal(result.layers[1].weight.to_dense(), network.layers[1].weight.to_dense())
    before, after = (reference.layer_inputs(each, x)[0][1].astype(np.float64) for each in (network, result))
    w = network.layers[1].weight.to_dense().astype(np.float64)
    z = after - after.mean(0)
    c = z.T @ z / len(z)
    lost = (before - after - (before - after).mean(0)).T @ z / len(z)
    expected = w + w @ lost @ np.linalg.inv(c + np.eye(len(c)) * 1e-2 * np.trace(c) / len(c))
    assert np.allclose(result.layers[1].weight.to_dense(), expected, atol=1e-4)
    without = replace(result, layers=(result.layers[0], network.layers[1]))
    expected = reference.run(network, fresh)
    errors = [np.mean((reference.run(each, fresh) - expected) ** 2) for each in (result, without)]
    assert errors[0] < errors[1]


def test_coordinates_are_written_out_first() -> None:
    network = random_network(RNG(3), kinds=("coordinates",), sizes=SIZES)
    x = inputs(network)
    result = factorize(network, rank=3, calibration=x)
    again = factorize(materialize(network), rank=3, calibration=x)
    assert np.array_equal(reference.run(result, x), reference.run(again, x))


@pytest.mark.parametrize("layers", [[], [-1], [3], [0, 9]])
def test_layers_that_are_not_there_are_refused(layers: list[int]) -> None:
    network = perceptron()
    with pytest.raises(UsageError, match="layer"):
        factorize(network, rank=1, layers=layers, calibration=inputs(network))


def test_max_rank_depends_on_the_selected_layers() -> None:
    network = perceptron()
    with pytest.raises(UsageError, match=r"rank.*\b6\b.*\b5\b"):
        factorize(network, rank=6, layers=[2], calibration=inputs(network))


def test_few_inputs_are_warned_of() -> None:
    network = perceptron()
    with pytest.warns(CompressionWarning, match=r"layer 0.*\b10\b.*\b9\b.*\b24\b"):
        factorize(network, rank=3, calibration=inputs(network, 10))


# --- linear layers -------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=6),
    n_linear=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_multiplying_out_is_exact_and_never_costs(seed: int, sizes: list[int], n_linear: int) -> None:
    rng = RNG(seed)
    layers = []
    for index, (n_in, n_out) in enumerate(pairwise(sizes)):
        kind = str(rng.choice(["dense", "sparse", "blocks", "low_rank", "sum", "coordinates"]))
        bias = rng.normal(size=n_out).astype(np.float32) if rng.random() < 0.5 else None
        layers.append(Layer(random_operator(rng, n_out, n_in, kind), bias, Identity() if index < n_linear else Relu()))
    network = Network(tuple(layers), metadata={"note": "kept"})
    folded = fold_linear(network)
    assert folded.macs <= network.macs and len(folded.layers) <= len(network.layers)
    assert folded.metadata == network.metadata and folded.layer_sizes[0] == sizes[0]
    x = rng.random((5, sizes[0])).astype(np.float32)
    expected = reference.run(network, x)
    scale = max(1.0, np.abs(expected).max())
    assert np.allclose(reference.run(folded, x), expected, atol=1e-4 * scale)


def test_what_would_cost_more_stays_as_it_is() -> None:
    rng = RNG(0)
    narrow = [rng.normal(size=shape).astype(np.float32) for shape in ((2, 5), (4, 2))]
    network = Network(tuple(Layer(Dense(w), None, Identity()) for w in narrow))
    assert fold_linear(network).layers == network.layers  # 18 operations, and 20 in one matrix
    sparse = to_sparse_layout(np.eye(30, dtype=np.float32), np.eye(30, dtype=bool))
    ends = Network((Layer(sparse, None, Identity()), Layer(sparse, None, Identity())))
    assert len(fold_linear(ends).layers) == 2


def test_low_rank_layers_keep_their_inner_size() -> None:
    rng = RNG(0)
    thin = LowRank(rng.normal(size=(20, 2)).astype(np.float32), rng.normal(size=(2, 30)).astype(np.float32))
    square = Dense(rng.normal(size=(20, 20)).astype(np.float32))
    for pair in ((thin, square), (Dense(rng.normal(size=(30, 30)).astype(np.float32)), thin)):
        (layer,) = fold_linear(Network(tuple(Layer(w, None, Identity()) for w in pair))).layers
        assert isinstance(layer.weight, LowRank) and layer.weight.rank == 2


def test_int8_weights_are_not_multiplied_out() -> None:
    rng = RNG(0)
    thin = LowRank(rng.normal(size=(20, 2)).astype(np.float32), rng.normal(size=(2, 30)).astype(np.float32))
    square = Dense(rng.normal(size=(20, 20)).astype(np.float32))
    network = to_int8_weights(Network(tuple(Layer(w, None, Identity()) for w in (thin, square))))
    assert fold_linear(network).layers == network.layers


def test_neurons_between_layers_are_not_multiplied_away() -> None:
    network = perceptron()
    assert fold_linear(network).layers == network.layers
    spiking = random_network(RNG(0), spiking=True, kinds=("dense",), sizes=(4, 5, 3))
    assert fold_linear(spiking).layers == spiking.layers
