"""Options of compression, which `compress` and `export` share, and how they become a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sen_edge.cli import console
from sen_edge.errors import UsageError
from sen_runtime.figures import size

if TYPE_CHECKING:
    from sen_edge.compress.pipeline import CompressRequest
    from sen_edge.data.calibration import Calibration
    from sen_edge.data.datasets import Dataset
    from sen_edge.model.model import Model
    from sen_runtime.ir.network import Network

Sparsity = Annotated[float | None, typer.Option(help="Share of the weights that become 0.", metavar="SHARE")]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="What is cut, instead of a share: weights below it (magnitude), synapses longer than it (distance), or as "
        "many as bring a layer's output error to it (second-order)."
    ),
]
Criterion = Annotated[
    str | None, typer.Option(help="What is cut first: second-order (the default), magnitude or distance.")
]
PatternName = Annotated[
    str | None,
    typer.Option("--pattern", help="unstructured (the default), blocks such as 16x1 or 1x4, N:M, or neurons."),
]
Scope = Annotated[
    str | None, typer.Option(help="global (layers share the zeros out) or layer. Default: global for second-order.")
]
Layers = Annotated[
    str | None, typer.Option(help="Weight layers, from 0, separated by commas. Default: all.", metavar="NUMBERS")
]
Rank = Annotated[int | None, typer.Option(help="Factorize: rank of every layer.")]
Macs = Annotated[float | None, typer.Option(help="Factorize: share of the multiply-accumulates left.", metavar="SHARE")]
Error = Annotated[float | None, typer.Option(help="Factorize: relative error of each layer's output.")]
Near = Annotated[
    float | None, typer.Option(help="Factorize: share of the weights in a sparse part beside the factors.")
]
Hierarchical = Annotated[
    float | None,
    typer.Option(help="Large layers as hierarchical matrices, straight from coordinates: relative error of each."),
]
MaxAccuracyDrop = Annotated[
    float | None,
    typer.Option(help="Search for the best network that loses at most so many points; needs --data.", metavar="POINTS"),
]
Objective = Annotated[str | None, typer.Option(help="Search: latency (the default), size or macs.")]
Engine = Annotated[str | None, typer.Option(help="Search: whose latency, native (the default), onnxruntime or litert.")]
Methods = Annotated[str | None, typer.Option(help="Search: sparse, low-rank, both, separated by commas. Default: all.")]
Epochs = Annotated[
    int,
    typer.Option(
        help="Train afterwards, which needs --data: coordinates under the pattern where the output is a checkpoint, "
        "else the stored weights, towards the original network's outputs."
    ),
]
Distillation = Annotated[
    float | None, typer.Option(help="Training: share of the loss that is the distance to the original's outputs.")
]
Ramp = Annotated[
    float | None, typer.Option(help="Training of coordinates: share of the epochs in which the sparsity rises.")
]
Patience = Annotated[int | None, typer.Option(help="Training: epochs without a better one after which it ends.")]
Seed = Annotated[int, typer.Option(help="Of everything random in compression.")]


def request_of(flags: Mapping[str, Any]) -> CompressRequest | None:
    """The request that options make; None where none of them asks for compression.

    Raises:
        UsageError: options that contradict each other, or have no use together.
    """
    given = {name for name, value in flags.items() if value is not None and name not in ("epochs", "seed")}
    if not given and not flags["epochs"]:
        return None
    from sen_edge.compress.budget import BudgetRequest
    from sen_edge.compress.finetune import Tuning
    from sen_edge.compress.forms import METHODS
    from sen_edge.compress.lowrank import RankRequest
    from sen_edge.compress.patterns import UNSTRUCTURED, Pattern
    from sen_edge.compress.pipeline import CompressRequest
    from sen_edge.compress.prune import PruneRequest

    pattern = UNSTRUCTURED if flags["pattern"] is None else Pattern.parse(flags["pattern"])
    layers = _numbers(flags["layers"])
    ranks = {name: flags[name] for name in ("rank", "macs", "error")}
    wants_rank = any(value is not None for value in ranks.values())
    wants_budget = flags["max_accuracy_drop"] is not None
    wants_zeros = flags["sparsity"] is not None or flags["threshold"] is not None or pattern.group is not None
    _refuse_useless(given, wants_zeros=wants_zeros, wants_rank=wants_rank, wants_budget=wants_budget)
    prune = rank = budget = None
    if wants_zeros:
        prune = PruneRequest(
            flags["sparsity"],
            flags["threshold"],
            flags["criterion"] or "second-order",
            pattern,
            flags["scope"],
            layers,
        )
    if wants_rank:
        rank = RankRequest(**ranks, near=flags["near"] or 0.0, pattern=pattern, layers=layers)
    if wants_budget:
        budget = BudgetRequest(
            flags["max_accuracy_drop"],
            objective=flags["objective"] or "latency",
            engine=flags["engine"] or "native",
            methods=tuple(_names(flags["methods"])) or METHODS,
            epochs=flags["epochs"],
            seed=flags["seed"],
        )
    tuning = Tuning(**{name: flags[name] for name in ("distillation", "ramp", "patience") if flags[name] is not None})
    return CompressRequest(
        prune,
        rank,
        flags["hierarchical"],
        budget,
        0 if wants_budget else flags["epochs"],
        tuning,
        flags["seed"],
    )


def _refuse_useless(given: set[str], *, wants_zeros: bool, wants_rank: bool, wants_budget: bool) -> None:
    for names, applies, instead in (
        (("criterion", "scope"), wants_zeros, "--sparsity or --threshold"),
        (("pattern", "layers"), wants_zeros or wants_rank, "--sparsity, or --rank with --near"),
        (("near",), wants_rank, "--rank, --macs or --error"),
        (("objective", "engine", "methods"), wants_budget, "--max-accuracy-drop"),
    ):
        for name in names:
            if name in given and not applies:
                raise UsageError(f"--{name} has no use here", hint=f"add {instead}")


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    names = _names(text)
    if not names or not all(name.isdecimal() and len(name) < 10 for name in names):
        raise UsageError(f"--layers is {text!r}; expected numbers from 0 separated by commas, such as 0,1")
    return tuple(map(int, names))


#: Names of the options that say what to do.
FLAGS = (
    "sparsity", "threshold", "criterion", "pattern", "scope", "layers", "rank", "macs", "error", "near",
    "hierarchical", "max_accuracy_drop", "objective", "engine", "methods", "epochs", "distillation", "ramp",
    "patience", "seed",
)  # fmt: skip


def transform_of(
    flags: Mapping[str, Any],
    calibration: str | None,
    data: str | None,
    data_dir: Path | None,
    progress: Callable[[str, float], None],
) -> Callable[[Model], tuple[Network, dict[str, Any]]] | None:
    """Compression on the way to an export, as options ask for it; None where they ask for none."""
    request = request_of(flags)
    if request is None:
        return None

    def transform(model: Model) -> tuple[Network, dict[str, Any]]:
        from sen_edge.compress.pipeline import compress

        inputs, dataset = load_inputs(model, request, calibration, data, data_dir)
        result = compress(model, request, calibration=inputs, dataset=dataset, progress=progress)
        return result.network, dict(result.figures)

    return transform


def load_inputs(
    model: Model, request: CompressRequest, calibration: str | None, data: str | None, data_dir: Path | None
) -> tuple[Calibration | None, Dataset | None]:
    """The inputs and the labelled data that options name."""
    from sen_edge.compress.pipeline import MAX_INPUTS, MAX_SPIKING_INPUTS
    from sen_edge.data.calibration import load_calibration
    from sen_edge.data.datasets import load

    network = model.network
    inputs = dataset = None
    if calibration is not None:
        most = MAX_SPIKING_INPUTS if network.is_spiking else MAX_INPUTS
        inputs = load_calibration(calibration, data_dir, network, most)
    if data is not None:
        dataset = load(data, data_dir, spikes=network.input_coding == "spikes")
    return inputs, dataset


def print_figures(title: str, figures: Mapping[str, Any]) -> None:
    """Tables of what compression did, and its warnings, on stderr."""
    err = console.console(stderr=True)
    if "search" in figures:
        err.print(_search_table(figures["search"]))
    rows = [
        (
            str(index),
            f"{layer['n_in']} -> {layer['n_out']}",
            layer["form"],
            "-" if layer["sparsity"] is None else f"{layer['sparsity']:.1%}",
            f"{layer['macs']:,}",
            size(layer["bytes"]),
        )
        for index, layer in enumerate(figures["layers"])
    ]
    err.print(console.table(title, ("layer", "neurons", "form", "sparsity", "MACs", "size"), rows))
    before, after, accuracy = figures["before"], figures["after"], figures["accuracy"]
    lines = [
        f"MACs      {after['macs']:,} ({after['macs'] / before['macs']:.1%} of {before['macs']:,})",
        f"weights   {size(after['weight_bytes'])} (were {size(before['weight_bytes'])})",
    ]
    if accuracy is not None:
        drop = accuracy["original"] - accuracy["compressed"]
        lines.append(
            f"accuracy  {accuracy['compressed']:.2f} % (was {accuracy['original']:.2f} %, drop {drop:.2f} points) on "
            f"{accuracy['data']}"
        )
    for line in [*lines, *(f"warning: {warning}" for warning in figures["warnings"])]:
        console.note(line)


def _search_table(search: Mapping[str, Any]) -> Any:
    rows = []
    for each in [search["original"], *search["candidates"]]:
        what = f"{'; '.join(each['layers'])}, {each['dtype']}" + (f", {each['epochs']} epochs" * bool(each["epochs"]))
        latency = "-" if each["latency_us"] is None else f"{each['latency_us']:.2f} us"
        accuracy = f"{each['accuracy']:.2f} %"
        chosen = "*" if each == search["chosen"] else ""
        rows.append((what, f"{each['macs']:,}", size(each["bytes"]), latency, accuracy, f"{each['drop']:.2f}", chosen))
    headings = ("candidate", "MACs", "size", "latency", "accuracy", "drop", "chosen")
    title = f"candidates on {search['held_out']} held-out examples"
    return console.table(title, headings, rows)
