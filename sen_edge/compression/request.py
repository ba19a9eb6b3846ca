"""Compression requests, as Python, sweep files and the command line take them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from annotated_types import Ge, Le, Lt, MinLen

from sen_edge.compression.patterns import EXPECTED, UNSTRUCTURED, Pattern
from sen_edge.errors import UsageError
from sen_edge.schema import Check, Count, OpenShare, Positive, Schema, SchemaError, Whole

if TYPE_CHECKING:
    from sen_runtime.ir.network import Network

Criterion = Literal["second-order", "magnitude", "distance"]
Scope = Literal["global", "layer"]
#: Method of a search; "both" is a low rank and a sparse part.
Method = Literal["sparse", "low-rank", "both"]
Objective = Literal["latency", "size", "macs"]
Dtype = Literal["float32", "int8-dynamic"]
Share = Annotated[float, Ge(0), Lt(1)]
Fraction = Annotated[float, Ge(0), Le(1)]
Points = Annotated[float, Ge(0), Lt(100)]
Layers = Annotated[tuple[Whole, ...], MinLen(1)]


def _is_pattern(text: str) -> bool:
    try:
        Pattern.parse(text)
    except UsageError:
        return False
    return True


def _is_measured(name: str) -> bool:
    from sen_runtime import engines

    return name in engines.names() and not engines.engine(name).is_on_demand


PatternName = Annotated[str, Check(_is_pattern, EXPECTED)]
Engine = Annotated[str, Check(_is_measured, "the name of an engine that `sen-edge bench` measures by default")]


@dataclass(frozen=True)
class PruneRequest(Schema):
    """What to prune.

    Attributes:
        sparsity: share of all weights of the layers that become 0.
        threshold: instead of the sparsity, weights below it (magnitude); synapses longer than it (distance); as many as
            raise the relative error of a layer's output to it (second-order).
        criterion: order in which synapses are cut.
        pattern: synapses that are cut together, see `sen_edge.compression.patterns`.
        scope: "global" distributes the zeros over the layers by their cost, "layer" gives all the same sparsity; None
            for global with second-order, whose costs compare between layers, and layer with other criteria.
        layers: numbers of the layers; None for all.
    """

    sparsity: Share | None = None
    threshold: Positive | None = None
    criterion: Criterion = "second-order"
    pattern: PatternName = "unstructured"
    scope: Scope | None = None
    layers: Layers | None = None

    @property
    def is_global(self) -> bool:
        """Whether the layers share the sparsity."""
        return self.criterion == "second-order" if self.scope is None else self.scope == "global"

    def check(self) -> None:
        """Refuse fields that contradict each other."""
        pattern, sparsity = Pattern.parse(self.pattern), self.sparsity
        if pattern.group is None and (sparsity is None) == (self.threshold is None):
            raise SchemaError("pruning needs either a sparsity or a threshold")
        if self.threshold is not None and (pattern.group is not None or pattern.neurons):
            raise SchemaError(f"has no effect with the pattern {pattern}", key="threshold")
        if pattern.group is not None and sparsity is not None:
            share = 1 - pattern.group[0] / pattern.group[1]
            if not math.isclose(sparsity, share, abs_tol=1e-3):
                raise SchemaError(f"is {sparsity:g}; expected {share:g}, that of {pattern}", key="sparsity")
        if self.criterion == "distance" and pattern != UNSTRUCTURED:
            raise SchemaError(f"is {pattern}; criterion distance has no pattern", "or use magnitude", key="pattern")


@dataclass(frozen=True)
class RankRequest(Schema):
    """How far to factorize: exactly one of `rank`, `macs` and `error`.

    Attributes:
        rank: of every layer; a layer that would not become smaller stays as it is.
        macs: share of the network's multiply-accumulates that are left.
        error: relative second-order error of each layer's output.
        near: share of a layer's weights in a sparse part next to the factors.
        pattern: of the sparse part.
        layers: numbers of the layers; None for all.
    """

    rank: Count | None = None
    macs: OpenShare | None = None
    error: OpenShare | None = None
    near: Share = 0.0
    pattern: PatternName = "unstructured"
    layers: Layers | None = None

    def check(self) -> None:
        """Refuse fields that contradict each other."""
        if sum(value is not None for value in (self.rank, self.macs, self.error)) != 1:
            raise SchemaError("factorizing needs one of a rank, a share of the MACs, and an error")
        pattern = Pattern.parse(self.pattern)
        if pattern.neurons or pattern.group is not None:
            raise SchemaError(f"is {pattern}; expected unstructured or blocks for the near field", key="pattern")


@dataclass(frozen=True)
class BudgetRequest(Schema):
    """What to search for.

    Attributes:
        max_drop: points of accuracy on held-out data that may be lost.
        objective: what to minimize: "latency" on an engine, "size" in bytes, or "macs".
        engine: whose latency.
        methods: of compression; layers may always stay dense.
        dtypes: of the weights.
        epochs: of distillation for candidates smaller than the smallest that fits; 0 for none.
        seconds: for measuring the finalists.
        seed: of everything random.
    """

    max_drop: Points
    objective: Objective = "latency"
    engine: Engine = "native"
    methods: Annotated[tuple[Method, ...], MinLen(1)] = get_args(Method)
    dtypes: Annotated[tuple[Dtype, ...], MinLen(1)] = get_args(Dtype)
    epochs: Whole = 0
    seconds: Positive = 10.0
    seed: Whole = 0


@dataclass(frozen=True)
class Tuning(Schema):
    """Schedule and loss of training after compression.

    Attributes:
        ramp: share of the epochs in which the sparsity rises, its distance from the end with the third power (M. Zhu
            and S. Gupta, "To prune, or not to prune", 2017); the pattern is chosen again in each of them. 0 for all at
            once.
        distillation: share of the loss that is the distance to the original network's outputs; the rest is the distance
            to the labels.
        temperature: at which both softmax outputs are compared.
        patience: epochs without improvement after which training ends; 0 for never.
    """

    ramp: Share = 0.25
    distillation: Fraction = 0.0
    temperature: Positive = 2.0
    patience: Whole = 0


@dataclass(frozen=True)
class CompressRequest(Schema):
    """How to compress a model: exactly one of `prune`, `rank`, `hierarchical_error` and `budget`.

    Attributes:
        prune: what to prune.
        rank: how far to factorize.
        hierarchical_error: relative error of each layer as a hierarchical matrix, computed from coordinates.
        budget: what to search for.
        epochs: of training afterwards: of coordinates where a checkpoint is wanted, else of free weights; 0 for none.
        tuning: how to train.
        seed: of everything random.
    """

    prune: PruneRequest | None = None
    rank: RankRequest | None = None
    hierarchical_error: OpenShare | None = None
    budget: BudgetRequest | None = None
    epochs: Whole = 0
    tuning: Tuning = Tuning()
    seed: Whole = 0

    def check(self) -> None:
        """Refuse several methods, and none."""
        methods = (self.prune, self.rank, self.hierarchical_error, self.budget)
        count = sum(each is not None for each in methods)
        if count != 1:
            raise SchemaError(
                "compression needs one of a sparsity (or threshold, or pattern N:M), a rank (or MACs, or error), a "
                f"hierarchical error, and an accuracy drop; got {count} of them"
            )


def select_layers(layers: tuple[int, ...] | None, network: Network) -> list[int]:
    """Numbers of the requested layers of a network, ascending.

    Raises:
        UsageError: the network has no such layer.
    """
    n_layers = len(network.layers)
    for index in layers or ():
        if index >= n_layers:
            raise UsageError(f"there is no layer {index}; expected 0 to {n_layers - 1}")
    return sorted(set(range(n_layers) if layers is None else layers))
