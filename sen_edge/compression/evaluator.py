"""Candidates of a search: forms that layers can take, the networks in these forms, their scores and latencies.

A state file holds the figures, so an interrupted search resumes without measuring them again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sen_edge.compression.boards import Finalists, boards, file_names, instructions, remove_finalists
from sen_edge.compression.finetune import distil, free_recipe
from sen_edge.compression.lowrank import low_rank_plus_sparse
from sen_edge.compression.moments import Inputs, SecondOrder
from sen_edge.compression.patterns import UNSTRUCTURED, Pattern
from sen_edge.compression.prune import best_sparse
from sen_edge.compression.quadratic import Quadratic
from sen_edge.compression.request import INTEGER_DTYPES, CompressRequest, Method
from sen_edge.data.datasets import Dataset
from sen_edge.errors import OutputError, UsageError
from sen_edge.passes.materialize import materialize
from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_edge.passes.standardization import fold
from sen_edge.training.loop import prepare
from sen_exporters.base import ExportError, exporter_for
from sen_exporters.c.exporter import CExporter, COptions
from sen_runtime import engines
from sen_runtime import format as image
from sen_runtime.bench.interleaved import Latencies, side_by_side
from sen_runtime.bench.loops import loop_over
from sen_runtime.data.subsample import subsample
from sen_runtime.errors import SenError
from sen_runtime.files import write_atomic
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import WeightOperator
from sen_runtime.scores import network_scores, task_of
from sen_runtime.untrusted import load_json, read_regular

#: Inputs that methods and int8 ranges are fitted to, and that latencies are measured on.
FIT_INPUTS, RANGE_INPUTS, TIMED_INPUTS = 8192, 1024, 64
#: Of the state file; that of a search with a thousand candidates takes 0.2 MB.
FORMAT, VERSION, MAX_BYTES = "sen-edge-search", 5, 1 << 26
STATE_SUFFIX = ".search.json"
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

    def build(self, problem: Quadratic, effort: float = 1.0) -> WeightOperator:
        """Weights with nearly minimal error, from a share of the usual iterations; dense weights have no other."""
        if self.rank:
            return low_rank_plus_sparse(problem, self.rank, self.pattern, self.density, effort)
        return best_sparse(problem, self.pattern, round(self.density * problem.weight.size), effort)

    def error(self, problem: Quadratic) -> float:
        """Second-order error of the layer, from few iterations."""
        if not self.density:
            return float(problem.tail_energies[self.rank]) if self.rank else 0.0
        operator = self.build(problem, SCREENING)
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


@dataclass(frozen=True)
class Figures:
    """Figures of a candidate.

    Attributes:
        score: metric of the task on the held-out examples.
        macs: multiply-accumulates.
        nbytes: bytes of the `.sen` image.
        flash: bytes of flash of exported C, if the request has a limit for them.
    """

    score: float
    macs: int
    nbytes: int
    flash: int | None = None


class NetworkEvaluator:
    """Candidates compressed from one network, on the training part of a data set with `samples` held-out examples."""

    def __init__(self, network: Network, dataset: Dataset, request: CompressRequest, state: Path | None = None) -> None:
        self._network, self._dataset, self._request = network, dataset, request
        self._built = dict[Plan, Network]()
        self._examples = prepare(dataset, free_recipe(dataset, seed=request.seed))
        # figures hold for every limit and device: a search for another one starts from them
        has_flash = request.max_flash is not None
        subject = asdict(replace(request, max_drop=0.0, max_flash=1 if has_flash else None, device=None))
        self._state = SearchState.load(state, materialize(network), dataset, subject)
        self._fit = SecondOrder.of(network, subsample(self._examples.training.inputs, FIT_INPUTS), request.seed)
        self.shapes = [layer.weight.shape for layer in network.layers]
        self.samples = len(self._examples.held)
        self.metric = task_of(network).metric

    @cached_property
    def _problems(self) -> dict[int, Quadratic]:
        return self._fit.problems(range(len(self._fit.network.layers)))

    def error(self, layer: int, form: Form) -> float:
        """Second-order error of one layer in a form."""
        return self._state.recall(f"error {layer} {form}", lambda: [form.error(self._problems[layer])])[0]

    def figures(self, plan: Plan) -> Figures:
        """Score and cost of the compressed network."""
        score, *sizes = self._state.recall(str(plan), lambda: self._evaluate(self.network(plan)))
        return Figures(score, *map(int, sizes))

    def _evaluate(self, network: Network) -> tuple[float, ...]:
        held = self._examples.held
        scores = network_scores(network, held.examples, held.indices)
        flash = () if self._request.max_flash is None else (flash_bytes(network),)
        return scores[self.metric], network.macs, image_bytes(network), *flash

    def network(self, plan: Plan) -> Network:
        """The compressed network, the same each time."""
        plain = replace(plan, dtype="float32")
        if plain not in self._built:
            self._built[plain] = self._build(plain)
        network = self._built[plain]
        if plan.dtype == "float32":
            return network
        inputs, bits = subsample(self._fit.calibration, RANGE_INPUTS), 4 if plan.dtype.startswith("int4") else 8
        if plan.dtype in INTEGER_DTYPES:
            return to_int8(fold(network, plan.dtype), inputs, bits=bits)
        return to_int8_weights(network, calibration=inputs, bits=bits)

    def _build(self, plan: Plan) -> Network:
        if not plan.epochs:
            return self._fit.compress({i: form.build for i, form in enumerate(plan.layers) if form != DENSE})
        start, tuning = self.network(replace(plan, epochs=0)), self._request.tuning(distillation=1.0)
        recipe = free_recipe(self._dataset, plan.epochs, self._request.seed)
        return distil(start, self._fit.network, self._dataset, recipe, tuning).network

    def latencies_us(self, plans: Sequence[Plan]) -> list[float]:
        """Median latency of each compressed network in the engine of the request, side by side or in the record."""
        networks = {str(plan): self.network(plan) for plan in plans}
        inputs = subsample(self._fit.calibration, TIMED_INPUTS)
        if self._request.record is not None:
            return self._finalists(networks, inputs).latencies_us(self._request.record)
        found = measure(networks, self._request.engine, inputs, self._request.seconds, self._request.seed)
        return [found.median_us(name) for name in networks]

    def _finalists(self, networks: Mapping[str, Network], inputs: Inputs) -> Finalists:
        assert self._state.path is not None  # checked before the search; for mypy
        runner, stated = engines.engine(self._request.engine), self._network.metadata
        source = {"image_sha256": str(self._state.subject["network"])}  # by which `bench` knows that outputs may differ
        files = [
            _export(replace(network, metadata={**stated, **source, "compression": name}), runner)
            for name, network in networks.items()
        ]
        names = file_names([*networks], runner.suffixes[0])
        folder = finalists_path(self._state.path)
        return Finalists(folder, runner.name, dict(zip(names, files, strict=True)), inputs)

    def instructions(self, plans: Sequence[Plan]) -> list[float]:
        """Instructions of the products of each compressed network on the board of the request."""
        board, inputs = boards()[self._request.board or ""], subsample(self._fit.calibration, TIMED_INPUTS)
        return [instructions(board, self.network(plan), inputs) for plan in plans]


def measure(networks: Mapping[str, Network], engine: str, inputs: Inputs, seconds: float, seed: int = 0) -> Latencies:
    """Latencies of networks in one interleaved run of an engine, one of the inputs at a time, in one thread."""
    runner = engines.engine(engine)
    loops = {name: loop_over(runner.load(_export(network, runner)), inputs) for name, network in networks.items()}
    return side_by_side(loops, seconds, seed)


def _export(network: Network, engine: engines.Engine) -> bytes:
    """Model file in the form that the engine computes fastest."""
    exporter = exporter_for(engine.suffixes[0])
    *preferred, always = [exporter.Options(**fields) for fields in engine.export_options]  # type: ignore[arg-type]
    for options in preferred:
        with suppress(ExportError):  # no kernels for these weights
            return exporter.export(network, options).main
    return exporter.export(network, always).main


def image_bytes(network: Network) -> int:
    """Bytes of the `.sen` image without metadata."""
    return len(image.dumps(replace(network, metadata={})))


def flash_bytes(network: Network) -> int:
    """Bytes of flash that the exported C of a network takes: constants, and an upper estimate of its code."""
    return CExporter().footprint(network, COptions()).flash_bytes


# --- state file of an interrupted search ---------------------------------------------------------


def state_path(out: Path) -> Path:
    """Return the path of the state file of the search for `out`."""
    return out.with_name(f"{out.name}{STATE_SUFFIX}")


def finalists_path(state: Path) -> Path:
    """Return the path of the folder for finalists of a search, next to its state file."""
    return state.with_name(f"{state.name.removesuffix(STATE_SUFFIX)}.finalists")


def remove_state(state: Path) -> None:
    """Remove the state file of a search and its finalists."""
    state.unlink(missing_ok=True)
    remove_finalists(finalists_path(state))


@dataclass
class SearchState:
    """Figures by key, of one network, data set and request; without a path they are kept in memory alone."""

    path: Path | None
    subject: Mapping[str, Any]
    figures: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None, network: Network, dataset: Dataset, request: Mapping[str, Any]) -> SearchState:
        """Read the state of an interrupted search, empty without a file; refuse that of another one."""
        subject = {
            "network": hashlib.sha256(image.dumps(replace(network, metadata={}))).hexdigest(),
            "data": dataset.sha256,
            **json.loads(json.dumps(request)),
        }
        if path is None or not path.exists():
            return cls(path, subject)
        hint = f"remove {path} to start over"
        try:
            state = load_json(read_regular(path, MAX_BYTES), str(path))
            if (state["format"], state["version"]) != (FORMAT, VERSION):
                raise ValueError("another format")
            before = dict(state["subject"])
            figures = {name: tuple(map(float, values)) for name, values in dict(state["figures"]).items()}
        except (SenError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is not the state of an interrupted search: {error}", hint) from error
        if before != subject:
            names = [name for name in subject if before.get(name) != subject[name]]
            raise UsageError(f"{path} belongs to a search with another {', '.join(names)}", hint)
        return cls(path, subject, figures)

    def recall(self, key: str, compute: Callable[[], Sequence[float]]) -> tuple[float, ...]:
        """The figures under `key`; computed and written to the file if they are new."""
        if key in self.figures:
            return self.figures[key]
        self.figures[key] = tuple(map(float, compute()))
        state = {"format": FORMAT, "version": VERSION, "subject": self.subject, "figures": self.figures}
        try:
            if self.path is not None:
                write_atomic(self.path, json.dumps(state, indent=1).encode())
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error
        return self.figures[key]
