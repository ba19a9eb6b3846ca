"""Options of compression as one flat table: those of `sen-edge compress`, and of sweep files."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

from sen_edge.compression.patterns import Pattern
from sen_edge.compression.request import (
    BudgetRequest,
    CompressRequest,
    Criterion,
    Engine,
    Fraction,
    Layers,
    Method,
    Objective,
    PatternName,
    Points,
    PruneRequest,
    RankRequest,
    Scope,
    Share,
    Tuning,
)
from sen_edge.schema import Count, OpenShare, Option, Positive, Schema, SchemaError, Whole

PRUNING, LOW_RANK, SEARCH, TRAINING = "Pruning", "Low rank", "Search", "Training after compression (needs --data)"


@dataclass(frozen=True)
class CompressOptions(Schema):
    """Method, training and seed; None is an option that is not given."""

    sparsity: Annotated[Share | None, Option("Share of the weights set to zero.", group=PRUNING, metavar="SHARE")] = (
        None
    )
    threshold: Annotated[
        Positive | None,
        Option(
            "Instead of a share: cut weights below it (magnitude), synapses longer than it (distance), or as many as "
            "give a layer's output this error (second-order).",
            group=PRUNING,
        ),
    ] = None
    criterion: Annotated[Criterion | None, Option("Order of cutting. Default: second-order.", group=PRUNING)] = None
    pattern: Annotated[
        PatternName | None,
        Option(
            "unstructured (default), blocks such as 16x1 or 1x4, N:M, or neurons.", group=PRUNING, metavar="PATTERN"
        ),
    ] = None
    scope: Annotated[
        Scope | None,
        Option("Whether layers share the zeros. Default: global for second-order, else layer.", group=PRUNING),
    ] = None
    layers: Annotated[
        Layers | None, Option("Numbers of the layers, from 0. Default: all.", group=PRUNING, metavar="N,...")
    ] = None

    rank: Annotated[Count | None, Option("Rank of every layer.", group=LOW_RANK)] = None
    macs: Annotated[
        OpenShare | None, Option("Share of the multiply-accumulates left.", group=LOW_RANK, metavar="SHARE")
    ] = None
    error: Annotated[OpenShare | None, Option("Relative error of each layer's output.", group=LOW_RANK)] = None
    near: Annotated[
        Share | None,
        Option("Share of the weights in a sparse part next to the factors.", group=LOW_RANK, metavar="SHARE"),
    ] = None
    hierarchical: Annotated[
        OpenShare | None,
        Option(
            "Large layers as hierarchical matrices with this error, from coordinates.", group=LOW_RANK, metavar="ERROR"
        ),
    ] = None

    max_accuracy_drop: Annotated[
        Points | None,
        Option("Find the best network that loses at most this; needs --data.", group=SEARCH, metavar="POINTS"),
    ] = None
    objective: Annotated[Objective | None, Option("What to minimize. Default: latency.", group=SEARCH)] = None
    engine: Annotated[
        Engine | None, Option("Engine of the latency. Default: native.", group=SEARCH, metavar="NAME")
    ] = None
    methods: Annotated[
        tuple[Method, ...] | None,
        Option("sparse, low-rank, both. Default: all.", group=SEARCH, metavar="METHOD,..."),
    ] = None

    epochs: Annotated[
        Whole,
        Option(
            "Epochs: of coordinates under the pattern for a checkpoint, else of weights towards the original.",
            group=TRAINING,
        ),
    ] = 0
    distillation: Annotated[
        Fraction | None,
        Option("Share of the loss that is the distance to the original's outputs.", group=TRAINING, metavar="SHARE"),
    ] = None
    ramp: Annotated[
        Share | None,
        Option("Share of the epochs in which the sparsity rises.", group=TRAINING, metavar="SHARE"),
    ] = None
    patience: Annotated[
        Whole | None, Option("Epochs without improvement after which training ends.", group=TRAINING)
    ] = None
    seed: Annotated[Whole, Option("Seed of compression.")] = 0

    @property
    def is_prune(self) -> bool:
        """Whether weights are pruned."""
        is_group = self.pattern is not None and Pattern.parse(self.pattern).group is not None
        return self.sparsity is not None or self.threshold is not None or is_group

    @property
    def is_rank(self) -> bool:
        """Whether layers are factorized."""
        return (self.rank, self.macs, self.error) != (None, None, None)

    def check(self) -> None:
        """Refuse options without effect."""
        is_search = self.max_accuracy_drop is not None
        for names, applies, instead in (
            (("criterion", "scope"), self.is_prune, "sparsity or threshold"),
            (("pattern", "layers"), self.is_prune or self.is_rank, "sparsity, or rank with near"),
            (("near",), self.is_rank, "rank, macs or error"),
            (("objective", "engine", "methods"), is_search, "max_accuracy_drop"),
        ):
            for name in names:
                if getattr(self, name) is not None and not applies:
                    raise SchemaError(f"has no effect without {instead}", key=name)

    def request(self) -> CompressRequest | None:
        """Request of the options; None where they request no compression.

        Raises:
            SchemaError: options contradict each other.
        """
        if all(getattr(self, each.name) == each.default for each in fields(self) if each.name != "seed"):
            return None
        drop = self.max_accuracy_drop
        return CompressRequest(
            PruneRequest(**self._given("sparsity", "threshold", "criterion", "pattern", "scope", "layers"))
            if self.is_prune
            else None,
            RankRequest(**self._given("rank", "macs", "error", "near", "pattern", "layers")) if self.is_rank else None,
            self.hierarchical,
            None
            if drop is None
            else BudgetRequest(drop, **self._given("objective", "engine", "methods", "epochs", "seed")),
            0 if drop is not None else self.epochs,
            Tuning(**self._given("ramp", "distillation", "patience")),
            self.seed,
        )

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}
