"""Coordinates -> LowRank without the matrix: O(n r^2) work and O(n r) memory for n neurons and rank r.

Neurons act through a smooth kernel from a distance, so rows at a few target neurons nearly span all rows, and columns
at a few source neurons all columns. From those follow an orthonormal basis of each side and, by least squares on few
entries, the coupling of the two, whose singular values give the best rank. The error is estimated on other rows.

Source: arXiv 2506.13410 for the layer; P.-G. Martinsson and J. Tropp, "Randomized numerical linear algebra", 2020:
bases from sampled rows (section 11), and least squares on rows drawn by their leverage (section 9).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sen_edge.compression.clusters import FloatArray, Index, grow
from sen_edge.errors import UsageError
from sen_edge.passes.materialize import weights
from sen_runtime.errors import NetworkError
from sen_runtime.ir.operators import Coordinates, LowRank

Float32 = NDArray[np.float32]

#: Columns that are converted to float64 at a time.
CHUNK = 4096
#: Relative error of the eigenvalues of a Gram matrix, with respect to the largest.
ROUNDING = 1e-14
#: Samples per vector of a basis, and more: least squares on them is then nearly as good as on all rows.
OVERSAMPLING, MIN_SAMPLES = 3, 16
#: Number of rows that an approximation is checked on.
CHECK_ROWS = 256

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


def entries(operator: Coordinates, rows: Index, columns: Index) -> Float32:
    """Weights `[rows, columns]` of the target neurons `rows` from the source neurons `columns`."""
    part = replace(operator, source=operator.source[columns], target=operator.target[rows], mask=operator.mask[columns])
    try:
        return weights(part)
    except NetworkError as error:  # it numbers the neurons of the part, not of the layer
        names = {"source": columns, "target": rows}
        message = re.sub(
            r"(source|target) neuron (\d+)",
            lambda found: f"{found[1]} neuron {names[found[1]][int(found[2])]}",
            error.message,
        )
        raise NetworkError(message, error.hint) from None


# --- sampling ------------------------------------------------------------------------------------


def draw(importance: FloatArray, count: int, rng: np.random.Generator) -> tuple[Index, FloatArray]:
    """Draw about `count` of n ordered items by systematic sampling, with probabilities proportional to importance.

    With the returned factors, sums of squares of items times factors are estimates of the sums over all items.
    """
    if count >= len(importance):
        return np.arange(len(importance)), np.ones(len(importance))
    reach = np.cumsum(importance) * (count / importance.sum())
    places = np.searchsorted(reach, np.arange(count) + rng.random(), side="right")
    items, times = np.unique(np.minimum(places, len(importance) - 1), return_counts=True)
    return items, np.sqrt(times * importance.sum() / (count * importance[items]))


def row_basis(sample: Float32, factor: FloatArray, share: float) -> tuple[FloatArray, Float32]:
    """Falling singular values `[k]` and right vectors `[k, m]` of `diag(factor) @ sample [s, m]`.

    They leave out at most a share of its norm.
    """
    is_wide = len(sample) <= sample.shape[1]
    if is_wide:
        gram = sum(part @ part.T for _, part in _chunks(sample)) * np.outer(factor, factor)
    else:
        scaled = sample.astype(np.float64) * factor[:, np.newaxis]
        gram = scaled.T @ scaled
    energy, vectors = (part[..., ::-1] for part in np.linalg.eigh(gram))
    left_out = np.cumsum(np.maximum(energy, 0)[::-1])[::-1]
    kept = int(np.sum((left_out > share**2 * left_out[0]) & (energy > ROUNDING * energy[0])))
    values, vectors = np.sqrt(energy[:kept]), vectors[:, :kept]
    if not is_wide:
        return values, np.ascontiguousarray(vectors.T, np.float32)
    turn = (vectors * factor[:, np.newaxis] / values).T
    basis = np.empty((kept, sample.shape[1]), np.float32)
    for columns, part in _chunks(sample):
        basis[:, columns] = turn @ part
    return values, basis


def _chunks(sample: Float32) -> Iterator[tuple[slice, FloatArray]]:
    """Columns in float64, without a float64 copy of all."""
    for start in range(0, sample.shape[1], CHUNK):
        columns = slice(start, start + CHUNK)
        yield columns, sample[:, columns].astype(np.float64)


def interpolate(basis: Float32, rng: np.random.Generator) -> tuple[Index, FloatArray]:
    """Least squares for the coefficients c of y = basis^T c from few values of y: c = inverse @ y[points].

    The points `[s]` are drawn by leverage, so that errors of y are not amplified. Neighbouring columns of the basis
    `[k, m]` are similar, its rows orthonormal.
    """
    k, m = basis.shape
    leverage = np.sum(basis.astype(np.float64) ** 2, axis=0)
    chosen, factor = draw(leverage / k + 1 / m, OVERSAMPLING * k + MIN_SAMPLES, rng)
    if len(chosen) == m:
        return chosen, basis.astype(np.float64)
    return chosen, np.linalg.pinv((basis[:, chosen] * factor).T) * factor


# --- error ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """Relative Frobenius error of an approximation, from random rows; its standard error is 0 if all were sampled."""

    error: float
    standard_error: float
    sampled_entries: int

    @property
    def upper(self) -> float:
        """Error plus two standard errors."""
        return self.error + 2 * self.standard_error

    def __str__(self) -> str:
        return f"{self.error:.2g} +- {self.standard_error:.1g}"


@dataclass(frozen=True, eq=False)
class Check:
    """Rows of a layer that an approximation is checked on, with their sums of squared weights `energy [rows]`.

    The first ones are `certain`; the others were drawn from a `population` without replacement.
    """

    rows: Index
    certain: int
    population: int
    weights: Float32
    energy: FloatArray

    @classmethod
    def of(cls, operator: Coordinates, chosen: Index, columns: Index, rng: np.random.Generator) -> Check:
        """Rows of the `chosen` target neurons and of random ones, in these columns."""
        others = np.setdiff1d(np.arange(len(operator.target)), chosen)
        rows = np.concatenate([chosen, rng.choice(others, min(CHECK_ROWS, len(others)), replace=False)])
        weights = entries(operator, rows, columns)
        return cls(rows, len(chosen), len(others), weights, _energies(weights))

    @property
    def total(self) -> float:
        """Estimated sum of all squared weights."""
        return self._sum(self.energy)

    def estimate(self, missed: FloatArray) -> Estimate:
        """Error of an approximation with the sums of squared errors `missed [rows]`."""
        total, sampled = self.total, int(self.weights.size)
        error = float(np.sqrt(self._sum(missed) / total)) if total else 0.0
        drawn = len(self.rows) - self.certain
        if error == 0 or drawn == self.population:
            return Estimate(error, 0.0, sampled)
        # ratio of two sums over random rows: W. Cochran, "Sampling Techniques", 1977, section 2.11
        difference = missed[self.certain :] - error**2 * self.energy[self.certain :]
        variance = drawn * (1 - drawn / self.population) * float(np.var(difference, ddof=1))
        deviation = self.population / drawn * np.sqrt(variance) / total
        return Estimate(error, float(deviation / (2 * error)), sampled)

    def _sum(self, of_rows: FloatArray) -> float:
        """Sum over all target neurons, estimated from the random rows."""
        drawn = max(1, len(self.rows) - self.certain)
        return float(of_rows[: self.certain].sum() + self.population / drawn * of_rows[self.certain :].sum())


def _energies(rows: Float32) -> FloatArray:
    """Sums of squares of each row, in float64 without a float64 copy."""
    sums: FloatArray = np.einsum("ji,ji->j", rows, rows, dtype=np.float64)
    return sums


# --- low rank ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Field:
    """A layer without silent neurons, in an order of neighbouring neurons.

    The largest weights found are those of `close_targets` and `close_sources`.
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
        drawn, factor = draw(np.ones(len(self.targets)), samples, rng)
        rows = np.concatenate([self.targets[drawn], self.close_targets])
        factor = np.pad(factor, (0, len(self.close_targets)), constant_values=1)
        _, right = row_basis(entries(self.operator, rows, self.sources), factor, share)
        mask = self.operator.mask[self.sources].astype(np.float64) ** 2
        drawn, factor = draw(mask / mask.sum() + 1 / len(mask), samples, rng)
        columns = np.concatenate([self.sources[drawn], self.close_sources])
        factor = np.pad(factor, (0, len(self.close_sources)), constant_values=1)
        _, left = row_basis(entries(self.operator, self.targets, columns).T, factor, share)
        (i, from_right), (j, from_left) = interpolate(right, rng), interpolate(left, rng)
        core = from_left @ entries(self.operator, self.targets[j], self.sources[i]) @ from_right.T
        turn_left, values, turn_right = np.linalg.svd(core, full_matrices=False)
        return turn_left.T.astype(np.float32) @ left, values, turn_right.astype(np.float32) @ right

    def factors(self, product: Product, rank: int) -> LowRank:
        """Factors of a rank in the order of the layer, including silent neurons."""
        n_out, n_in = self.operator.shape
        from_left, values, from_right = (part[:rank] for part in product)
        root = np.sqrt(values).astype(np.float32)
        left, right = np.zeros((n_out, len(root)), np.float32), np.zeros((len(root), n_in), np.float32)
        left[self.targets] = from_left.T * root
        right[:, self.sources] = from_right * root[:, np.newaxis]
        return LowRank(left, right)


