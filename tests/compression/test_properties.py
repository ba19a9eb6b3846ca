"""Properties of all patterns, forms and networks: exact counts, no unrequested changes."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.compression.moments import CompressionWarning
from sen_edge.compression.patterns import Pattern, select_largest
from sen_edge.compression.prune import keep_neurons, prune, take
from sen_edge.compression.quadratic import INPUT_DAMPING, OUTPUT_DAMPING, Quadratic, best_under_pattern, best_weights
from sen_edge.errors import UsageError
from sen_edge.passes.materialize import BLOCKS, materialize, to_sparse_layout
from sen_runtime import reference
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, map_weights
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, WeightOperator
from tests.support.networks import KINDS, random_input, random_network, random_operator

pytestmark = pytest.mark.filterwarnings("ignore::sen_edge.compression.moments.CompressionWarning")
RNG = np.random.default_rng
#: Seed of coordinates in three dimensions; in one all distances between two planes are the same.
SPREAD = 25

sizes = st.integers(1, 20)
seeds = st.integers(0, 10_000)


def damped(matrix: np.ndarray, share: float) -> np.ndarray:
    return matrix + np.eye(len(matrix)) * share * np.trace(matrix) / len(matrix)


def moment(rng: np.random.Generator, n: int) -> np.ndarray:
    x = rng.normal(size=(3 * n, n)) @ rng.normal(size=(n, n))
    return x.T @ x / len(x)


def dense_of(network: Network) -> list[np.ndarray]:
    return [layer.weight.to_dense() for layer in materialize(network).layers]


def without_radii(network: Network) -> Network:
    def unbounded(operator: WeightOperator) -> WeightOperator:
        return replace(operator, max_distance=np.inf) if isinstance(operator, Coordinates) else operator

    return map_weights(network, unbounded)


def distances(operator: Coordinates) -> np.ndarray:
    """`[n_out, n_in]`, from the definition."""
    difference = operator.target[:, None].astype(np.float64) - operator.source.astype(np.float64)
    return np.sqrt((difference**2).sum(axis=2))


# --- patterns and storage ------------------------------------------------------------------------


@given(values=st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]), min_size=1, max_size=30), count=st.integers(-2, 35))
def test_ties_select_the_first_values(values: list[float], count: int) -> None:
    found = select_largest(np.array(values), count)
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))[: max(count, 0)]
    assert np.flatnonzero(found).tolist() == sorted(order)


@given(n_out=sizes, n_in=sizes, rows=st.integers(1, 5), columns=st.integers(1, 5), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_blocks_are_complete_and_have_the_max_sums(n_out: int, n_in: int, rows: int, columns: int, seed: int) -> None:
    rng = RNG(seed)
    energy, pattern = rng.random((n_out, n_in)), Pattern(block=(rows, columns))
    count = int(rng.integers(0, energy.size + 1))
    mask = pattern.select(energy, count)
    kept, cut = [], []
    for top in range(0, n_out, rows):
        for left in range(0, n_in, columns):
            where = np.s_[top : top + rows, left : left + columns]
            assert mask[where].all() or not mask[where].any()
            (kept if mask[where].all() else cut).append((float(energy[where].sum()), mask[where].size))
    assert not kept or not cut or min(kept)[0] >= max(cut)[0] - 1e-12
    missed = abs(int(mask.sum()) - count)  # synapses, those of blocks at the edge among them
    assert not cut or missed <= abs(int(mask.sum()) + max(cut)[1] - count)
    assert not kept or missed <= abs(int(mask.sum()) - min(kept)[1] - count)


@given(n_out=sizes, n_in=sizes, n=st.integers(1, 4), extra=st.integers(1, 4), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_n_of_every_m_inputs_remain(n_out: int, n_in: int, n: int, extra: int, seed: int) -> None:
    m = n + extra
    energy = RNG(seed).integers(0, 4, (n_out, n_in)).astype(float)  # with ties, and zeros
    mask = Pattern(group=(n, m)).select(energy, 0)
    for row, values in zip(mask, energy, strict=True):
        for left in range(0, n_in, m):
            here, there = row[left : left + m], values[left : left + m]
            assert here.sum() == min(n, len(here))
            assert sorted(there[here]) == sorted(there)[len(there) - int(here.sum()) :]


@given(n_out=st.integers(1, 40), n_in=st.integers(1, 40), seed=seeds)
@settings(max_examples=80, deadline=None)
def test_the_smallest_form_that_holds_the_mask_is_stored(n_out: int, n_in: int, seed: int) -> None:
    rng = RNG(seed)
    w = rng.normal(size=(n_out, n_in)).astype(np.float32)
    block = BLOCKS[rng.integers(len(BLOCKS))]
    mask = Pattern(block=block).select(rng.random(w.shape), int(rng.random() * w.size))
    w[rng.random(w.shape) < 0.1] = 0  # a kept weight may be 0
    found = to_sparse_layout(w, mask)
    assert np.array_equal(found.to_dense(), np.where(mask, w, 0))
    marks = mask.astype(np.float32)
    forms = [Sparse.from_dense(marks, each) for each in BLOCKS]
    # a block reaches beyond the edge, or holds a weight that is cut: then it stores more than the mask
    filled = [form for form in forms if form.values.all() or _only_the_edge(form)]
    least = min([Dense(w).nbytes] + [form.nbytes for form in filled])
    assert found.nbytes == (w.nbytes if mask.all() else least)


def _only_the_edge(form: Sparse) -> bool:
    """Whether all that a block stores as 0 lies outside the matrix."""
    inside = form.with_values_of(np.ones(form.shape, np.float32))
    return bool(np.array_equal(inside.values, form.values))


def test_a_block_with_a_hole_is_not_stored_as_one() -> None:
    mask = np.zeros((16, 32), bool)
    mask[:, :3] = True
    w = np.ones(mask.shape, np.float32)
    assert to_sparse_layout(w, mask).block == (16, 1)
    mask[5, 1] = False
    assert to_sparse_layout(w, mask).block == (1, 1)


# --- the quadratic problem -----------------------------------------------------------------------


@given(n_out=st.integers(1, 7), n_in=st.integers(1, 7), seed=seeds)
@settings(max_examples=40, deadline=None)
def test_the_energy_is_a_trace(n_out: int, n_in: int, seed: int) -> None:
    rng = RNG(seed)
    w, c, a = rng.normal(size=(n_out, n_in)), moment(rng, n_in), moment(rng, n_out)
    v = rng.normal(size=(n_out, n_in))
    problem = Quadratic.of(w, c, a)
    exact = np.trace(damped(a, OUTPUT_DAMPING) @ v @ damped(c, INPUT_DAMPING) @ v.T)
    assert problem.energy(problem.to_scaled(v)) == pytest.approx(exact, rel=1e-9)
    everything = np.trace(damped(a, OUTPUT_DAMPING) @ w @ damped(c, INPUT_DAMPING) @ w.T)
    change = np.trace(damped(a, OUTPUT_DAMPING) @ (v - w) @ damped(c, INPUT_DAMPING) @ (v - w).T)
    assert problem.relative_error(problem.to_scaled(v)) == pytest.approx((change / everything) ** 0.5, rel=1e-9)


@given(n_out=st.integers(1, 6), n_in=st.integers(1, 6), seed=seeds, forms=st.tuples(st.booleans(), st.booleans()))
@settings(max_examples=40, deadline=None)
def test_the_step_without_a_pattern_is_a_kronecker_system(
    n_out: int, n_in: int, seed: int, forms: tuple[bool, bool]
) -> None:
    rng = RNG(seed)
    c, a = moment(rng, n_in), moment(rng, n_out)
    problem = Quadratic.of(rng.normal(size=(n_out, n_in)), np.diag(c) if forms[0] else c, np.diag(a) if forms[1] else a)
    v, penalty = rng.normal(size=(n_out, n_in)), float(rng.uniform(0.01, 2))
    full = [np.diag(each) if each.ndim == 1 else each for each in (problem.outputs, problem.inputs)]
    exact = np.linalg.solve(np.kron(*full) + penalty * np.eye(n_out * n_in), v.ravel()).reshape(v.shape)
    assert np.allclose(problem.solve(v, penalty), exact, atol=1e-8 * np.abs(exact).max())


@pytest.mark.parametrize("seed", range(5))
def test_saliency_is_the_exact_cost_of_one_weight(seed: int) -> None:
    rng = RNG(seed)
    problem = Quadratic.of(rng.normal(size=(3, 4)), moment(rng, 4), moment(rng, 3))
    for j, i in np.ndindex(3, 4):
        mask = np.ones((3, 4), bool)
        mask[j, i] = False
        best = problem.energy(best_weights(problem, mask) - problem.weight)
        assert problem.saliency()[j, i] == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_the_search_for_a_pattern_is_near_the_best_there_is(seed: int) -> None:
    rng = RNG(seed)
    problem = Quadratic.of(rng.normal(size=(2, 4)), moment(rng, 4), moment(rng, 2))
    found, mask = best_under_pattern(problem, lambda energy: Pattern().select(energy, 4))
    errors = []
    for kept in combinations(range(8), 4):
        each = np.isin(np.arange(8), kept).reshape(2, 4)
        errors.append(problem.relative_error(best_weights(problem, each)))
    assert mask.sum() == 4 and problem.relative_error(found) <= 1.25 * min(errors)
    assert problem.relative_error(found) < np.median(errors)


def test_layers_without_variance_or_weights_do_no_harm() -> None:
    for w in (np.zeros((3, 4)), np.ones((3, 4))):
        problem = Quadratic.of(w, np.zeros((4, 4)), np.zeros((3, 3)))
        found, mask = best_under_pattern(problem, lambda energy: Pattern().select(energy, 5))
        assert np.isfinite(problem.to_weights(found)).all() and mask.sum() == 5


# --- networks ------------------------------------------------------------------------------------


@given(
    seed=seeds,
    sparsity=st.floats(0, 0.95),
    spiking=st.booleans(),
    criterion=st.sampled_from(["second-order", "magnitude"]),
    scope=st.sampled_from(["global", "layer"]),
)
@settings(max_examples=30, deadline=None)
def test_the_sparsity_is_exact(seed: int, sparsity: float, spiking: bool, criterion: str, scope: str) -> None:
    rng = RNG(seed)
    network = random_network(rng, spiking=spiking, kinds=("coordinates", "dense"), sizes=(9, 11, 6, 4))
    network = without_radii(network)
    x = random_input(rng, network, 40)
    result = prune(network, sparsity=sparsity, criterion=criterion, scope=scope, calibration=x)
    counts = [int(np.count_nonzero(w)) for w in dense_of(result)]
    shapes = [w.size for w in dense_of(network)]
    if scope == "layer":
        assert counts == [round((1 - sparsity) * size) for size in shapes]
    else:
        assert sum(counts) == round((1 - sparsity) * sum(shapes))
    assert result.layer_sizes == network.layer_sizes and result.nbytes <= sum(
        w.nbytes + 4 * len(w) for w in dense_of(network)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("criterion", ["second-order", "magnitude"])
def test_without_sparsity_outputs_are_what_they_were(kind: str, criterion: str) -> None:
    network = random_network(RNG(2), kinds=(kind,), sizes=(10, 12, 5))
    x = random_input(RNG(1), network, 60)
    result = prune(network, sparsity=0.0, criterion=criterion, calibration=x)
    assert np.allclose(reference.run(result, x), reference.run(network, x), atol=1e-5)


def test_magnitude_pruning_keeps_the_max_weights() -> None:
    network = random_network(RNG(3), kinds=("dense",), sizes=(10, 12, 5))
    result = prune(network, sparsity=0.7, criterion="magnitude", scope="global")
    before, after = (np.concatenate([w.ravel() for w in dense_of(each)]) for each in (network, result))
    kept = after != 0
    assert np.array_equal(after[kept], before[kept]) and np.abs(before[kept]).min() > np.abs(before[~kept]).max()
    assert all(a.bias is b.bias for a, b in zip(network.layers, result.layers, strict=True))


def test_what_is_pruned_is_left_alone() -> None:
    network = random_network(RNG(3), kinds=("dense",), sizes=(10, 12, 5))
    before = [w.copy() for w in dense_of(network)]
    x = random_input(RNG(1), network, 60)
    copy = x.copy()
    for pattern in ("unstructured", "neurons"):
        prune(network, sparsity=0.5, pattern=pattern, calibration=x)
    assert np.array_equal(x, copy)
    assert all(np.array_equal(a, b) for a, b in zip(before, dense_of(network), strict=True))


@pytest.mark.parametrize("options", [{"criterion": "magnitude"}, {"criterion": "magnitude", "pattern": "4x1"}, {}])
@pytest.mark.parametrize("readout", ["mean_membrane", "last_membrane"])
def test_a_spiking_readout_keeps_its_mean(options: dict, readout: str) -> None:
    """The bias is added in each step, and what arrives is summed over them."""
    network = random_network(RNG(6), spiking=True, kinds=("dense",), sizes=(10, 16, 8), readout=readout, timesteps=7)
    x = random_input(RNG(1), network, 80)
    result = prune(network, sparsity=0.5, layers=[1], calibration=x, **options)
    before, after = reference.run(network, x), reference.run(result, x)
    assert np.abs(before - after).max() > 0.01
    assert np.allclose(before.mean(axis=0), after.mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.8])
def test_a_radius_cuts_the_longest_synapses(scope: str, sparsity: float) -> None:
    network = without_radii(random_network(RNG(SPREAD), kinds=("coordinates",), sizes=(20, 25, 15)))
    result = prune(network, sparsity=sparsity, criterion="distance", scope=scope)
    lengths = [distances(layer.weight) for layer in network.layers if isinstance(layer.weight, Coordinates)]
    kept = [layer.weight.to_dense() != 0 for layer in result.layers]
    assert all(isinstance(layer.weight, Coordinates) for layer in result.layers)
    for written, plain in zip(dense_of(result), kept, strict=True):
        assert np.array_equal(written != 0, plain)  # what is exported has the pattern of the reference
    groups = [(np.concatenate([each.ravel() for each in lengths]), np.concatenate([each.ravel() for each in kept]))]
    if scope == "layer":
        groups = [(a.ravel(), b.ravel()) for a, b in zip(lengths, kept, strict=True)]
    for length, stays in groups:
        assert length[stays].max() < length[~stays].min()
        assert stays.sum() == round((1 - sparsity) * stays.size)


def test_a_radius_only_shrinks_and_means_are_kept() -> None:
    network = without_radii(random_network(RNG(SPREAD), kinds=("coordinates",), sizes=(20, 25, 15)))
    x = random_input(RNG(1), network, 80)
    small = prune(network, sparsity=0.6, criterion="distance")
    again = prune(small, sparsity=0.2, criterion="distance", calibration=x)
    for a, b in zip(small.layers, again.layers, strict=True):
        assert isinstance(a.weight, Coordinates) and isinstance(b.weight, Coordinates)
        assert b.weight.max_distance == a.weight.max_distance
    cut = prune(network, sparsity=0.6, criterion="distance", calibration=x)
    assert np.allclose(reference.run(cut, x).mean(0), reference.run(network, x).mean(0), atol=1e-4)


# --- neurons -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_taking_rows_and_columns_is_indexing(kind: str) -> None:
    operator = random_operator(RNG(4), 11, 9, kind)
    rows, columns = np.array([0, 3, 4, 10]), np.array([1, 2, 8])
    found = take(operator, rows, columns)
    assert found.shape == (4, 3)
    assert np.allclose(found.to_dense(), operator.to_dense()[np.ix_(rows, columns)], atol=1e-6)


@pytest.mark.parametrize("spiking", [False, True])
def test_removing_silent_neurons_keeps_the_outputs(spiking: bool) -> None:
    network = random_network(RNG(5), spiking=spiking, kinds=("dense",), sizes=(8, 10, 4))
    if spiking:  # parameters of each neuron
        first = network.layers[0]
        neuron = replace(first.neuron, threshold=RNG(2).uniform(0.5, 2, 10).astype(np.float32))
        network = replace(network, layers=(replace(first, neuron=neuron), network.layers[1]))
    network = replace(network, positions=tuple(RNG(3).random((n, 2)) for n in network.layer_sizes))
    gone = np.array([0, 4, 9])
    w = network.layers[1].weight.to_dense().copy()
    w[:, gone] = 0
    silent = replace(network, layers=(network.layers[0], replace(network.layers[1], weight=Dense(w))))
    smaller = keep_neurons(network, {0: np.setdiff1d(np.arange(10), gone)})
    x = random_input(RNG(1), network, 20)
    assert smaller.layer_sizes == (8, 7, 4)
    assert np.array_equal(smaller.positions[1], np.delete(network.positions[1], gone, axis=0))
    assert np.allclose(reference.run(smaller, x), reference.run(silent, x))


@pytest.mark.parametrize("seed", range(6, 14))
def test_dead_neurons_go_and_no_live_one_in_their_place(seed: int) -> None:
    """Never active, and always at the same value: both go at sparsity 0, and outputs stay."""
    rng = RNG(seed)
    w, bias = rng.normal(size=(12, 8)).astype(np.float32), rng.normal(size=12).astype(np.float32)
    bias[:3] = -100
    w[3:5], bias[3:5] = 0, 2.0
    readout = rng.normal(size=(4, 12)).astype(np.float32)
    network = Network((Layer(Dense(w), bias, Relu()), Layer(Dense(readout), None, Identity())))
    x = rng.random((200, 8), np.float32)
    result = prune(network, sparsity=0.0, pattern="neurons", calibration=x)
    alive = int(np.sum(reference.trace(network, x)[0].var(axis=0) > 1e-9))
    assert result.layer_sizes == (8, alive, 4) and alive <= 7
    assert np.allclose(reference.run(result, x), reference.run(network, x), atol=1e-5)


def test_neurons_by_magnitude_have_the_max_norms() -> None:
    rng = RNG(7)
    scale = np.array([1, 5, 0.1, 3, 0.2, 4], np.float32)
    w = rng.uniform(0.9, 1.1, (6, 5)).astype(np.float32) * scale[:, None]
    network = Network(
        (
            Layer(Dense(w), np.arange(6, dtype=np.float32), Relu()),
            Layer(Dense(np.array([[1, 1, 1, 1e-3, 1e3, 1]] * 2, np.float32)), None, Identity()),
        )
    )
    result = prune(network, sparsity=0.5, pattern="neurons", criterion="magnitude")
    assert result.layers[0].bias is not None and result.layers[0].bias.tolist() == [1, 4, 5]
    assert np.array_equal(result.layers[0].weight.to_dense(), w[[1, 4, 5]])


@pytest.mark.parametrize("calibrated", [True, False])
def test_one_neuron_is_always_left(calibrated: bool) -> None:
    network = random_network(RNG(8), kinds=("dense",), sizes=(6, 5, 3))
    x = random_input(RNG(1), network, 30)
    criterion = "second-order" if calibrated else "magnitude"
    result = prune(
        network, sparsity=0.999, pattern="neurons", criterion=criterion, calibration=x if calibrated else None
    )
    assert result.layer_sizes == (6, 1, 3)


def test_a_network_without_hidden_neurons_has_none_to_lose() -> None:
    network = random_network(RNG(8), kinds=("dense",), sizes=(6, 3))
    with pytest.raises(UsageError, match="hidden") as caught:
        prune(network, sparsity=0.5, pattern="neurons", calibration=random_input(RNG(1), network, 30))
    assert "outputs" in caught.value.hint


def test_factors_of_low_rank_lose_rows_and_columns() -> None:
    network = random_network(RNG(9), kinds=("low_rank",), sizes=(8, 10, 4))
    result = prune(network, sparsity=0.5, pattern="neurons", criterion="magnitude")
    assert all(isinstance(layer.weight, LowRank) for layer in result.layers) and result.layer_sizes == (8, 5, 4)


# --- warnings ------------------------------------------------------------------------------------


def test_many_disconnected_neurons_are_counted() -> None:
    w = np.full((12, 4), 1e-3, np.float32)
    w[10:] = 1
    network = Network((Layer(Dense(w), None, Identity()),))
    expected = r"layer 0.*neuron 0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
    with pytest.warns(CompressionWarning, match=expected):
        prune(network, threshold=0.5, criterion="magnitude")


@pytest.mark.filterwarnings("error::sen_edge.compression.moments.CompressionWarning")
def test_no_warning_without_a_problem() -> None:
    network = random_network(RNG(10), kinds=("dense",), sizes=(6, 8, 3))
    x = random_input(RNG(1), network, 300)
    prune(network, sparsity=0.2, criterion="magnitude", calibration=x)
    prune(network, sparsity=0.2, layers=[0], calibration=x)
