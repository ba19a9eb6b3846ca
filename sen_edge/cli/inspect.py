"""`sen-edge inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sen_edge.cli import console

if TYPE_CHECKING:
    from sen_edge.summary import LayerSummary, Summary


def inspect(
    model: Annotated[Path, typer.Argument(help="Checkpoint, .pt or .safetensors.", metavar="MODEL")],
    *,
    map_path: Annotated[
        Path | None, typer.Option("--map", help="TOML map of a foreign state dict.", metavar="FILE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON on stdout.")] = False,
) -> None:
    """Show what a checkpoint holds: layers, parameters, what the coordinates save, distances and weights."""
    from sen_edge.checkpoint import load
    from sen_edge.summary import summarize

    summary = summarize(load(model, map_path=map_path))
    if as_json:
        console.print_json(summary.to_dict())
        return
    _print(summary, model)


def _print(summary: Summary, model: Path) -> None:
    out = console.console(stderr=False)
    headings = ("layer", "neurons", "parameters", "synapses", "excit. / inhib.", "distance min / med / max", "weight")
    rows = [_row(index, layer) for index, layer in enumerate(summary.layers)]
    out.print(console.table(f"{model.name}: {_title(summary)}", headings, rows))
    lines = [
        f"parameters      {summary.parameters:,}",
        f"synapses        {summary.synapses:,} replaced by coordinates",
        f"fully connected {summary.dense_parameters:,} parameters; this network saves {summary.saved:.1f} %",
    ]
    lines += [f"{key:<15} {value}" for key, value in summary.metadata.items() if value]
    lines += [f"problem in layer {i}: {layer.problem}" for i, layer in enumerate(summary.layers) if layer.problem]
    console.print_lines(lines)


def _title(summary: Summary) -> str:
    sizes = "-".join(map(str, summary.layer_sizes))
    axis = "layer axis fixed" if summary.config["layer_axis"] == "fixed" else "all axes free"
    title = f"{summary.architecture} {sizes}, d = {summary.dimensions} ({axis})"
    spiking = summary.config["spiking"]
    return title if spiking is None else f"{title}, T = {spiking['timesteps']}, beta = {spiking['beta']:g}"


def _row(index: int, layer: LayerSummary) -> tuple[str, ...]:
    return (
        str(index),
        f"{layer.n_in} -> {layer.n_out}",
        f"{layer.parameters:,}",
        f"{layer.synapses:,}",
        f"{layer.excitatory:.0%} / {layer.inhibitory:.0%}",
        _spread(layer.distance_quantiles),
        _spread(layer.weight_quantiles),
    )


def _spread(quantiles: tuple[float, ...] | None) -> str:
    """Least, median and greatest of the five quantiles."""
    return "-" if quantiles is None else " / ".join(f"{quantiles[i]:.3g}" for i in (0, 2, 4))