def factorize_coordinates(
    operator: Coordinates, *, tolerance: float | None = None, rank: int | None = None, seed: int = 0
) -> tuple[LowRank, Estimate]:
    """Factorize a layer `[n_out, n_in]` into two thin matrices, whose columns (rows) have similar norms.

    The tolerance is a relative Frobenius error, including mask, gain and two standard errors of the estimate, for which
    the minimal rank is found: at most MAX_RANK, with factors smaller than the matrix. A layer of a lower rank than
    requested gets that.
    """
    is_tolerance = rank is None and tolerance is not None and 0 < tolerance < 1
    is_rank = tolerance is None and rank is not None and 1 <= rank <= min(operator.shape)
    if not is_tolerance and not is_rank:
        raise UsageError(
            f"tolerance is {tolerance} and rank is {rank}; expected a relative error between 0 and 1, or a rank from 1 "
            f"to {min(operator.shape)}, the smaller side of the layer"
        )
    if operator.has_max_distance:
        raise UsageError(
            f"the layer has the radius {operator.max_distance:g}: it is sparse, not of low rank", hint="materialize it"
        )
    n_out, n_in = operator.shape
    zeros = LowRank(np.zeros((n_out, 1), np.float32), np.zeros((1, n_in), np.float32))
    if not np.any(operator.mask):
        return zeros, Estimate(0.0, 0.0, 0)
    rng = np.random.default_rng(seed)
    field = _Field.of(operator)
    check = Check.of(operator, field.close_targets, field.sources, rng)
    if not check.total:
        return zeros, check.estimate(check.energy)
    if tolerance is not None:
        product, rank = _search(field, check, tolerance, rng)
    else:
        assert rank is not None  # for mypy
        product = field.approximate(max(FIRST_SAMPLES, int(SAMPLES_PER_RANK * rank)), FLOAT32_ERROR, rng)
    factors = field.factors(product, rank)
    missed = _energies(check.weights - factors.left[check.rows] @ factors.right[:, field.sources])
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
    beyond = _energies(check.weights - found.astype(np.float32) @ right)
    within = np.cumsum((found - wanted) ** 2, axis=1)
    left_out = np.cumsum(found[:, ::-1] ** 2, axis=1)[:, ::-1]
    missed: FloatArray = beyond[:, np.newaxis] + np.pad(within, ((0, 0), (1, 0))) + np.pad(left_out, ((0, 0), (0, 1)))
    return missed


def _close_pairs(operator: Coordinates, active: Index) -> tuple[Index, Index]:
    """Return target and source neurons of the largest weights, within the leaves of a tree over all neurons."""
    n_out = len(operator.target)
    tree = grow(np.concatenate([operator.target, operator.source[active]]), LEAF_SIZE)
    found = [(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64))]
    for leaf in tree.leaves:
        points = tree.points(leaf)
        rows, columns = points[points < n_out], active[points[points >= n_out] - n_out]
        if len(rows) and len(columns):
            magnitude = np.abs(entries(operator, rows, columns))
            found.append((np.max(magnitude, axis=1), rows, columns[np.argmax(magnitude, axis=1)]))
    magnitude, rows, columns = (np.concatenate(part) for part in zip(*found, strict=True))
    closest = np.argsort(-magnitude, kind="stable")[:CLOSE_ROWS]
    return rows[closest], np.unique(columns[closest])
