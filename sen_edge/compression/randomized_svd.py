"""Randomized linear algebra on a layer of coordinates: single entries, bases from samples, estimates of errors.

Source: P.-G. Martinsson and J. Tropp, "Randomized numerical linear algebra", 2020: bases from sampled rows (section
11), and least squares on rows drawn by their leverage (section 9).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sen_edge.passes.materialize import weights
from sen_runtime.errors import NetworkError
from sen_runtime.ir.operators import Coordinates
from sen_runtime.ir.operators.coordinates import check_distances, check_range, squared_distances

FloatArray = NDArray[np.float64]
Float32 = NDArray[np.float32]
Index = NDArray[np.int64]

#: Columns that are converted to float64 at a time.
CHUNK = 4096
#: Relative error of the eigenvalues of a Gram matrix, with respect to the largest.
ROUNDING = 1e-14
#: Samples per vector of a basis, and more: least squares on them is then nearly as good as on all rows.
OVERSAMPLING, MIN_SAMPLES = 3, 16
#: Number of rows that an approximation is checked on.
CHECK_ROWS = 256


@dataclass(frozen=True)
class Estimate:
    """Estimated relative Frobenius error of an approximation, from random rows.

    Attributes:
        error: root of the squared errors over the squared weights.
        standard_error: of `error`; 0 where all rows were sampled.
        sampled_entries: weights in these rows.
    """

    error: float
    standard_error: float
    sampled_entries: int

    @property
    def upper(self) -> float:
        """Error plus two standard errors."""
        return self.error + 2 * self.standard_error

    def __str__(self) -> str:
        return f"{self.error:.2g} +- {self.standard_error:.1g}"


def entries(operator: Coordinates, rows: Index, columns: Index) -> Float32:
    """Weights `[rows, columns]` of the target neurons `rows` from the source neurons `columns`.

    Raises:
        NetworkError: coincident neurons or weights beyond float32; names the neurons of the whole layer.
    """
    part = replace(operator, source=operator.source[columns], target=operator.target[rows], mask=operator.mask[columns])
    try:
        return weights(part)
    except NetworkError:
        _name_pair(part, rows, columns)
        raise


def _name_pair(part: Coordinates, rows: Index, columns: Index) -> None:
    """Raise the error of the first invalid pair, with neuron indices of the complete layer."""
    source, mask = part.source.astype(np.float64), part.mask.astype(np.float64)
    for row, target in zip(rows, part.target.astype(np.float64), strict=True):
        distance = np.maximum(np.sqrt(squared_distances(source, target)), part.min_distance)
        i = int(np.argmin(distance))
        check_distances(distance[[i]][np.newaxis], int(columns[i]), int(row))
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # check_range reports it
            weight = part.gain * mask / distance**part.exponent
        i = int(np.argmax(np.abs(weight)))
        check_range(weight[[i]][np.newaxis], int(columns[i]), int(row))


def draw(importance: FloatArray, count: int, rng: np.random.Generator) -> tuple[Index, FloatArray]:
    """Draw about `count` of n ordered items by systematic sampling, with probabilities proportional to importance.

    Args:
        importance: `[n]`, > 0.
        count: of items; all are drawn where there are no more.
        rng: of the first item.

    Returns:
        Items `[drawn]`, ascending, and factors `[drawn]`: sums of squares of items times factors are estimates of the
        sums over all items.
    """
    if count >= len(importance):
        return np.arange(len(importance)), np.ones(len(importance))
    reach = np.cumsum(importance) * (count / importance.sum())
    places = np.searchsorted(reach, np.arange(count) + rng.random(), side="right")
    items, times = np.unique(np.minimum(places, len(importance) - 1), return_counts=True)
    return items, np.sqrt(times * importance.sum() / (count * importance[items]))


def row_basis(sample: Float32, factor: FloatArray, share: float) -> tuple[FloatArray, Float32]:
    """Leading right singular vectors of `diag(factor) @ sample`.

    Args:
        sample: `[s, m]`.
        factor: `[s]` of the rows.
        share: of the norm that may be left out.

    Returns:
        Singular values `[k]`, falling, and vectors `[k, m]`, orthonormal.
    """
    is_wide = len(sample) <= sample.shape[1]
    energy, vectors = np.linalg.eigh(_row_gram(sample, factor) if is_wide else _column_gram(sample, factor))
    energy, vectors = energy[::-1], vectors[:, ::-1]
    left_out = np.cumsum(np.maximum(energy, 0)[::-1])[::-1]
    kept = int(np.sum((left_out > share**2 * left_out[0]) & (energy > ROUNDING * energy[0])))
    values, vectors = np.sqrt(energy[:kept]), vectors[:, :kept]
    if not is_wide:
        return values, np.ascontiguousarray(vectors.T, np.float32)
    turn = (vectors * factor[:, np.newaxis] / values).T
    basis = np.empty((kept, sample.shape[1]), np.float32)
    for start in range(0, sample.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        basis[:, part] = turn @ sample[:, part].astype(np.float64)
    return values, basis


def _row_gram(sample: Float32, factor: FloatArray) -> FloatArray:
    """`a a^T` in float64, for `a = diag(factor) @ sample`."""
    gram = np.zeros((len(sample), len(sample)))
    for start in range(0, sample.shape[1], CHUNK):
        part = sample[:, start : start + CHUNK].astype(np.float64)
        gram += part @ part.T
    return gram * np.outer(factor, factor)


def _column_gram(sample: Float32, factor: FloatArray) -> FloatArray:
    """`a^T a` in float64."""
    a: FloatArray = sample.astype(np.float64) * factor[:, np.newaxis]
    gram: FloatArray = np.matmul(a.T, a)
    return gram


def interpolate(basis: Float32, rng: np.random.Generator) -> tuple[Index, FloatArray]:
    """Least squares for the coefficients c of y = basis^T c from few values of y: c = inverse @ y[points].

    Args:
        basis: `[k, m]`, orthonormal rows, k >= 1; neighbouring columns are similar.
        rng: of the draw.

    Returns:
        `points [s]`, drawn by leverage so that errors of y are not amplified, and `inverse [k, s]`.
    """
    k, m = basis.shape
    leverage = np.sum(basis.astype(np.float64) ** 2, axis=0)
    chosen, factor = draw(leverage / k + 1 / m, OVERSAMPLING * k + MIN_SAMPLES, rng)
    if len(chosen) == m:
        return chosen, basis.astype(np.float64)
    return chosen, np.linalg.pinv((basis[:, chosen] * factor).T) * factor


def energies(rows: Float32) -> FloatArray:
    """Sums of squares of each row, in float64 without a float64 copy."""
    sums: FloatArray = np.einsum("ji,ji->j", rows, rows, dtype=np.float64)
    return sums


@dataclass(frozen=True, eq=False)
class Check:
    """Return rows of a layer that an approximation is checked on: fixed ones, then random ones.

    Attributes:
        rows: target neurons.
        certain: number of fixed ones.
        population: neurons from which the others were drawn, without replacement.
        weights: `[rows, columns]`.
        energy: `[rows]` sums of squared weights.
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
        return cls(rows, len(chosen), len(others), weights, energies(weights))

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
