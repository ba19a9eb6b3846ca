"""`sen-edge inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sen_edge.cli import console, mapping
from sen_runtime.figures import size
from sen_runtime.untrusted import printable

if TYPE_CHECKING:
    from sen_edge.model.statistics import LayerSummary, Summary

#: Characters of a text from a file's metadata.
MAX_TEXT = 500


def inspect(
    model: Annotated[Path, typer.Argument(help="Checkpoint (.pt, .safetensors) or image (.sen).", metavar="MODEL")],
    *,
    map_path: mapping.MapFile = None,
    expect: mapping.ExpectFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON on stdout.")] = False,
) -> None:
    """Show what a model holds: layers, parameters, the form of the weights, what that saves, distances."""
    from sen_edge.exporting.verify.expectation import check
    from sen_edge.model.model import load
    from sen_edge.model.notes import map_note
    from sen_edge.model.statistics import summarize

    loaded = load(model, map_path=map_path)
    agreement = None if expect is None else check(loaded, expect, model.name)
    summary = summarize(loaded)
    described = map_note(loaded.applied_map, agreement)
    if as_json:
        console.print_json({**summary.to_dict(), **described})
        return
    _print(summary, model)
    console.print_lines(mapping.lines(described))


def _print(summary: Summary, model: Path) -> None:
    out = console.console(stderr=False)
    headings = ("layer", "neurons", "parameters", "synapses", "excit. / inhib.", "distance min / med / max", "weight")
    rows = [_row(index, layer) for index, layer in enumerate(summary.layers)]
    out.print(console.table(f"{model.name}: {_title(summary)}", headings, rows))
    forms = [_form_row(index, layer) for index, layer in enumerate(summary.layers)]
    out.print(console.table("weights", ("layer", "form", "dtype", "sparsity", "MACs", "size"), forms))
    step = " in each time step" if summary.timesteps else ""
    lines = [
        f"parameters      {summary.parameters:,}",
        f"synapses        {_synapses(summary)}",
        f"fully connected {summary.dense_parameters:,} parameters; this network saves {summary.saved:.1f} %",
        f"MACs            {summary.macs:,}{step}",
        f"size            {size(summary.weight_bytes)} of weights and biases",
    ]
    lines += [f"neurons         {text}" for text in dict.fromkeys(map(_spiking_neuron, summary.layers)) if text]
    lines += [
        f"{printable(key, 40):<15} {printable(value, MAX_TEXT)}" for key, value in summary.metadata.items() if value
    ]
    lines += [f"problem in layer {i}: {layer.problem}" for i, layer in enumerate(summary.layers) if layer.problem]
    lines += [f"warning         {warning}" for warning in summary.warnings]
    console.print_lines(lines)


def _spiking_neuron(layer: LayerSummary) -> str:
    """Constants of neurons that spike; empty for others."""
    neuron = layer.figures.neuron
    if neuron["kind"] != "Lif":
        return ""
    when = "after the next decay" if neuron["reset_delay"] else "before the next decay"
    reset = f"{neuron['reset']}, reset_delay {str(neuron['reset_delay']).lower()} ({when})"
    return f"beta {neuron['beta']:.6g}, threshold {neuron['threshold']:.6g}, reset {reset}"


def _synapses(summary: Summary) -> str:
    """How many there could be, what stands for them, and how many are left where every layer says so."""
    shares = [(layer.synapses, layer.figures.sparsity) for layer in summary.layers]
    counts = [count * (1 - sparsity) for count, sparsity in shares if sparsity is not None]
    left = round(sum(counts)) if len(counts) == len(shares) else summary.synapses
    text, is_known = f"{summary.synapses:,}", left < summary.synapses
    if summary.synapse_bits:
        kept = f"{left:,} of {text} kept" if is_known else text
        return f"{kept}; {summary.synapse_bits:,} bits beside the parameters say which"
    text += " replaced by coordinates" * (summary.kind == "checkpoint")
    return text + (f", {left:,} of them connected" if is_known else "")


def _title(summary: Summary) -> str:
    title = f"{summary.architecture} {'-'.join(map(str, summary.layer_sizes))}"
    if summary.config is None:
        spiking = f", T = {summary.timesteps}, input {summary.input_coding}, {summary.readout}"
        return title + (spiking if summary.timesteps else "")
    axis = "layer axis fixed" if summary.config["layer_axis"] == "fixed" else "all axes free"
    title = f"{title}, d = {summary.dimensions} ({axis})"
    spiking = summary.config["spiking"]
    return title if spiking is None else f"{title}, T = {spiking['timesteps']}, beta = {spiking['beta']:g}"


def _row(index: int, layer: LayerSummary) -> tuple[str, ...]:
    return (
        str(index),
        f"{layer.figures.n_in} -> {layer.figures.n_out}",
        f"{layer.parameters:,}",
        f"{layer.synapses:,}",
        f"{_share(layer.excitatory)} / {_share(layer.inhibitory)}",
        _spread(layer.distance_quantiles),
        _spread(layer.weight_quantiles),
    )


def _form_row(index: int, layer: LayerSummary) -> tuple[str, ...]:
    figures = layer.figures
    sparsity = "-" if figures.sparsity is None else f"{figures.sparsity:.1%}"
    return str(index), figures.form, figures.dtype, sparsity, f"{figures.macs:,}", size(figures.bytes)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _spread(quantiles: tuple[float, ...] | None) -> str:
    """Least, median and greatest of the five quantiles."""
    return "-" if quantiles is None else " / ".join(f"{quantiles[i]:.3g}" for i in (0, 2, 4))
