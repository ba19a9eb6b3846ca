"""Layers factorized from positions, compared with the materialized matrix."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sen_edge.compression.far_field import Check, draw, factorize_coordinates, interpolate, row_basis
from sen_edge.errors import UsageError
from sen_runtime.errors import NetworkError
from sen_runtime.ir.operators import Coordinates
from tests.support.clouds import assert_judged, float64_weights, mixed, planes, relative


@given(
    seed=st.integers(0, 2**32 - 1),
    n_in=st.integers(150, 600),
    n_out=st.integers(150, 600),
    d=st.integers(2, 4),
    exponent=st.sampled_from([0.5, 1.0, 2.0]),
    min_distance=st.sampled_from([0.0, 1.5]),
    tolerance=st.sampled_from([0.1, 0.02]),
)
@example(seed=0, n_in=458, n_out=577, d=4, exponent=1.0, min_distance=1.5, tolerance=0.02)  # once 44 beside 31
@settings(max_examples=25, deadline=None)
def test_min_rank_within_the_tolerance(
    seed: int, n_in: int, n_out: int, d: int, exponent: float, min_distance: float, tolerance: float
) -> None:
    operator = planes(seed, n_in, n_out, d, 2.0, gain=3.0, exponent=exponent, min_distance=min_distance)
    w = float64_weights(operator)
    factors, estimate = factorize_coordinates(operator, tolerance=tolerance)
    assert_judged(estimate, relative(factors.to_dense(), w), tolerance)
    tail = np.sqrt(np.cumsum(np.linalg.svd(w, compute_uv=False)[::-1] ** 2)[::-1]) / np.linalg.norm(w)
    assert factors.rank <= 1.3 * np.sum(tail > tolerance) + 3
    assert estimate.sampled_entries <= (256 + 64) * n_in


@pytest.mark.parametrize("shape", [(900, 300), (300, 900), (5, 400), (400, 1), (1, 1)])
@pytest.mark.parametrize("rank", [1, 12])
def test_a_rank_is_nearly_the_best_of_its_rank(shape: tuple[int, int], rank: int) -> None:
    operator = planes(3, shape[1], shape[0], zeros=0)
    rank = min(rank, *shape)
    factors, _ = factorize_coordinates(operator, rank=rank)
    w = float64_weights(operator)
    left, values, right = np.linalg.svd(w, full_matrices=False)
    best = relative((left[:, :rank] * values[:rank]) @ right[:rank], w)
    assert factors.rank == rank and factors.shape == shape
    assert relative(factors.to_dense(), w) <= 1.1 * best + 1e-6


def test_factors_are_of_like_size() -> None:
    factors, _ = factorize_coordinates(planes(0, 300, 200, gain=1e4), rank=8)
    np.testing.assert_allclose(np.linalg.norm(factors.left, axis=0), np.linalg.norm(factors.right, axis=1), rtol=1e-3)


def test_silent_neurons_stay_silent() -> None:
    operator = planes(0, 300, 200, zeros=0.5)
    factors, _ = factorize_coordinates(operator, tolerance=0.01)
    assert np.array_equal(np.any(factors.right != 0, axis=0), operator.mask != 0)


@pytest.mark.parametrize("options", [{"zeros": 1.0}, {"gain": 0.0}])
def test_a_layer_without_weights_has_rank_one(options: dict[str, float]) -> None:
    factors, estimate = factorize_coordinates(planes(0, 40, 30, **options), tolerance=0.1)
    assert factors.rank == 1 and estimate.error == 0 and not factors.to_dense().any()


def test_rank_is_less_where_the_layer_has_less() -> None:
    operator = planes(0, 50, 40)
    mask = np.zeros_like(operator.mask)
    mask[7] = 0.5
    factors, estimate = factorize_coordinates(Coordinates(operator.source, operator.target, mask), rank=5)
    assert factors.rank == 1 and estimate.error < 1e-6


def test_one_pair_that_nearly_coincides_is_found() -> None:
    """It has nearly all the energy of the layer, in one row of 700: rows drawn at random would miss it."""
    base = planes(0, 600, 700, zeros=0)
    target = base.target.copy()
    target[123] = base.source[45] + np.float32([0, 0, 1e-4])
    operator = Coordinates(base.source, target, base.mask)
    factors, estimate = factorize_coordinates(operator, tolerance=0.01)
    assert_judged(estimate, relative(factors.to_dense(), float64_weights(operator)), 0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({}, r"tolerance.*None.*rank.*None", id="neither"),
        pytest.param({"tolerance": 0.1, "rank": 3}, r"tolerance.*\b0\.1\b.*rank.*\b3\b", id="both"),
        pytest.param({"rank": 0}, r"rank.*\b0\b.*\b30\b", id="rank 0"),
        pytest.param({"rank": 31}, r"rank.*\b31\b.*\b30\b", id="rank above full"),
        pytest.param({"tolerance": 0.0}, r"tolerance.*\b0\b", id="tolerance 0"),
        pytest.param({"tolerance": 1.0}, r"tolerance.*\b1\b", id="tolerance 1"),
        pytest.param({"tolerance": float("nan")}, r"tolerance.*nan", id="tolerance nan"),
    ],
)
def test_low_rank_requests_that_make_no_sense(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        factorize_coordinates(planes(0, 40, 30), **options)


def test_a_radius_is_not_of_low_rank() -> None:
    with pytest.raises(UsageError, match="radius 2") as caught:
        factorize_coordinates(planes(0, 40, 30, max_distance=2.0), rank=3)
    assert caught.value.hint


def test_unreachable_tolerance_reports_the_reached_error() -> None:
    message = r"rank 149\b.*\b0\.\d+.*300 x 300.*\b0\.001\b"
    with pytest.raises(UsageError, match=message) as caught:
        factorize_coordinates(mixed(0, 300), tolerance=1e-3)
    assert "hierarchical" in caught.value.hint


def test_coincident_neurons_are_named_as_the_layer_counts_them() -> None:
    base = planes(0, 300, 200, zeros=0)
    target = base.target.copy()
    target[150] = base.source[211]
    operator = Coordinates(base.source, target, base.mask)
    with pytest.raises(NetworkError, match=r"neuron 211\b.*neuron 150\b"):
        factorize_coordinates(operator, rank=3)


def test_a_weight_beyond_float32_is_named() -> None:
    base = planes(0, 300, 200, zeros=0)
    source, target = base.source.copy(), base.target.copy()
    source[211], target[150] = 0, [0, 0, 1e-30]
    operator = Coordinates(source, target, base.mask, exponent=2.0)
    with pytest.raises(NetworkError, match=r"neuron 211\b.*neuron 150\b.*float32"):
        factorize_coordinates(operator, rank=3)


def test_the_seed_decides() -> None:
    operator = planes(0, 900, 800)
    first, again, other = (factorize_coordinates(operator, rank=9, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first.left, again.left) and np.array_equal(first.right, again.right)
    assert not np.array_equal(first.left, other.left)


MEMORY_SCRIPT = """
import numpy as np
from sen_edge.compression.far_field import factorize_coordinates
from sen_edge.compression.hierarchical import hierarchical
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Coordinates
from sen_runtime.bench.memory import peak_bytes
rng = np.random.default_rng(0)
source, target = rng.uniform(-4, 4, (2, 16384, 3)).astype(np.float32)
source[:, 2], target[:, 2] = 0, 1
operator = Coordinates(source, target, rng.uniform(-1, 1, 16384).astype(np.float32))
_, low = factorize_coordinates(operator, tolerance=0.05)
_, form = hierarchical(Layer(operator, None, Identity()), tolerance=0.05)
assert max(low.error, form.error) <= 0.05
print(peak_bytes())
"""


def test_the_matrix_is_never_formed() -> None:
    run = subprocess.run([sys.executable, "-c", MEMORY_SCRIPT], capture_output=True, text=True, check=True)
    assert int(run.stdout) <= 16384 * 16384 * 4 / 2


@pytest.mark.parametrize("shape", [(60, 200), (200, 60)])
def test_a_basis_is_that_of_the_singular_value_decomposition(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    decay = 0.7 ** np.arange(60)
    sample = ((np.linalg.qr(rng.normal(size=(shape[0], 60)))[0] * decay) @ rng.normal(size=(60, shape[1]))).astype("f")
    factor = rng.uniform(0.5, 2, shape[0])
    values, basis = row_basis(sample, factor, 1e-3)
    expected = np.linalg.svd(sample.astype(float) * factor[:, None])[1]
    np.testing.assert_allclose(values, expected[: len(values)], rtol=1e-5)
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-4)
    tail = np.sqrt(np.sum(expected[len(values) :] ** 2) / np.sum(expected**2))
    assert tail <= 1e-3 < np.sqrt(np.sum(expected[len(values) - 1 :] ** 2) / np.sum(expected**2))


def test_draws_stand_for_all() -> None:
    rng = np.random.default_rng(0)
    values, importance = rng.normal(size=1000) ** 2, rng.uniform(0.1, 1, 1000)
    sums = []
    for _ in range(400):
        items, factor = draw(importance, 100, rng)
        sums.append(np.sum(factor**2 * values[items]))
    assert np.mean(sums) == pytest.approx(values.sum(), rel=0.03)
    assert np.array_equal(draw(importance, 1000, rng)[0], np.arange(1000))


def test_coefficients_from_few_values() -> None:
    """A basis of which one vector lives at a single point: drawn by leverage, that point is not missed."""
    rng = np.random.default_rng(0)
    spread = np.linalg.qr(rng.normal(size=(2000, 6)) * (np.arange(2000) != 77)[:, None])[0]
    basis = np.vstack([spread.T, np.eye(2000)[77]]).astype(np.float32)
    chosen, inverse = interpolate(basis, rng)
    assert 77 in chosen and len(chosen) <= 3 * 7 + 16
    coefficients = rng.normal(size=7)
    np.testing.assert_allclose(inverse @ (coefficients @ basis)[chosen], coefficients, rtol=1e-4)


@pytest.mark.parametrize("n_out", [2000, 400])
def test_the_standard_error_is_that_of_the_estimate(n_out: int) -> None:
    rng = np.random.default_rng(0)
    operator = planes(0, 60, n_out, zeros=0)
    w = float64_weights(operator)
    missed = np.sum((w * rng.uniform(0, 0.1, (n_out, 1))) ** 2, axis=1)
    true = np.sqrt(missed.sum() / np.sum(w**2))
    scores = []
    for _ in range(200):
        check = Check.of(operator, np.array([5, 6]), np.arange(60), rng)
        estimate = check.estimate(missed[check.rows])
        scores.append((estimate.error - true) / estimate.standard_error)
    assert abs(np.mean(scores)) < 0.3 and 0.8 < np.std(scores) < 1.25


def test_an_error_from_all_rows_is_exact() -> None:
    operator = planes(0, 60, 200, zeros=0)
    check = Check.of(operator, np.array([5]), np.arange(60), np.random.default_rng(0))
    estimate = check.estimate(np.sum((0.1 * float64_weights(operator)[check.rows]) ** 2, axis=1))
    assert estimate.error == pytest.approx(0.1, rel=1e-6) and estimate.standard_error == 0
    assert estimate.sampled_entries == 200 * 60
