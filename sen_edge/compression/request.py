"""Compression request, as Python, sweep files and the command line take it.

CompressRequest(sparsity=0.9, pattern="16x1", epochs=20)
CompressRequest(rank=16)
CompressRequest(max_drop=0.5)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from annotated_types import Ge, Le, Lt, MinLen

from sen_edge.errors import UsageError
from sen_edge.schema import Check, Count, NonNegative, OpenShare, Option, Positive, Schema, SchemaError, Size, Whole

if TYPE_CHECKING:  # the command line needs no numpy
    from sen_edge.compression.patterns import Pattern
    from sen_runtime.ir.network import Network

Task = Literal["prune", "factorize", "hierarchical", "search"]
Criterion = Literal["second-order", "magnitude", "distance"]
Scope = Literal["global", "layer"]
#: Method of a search; "both" is low rank and a sparse part.
Method = Literal["sparse", "low-rank", "both"]
Objective = Literal["latency", "size", "macs"]
Dtype = Literal["float32", "int8-dynamic", "int4-dynamic", "int8", "int4"]
#: Default dtypes of candidates, where bytes matter or not, and for firmware. int4 saves bytes, but no time.
WEIGHT_DTYPES: tuple[Dtype, ...] = ("float32", "int8-dynamic")
SMALL_WEIGHT_DTYPES: tuple[Dtype, ...] = (*WEIGHT_DTYPES, "int4-dynamic")
INTEGER_DTYPES: tuple[Dtype, ...] = ("int8", "int4")
Share = Annotated[float, Ge(0), Lt(1)]
Fraction = Annotated[float, Ge(0), Le(1)]
Layers = Annotated[tuple[Whole, ...], MinLen(1)]

PRUNING, LOW_RANK, SEARCH, TRAINING = "Pruning", "Low rank", "Search", "Training after compression (needs --data)"
DROP = "Search for the best network within this drop of the task's metric (accuracy in points, R2, ...); needs --data."
FLASH = "Search for the network with the min drop whose exported C takes at most this flash, e.g. 64KiB; needs --data."
OldDrop = Annotated[
    Annotated[float, Ge(0), Lt(100)] | None, Option("Old name of --max-drop.", group=SEARCH, metavar="POINTS")
]
#: What requests a task.
NEEDS: Mapping[Task, str] = {
    "prune": "a sparsity, a threshold or a pattern N:M",
    "factorize": "a rank, a share of the MACs or an error",
    "hierarchical": "a hierarchical error",
    "search": "a max drop or a max flash",
}


#: Ending of a device that is a record.
RECORD_SUFFIX = ".json"


def _is_pattern(text: str) -> bool:
    from sen_edge.compression.patterns import Pattern

    try:
        Pattern.parse(text)
    except UsageError:
        return False
    return True


def _is_measured(name: str) -> bool:
    from sen_runtime import engines

    return name in engines.names() and not engines.engine(name).is_on_demand


def _is_device(name: str) -> bool:
    from sen_edge.compression.boards import boards

    return name.endswith(RECORD_SUFFIX) or name in boards()


PATTERNS = "unstructured, blocks such as 16x1 (outputs x inputs) or 1x4, N:M with N < M such as 2:4, or neurons"
PatternName = Annotated[str, Check(_is_pattern, PATTERNS)]
DEVICES = "pi3, pi4, pi5, or the path of a record (.json) of `sen-edge bench` on the device"
Device = Annotated[str, Check(_is_device, DEVICES)]
Engine = Annotated[str, Check(_is_measured, "the name of an engine that `sen-edge bench` measures by default")]


@dataclass(frozen=True)
class CompressRequest(Schema):
    """Compression of a model: one task, and training after it.

    Attributes:
        scope: "global" distributes zeros over layers by their cost, "layer" applies the same sparsity to all; None is
            global for criterion second-order, whose costs are comparable between layers, and layer for the others.
        near: share of weights of a low-rank layer that are stored in a sparse part next to the factors.
        max_flash: in bytes, of code and constants; with `max_drop` a limit of the candidates.
        dtypes: of candidates; int8 and int4 have int8 activations. None is int8 and int4 with `max_flash`, else weights
            in float32 and int8, and for objective size int4.
        seconds: duration of the measurement of finalists.
    """

    sparsity: Annotated[Share | None, Option("Share of zero weights.", group=PRUNING, metavar="SHARE")] = None
    threshold: Annotated[
        Positive | None,
        Option(
            "Instead of a share: remove weights below it (magnitude), synapses longer than it (distance), or weights "
            "up to this relative error of each layer's output (second-order).",
            group=PRUNING,
        ),
    ] = None
    criterion: Annotated[Criterion, Option("Order in which weights are removed.", group=PRUNING)] = "second-order"
    pattern: Annotated[
        PatternName,
        Option("unstructured, blocks such as 16x1 or 1x4, N:M, or neurons.", group=PRUNING, metavar="PATTERN"),
    ] = "unstructured"
    scope: Scope | None = None
    layers: Annotated[
        Layers | None, Option("Layers to compress, from 0. Default: all.", group=PRUNING, metavar="N,...")
    ] = None

    rank: Annotated[
        Count | None, Option("Rank of every layer; layers that would not become smaller are unchanged.", group=LOW_RANK)
    ] = None
    macs: Annotated[OpenShare | None, Option("Share of remaining MACs.", group=LOW_RANK, metavar="SHARE")] = None
    error: Annotated[OpenShare | None, Option("Max relative error of each layer's output.", group=LOW_RANK)] = None
    near: Share = 0.0
    hierarchical: Annotated[
        OpenShare | None,
        Option(
            "Approximate large layers by hierarchical matrices with this error, from coordinates.",
            group=LOW_RANK,
            metavar="ERROR",
        ),
    ] = None

    max_drop: Annotated[NonNegative | None, Option(DROP, group=SEARCH, metavar="DROP")] = None
    max_accuracy_drop: OldDrop = None
    max_flash: Annotated[Size | None, Option(FLASH, group=SEARCH, metavar="SIZE")] = None
    objective: Annotated[Objective, Option("Quantity to minimize.", group=SEARCH)] = "latency"
    engine: Annotated[Engine, Option("Engine whose latency is minimized.", group=SEARCH, metavar="NAME")] = "native"
    device: Annotated[
        Device | None,
        Option(
            "Board whose latency is minimized, instead of this machine: pi3, pi4, pi5, or a record (.json) of "
            "`sen-edge bench` on it.",
            group=SEARCH,
            metavar="NAME|FILE",
        ),
    ] = None
    methods: Annotated[tuple[Method, ...], MinLen(1), Option("Methods to try.", group=SEARCH, metavar="METHOD,...")] = (
        get_args(Method)
    )
    dtypes: Annotated[
        Annotated[tuple[Dtype, ...], MinLen(1)] | None,
        Option(
            f"Types to try: {', '.join(get_args(Dtype))}. Default: {','.join(INTEGER_DTYPES)} with --max-flash, else "
            f"{','.join(WEIGHT_DTYPES)}, and int4-dynamic for objective size.",
            group=SEARCH,
            metavar="DTYPE,...",
        ),
    ] = None
    seconds: Positive = 10.0

    epochs: Annotated[
        Whole,
        Option(
            "Epochs of training: of coordinates under the pattern for a checkpoint, else of weights by distillation.",
            group=TRAINING,
        ),
    ] = 0
    distillation: Annotated[
        Fraction | None,
        Option(
            "Weight of the distillation loss. Default: 0 for coordinates, else 1.",
            group=TRAINING,
            metavar="SHARE",
        ),
    ] = None
    patience: Annotated[
        Whole, Option("Epochs without improvement before training stops; 0: never.", group=TRAINING)
    ] = 0
    seed: Annotated[Whole, Option("Seed of compression.")] = 0

    @property
    def tasks(self) -> list[Task]:
        """Requested tasks; at most one in a valid request."""
        is_requested: Mapping[Task, bool] = {
            "prune": (self.sparsity, self.threshold, self.parsed_pattern.group) != (None, None, None),
            "factorize": (self.rank, self.macs, self.error) != (None, None, None),
            "hierarchical": self.hierarchical is not None,
            "search": (self.max_drop, self.max_flash) != (None, None),
        }
        return [task for task, requested in is_requested.items() if requested]

    @property
    def task(self) -> Task | None:
        """Requested task; None for no compression."""
        return next(iter(self.tasks), None)

    @property
    def minimized(self) -> Literal["latency", "size", "macs", "drop"]:
        """Quantity that a search minimizes: the drop where only the flash has a limit, else the objective."""
        return "drop" if self.max_drop is None else self.objective

    @property
    def candidate_dtypes(self) -> tuple[Dtype, ...]:
        """Dtypes of the candidates of a search."""
        if self.dtypes is not None:
            return self.dtypes
        if self.max_flash is not None:
            return INTEGER_DTYPES
        return SMALL_WEIGHT_DTYPES if self.objective == "size" else WEIGHT_DTYPES

    @property
    def record(self) -> Path | None:
        """Record of the device."""
        return Path(self.device) if self.device is not None and self.device.endswith(RECORD_SUFFIX) else None

    @property
    def board(self) -> str | None:
        """Name of the device, whose costs are instructions."""
        return self.device if self.record is None else None

    @property
    def is_global(self) -> bool:
        """Whether the layers share the sparsity."""
        return self.criterion == "second-order" if self.scope is None else self.scope == "global"

    @property
    def parsed_pattern(self) -> Pattern:
        """Pattern of the zeros."""
        from sen_edge.compression.patterns import Pattern

        return Pattern.parse(self.pattern)

    def expect(self, task: Task) -> None:
        """Refuse a request of another task, or of none."""
        if self.task != task:
            raise UsageError(f"compression needs {NEEDS[task]}")

    def check_trainable(self) -> None:
        """Refuse a pattern that training cannot follow."""
        if self.pattern == "neurons" or self.threshold is not None:
            raise UsageError("fine-tuning needs a sparsity of single synapses or blocks", "remove neurons before it")

    def tuning(self, distillation: float) -> Tuning:
        """Loss of training, with this share of distillation where the request has none."""
        share = distillation if self.distillation is None else self.distillation
        return Tuning(distillation=share, patience=self.patience)

    def check(self) -> None:
        """Refuse fields without effect and fields that contradict each other."""
        self.rename("max_accuracy_drop", "max_drop")
        if len(self.tasks) > 1:
            raise SchemaError(f"compression takes one of {'; '.join(NEEDS.values())}; got {len(self.tasks)} of them")
        has_zeros = self.task == "prune" or (self.task == "factorize" and self.near > 0)
        self.require(self.task == "prune", NEEDS["prune"], "criterion", "scope")
        self.require(has_zeros, NEEDS["prune"], "pattern")
        self.require(self.task in ("prune", "factorize"), f"{NEEDS['prune']}, or {NEEDS['factorize']}", "layers")
        self.require(self.task == "factorize", NEEDS["factorize"], "near")
        self.require(self.task == "search", NEEDS["search"], "methods", "dtypes")
        self.require(self.max_drop is not None, "a max drop", "objective", "engine", "device", "seconds")
        self.require(self.objective == "latency", "objective latency", "device")
        self._check_dtypes()
        if self.board is not None and self.engine != "native":
            problem = f"is {self.board}, whose costs are those of the engine native; engine is {self.engine}"
            raise SchemaError(problem, "or name a record of the device", key="device")
        self.require(self.task is not None, f"one of {'; '.join(NEEDS.values())}", "epochs")
        self.require(self.epochs > 0, "epochs", "distillation", "patience")
        if self.task == "prune":
            self._check_pruning(self.parsed_pattern)
        elif self.task == "factorize":
            if sum(value is not None for value in (self.rank, self.macs, self.error)) > 1:
                raise SchemaError(f"a low rank takes one of {NEEDS['factorize']}; got several")
            if self.pattern == "neurons":
                raise SchemaError("is neurons; expected unstructured or blocks for the near field", key="pattern")

    def _check_dtypes(self) -> None:
        for dtype in self.dtypes or ():
            if dtype.startswith("int4") and self.objective != "size" and self.max_flash is None:
                raise SchemaError(f"has {dtype}, which has an effect with objective size or max_flash", key="dtypes")
            if dtype == "int4-dynamic" and self.max_flash is not None:
                raise SchemaError(f"has {dtype}, which has no form in C", "use int4", key="dtypes")
        integers = [dtype for dtype in self.candidate_dtypes if dtype in INTEGER_DTYPES]
        if self.board is not None and integers:
            problem = f"is {self.board}, whose costs are those of float activations; dtypes have {integers[0]}"
            raise SchemaError(problem, "or name a record of the device", key="device")

    def _check_pruning(self, pattern: Pattern) -> None:
        if self.sparsity is not None and self.threshold is not None:
            raise SchemaError("pruning takes a sparsity or a threshold; got both")
        if self.threshold is not None and (pattern.group is not None or pattern.neurons):
            raise SchemaError(f"has no effect with the pattern {pattern}", key="threshold")
        if pattern.group is not None and self.sparsity is not None:
            share = 1 - pattern.group[0] / pattern.group[1]
            if not math.isclose(self.sparsity, share, abs_tol=1e-3):
                raise SchemaError(f"is {self.sparsity:g}; expected {share:g}, that of {pattern}", key="sparsity")
        if self.criterion == "distance" and str(pattern) != "unstructured":
            raise SchemaError(f"is {pattern}; criterion distance has no pattern", "or use magnitude", key="pattern")


@dataclass(frozen=True)
class Tuning(Schema):
    """Schedule and loss of training after compression.

    Attributes:
        ramp: share of the epochs in which the sparsity rises, its distance from the end with the third power (M. Zhu
            and S. Gupta, "To prune, or not to prune", 2017); the pattern is chosen again in each of them. 0 for all at
            once.
        distillation: share of the loss that is the distance to the original network's outputs; the rest is the loss of
            the task.
        temperature: at which both outputs of classes or labels are compared.
        patience: epochs without improvement after which training ends; 0 for never.
    """

    ramp: Share = 0.25
    distillation: Fraction = 0.0
    temperature: Positive = 2.0
    patience: Whole = 0


def select_layers(layers: tuple[int, ...] | None, network: Network) -> list[int]:
    """Numbers of the requested layers of a network, ascending."""
    n_layers = len(network.layers)
    for index in layers or ():
        if index >= n_layers:
            raise UsageError(f"there is no layer {index}; expected 0 to {n_layers - 1}")
    return sorted(set(range(n_layers) if layers is None else layers))
