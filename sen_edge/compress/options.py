"""What a layer can become in a search, each with a name that says all of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sen_edge.compress.lowrank import factorized
from sen_edge.compress.patterns import UNSTRUCTURED, Pattern
from sen_edge.compress.prune import sparsified
from sen_edge.compress.quadratic import Quadratic, best_under_pattern
from sen_edge.passes.sparse_layout import stored
from sen_runtime.ir.operators import Dense, LowRank, Sum, WeightOperator

#: Kinds of options, besides leaving a layer dense.
OPTIONS = ("sparse", "low-rank", "both")
#: Shares of the weights that are kept; ranks, at multiples of what vectors hold; near fields beside a low rank.
DENSITIES = (0.3, 0.2, 0.14, 0.1, 0.07, 0.05, 0.03, 0.02)
RANKS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
NEAR = ((8, 0.02), (8, 0.05), (16, 0.03))
#: Rounds of ADMM that tell a pattern's error well enough to compare it.
SCREENING_ROUNDS = 30
#: Weights from which on a layer is worth compressing.
LEAST_WEIGHTS = 4096


@dataclass(frozen=True)
class Option:
    """A form of one layer.

    Attributes:
        kind: "dense", "sparse", "low-rank" or "both" (a low rank and a sparse near field).
        rank: of the factors; 0 for none.
        density: share of the weights that the sparse part keeps; 0 for none.
        pattern: of the sparse part, by name.
    """

    kind: str
    rank: int = 0
    density: float = 0.0
    pattern: str = "unstructured"

    def __str__(self) -> str:
        if self.kind == "dense":
            return "dense"
        parts = [f"rank {self.rank}"] if self.rank else []
        parts += [f"{self.pattern} {self.density:.3g}"] if self.density else []
        return " + ".join(parts)

    @classmethod
    def parse(cls, text: str) -> Option:
        """The reverse of `str`."""
        rank, sparse = re.search(r"rank (\d+)", text), re.search(r"(unstructured|\d+x\d+) ([\d.e-]+)$", text)
        if rank is None and sparse is None:
            return cls("dense")
        kind = "both" if rank and sparse else "low-rank" if rank else "sparse"
        return cls(
            kind,
            int(rank[1]) if rank else 0,
            float(sparse[2]) if sparse else 0.0,
            sparse[1] if sparse else "unstructured",
        )

    def error(self, problem: Quadratic) -> float:
        """Second-order error of the layer in this form, nearly."""
        if self.kind == "dense":
            return 0.0
        if self.kind == "low-rank":
            return float(problem.tail_energies()[self.rank])
        kept = round(self.density * problem.weight.size)
        if self.kind == "sparse":
            select = partial(Pattern.parse(self.pattern).select, kept=kept)
            found, _ = best_under_pattern(problem, select, SCREENING_ROUNDS)
            return problem.energy(found - problem.weight)
        weights = factorized(problem, self.rank, Pattern.parse(self.pattern), kept).to_dense().astype(np.float64)
        return problem.energy(problem.to_scaled(weights) - problem.weight)

    def stand_in(self, shape: tuple[int, int], rng: np.random.Generator) -> WeightOperator:
        """Weights of this form and size, whatever their values: enough to tell a cost."""
        n_out, n_in = shape
        if self.kind == "dense":
            return Dense(rng.standard_normal(shape, np.float32))
        far = LowRank(
            rng.standard_normal((n_out, max(self.rank, 1)), np.float32),
            rng.standard_normal((max(self.rank, 1), n_in), np.float32),
        )
        if self.kind == "low-rank":
            return far
        mask = Pattern.parse(self.pattern).select(rng.random(shape), round(self.density * n_out * n_in))
        near = stored(rng.standard_normal(shape, np.float32), mask)
        return near if self.kind == "sparse" else Sum(far, near)


def options_for(problem: Quadratic, methods: Sequence[str], patterns: Sequence[str]) -> list[Option]:
    """The options of a layer: dense, and those that take fewer multiply-accumulates."""
    n_out, n_in = problem.weight.shape
    found = [Option("dense")]
    if n_out * n_in < LEAST_WEIGHTS:
        return found
    if "sparse" in methods:
        found += [Option("sparse", 0, density, pattern) for pattern in patterns for density in DENSITIES]
    if "low-rank" in methods:
        found += [Option("low-rank", rank) for rank in RANKS]
    if "both" in methods:
        found += [Option("both", rank, density, pattern) for pattern in patterns[:1] for rank, density in NEAR]
    return [
        option
        for option in found
        if option.rank <= min(n_out, n_in)
        and option.rank * (n_out + n_in) + option.density * n_out * n_in < n_out * n_in
    ]


def build(problem: Quadratic, option: Option) -> WeightOperator | None:
    """The best weights of this form; None for dense, where a layer keeps its form."""
    kept = round(option.density * problem.weight.size)
    if option.kind == "dense":
        return None
    if option.kind == "sparse":
        return sparsified(problem, Pattern.parse(option.pattern), kept)
    return factorized(problem, option.rank, Pattern.parse(option.pattern) if kept else UNSTRUCTURED, kept)
