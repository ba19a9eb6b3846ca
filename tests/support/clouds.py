"""Layers of clustered neurons, their weights computed independently, and errors of approximations."""

import numpy as np

from sen_edge.compression.far_field import Estimate
from sen_runtime.ir.operators import Coordinates


def planes(
    seed: int, n_in: int, n_out: int, d: int = 3, width: float = 4.0, zeros: float = 0.2, **options: float
) -> Coordinates:
    """Two clouds of that width on parallel planes at distance 1; a share of the mask is 0."""
    rng = np.random.default_rng(seed)
    source, target = rng.uniform(-width, width, (n_in, d)), rng.uniform(-width, width, (n_out, d))
    source[:, -1], target[:, -1] = 0, 1
    mask = rng.uniform(-1, 1, n_in) * (rng.random(n_in) >= zeros)
    return Coordinates(*(a.astype(np.float32) for a in (source, target, mask)), **options)


def mixed(seed: int, n: int, **options: float) -> Coordinates:
    """Both kinds of neurons in one cloud in three dimensions: some sit very near each other."""
    rng = np.random.default_rng(seed)
    return Coordinates(*(rng.normal(size=(n, 3)).astype(np.float32) for _ in "ab"), np.ones(n, np.float32), **options)


def float64_weights(operator: Coordinates) -> np.ndarray:
    """Written out independently of the package."""
    source, target, mask = (a.astype(np.float64) for a in (operator.source, operator.target, operator.mask))
    distance = np.sqrt(((target[:, None] - source[None]) ** 2).sum(-1))
    w = operator.gain * mask / np.maximum(distance, operator.min_distance) ** operator.exponent
    return np.where(distance <= operator.max_distance, w, 0)


def relative(found: np.ndarray, w: np.ndarray) -> float:
    return float(np.linalg.norm(found - w) / np.linalg.norm(w))


def assert_judged(estimate: Estimate, true: float, tolerance: float) -> None:
    """The estimate is two standard errors within the tolerance, and the true error is where it says, or nearly."""
    deviation = estimate.standard_error
    assert estimate.upper <= tolerance
    assert abs(true - estimate.error) <= 6 * deviation + 1e-6 and true <= tolerance + 3 * deviation
