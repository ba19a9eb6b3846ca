"""Search for the smallest or fastest network within a drop of the task's metric, or for the best within a flash size.

Each layer has forms with a second-order error and an exact cost: multiply-accumulates, or bytes. For every price of the
error each layer takes its cheapest form, which gives a chain of candidates from the smallest to the most accurate (H.
Everett, "Generalized Lagrange multiplier method", 1963). Bisection on held-out training data finds the smallest
candidate within the budget. For latency there is one chain for each kernel of the engine and each dtype, because
kernels differ in time per multiply-accumulate; the finalists of the chains are measured side by side, or their
instructions on a board are computed. With a limit of flash alone, bisection finds the largest candidate of each chain
whose exported C fits, and the one with the min drop is chosen.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sen_edge.compression.boards import read_record
from sen_edge.compression.evaluator import DENSE, Figures, Form, NetworkEvaluator, Plan, forms_of
from sen_edge.compression.patterns import Pattern
from sen_edge.compression.request import CompressRequest
from sen_edge.data.datasets import Dataset
from sen_edge.errors import UsageError, VerificationError
from sen_edge.passes.quantize import int4_layers
from sen_edge.progress import Progress, silent
from sen_runtime import engines
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators.int4 import GROUP
from sen_runtime.task import Metric

#: Bytes of a dense weight of int4, with its share of the steps of groups.
INT4_SIZE = 0.5 + 0.5 / GROUP
#: Prices of the error, relative to the cost, from "cost alone matters" to "error alone matters".
PRICES = np.geomspace(1e-6, 1e6, 400)
#: Patterns of zeros with the fewest bytes, and those with kernels for microcontrollers.
SMALL_PATTERNS, FIRMWARE_PATTERNS = ("unstructured", "16x1"), ("unstructured", "1x4")
#: Rounding of a difference of scores.
SLACK = 1e-9


@dataclass(frozen=True)
class Candidate:
    """One compressed network, whose score is by `drop` worse than that of the original; finalists have a cost."""

    plan: Plan
    figures: Figures
    drop: float
    latency_us: float | None = None
    instructions: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "layers": [str(form) for form in self.plan.layers],
            "dtype": self.plan.dtype,
            "epochs": self.plan.epochs,
            "macs": self.figures.macs,
            "bytes": self.figures.nbytes,
            "flash": self.figures.flash,
            "score": self.figures.score,
            "drop": self.drop,
            "latency_us": self.latency_us,
            "instructions": self.instructions,
        }


@dataclass(frozen=True)
class Budgeted:
    """Result of a search: all evaluated candidates, the smallest first, and the number of held-out examples.

    Scores and drops are in the unit of `metric`.
    """

    network: Network
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    original: Candidate
    samples: int
    metric: Metric

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "chosen": self.chosen.to_dict(),
            "candidates": [each.to_dict() for each in self.candidates],
            "original": self.original.to_dict(),
            "held_out": self.samples,
            "metric": self.metric.name,
            "unit": self.metric.unit,
        }


class BudgetError(VerificationError):
    """No candidate is within the budget; `best` is the one with the smallest drop, or the fastest of several."""

    def __init__(self, message: str, hint: str, best: Candidate) -> None:
        super().__init__(message, hint)
        self.best = best


def search(
    network: Network,
    dataset: Dataset,
    request: CompressRequest,
    *,
    state: Path | None = None,
    progress: Progress = silent,
) -> Budgeted:
    """Find the network with the lowest cost whose metric drops by at most `request.max_drop`, in its unit.

    Only the training part of the data is used, with targets for scores on held-out examples. An interrupted search
    resumes from the figures in the file `state`.
    """
    if request.objective == "latency" and request.device is None:
        engines.engine(request.engine).version()  # raises before long work if the engine is missing
    if request.record is not None and state is None:
        raise UsageError("the device is a record, for which finalists are written", "use `sen-edge compress`")
    if request.record is not None and request.record.exists():
        read_record(request.record)  # as well
    return Search(NetworkEvaluator(network, dataset, request, state), request, progress).run()


class Search:
    """Shared state of the steps of a search."""

    def __init__(self, evaluator: NetworkEvaluator, request: CompressRequest, progress: Progress = silent) -> None:
        self.evaluator, self.request, self.progress = evaluator, request, progress
        self.max_drop, self.max_flash, self.metric = request.max_drop, request.max_flash, evaluator.metric
        plan = Plan((DENSE,) * len(evaluator.shapes))
        self.original = Candidate(plan, evaluator.figures(plan), 0.0)
        self.candidates: dict[Plan, Candidate] = {}

    def run(self) -> Budgeted:
        """Evaluate candidates, measure the finalists, and choose the best."""
        chains = self.chains()
        finalists: dict[Plan, None] = {}
        for number, chain in enumerate(chains):
            self.progress("candidates", number / len(chains))
            found = self._largest(chain) if self.request.minimized == "drop" else self._smallest(chain)
            finalists |= dict.fromkeys(plan for plan in found if self._fits(plan))
        self.progress("candidates", 1.0)
        if not finalists:
            raise self._nothing_fits()
        if self.request.minimized == "latency":
            self._measure(list(finalists))
        chosen = min((self.candidates[plan] for plan in finalists), key=self._cost)
        if self.request.minimized != "drop" and self._cost(chosen) >= self._cost(self.original):
            raise BudgetError(
                f"no candidate within {self._limits} has a lower {self.request.minimized} than the original network; "
                f"the best: {chosen.plan}",
                "allow a larger drop, or choose another --objective or --engine",
                chosen,
            )
        candidates = tuple(sorted(self.candidates.values(), key=self._cost))
        network = self.evaluator.network(chosen.plan)
        return Budgeted(network, chosen, candidates, self.original, self.evaluator.samples, self.metric)

    @property
    def _limits(self) -> str:
        drop = None if self.max_drop is None else f"{self.max_drop:g}{' points' if self.metric.unit else ''}"
        flash = None if self.max_flash is None else f"{self.max_flash:,} B of flash"
        return " and ".join(limit for limit in (drop, flash) if limit is not None)

    def _nothing_fits(self) -> BudgetError:
        """Return the error, with the candidate closest to the first limit that none keeps."""
        tried = list(self.candidates.values()) or [self.original]
        if self.max_flash is not None and not any(self._fits(each.plan) for each in tried):
            best = min(tried, key=lambda each: each.figures.flash or math.inf)
            return BudgetError(
                f"no candidate takes at most {self._limits}; the smallest of {len(tried)} takes "
                f"{best.figures.flash:,} B and loses {self.metric.change_text(best.drop)}: {best.plan}",
                "allow more flash, more --methods, or --dtypes with int4",
                best,
            )
        best = min(tried, key=lambda each: each.drop)
        return BudgetError(
            f"no candidate keeps the {self.metric.name} of {self.metric.text(self.original.figures.score)} within "
            f"{self._limits}; the best of {len(tried)} loses {self.metric.change_text(best.drop)}: {best.plan}",
            "allow a larger drop, more --methods, or --epochs of distillation",
            best,
        )

    def _cost(self, candidate: Candidate) -> tuple[float, int, int, int]:
        """Return what is minimized, then the figures that break ties."""
        figures = candidate.figures
        latency = candidate.latency_us if self.request.board is None else candidate.instructions
        cost = {
            "size": figures.nbytes,
            "macs": figures.macs,
            "latency": math.inf if latency is None else latency,
            "drop": candidate.drop,
        }
        return cost[self.request.minimized], figures.macs, figures.nbytes, candidate.plan.epochs

    def chains(self) -> list[list[Plan]]:
        """Plans from the smallest to the most accurate: one chain of all forms, or for latency one for each family."""
        request, shapes, is_latency = self.request, self.evaluator.shapes, self.request.minimized == "latency"
        names: Sequence[str] = SMALL_PATTERNS if self.max_flash is None else FIRMWARE_PATTERNS
        if is_latency:
            names = engines.engine(request.engine).fast_patterns
        patterns = [Pattern.parse(name) for name in names]
        forms = [forms_of(shape, request.methods, patterns) for shape in shapes]
        errors = [self._errors(layer, each) for layer, each in enumerate(forms)]
        families = list(dict.fromkeys(form.family for each in forms for form in each))
        chains = []
        for group in [["dense", family] for family in families] if is_latency else [families]:
            allowed = [[form for form in each if form.family in group] for each in forms]
            for dtype in request.candidate_dtypes:
                sizes = [{form: self._size(layer, form, dtype) for form in each} for layer, each in enumerate(allowed)]
                plans = [Plan(layers, dtype) for layers in trade_off(sizes, errors)]
                chains.append([plan for plan in plans if self._is_distinct(plan)])
        return chains

    def _is_distinct(self, plan: Plan) -> bool:
        """Whether neither the original network, if that is no solution, nor another dtype is the same.

        Only dense layers have an int4 form.
        """
        if self.request.minimized != "drop" and plan == self.original.plan:
            return False
        return not plan.dtype.startswith("int4") or any(
            plan.layers[index] == DENSE for index in int4_layers(self.evaluator.shapes)
        )

    def _size(self, layer: int, form: Form, dtype: str) -> float:
        shape = self.evaluator.shapes[layer]
        if self.request.minimized in ("macs", "latency"):
            return form.macs(shape)
        if dtype.startswith("int4") and form == DENSE and layer in int4_layers(self.evaluator.shapes):
            return form.macs(shape) * INT4_SIZE
        return form.nbytes(shape, 4 if dtype == "float32" else 1)

    def _errors(self, layer: int, forms: Sequence[Form]) -> dict[Form, float]:
        errors = {}
        for number, form in enumerate(forms):
            self.progress(f"layer {layer}", number / len(forms))
            errors[form] = self.evaluator.error(layer, form)
        return errors

    def _largest(self, chain: Sequence[Plan]) -> list[Plan]:
        """The largest plan of a chain that fits, also after distillation."""
        count = bisect_left(chain, True, key=lambda plan: not self._fits(plan))
        found = chain[max(0, count - 1) : count]
        return [*found, *(replace(plan, epochs=self.request.epochs) for plan in found if self.request.epochs)]

    def _fits(self, plan: Plan) -> bool:
        """Whether the exported C of a plan fits the flash."""
        flash = self._candidate(plan).figures.flash
        return self.max_flash is None or (flash is not None and flash <= self.max_flash)

    def _smallest(self, chain: Sequence[Plan]) -> list[Plan]:
        """The smallest plan of a chain within the drop, and a smaller one that is after distillation."""
        first = self._bisect(chain)
        trained = [replace(plan, epochs=self.request.epochs) for plan in chain[:first]] if self.request.epochs else []
        return [*chain[first : first + 1], *trained[self._bisect(trained) :][:1]]

    def _bisect(self, plans: Sequence[Plan]) -> int:
        """Return the index of the first plan within the drop, by falling drop; `len(plans)` if none is."""
        limit = (self.max_drop or 0.0) + SLACK
        return bisect_left(plans, True, key=lambda plan: self._candidate(plan).drop <= limit)

    def _candidate(self, plan: Plan) -> Candidate:
        if plan not in self.candidates:
            figures = self.evaluator.figures(plan)
            drop = self.metric.drop(self.original.figures.score, figures.score)
            self.candidates[plan] = Candidate(plan, figures, drop)
        return self.candidates[plan]

    def _measure(self, finalists: Sequence[Plan]) -> None:
        """Latency of the original network and the finalists, or their instructions on a board."""
        self.progress("measuring finalists", 0.0)
        candidates = [self.original, *(self.candidates[plan] for plan in finalists)]
        plans = [each.plan for each in candidates]
        if self.request.board is None:
            self.original, *measured = [
                replace(each, latency_us=latency)
                for each, latency in zip(candidates, self.evaluator.latencies_us(plans), strict=True)
            ]
        else:
            self.original, *measured = [
                replace(each, instructions=count)
                for each, count in zip(candidates, self.evaluator.instructions(plans), strict=True)
            ]
        self.candidates |= {each.plan: each for each in measured}


def trade_off(sizes: Sequence[Mapping[Form, float]], errors: Sequence[Mapping[Form, float]]) -> list[tuple[Form, ...]]:
    """Forms of all layers from the smallest network to the most accurate, one for each range of the error's price."""
    total = sum(max(error.values()) for error in errors)
    scale = sum(max(size.values()) for size in sizes) / (total or 1.0)
    choices = {
        tuple(
            min(size, key=lambda form: size[form] + price * scale * error[form])
            for size, error in zip(sizes, errors, strict=True)
        ): None
        for price in PRICES
    }
    return list(choices)
