"""The quadratic problem of compression, and its solutions under a pattern or rank."""

from functools import partial

import numpy as np
import pytest

from sen_edge.compression.patterns import Pattern
from sen_edge.compression.quadratic import INPUT_DAMPING, OUTPUT_DAMPING, Quadratic, best_under_pattern, best_weights

N_OUT, N_IN = 12, 20


def moment(rng: np.random.Generator, n: int) -> np.ndarray:
    x = rng.normal(size=(3 * n, n)) @ rng.normal(size=(n, n))
    return x.T @ x / len(x)


def damped(matrix: np.ndarray, share: float) -> np.ndarray:
    return matrix + np.eye(len(matrix)) * share * np.trace(matrix) / len(matrix)


@pytest.fixture
def parts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(N_OUT, N_IN)), moment(rng, N_IN), moment(rng, N_OUT)


def exact_error(w: np.ndarray, v: np.ndarray, c: np.ndarray, a: np.ndarray) -> float:
    # the diagonal alone is damped, and then the whole scaled to it: off the diagonal the moment is what it was
    return float(np.trace(damped(a, OUTPUT_DAMPING) @ (v - w) @ damped(c, INPUT_DAMPING) @ (v - w).T))


def test_the_error_is_that_of_the_damped_moments(parts) -> None:
    w, c, a = parts
    problem = Quadratic.of(w, c, a)
    v = np.random.default_rng(1).normal(size=w.shape)
    found = problem.energy(problem.to_scaled(v) - problem.weight)
    assert found == pytest.approx(exact_error(w, v, c, a), rel=1e-9)
    assert np.allclose(problem.to_weights(problem.weight), w)
    assert problem.relative_error(problem.weight) == 0
    assert problem.relative_error(np.zeros_like(w)) == pytest.approx(1)


@pytest.mark.parametrize("diagonal", [(), ("c",), ("a",), ("a", "c")])
def test_a_step_without_the_pattern_solves_its_equation(parts, diagonal) -> None:
    w, c, a = parts
    problem = Quadratic.of(w, np.diag(c) if "c" in diagonal else c, np.diag(a) if "a" in diagonal else a)
    v = np.random.default_rng(2).normal(size=w.shape)
    x = problem.solve(v, 0.3)
    assert np.allclose(problem.apply(x) + 0.3 * x, v)
    left, right = problem.factors(v, N_OUT)
    assert np.allclose(left @ right, v)
    assert problem.saliency().shape == w.shape


def test_weights_under_a_mask_are_the_least_squares_solution(parts) -> None:
    w, c, _ = parts
    mask = np.random.default_rng(3).random(w.shape) < 0.4
    problem = Quadratic.of(w, c, np.eye(N_OUT))
    found = problem.to_weights(best_weights(problem, mask))
    exact, damp = np.zeros_like(w), damped(c, INPUT_DAMPING)
    for j in range(N_OUT):
        kept = np.flatnonzero(mask[j])
        exact[j, kept] = np.linalg.solve(damp[np.ix_(kept, kept)], damp[kept] @ w[j])
    assert np.allclose(found, exact, atol=1e-6 * np.abs(w).max())
    assert not found[~mask].any()


@pytest.mark.parametrize("pattern", ["unstructured", "4x1", "1x4", "2:4"])
def test_searched_pattern_is_better_than_magnitude(parts, pattern) -> None:
    w, c, a = parts
    problem, kept = Quadratic.of(w, c, a), w.size // 4
    select = partial(Pattern.parse(pattern).select, count=kept)
    found, mask = best_under_pattern(problem, select)
    by_magnitude = best_weights(problem, select(problem.to_weights(problem.weight) ** 2))
    assert mask.sum() == select(problem.weight**2).sum() and not found[~mask].any()
    assert problem.relative_error(found) < problem.relative_error(by_magnitude)


def test_factors_are_the_best_of_their_rank(parts) -> None:
    w, c, a = parts
    problem = Quadratic.of(w, c, a)
    tails = problem.tail_energies
    rng = np.random.default_rng(4)
    for rank in (1, 3, 7):
        best = problem.energy(problem.weight - problem.truncated(problem.weight, rank))
        assert best == pytest.approx(tails[rank], rel=1e-8)
        left, right = problem.factors(problem.weight, rank)
        for _ in range(5):
            other = (left + 0.05 * rng.normal(size=left.shape)) @ (right + 0.05 * rng.normal(size=right.shape))
            assert problem.energy(problem.weight - other) > best
    assert tails[-1] == 0 and np.all(np.diff(tails) <= 0)
