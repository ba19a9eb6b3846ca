"""Coordinates -> LowRank without the matrix: O(n r^2) work and O(n r) memory for n neurons and rank r.

Neurons act through a smooth kernel from a distance, so rows at a few target neurons nearly span all rows, and columns
at a few source neurons all columns. From those follow an orthonormal basis of each side and, by least squares on few
entries, the coupling of the two, whose singular values give the best rank. The error is estimated on other rows.

Source: arXiv 2506.13410 for the layer; `sen_edge.compression.randomized_svd` for bases from samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sen_edge.compression.clusters import grow
from sen_edge.compression.randomized_svd import (
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

#: Rows and columns in the first sample; each further sample has twice as many.
FIRST_SAMPLES = 128
#: Samples per rank, so that the rank is nearly minimal.
SAMPLES_PER_RANK = 3.5
MAX_RANK = 1024
#: Target neurons close to a source neuron that are sampled in any case.
CLOSE_ROWS = 64
#: Positions in a leaf of the trees.
LEAF_SIZE = 32
#: Share of the tolerance that bases may leave out.
BASIS_SHARE = 0.25
#: Relative error of float32 factors.
FLOAT32_ERROR = 1e-7


#: Approximation `left.T @ diag(values) @ right` in the order of a `_Field`: orthonormal rows `[k, n_out]`, falling
#: values `[k]`, orthonormal rows `[k, n_in]`.
Product = tuple[Float32, FloatArray, Float32]


@dataclass(frozen=True, eq=False)
class _Field:
    """A layer without silent neurons, in an order of neighbouring neurons.

    Attributes:
        operator: the layer.
        targets: its target neurons, in that order.
        sources: its source neurons with a mask other than 0, in that order.
        close_targets: target neurons of the largest weights found.
        close_sources: source neurons of these weights.
    """

    operator: Coordinates
    targets: Index
    sources: Index
    close_targets: Index
    close_sources: Index

    @classmethod
    def of(cls, operator: Coordinates) -> _Field:
        active = np.flatnonzero(operator.mask)
        targets = grow(operator.target, LEAF_SIZE).order
        sources = active[grow(operator.source[active], LEAF_SIZE).order]
        return cls(operator, targets, sources, *_close_pairs(operator, active))

    def approximate(self, samples: int, share: float, rng: np.random.Generator) -> Product:
        """Approximate from about `samples` rows and columns; each basis may leave out `share` of the norm."""
        mask = self.operator.mask[self.sources].astype(np.float64) ** 2
        drawn, factor = draw(np.ones(len(self.targets)), samples, rng)
        rows = np.concatenate([self.targets[drawn], self.close_targets])
        right = _basis(entries(self.operator, rows, self.sources), factor, share)
        drawn, factor = draw(mask / mask.sum() + 1 / len(mask), samples, rng)
        columns = np.concatenate([self.sources[drawn], self.close_sources])
        left = _basis(entries(self.operator, self.targets, columns).T, factor, share)
        (i, from_right), (j, from_left) = interpolate(right, rng), interpolate(left, rng)
        core = from_left @ entries(self.operator, self.targets[j], self.sources[i]) @ from_right.T
        turn_left, values, turn_right = np.linalg.svd(core, full_matrices=False)
        return turn_left.T.astype(np.float32) @ left, values, turn_right.astype(np.float32) @ right

    def factors(self, product: Product, rank: int) -> LowRank:
        """Factors of a rank in the order of the layer, including silent neurons."""
        n_out, n_in = self.operator.shape
        from_left, values, from_right = (part[:rank] for part in product)
        root = np.sqrt(values).astype(np.float32)
        left, right = np.empty((n_out, rank), np.float32), np.zeros((rank, n_in), np.float32)
        left[self.targets] = from_left.T * root
        right[:, self.sources] = from_right * root[:, np.newaxis]
        return LowRank(left, right)


def factorize_coordinates(
    operator: Coordinates, *, tolerance: float | None = None, rank: int | None = None, seed: int = 0
) -> tuple[LowRank, Estimate]:
    """Factorize a layer into two thin matrices, directly from its positions.

    Args:
        operator: the layer, `[n_out, n_in]`.
        tolerance: relative Frobenius error for which the minimal rank is found; includes two standard errors of the
            estimate.
        rank: the rank instead; a layer of a lower rank gets that.
        seed: of all draws.

    Returns:
        Float32 factors, whose columns (rows) have similar norms, and their relative Frobenius error, including mask and
        gain.

    Raises:
        UsageError: not one of tolerance and rank, or out of range; a radius; a tolerance that no rank reaches with
            factors smaller than the matrix, and at most MAX_RANK.
        NetworkError: coincident neurons, or a weight beyond float32, among the sampled pairs.
    """
    _check_request(operator, tolerance, rank)
    if not np.any(operator.mask) or operator.gain == 0:
        return _zeros(operator, 0)
    rng = np.random.default_rng(seed)
    field = _Field.of(operator)
    check = Check.of(operator, field.close_targets, field.sources, rng)
    if not check.total:
        return _zeros(operator, check.weights.size)
    if rank is not None:
        product = field.approximate(max(FIRST_SAMPLES, int(SAMPLES_PER_RANK * rank)), FLOAT32_ERROR, rng)
        rank = min(rank, len(product[1]))
    else:
        assert tolerance is not None  # checked above; for mypy
        product, rank = _search(field, check, tolerance, rng)
    factors = field.factors(product, rank)
    missed = energies(check.weights - factors.left[check.rows] @ factors.right[:, field.sources])
    return factors, check.estimate(missed)


def _search(field: _Field, check: Check, tolerance: float, rng: np.random.Generator) -> tuple[Product, int]:
    """An approximation from as many samples as necessary, and the minimal rank within the tolerance."""
    n_out, n_in = field.operator.shape
    max_rank = min(MAX_RANK, max(1, (n_out * n_in - 1) // (n_out + n_in)))
    max_samples, samples = int(SAMPLES_PER_RANK * max_rank) + 1, FIRST_SAMPLES
    while True:
        product = field.approximate(samples, BASIS_SHARE * tolerance, rng)
        missed = _missed_by_rank(check, field, product)[:, : max_rank + 1]
        estimates = [check.estimate(column) for column in missed.T]
        rank = next((r for r, e in enumerate(estimates) if r and e.upper <= tolerance), None)
        is_last = samples >= min(max_samples, max(field.operator.shape))
        if rank is not None and (is_last or rank * SAMPLES_PER_RANK <= samples):
            return product, rank
        if is_last:
            raise UsageError(
                f"rank {len(estimates) - 1} leaves a relative error of {estimates[-1]} in a layer of {n_out} x {n_in} "
                f"weights; expected at most {tolerance:g}, with rank <= {max_rank}",
                hint="near neurons act too strongly for a low rank: use the hierarchical form, or a larger tolerance",
            )
        samples = min(2 * samples, max_samples)


def _missed_by_rank(check: Check, field: _Field, product: Product) -> FloatArray:
    """Squared errors `[rows, k + 1]` of the ranks 0 to k in each row: the right vectors are orthonormal."""
    place, (left, values, right) = np.argsort(field.targets)[check.rows], product
    found = (check.weights @ right.T).astype(np.float64)
    wanted = left[:, place].T * values
    beyond = energies(check.weights - found.astype(np.float32) @ right)
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
            f"the layer has the radius {operator.max_distance:g}: it is sparse, not of low rank", hint="materialize it"
        )


def _zeros(operator: Coordinates, sampled_entries: int) -> tuple[LowRank, Estimate]:
    """Factors of a layer without weights."""
    n_out, n_in = operator.shape
    zeros = LowRank(np.zeros((n_out, 1), np.float32), np.zeros((1, n_in), np.float32))
    return zeros, Estimate(0.0, 0.0, sampled_entries)


def _close_pairs(operator: Coordinates, active: Index) -> tuple[Index, Index]:
    """Return target and source neurons of the largest weights, within the leaves of a tree over all neurons."""
    n_out = len(operator.target)
    tree = grow(np.concatenate([operator.target, operator.source[active]]), LEAF_SIZE)
    found = []
    for leaf in tree.leaves:
        points = tree.points(leaf)
        rows, columns = points[points < n_out], active[points[points >= n_out] - n_out]
        if len(rows) and len(columns):
            magnitude = np.abs(entries(operator, rows, columns))
            found.append((np.max(magnitude, axis=1), rows, columns[np.argmax(magnitude, axis=1)]))
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    magnitude, rows, columns = (np.concatenate(part) for part in zip(*found, strict=True))
    closest = np.argsort(-magnitude, kind="stable")[:CLOSE_ROWS]
    return rows[closest], np.unique(columns[closest])


def _basis(sample: Float32, factor: FloatArray, share: float) -> Float32:
    """Return orthonormal rows `[k, m]` that span those of `sample [s, m]` up to a share of its norm.

    The first rows were drawn, with these factors; the others have the factor 1.
    """
    ones = np.ones(len(sample) - len(factor))
    return row_basis(sample, np.concatenate([factor, ones]), share)[1]
