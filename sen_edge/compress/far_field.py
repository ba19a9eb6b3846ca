"""Coordinates -> LowRank without the matrix: O(n r^2) work and O(n r) memory for n neurons and rank r.

Far from each other, neurons act through a smooth kernel, so rows of the matrix at a few target neurons span nearly all
rows, and columns at a few source neurons nearly all columns. From those come an orthonormal basis of each side and, by
least squares on few entries, what couples the two; its singular values give the best rank. How far that is from the
layer is judged on rows that no basis was made of.

Source: arXiv 2506.13410 for the layer; sampled bases as in `sampled`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sen_edge.compress.clusters import grow
from sen_edge.compress.randomized_svd import (
    Check,
    Estimate,
    Float32,
    FloatArray,
    Index,
    draw,
    energies,
    entries,
    interpolate,
    row_basis,
)
from sen_edge.errors import UsageError
from sen_runtime.ir.operators import Coordinates, LowRank

#: Rows and columns that a first attempt samples; each further one doubles them.
FIRST_SAMPLES = 128
#: Samples per rank, so that the rank is nearly the least possible.
SAMPLES_PER_RANK = 3.5
MAX_RANK = 1024
#: Target neurons that are looked at whatever is drawn, because they sit closest to a source neuron.
CLOSE_ROWS = 64
#: Positions of a leaf of the trees that order neurons and find close ones.
LEAF_SIZE = 32
#: Share of the tolerance that bases may leave out.
BASIS_SHARE = 0.25
#: Relative error that float32 factors have anyway.
FLOAT32_ERROR = 1e-7

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Factorized:
    """A layer as the product of two thin matrices, and how far that is from it.

    Attributes:
        operator: float32 factors; both have columns (rows) of like size.
        estimate: relative Frobenius error, mask and gain included.
    """

    operator: LowRank
    estimate: Estimate

    @property
    def rank(self) -> int:
        """Inner size of the factors."""
        return self.operator.rank

    @property
    def error(self) -> float:
        """Estimated relative Frobenius error."""
        return self.estimate.error

    @property
    def sampled_entries(self) -> int:
        """Weights that the error was estimated from."""
        return self.estimate.sampled_entries


@dataclass(frozen=True, eq=False)
class _Product:
    """An approximation: `left.T @ diag(values) @ right`, in the order of a `_Field`.

    Attributes:
        left: `[k, n_out]`, orthonormal rows.
        values: `[k]`, falling.
        right: `[k, n_in]`, orthonormal rows.
    """

    left: Float32
    values: FloatArray
    right: Float32


@dataclass(frozen=True, eq=False)
class _Field:
    """A layer without its silent neurons, in an order that keeps near neurons side by side.

    Attributes:
        operator: the layer.
        targets: its target neurons, in that order.
        sources: its source neurons whose mask is not 0, in that order.
        close_targets: those of the greatest weights that were met.
        close_sources: the source neurons of these weights.
    """

    operator: Coordinates
    targets: Index
    sources: Index
    close_targets: Index
    close_sources: Index

    @classmethod
    def of(cls, operator: Coordinates) -> _Field:
        heard = np.flatnonzero(operator.mask)
        targets = grow(operator.target, LEAF_SIZE).order
        sources = heard[grow(operator.source[heard], LEAF_SIZE).order]
        return cls(operator, targets, sources, *_close_pairs(operator, heard))

    def approximate(self, samples: int, share: float, rng: np.random.Generator) -> _Product:
        """An approximation from about `samples` rows and columns, of as many vectors as these can tell.

        Args:
            samples: rows and columns to draw.
            share: of the norm, what each basis may leave out.
            rng: of the draws.
        """
        drawn, factor = draw(np.ones(len(self.targets)), samples, rng)
        rows = np.concatenate([self.targets[drawn], self.close_targets])
        right = _basis(entries(self.operator, rows, self.sources), factor, share)
        drawn, factor = draw(_importance(self.operator.mask[self.sources]), samples, rng)
        columns = np.concatenate([self.sources[drawn], self.close_sources])
        left = _basis(entries(self.operator, self.targets, columns).T, factor, share)
        (i, from_right), (j, from_left) = interpolate(right, rng), interpolate(left, rng)
        core = from_left @ entries(self.operator, self.targets[j], self.sources[i]) @ from_right.T
        turn_left, values, turn_right = np.linalg.svd(core, full_matrices=False)
        return _Product(turn_left.T.astype(np.float32) @ left, values, turn_right.astype(np.float32) @ right)

    def factors(self, product: _Product, rank: int) -> LowRank:
        """The approximation of a rank, silent neurons included, its neurons in the order of the layer."""
        n_out, n_in = self.operator.shape
        root = np.sqrt(product.values[:rank]).astype(np.float32)
        left, right = np.empty((n_out, rank), np.float32), np.zeros((rank, n_in), np.float32)
        left[self.targets] = product.left[:rank].T * root
        right[:, self.sources] = product.right[:rank] * root[:, np.newaxis]
        return LowRank(left, right)


def factorize_coordinates(
    operator: Coordinates,
    *,
    tolerance: float | None = None,
    rank: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Factorized:
    """A layer as a product of two thin matrices, straight from where its neurons sit.

    Args:
        operator: the layer, `[n_out, n_in]`.
        tolerance: relative Frobenius error that the least possible rank is found for; two standard errors of the
            estimate stay below it.
        rank: the rank instead; what the result has is less only where the layer itself has less.
        seed: of all draws: the same gives the same factors.
        progress: told in words after each attempt.

    Raises:
        UsageError: not one of tolerance and rank, or out of range; a radius; a tolerance that no rank reaches with
            which the factors are smaller than the matrix, and at most MAX_RANK.
        NetworkError: coincident neurons, or a weight beyond float32, among the pairs that were looked at.
    """
    _check_request(operator, tolerance, rank)
    if not np.any(operator.mask) or operator.gain == 0:
        return _silent(operator)
    rng = np.random.default_rng(seed)
    field = _Field.of(operator)
    check = Check.of(operator, field.close_targets, field.sources, rng)
    if not check.total:
        return _silent(operator, check.weights.size)
    if tolerance is None:
        assert rank is not None  # _check_request has looked; this is for mypy
        product = field.approximate(max(FIRST_SAMPLES, int(SAMPLES_PER_RANK * rank)), FLOAT32_ERROR, rng)
        rank = min(rank, len(product.values))
    else:
        product, rank = _search(field, check, tolerance, rng, progress or (lambda _: None))
    factors = field.factors(product, rank)
    missed = energies(check.weights - factors.left[check.rows] @ factors.right[:, field.sources])
    return Factorized(factors, check.judge(missed))


def _search(
    field: _Field, check: Check, tolerance: float, rng: np.random.Generator, progress: Progress
) -> tuple[_Product, int]:
    """An approximation from as many samples as it takes, and the least rank within the tolerance."""
    n_out, n_in = field.operator.shape
    most_rank = min(MAX_RANK, max(1, (n_out * n_in - 1) // (n_out + n_in)))
    most, samples = int(SAMPLES_PER_RANK * most_rank) + 1, FIRST_SAMPLES
    while True:
        product = field.approximate(samples, BASIS_SHARE * tolerance, rng)
        missed = _missed_by_rank(check, field, product)[:, : most_rank + 1]
        estimates = [check.judge(column) for column in missed.T]
        rank = next((r for r, e in enumerate(estimates) if r and e.error + 2 * e.standard_error <= tolerance), None)
        is_last = samples >= min(most, max(field.operator.shape))
        if rank is not None and (is_last or rank * SAMPLES_PER_RANK <= samples):
            return product, rank
        best = estimates[-1]
        progress(f"{samples} sampled neurons: error {best.error:.2g} at rank {len(estimates) - 1}")
        if is_last:
            raise UsageError(
                f"rank {len(estimates) - 1} leaves a relative error of {best.error:.2g} +- {best.standard_error:.1g} "
                f"in a layer of {n_out} x {n_in} weights; asked for at most {tolerance:g}, with rank <= {most_rank}",
                hint="near neurons act too strongly for a low rank: use the hierarchical form, or a larger tolerance",
            )
        samples = min(2 * samples, most)


def _missed_by_rank(check: Check, field: _Field, product: _Product) -> FloatArray:
    """Squared errors `[rows, k + 1]` of the ranks 0 to k in each row: the right vectors are orthonormal."""
    place = np.argsort(field.targets)[check.rows]
    found = (check.weights @ product.right.T).astype(np.float64)
    wanted = product.left[:, place].T * product.values
    beyond = energies(check.weights - found.astype(np.float32) @ product.right)
    within = np.cumsum((found - wanted) ** 2, axis=1)
    left_out = np.cumsum(found[:, ::-1] ** 2, axis=1)[:, ::-1]
    ends = np.zeros((len(place), 1))
    missed: FloatArray = beyond[:, np.newaxis] + np.hstack([ends, within]) + np.hstack([left_out, ends])
    return missed


def _check_request(operator: Coordinates, tolerance: float | None, rank: int | None) -> None:
    if (tolerance is None) == (rank is None):
        raise UsageError(f"tolerance is {tolerance} and rank is {rank}; expected one of them, and None for the other")
    if tolerance is not None and not 0 < tolerance < 1:
        raise UsageError(f"tolerance is {tolerance:g}; expected a relative error between 0 and 1")
    if rank is not None and not 1 <= rank <= min(operator.shape):
        raise UsageError(f"rank is {rank}; expected 1 to {min(operator.shape)}, the smaller side of the layer")
    if operator.has_max_distance:
        raise UsageError(
            f"synapses longer than {operator.max_distance:g} are left out of this layer: it is sparse, not of low rank",
            hint="precompute it",
        )


def _silent(operator: Coordinates, looked_at: int = 0) -> Factorized:
    """The factors of a layer without weights."""
    n_out, n_in = operator.shape
    zeros = LowRank(np.zeros((n_out, 1), np.float32), np.zeros((1, n_in), np.float32))
    return Factorized(zeros, Estimate(0.0, 0.0, looked_at))


def _close_pairs(operator: Coordinates, heard: Index) -> tuple[Index, Index]:
    """Target neurons of the greatest weights, and the source neurons of these.

    Pairs are looked for in the leaves of a tree over both kinds of neurons: a boundary separates few, and the closer
    they sit the fewer.
    """
    n_out = len(operator.target)
    tree = grow(np.concatenate([operator.target, operator.source[heard]]), LEAF_SIZE)
    found = []
    for leaf in tree.leaves:
        points = tree.points(leaf)
        rows, columns = points[points < n_out], heard[points[points >= n_out] - n_out]
        if len(rows) and len(columns):
            magnitude = np.abs(entries(operator, rows, columns))
            greatest = np.argmax(magnitude, axis=1)
            found.append((np.max(magnitude, axis=1), rows, columns[greatest]))
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    magnitude, rows, columns = (np.concatenate(part) for part in zip(*found, strict=True))
    closest = np.argsort(-magnitude, kind="stable")[:CLOSE_ROWS]
    return rows[closest], np.unique(columns[closest])


def _importance(mask: Float32) -> FloatArray:
    """How likely a source neuron is to be drawn: half by what it sends, half all alike."""
    energy = mask.astype(np.float64) ** 2
    importance: FloatArray = energy / energy.sum() + 1 / len(mask)
    return importance


def _basis(sample: Float32, factor: FloatArray, share: float) -> Float32:
    """Orthonormal rows `[k, m]` that span those of `sample [s, m]` but for a share of its norm.

    The first rows were drawn, with these factors; the others stand for themselves alone.
    """
    own = np.ones(len(sample) - len(factor))
    return row_basis(sample, np.concatenate([factor, own]), share)[1]
