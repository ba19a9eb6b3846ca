"""The second-order problem of compression, and its solution under a pattern of zeros.

To second order, replacing the weights W of a layer by V changes the network's outputs by

    error(V) = tr( A (V - W) C (V - W)^T )

with C the covariance of the layer's inputs and A the mean of J^T J, where J is the derivative of the network's outputs
by the layer's. C alone is the layer-wise error of OBS and SparseGPT (B. Hassibi and D. Stork, 1993; E. Frantar and D.
Alistarh, 2023); A is the other Kronecker factor of the Gauss-Newton matrix (J. Martens and R. Grosse, "K-FAC", 2015). C
leaves out means, for which biases compensate.

A pattern is found by ADMM (X. Meng et al., "ALPS", 2024; V. Boža, 2024), whose step without the pattern is a division
in the eigenbases of A and C; then conjugate gradients solve for the remaining weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Damping, as shares of the mean diagonal.
INPUT_DAMPING, OUTPUT_DAMPING = 1e-3, 3e-2
#: Max neurons of a full matrix; larger ones are replaced by their diagonal, because eigenbases take cubic time.
MAX_NEURONS = 4096
#: ADMM's penalty at the start, its growth in each round, and the rounds.
PENALTY, GROWTH, ROUNDS = 0.03, 1.03, 150
CONJUGATE_GRADIENT_STEPS = 60
MIN_EIGENVALUE = 1e-12


@dataclass(frozen=True, eq=False)
class Quadratic:
    """The quadratic `error(V)`, scaled so that all moments have the diagonal 1.

    Attributes:
        weight: `[n_out, n_in]` in these units; its square is the contribution of each weight alone to the variance of
            the outputs, which compares between layers.
        inputs: C, `[n_in, n_in]`, damped; or its diagonal, `[n_in]`, where there are too many inputs.
        outputs: A, `[n_out, n_out]`, damped; or its diagonal, `[n_out]`.
        input_unit: `[n_in]` roots of C's diagonal; times `output_unit` a weight in these units over the weight.
        output_unit: `[n_out]` roots of A's diagonal.
    """

    weight: FloatArray
    inputs: FloatArray
    outputs: FloatArray
    input_unit: FloatArray
    output_unit: FloatArray

    @classmethod
    def of(cls, weight: FloatArray, covariance: FloatArray, sensitivity: FloatArray) -> Quadratic:
        """The problem for weights `[n_out, n_in]`, C `[n_in, n_in]` and A `[n_out, n_out]` (or their diagonals)."""
        inputs, input_unit = _normalized(covariance, INPUT_DAMPING)
        outputs, output_unit = _normalized(sensitivity, OUTPUT_DAMPING)
        return cls(weight * np.outer(output_unit, input_unit), inputs, outputs, input_unit, output_unit)

    def to_weights(self, scaled: FloatArray) -> FloatArray:
        """Convert `[n_out, n_in]` from the units of the problem."""
        return scaled / np.outer(self.output_unit, self.input_unit)

    def to_scaled(self, weights: FloatArray) -> FloatArray:
        """The reverse of `to_weights`."""
        return weights * np.outer(self.output_unit, self.input_unit)

    def apply(self, v: FloatArray) -> FloatArray:
        """`A v C`."""
        return _times(_times(self.outputs, v), self.inputs)

    def energy(self, v: FloatArray) -> float:
        """`tr(A v C v^T)`."""
        return float(np.sum(self.apply(v) * v))

    def saliency(self) -> FloatArray:
        """Saliency `[n_out, n_in]` of the optimal brain surgeon, `w^2 / (A^-1_jj C^-1_ii)`.

        It is the loss of variance of the outputs without each weight, the others compensating; compares between layers.
        """
        inverses = [
            1 / values if vectors.ndim == 1 else vectors**2 @ (1 / values)
            for values, vectors in (self.output_basis, self.input_basis)
        ]
        return self.weight**2 / np.outer(*inverses)

    def relative_error(self, v: FloatArray) -> float:
        """Root of `error(v)` over the energy of the weights; 0 without energy."""
        total = self.energy(self.weight)
        return float(np.sqrt(max(self.energy(v - self.weight), 0.0) / total)) if total > 0 else 0.0

    @cached_property
    def input_basis(self) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues `[n_in]` and eigenvectors of C."""
        return _eigen(self.inputs)

    @cached_property
    def output_basis(self) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues `[n_out]` and eigenvectors of A."""
        return _eigen(self.outputs)

    @cached_property
    def roots(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """`A^(1/2)`, its inverse, `C^(1/2)` and its inverse."""
        return (*_roots(self.output_basis), *_roots(self.input_basis))

    def factors(self, v: FloatArray, rank: int) -> tuple[FloatArray, FloatArray]:
        """Left `[n_out, rank]` and right `[rank, n_in]` with minimal `energy(v - left right)` and equal norms."""
        a, a_inverse, c, c_inverse = self.roots
        u, values, vt = np.linalg.svd(_times(_times(a, v), c), full_matrices=False)
        size = np.sqrt(values[:rank])
        return _times(a_inverse, u[:, :rank] * size), _times(size[:, np.newaxis] * vt[:rank], c_inverse)

    def truncated(self, v: FloatArray, rank: int) -> FloatArray:
        """The product of `factors`."""
        left, right = self.factors(v, rank)
        return left @ right

    @cached_property
    def tail_energies(self) -> FloatArray:
        """`error` of the best factors of the weights with rank 0, 1, 2 ..."""
        a, _, c, _ = self.roots
        values = np.linalg.svd(_times(_times(a, self.weight), c), compute_uv=False) ** 2
        return np.append(np.cumsum(values[::-1])[::-1], 0.0)

    def solve(self, v: FloatArray, penalty: float) -> FloatArray:
        """`X` with `A X C + penalty X = v`."""
        (output_values, q), (input_values, p) = self.output_basis, self.input_basis
        inside = _times(_times(q.T, v), p) / (np.outer(output_values, input_values) + penalty)
        return _times(_times(q, inside), p.T)


def best_under_pattern(
    problem: Quadratic, select: Callable[[FloatArray], Mask], effort: float = 1.0
) -> tuple[FloatArray, Mask]:
    """Weights `[n_out, n_in]`, in the units of the problem, with nearly the minimal error under a pattern; their mask.

    `select` returns the mask of the pattern for energies `[n_out, n_in]`; `effort` is a share of the usual iterations.
    """
    target = problem.apply(problem.weight)
    mask = select(problem.weight**2)
    if mask.all():
        return problem.weight, mask
    kept = np.where(mask, problem.weight, 0.0)
    dual = np.zeros_like(kept)
    penalty, growth = PENALTY, GROWTH ** (1 / effort)  # the same last penalty for all efforts
    for _ in range(max(1, round(effort * ROUNDS))):
        free = problem.solve(target + penalty * (kept - dual), penalty)
        wanted = free + dual
        mask = select(wanted**2)
        kept = np.where(mask, wanted, 0.0)
        dual += free - kept
        penalty *= growth
    return best_weights(problem, mask, kept, effort), mask


def best_weights(problem: Quadratic, mask: Mask, start: FloatArray | None = None, effort: float = 1.0) -> FloatArray:
    """Weights under `mask` with minimal error, in the units of the problem: conjugate gradients from `start`."""
    x = np.where(mask, problem.weight if start is None else start, 0.0)
    residual = np.where(mask, problem.apply(problem.weight - x), 0.0)
    direction = residual.copy()
    size = float(np.sum(residual**2))
    tolerance = 1e-20 * problem.energy(problem.weight)
    for _ in range(max(1, round(effort * CONJUGATE_GRADIENT_STEPS))):
        if size <= tolerance:
            break
        image = np.where(mask, problem.apply(direction), 0.0)
        step = size / float(np.sum(direction * image))
        x += step * direction
        residual -= step * image
        before, size = size, float(np.sum(residual**2))
        direction = residual + (size / before) * direction
    return x


def _normalized(moment: FloatArray, damping: float) -> tuple[FloatArray, FloatArray]:
    """Return the damped moment scaled to the diagonal 1, and the roots of its original diagonal."""
    diagonal = moment if moment.ndim == 1 else np.diag(moment)
    unit = np.sqrt(diagonal + (damping * float(diagonal.mean()) or 1.0))
    if moment.ndim == 1 or len(moment) > MAX_NEURONS:
        return np.ones_like(unit), unit
    normal = moment / np.outer(unit, unit)
    np.fill_diagonal(normal, 1.0)
    return normal, unit


def _eigen(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return eigenvalues and eigenvectors; both are diagonal for a diagonal matrix."""
    if matrix.ndim == 1:
        return matrix, np.ones_like(matrix)
    values, vectors = np.linalg.eigh(matrix)
    return np.maximum(values, MIN_EIGENVALUE), vectors


def _roots(basis: tuple[FloatArray, FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Square root of a matrix with these eigenvalues and eigenvectors, and its inverse."""
    values, vectors = basis
    if vectors.ndim == 1:
        return np.sqrt(values), 1 / np.sqrt(values)
    return (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T


def _times(a: FloatArray, b: FloatArray) -> FloatArray:
    """`a b`; either may be the diagonal of a matrix."""
    if a.ndim == 1:
        return a[:, np.newaxis] * b
    return a * b if b.ndim == 1 else a @ b
