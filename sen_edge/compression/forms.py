"""Forms that one layer can take in a search, with their cost, second-order error and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sen_edge.compression.lowrank import low_rank_plus_sparse
from sen_edge.compression.patterns import UNSTRUCTURED, Pattern
from sen_edge.compression.prune import best_sparse
from sen_edge.compression.quadratic import Quadratic
from sen_edge.compression.request import Method
from sen_runtime.ir.operators import WeightOperator

#: Shares of the weights that stay; ranks, at multiples of vector widths; ranks with the density of a sparse part.
DENSITIES = (0.3, 0.2, 0.14, 0.1, 0.07, 0.05, 0.03, 0.02)
RANKS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
BOTH = ((8, 0.02), (8, 0.05), (16, 0.03))
#: Share of the iterations that are enough to compare errors.
SCREENING = 0.2
#: Smaller layers stay dense.
MIN_WEIGHTS = 4096
#: Bytes of a column index, and of the start of a row of blocks.
COLUMN_BYTES, ROW_BYTES = 2, 4


@dataclass(frozen=True)
class Form:
    """Dense, low rank, sparse with this share of the weights, or low rank plus sparse; 0 for no such part."""

    rank: int = 0
    density: float = 0.0
    pattern: Pattern = UNSTRUCTURED

    @property
    def family(self) -> str:
        """Forms of one family differ in size only, and engines compute them with the same kernels."""
        return self._name("low-rank", f"{self.pattern}")

    def __str__(self) -> str:
        return self._name(f"rank {self.rank}", f"{self.pattern} {self.density:.3g}")

    def _name(self, low_rank: str, sparse: str) -> str:
        parts = [(self.rank, low_rank), (self.density, sparse)]
        return " + ".join(name for size, name in parts if size) or "dense"

    def macs(self, shape: tuple[int, int]) -> int:
        """Multiply-accumulates of a layer `(n_out, n_in)`, before the sparse part is rounded to whole blocks."""
        return self.rank * sum(shape) + self._sparse_weights(shape) or shape[0] * shape[1]

    def nbytes(self, shape: tuple[int, int], itemsize: int) -> int:
        """Bytes of the weights of a layer `(n_out, n_in)`, before the sparse part is rounded to whole blocks."""
        rows, columns = self.pattern.block
        kept = self._sparse_weights(shape)
        indices = COLUMN_BYTES * kept // (rows * columns) + ROW_BYTES * shape[0] // rows if kept else 0
        return self.macs(shape) * itemsize + indices

    def _sparse_weights(self, shape: tuple[int, int]) -> int:
        return round(self.density * shape[0] * shape[1])

    def build(self, problem: Quadratic, effort: float = 1.0) -> WeightOperator | None:
        """Weights with nearly minimal error, from a share of the usual iterations; None for dense: unchanged."""
        kept = self._sparse_weights(problem.shape)
        if self.rank:
            return low_rank_plus_sparse(problem, self.rank, self.pattern, kept, effort)
        return best_sparse(problem, self.pattern, kept, effort) if kept else None

    def error(self, problem: Quadratic) -> float:
        """Second-order error of the layer, from few iterations."""
        if not self.density:
            return float(problem.tail_energies[self.rank]) if self.rank else 0.0
        operator = self.build(problem, SCREENING)
        assert operator is not None  # only dense layers are unchanged
        return problem.energy(problem.to_scaled(operator.to_dense().astype(np.float64)) - problem.weight)


DENSE = Form()


@dataclass(frozen=True)
class Plan:
    """Compressed form of a network: form of each layer, the dtype of the weights, epochs of distillation."""

    layers: tuple[Form, ...]
    dtype: str = "float32"
    epochs: int = 0

    def __str__(self) -> str:
        epochs = f", {self.epochs} epochs" if self.epochs else ""
        return f"{'; '.join(map(str, self.layers))}, {self.dtype}{epochs}"


def forms_of(shape: tuple[int, int], methods: Sequence[Method], patterns: Sequence[Pattern]) -> list[Form]:
    """Dense, and the forms that take fewer multiply-accumulates for a layer `(n_out, n_in)`."""
    if shape[0] * shape[1] < MIN_WEIGHTS:
        return [DENSE]
    candidates: dict[Method, list[Form]] = {
        "sparse": [Form(0, density, pattern) for pattern in patterns for density in DENSITIES],
        "low-rank": [Form(rank) for rank in RANKS],
        "both": [Form(rank, density, pattern) for pattern in patterns[:1] for rank, density in BOTH],
    }
    forms = [form for method in methods for form in candidates[method]]
    return [DENSE, *(form for form in forms if form.rank <= min(shape) and form.macs(shape) < shape[0] * shape[1])]
