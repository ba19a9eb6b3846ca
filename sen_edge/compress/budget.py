"""The smallest or fastest network that keeps a stated accuracy: a search over methods, layers and quantization.

Every layer has options, each with a second-order error and a measured cost. For every price of an error each layer
takes the option that is worth it, which gives a chain of candidates from the cheapest to the best (H. Everett,
"Generalized Lagrange multiplier method", 1963). Their accuracies are then measured on held-out training data, never on
the test data, and the cheapest within the budget is taken; of the fastest few the latency is measured side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.compress.accuracy import accuracy
from sen_edge.compress.budget_state import Memory
from sen_edge.compress.cost import ENGINES, CostModel, calibrate, measure, weight_bytes
from sen_edge.compress.finetune import Tuning, distil, free_recipe, thinned
from sen_edge.compress.layerwise import layerwise, second_order_problems
from sen_edge.compress.moments import Inputs, sensitivities
from sen_edge.compress.options import OPTIONS, Option, build, options_for
from sen_edge.compress.quadratic import Quadratic
from sen_edge.data.datasets import Dataset
from sen_edge.errors import UsageError, VerificationError
from sen_edge.passes.materialize import precompute
from sen_edge.passes.quantize import to_int8_weights
from sen_edge.training.loop import Examples, prepare, suggested_recipe
from sen_runtime.ir.network import Layer, Network
from sen_runtime.ir.operators import WeightOperator

FloatArray = NDArray[np.float64]
Report = Callable[[str, float], None]
#: Options of the layers, dtype, predicted cost.
Link = tuple[tuple[Option, ...], str, float]

OBJECTIVES = ("latency", "size", "macs")
DTYPES = ("float32", "int8-dynamic")
#: Prices of an error, from one that only the cost counts for to one that only the error does.
PRICES = np.geomspace(1e-6, 1e6, 400)
#: Candidates whose accuracy is measured, at most; finalists whose latency is.
MOST_CANDIDATES, FINALISTS = 16, 4
#: Inputs that methods are fitted to, and that costs are measured with.
CALIBRATION_INPUTS, COST_INPUTS = 8192, 256
#: Dimensions that a network is said to have where its recipe is asked for: many, for it is free weights that train.
MANY_DIMENSIONS = 32


class BudgetError(VerificationError):
    """No candidate keeps the accuracy that was asked for."""


@dataclass(frozen=True)
class BudgetRequest:
    """What to search for.

    Attributes:
        max_drop: points of accuracy on held-out data that may be lost, >= 0.
        objective: what to make small: "latency" on an engine, "size" in bytes, or "macs".
        engine: whose latency; see `sen_edge.compress.cost.ENGINES`.
        methods: kinds of options to try, of `sen_edge.compress.options.OPTIONS`.
        dtypes: of the weights, "float32" and "int8-dynamic".
        epochs: of distillation for candidates that fail by a little; 0 for none.
        seconds: for measuring the engine, and again for the finalists.
        seed: of everything random.
    """

    max_drop: float
    objective: str = "latency"
    engine: str = "native"
    methods: tuple[str, ...] = OPTIONS
    dtypes: tuple[str, ...] = DTYPES
    epochs: int = 0
    seconds: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop < 100:
            raise UsageError(f"the accuracy drop is {self.max_drop:g}; expected points from 0 to 100")
        for name, given, known in (
            ("objective", (self.objective,), OBJECTIVES),
            ("engine", (self.engine,), ENGINES),
            ("methods", self.methods, OPTIONS),
            ("dtypes", self.dtypes, DTYPES),
        ):
            if not given or any(value not in known for value in given):
                raise UsageError(f"{name}: {', '.join(given) or 'none'}; expected some of {', '.join(known)}")
        if self.epochs < 0:
            raise UsageError(f"epochs are {self.epochs}; expected a number >= 0")


@dataclass(frozen=True)
class Candidate:
    """One network, and what it costs and keeps.

    Attributes:
        layers: option of each layer, by name.
        dtype: of the weights.
        epochs: of distillation.
        cost: predicted, in the objective's unit: microseconds, bytes, or multiply-accumulates.
        accuracy: on held-out examples, in percent.
        drop: points below the original network there.
        measured_us: latency measured side by side; None where it was not.
    """

    layers: tuple[str, ...]
    dtype: str
    epochs: int
    cost: float
    accuracy: float
    drop: float
    measured_us: float | None = None

    def fits(self, request: BudgetRequest) -> bool:
        """Whether it keeps the budget."""
        return self.drop <= request.max_drop + 1e-9


@dataclass(frozen=True)
class Budgeted:
    """What the search found.

    Attributes:
        network: of the chosen candidate.
        chosen: its figures.
        candidates: all that were measured, the cheapest first.
        original: the uncompressed network's figures.
        samples: held-out examples that accuracies were measured on.
    """

    network: Network
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    original: Candidate
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "chosen": asdict(self.chosen),
            "candidates": [asdict(each) for each in self.candidates],
            "original": asdict(self.original),
            "held_out": self.samples,
        }


def search(
    network: Network,
    dataset: Dataset,
    request: BudgetRequest,
    *,
    state: Path | None = None,
    progress: Report = lambda _what, _share: None,
) -> Budgeted:
    """Find the network of the least cost whose accuracy drops by at most `request.max_drop` points.

    Args:
        network: to compress.
        dataset: its training part is used, with labels only for accuracies on what is held out.
        request: what to search for.
        state: file that keeps what was measured, so that an interrupted search goes on; None for none.
        progress: told what is done, and the share of it that is over.

    Raises:
        BudgetError: nothing keeps the accuracy; the best that was found is named.
        UsageError: the state belongs to another search.
        MissingExtraError: the engine is not installed.
    """
    return _Search(network, dataset, request, state, progress).run()


class _Search:
    """One search: what its steps share."""

    def __init__(
        self, network: Network, dataset: Dataset, request: BudgetRequest, state: Path | None, progress: Report
    ) -> None:
        self.original, self.dataset, self.request, self.progress = precompute(network), dataset, request, progress
        self.recipe = replace(suggested_recipe(MANY_DIMENSIONS, dataset), seed=request.seed)
        self.examples: Examples = prepare(dataset, self.recipe)
        inputs = self.examples.inputs.numpy()
        self.calibration: Inputs = thinned(inputs, CALIBRATION_INPUTS)
        self.memory = Memory.of(state, self.original, dataset, asdict(replace(request, max_drop=0.0)))
        self.outputs = sensitivities(self.original, self.calibration, request.seed)
        self.costs = self._cost_model() if request.objective == "latency" else None
        self.built: dict[tuple[Any, ...], Network] = {}

    def run(self) -> Budgeted:
        original = self._original()
        found = self._along(list(self._chain()), original.accuracy)
        if self.request.epochs:
            found = sorted(
                [*found, *self._distilled(found, original.accuracy)], key=lambda each: (each.cost, each.epochs)
            )
        self.progress("candidates", 1.0)
        fitting = [each for each in found if each.fits(self.request)]
        if not fitting:
            raise BudgetError(*self._nothing(found, original))
        chosen = fitting[0]
        if self.costs is not None:
            original, found, chosen = self._measured(original, found, fitting)
        return Budgeted(self._network(chosen), chosen, tuple(found), original, len(self.examples.held_labels))

    # --- candidates ------------------------------------------------------------------------------

    def _chain(self) -> Iterator[Link]:
        """Candidates along the price of an error, for each dtype: options of the layers, dtype, predicted cost."""
        problems = second_order_problems(
            self.original, range(len(self.original.layers)), self.calibration, self.outputs
        )
        options = [options_for(problem, self.request.methods, self._patterns()) for problem in problems]
        errors = [self._errors(index, problem, options[index]) for index, problem in enumerate(problems)]
        seen: dict[tuple[tuple[Option, ...], str], float] = {}
        for dtype in self.request.dtypes:
            costs = [self._costs(index, options[index], dtype) for index in range(len(problems))]
            scale = sum(float(cost.max()) for cost in costs) / (sum(float(e.max()) for e in errors) or 1.0)
            for price in PRICES:
                picked = [
                    int(np.argmin(cost + price * scale * error)) for cost, error in zip(costs, errors, strict=True)
                ]
                layers = tuple(options[i][k] for i, k in enumerate(picked))
                seen.setdefault((layers, dtype), self._cost(layers, dtype))
        for (layers, dtype), cost in sorted(seen.items(), key=lambda item: item[1]):
            yield layers, dtype, cost

    def _patterns(self) -> tuple[str, ...]:
        """Patterns of zeros that pay on the engine; those of the fewest bytes where no engine is asked for."""
        if self.request.objective != "latency":
            return ("unstructured", "16x1")
        return {"native": ("unstructured", "16x1"), "litert": ("1x4",), "onnxruntime": ()}[self.request.engine]

    def _errors(self, index: int, problem: Quadratic, options: Sequence[Option]) -> FloatArray:
        """Second-order error of each option of a layer."""
        errors = []
        for number, option in enumerate(options):
            self.progress(f"layer {index}", number / len(options))
            key = f"error {index} {option}"
            errors.append(self.memory.recall(key, lambda option=option: option.error(problem)))  # type: ignore[misc]
        return np.array(errors)

    def _costs(self, index: int, options: Sequence[Option], dtype: str) -> FloatArray:
        """Cost of the whole network with each option in one layer, the others dense."""
        dense = [OPTION_DENSE] * len(self.original.layers)
        return np.array([self._cost((*dense[:index], option, *dense[index + 1 :]), dtype) for option in options])

    def _cost(self, layers: Sequence[Option], dtype: str) -> float:
        """Predicted cost; weights of a size are enough for it, whatever their values."""
        rng = np.random.default_rng(self.request.seed)
        stand_in = [
            replace(layer, weight=option.stand_in(layer.weight.shape, rng))
            for layer, option in zip(self.original.layers, layers, strict=True)
        ]
        key = f"cost {dtype} {'; '.join(map(str, layers))}"
        return float(self.memory.recall(key, lambda: self._price(stand_in, dtype)))

    def _price(self, layers: Sequence[Layer], dtype: str) -> float:
        network = _stored(replace(self.original, layers=tuple(layers)), dtype, None)
        if self.costs is not None:
            return self.costs.latency_us(network)
        return float(weight_bytes(network) if self.request.objective == "size" else network.macs)

    def _cost_model(self) -> CostModel:
        x = thinned(self.calibration, COST_INPUTS)
        known = self.memory.values.get("cost model")
        if known is not None:
            return CostModel.from_dict(known)
        model = calibrate(
            self.original,
            self.request.engine,
            x,
            seconds=self.request.seconds,
            seed=self.request.seed,
            progress=lambda share: self.progress(f"measuring {self.request.engine}", share),
        )
        self.memory.keep("cost model", model.to_dict())
        return model

    # --- accuracies ------------------------------------------------------------------------------

    def _along(self, chain: Sequence[Link], original: float) -> list[Candidate]:
        """Some candidates of each dtype; accuracy rises with cost within one, and not from one to the other."""
        most = MOST_CANDIDATES // len(self.request.dtypes)
        found: list[Candidate] = []
        for dtype in self.request.dtypes:
            found += self._bisected([link for link in chain if link[1] == dtype], original, most, len(found))
        return sorted(found, key=lambda each: each.cost)

    def _bisected(self, chain: Sequence[Link], original: float, most: int, before: int) -> list[Candidate]:
        """At most so many candidates of the chain: spread over it, then ever closer below the cheapest that fits."""
        found: dict[int, Candidate] = {}
        spread = np.linspace(0, len(chain) - 1, min(most // 2, len(chain))).round()
        waiting = [int(position) for position in np.unique(spread)]
        while waiting:
            position = waiting.pop(0)
            self.progress("candidates", (before + len(found)) / MOST_CANDIDATES)
            layers, dtype, cost = chain[position]
            found[position] = self._judged(layers, dtype, 0, cost, original)
            if not waiting and len(found) < most:
                first = min((i for i, each in found.items() if each.fits(self.request)), default=len(chain) - 1)
                below = max((i for i in found if i < first), default=-1)
                if first - below > 1:
                    waiting = [(first + below) // 2]
        return [found[position] for position in sorted(found)]

    def _original(self) -> Candidate:
        layers = (OPTION_DENSE,) * len(self.original.layers)
        found = float(self.memory.recall("accuracy", lambda: self._accuracy(self.original)))
        return Candidate(tuple(map(str, layers)), "float32", 0, self._cost(layers, "float32"), found, 0.0)

    def _judged(self, layers: tuple[Option, ...], dtype: str, epochs: int, cost: float, original: float) -> Candidate:
        names = tuple(map(str, layers))
        key = f"accuracy {dtype} {epochs} {'; '.join(names)}"
        found = float(self.memory.recall(key, lambda: self._accuracy(self._build(layers, dtype, epochs))))
        return Candidate(names, dtype, epochs, cost, found, original - found)

    def _distilled(self, found: Sequence[Candidate], original: float) -> list[Candidate]:
        """Cheaper candidates than the cheapest that fits, trained: by bisection, for each dtype."""
        tried: list[Candidate] = []
        for dtype in self.request.dtypes:
            here = [each for each in found if each.dtype == dtype]
            low, high = 0, next((i for i, each in enumerate(here) if each.fits(self.request)), len(here))
            while low < high:
                middle = (low + high) // 2
                self.progress("distilling", len(tried) / (len(self.request.dtypes) * max(len(here).bit_length(), 1)))
                layers = tuple(map(Option.parse, here[middle].layers))
                tried.append(self._judged(layers, dtype, self.request.epochs, here[middle].cost, original))
                low, high = (low, middle) if tried[-1].fits(self.request) else (middle + 1, high)
        return tried

    def _network(self, candidate: Candidate) -> Network:
        return self._build(tuple(map(Option.parse, candidate.layers)), candidate.dtype, candidate.epochs)

    def _build(self, layers: tuple[Option, ...], dtype: str, epochs: int) -> Network:
        """The network with these options: the same every time it is built."""
        key = (layers, epochs)
        if key not in self.built:
            if epochs:
                recipe = replace(free_recipe(self.recipe), epochs=epochs)
                start = self._build(layers, "float32", 0)
                self.built[key] = distil(start, self.original, self.dataset, recipe, Tuning(distillation=1.0)).network
            else:
                self.built[key] = self._compressed(layers)
        return _stored(self.built[key], dtype, self.calibration)

    def _compressed(self, layers: tuple[Option, ...]) -> Network:
        def method(index: int, problem: Quadratic) -> WeightOperator | None:
            return build(problem, layers[index])

        return layerwise(self.original, self.calibration, method, self.outputs)

    def _accuracy(self, network: Network) -> float:
        return accuracy(network, self.examples.held_inputs.numpy(), self.examples.held_labels.numpy())

    # --- the choice ------------------------------------------------------------------------------

    def _measured(
        self, original: Candidate, found: list[Candidate], fitting: Sequence[Candidate]
    ) -> tuple[Candidate, list[Candidate], Candidate]:
        """The fastest of the finalists, by one interleaved run beside the original network."""
        assert self.costs is not None  # whoever asks has looked; this is for mypy
        finalists = fitting[:FINALISTS]
        self.progress("measuring finalists", 0.0)
        networks: Mapping[str, Network] = {
            "original": self.original,
            **{str(number): self._network(each) for number, each in enumerate(finalists)},
        }
        x = thinned(self.calibration, COST_INPUTS)
        latencies = measure(
            networks, self.request.engine, x, self.request.seconds, self.request.seed, self.costs.options
        )
        timed = [replace(each, measured_us=latencies.median_us(str(i))) for i, each in enumerate(finalists)]
        others = [each for each in found if each not in finalists]
        chosen = min(timed, key=lambda each: each.measured_us or 0.0)
        original = replace(original, measured_us=latencies.median_us("original"))
        return original, sorted([*others, *timed], key=lambda each: (each.cost, each.epochs)), chosen

    def _nothing(self, found: Sequence[Candidate], original: Candidate) -> tuple[str, str]:
        best = min(found, key=lambda each: each.drop)
        return (
            f"nothing within {self.request.max_drop:g} points of {original.accuracy:.2f} % was found; the best of "
            f"{len(found)} candidates loses {best.drop:.2f}: {'; '.join(best.layers)} in {best.dtype}",
            "allow a greater drop, more --methods, or --epochs of distillation",
        )


OPTION_DENSE = Option("dense")


def _stored(network: Network, dtype: str, calibration: Inputs | None) -> Network:
    if dtype == "float32":
        return network
    return to_int8_weights(network, calibration=None if calibration is None else thinned(calibration, 1024))
