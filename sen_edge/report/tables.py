"""Tables of a model and of a compression, as commands print them and reports hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sen_edge.model.statistics import LayerSummary, Summary
from sen_edge.model.wiring_figures import WiringFigures
from sen_edge.report.document import UNKNOWN, Table
from sen_runtime.figures import size
from sen_runtime.task import Metric
from sen_runtime.untrusted import listing

#: Metadata of an image that `_ends` describes.
ENDS = ("task", "feature_names", "output_names", "output_activation")
AXES = {"fixed": "layer axis fixed", "learned": "layer spacing learned", "free": "all axes free"}


def title(summary: Summary) -> str:
    """Architecture, layer sizes, dimensions and time steps."""
    found = f"{summary.architecture} {'-'.join(map(str, summary.layer_sizes))}"
    if summary.config is None:
        spiking = f", T = {summary.timesteps}, input {summary.input_coding}, {summary.readout}"
        return found + (spiking if summary.timesteps else "")
    axis = AXES[summary.config["layer_axis"]]
    spiking = f", T = {summary.timesteps}, beta = {_beta(summary.config)}" if summary.timesteps else ""
    return f"{found}, d = {summary.dimensions} ({axis}){spiking}"


def layer_tables(summary: Summary) -> list[Table]:
    """Synapses of each layer, and the stored form of its weights."""
    rows = [
        {
            "layer": str(index),
            "neurons": f"{layer.n_in} -> {layer.n_out}",
            "parameters": f"{layer.parameters:,}",
            "synapses": f"{layer.synapses:,}",
            "excit. / inhib.": f"{_share(layer.excitatory)} / {_share(layer.inhibitory)}",
            "distance min / med / max": _spread(layer.distance_quantiles),
            "weight": _spread(layer.weight_quantiles),
        }
        for index, layer in enumerate(summary.layers)
    ]
    tables = [Table.of(title(summary), rows), weights_table("Weights", [asdict(layer) for layer in summary.layers])]
    wirings = {index: layer.wiring for index, layer in enumerate(summary.layers) if layer.wiring is not None}
    return [*tables, _delays_table(wirings)] if wirings else tables


def _delays_table(wirings: Mapping[int, WiringFigures]) -> Table:
    """Delays of each connection, in steps, and the ring and synapses of its layer."""
    rows = [
        {
            "layer": str(index),
            "from": each.source,
            "delays": f"{each.kind} {each.dtype}".rstrip(),
            "min / mean / max": UNKNOWN if each.min is None else f"{each.min} / {_mean(each.mean)} / {each.max}",
            "beyond the limit": UNKNOWN if each.positions is None else _share(each.positions.beyond, 1),
            "size": size(each.bytes),
            "ring": UNKNOWN if wiring.slots is None else f"{wiring.slots:,}",
            "synapse": f"{wiring.synapse:.4g}",
        }
        for index, wiring in wirings.items()
        for each in wiring.delays
    ]
    return Table.of("Delays in steps, slots of the ring, decay of the synapses", rows)


def _mean(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f}"


def weights_table(caption: str, layers: Sequence[Mapping[str, Any]]) -> Table:
    """Stored form of the weights of each layer, from `LayerFigures` as a mapping."""
    rows = [
        {
            "layer": str(index),
            "neurons": f"{layer['n_in']} -> {layer['n_out']}",
            "form": str(layer["form"]),
            "dtype": str(layer["dtype"]),
            "sparsity": _share(layer["sparsity"], 1),
            "MACs": f"{layer['macs']:,}",
            "size": size(layer["bytes"]),
        }
        for index, layer in enumerate(layers)
    ]
    return Table.of(caption, rows)


def compression_table(caption: str, figures: Mapping[str, Any]) -> Table:
    """Figures before and after a compression, from its manifest."""
    before, after, score = figures["before"], figures["after"], figures.get("score")
    rows = [
        [name, show(before[key]), show(after[key]), f"{after[key] / max(1, before[key]):.1%}"]
        for name, key, show in (("MACs", "macs", "{:,}".format), ("weights", "weight_bytes", size))
    ]
    if score:
        metric, change = Metric(score["metric"], score["unit"]), score["compressed"] - score["original"]
        cells = [metric.text(score[name]) for name in ("original", "compressed")]
        shown = f"{change:+.2f} points" if metric.unit else f"{change:+.3g}"
        rows.append([f"{metric.name}, {score['data']}", *cells, shown])
    return Table(caption, ["", "before", "after", "after / before"], rows)


def scores_text(data: Mapping[str, Any]) -> str:
    """Judged scores of an artifact, and those of the model, from the `data` of a verification in a manifest.

    The metric of the task comes first, without its name.
    """
    first, *others = data["scores"]
    judged = [f"{each['metric']} {_score_text(each)}" for each in others if each["allowed"] is not None]
    return ", ".join([_score_text(first), *judged])


def _score_text(score: Mapping[str, Any]) -> str:
    metric = Metric(score["metric"], score["unit"])
    artifact, model = (UNKNOWN if score[of] is None else metric.text(score[of]) for of in ("artifact", "model"))
    return f"{artifact} ({model})"


def facts(summary: Summary) -> list[tuple[str, str]]:
    """Names and values of the figures of the whole model, its metadata and its problems."""
    has_delays = any(layer.wiring is not None for layer in summary.layers)
    return [
        ("parameters", f"{summary.parameters:,}"),
        ("synapses", _synapses(summary)),
        ("fully connected", f"{summary.dense_parameters:,} parameters; this network saves {summary.saved:.1f} %"),
        ("MACs", f"{summary.macs:,}{' in each time step' if summary.timesteps else ''}"),
        ("size", f"{size(summary.weight_bytes)} of weights{', delays' * has_delays} and biases"),
        *(("neurons", text) for text in dict.fromkeys(map(_spiking_neuron, summary.layers)) if text),
        *(("delays", text) for text in _spatial_delays(summary)),
        *((("readout", f"weights of the steps decay by {summary.readout_decay:.8g}"),) * (summary.readout_decay < 1)),
        *_ends(summary),
        *((name, value) for name, value in summary.metadata.items() if value and name not in ENDS),
        *(("problem", f"layer {i}: {text}") for i, layer in enumerate(summary.layers) for text in _problems(layer)),
        *(("warning", warning) for warning in summary.warnings),
    ]


def _problems(layer: LayerSummary) -> list[str]:
    delays = () if layer.wiring is None else layer.wiring.delays
    return [text for text in (layer.problem, *(each.problem for each in delays)) if text]


def _spatial_delays(summary: Summary) -> Iterator[str]:
    """Formula of the delays of each connection that follow from positions."""
    for index, layer in enumerate(summary.layers):
        for each in () if layer.wiring is None else layer.wiring.delays:
            at = each.positions
            if at is not None:
                shift = f" + {at.shift}" * (at.shift > 0)
                formula = f"rint({at.scale:.6g} sqrt(distance^2 + {at.softening:.6g})){shift} steps"
                limit = f"limit {at.limit:,} ({at.overflow})"
                yield f"layer {index}, {each.source}: {formula}, {at.dimensions} coordinates, {limit}"


def _ends(summary: Summary) -> Iterator[tuple[str, str]]:
    """Task, and names and scaling of inputs and outputs."""
    inputs = [listing(summary.feature_names)] if summary.feature_names else []
    outputs = [listing(summary.output_names)] if summary.output_names else []
    inputs += ["standardized by the network"] * summary.input_scaling
    outputs += ["restored to their units"] * summary.output_scaling
    outputs += [summary.output_activation] * (summary.output_activation != "none")
    yield "task", summary.task
    yield from ((name, "; ".join(parts)) for name, parts in (("inputs", inputs), ("outputs", outputs)) if parts)


def _synapses(summary: Summary) -> str:
    """Number of possible synapses, what replaces them, and the number of those left if every layer gives it."""
    shares = [(layer.synapses, layer.sparsity) for layer in summary.layers]
    counts = [count * (1 - sparsity) for count, sparsity in shares if sparsity is not None]
    left = round(sum(counts)) if len(counts) == len(shares) else summary.synapses
    text, is_known = f"{summary.synapses:,}", left < summary.synapses
    if summary.synapse_bits:
        kept = f"{left:,} of {text} kept" if is_known else text
        return f"{kept}; {summary.synapse_bits:,} bits next to the parameters store which"
    text += " replaced by coordinates" * (summary.kind == "checkpoint")
    return text + (f", {left:,} of them connected" if is_known else "")


def _spiking_neuron(layer: LayerSummary) -> str:
    """Constants of neurons that spike; empty for others."""
    neuron = layer.neuron
    if neuron["kind"] == "RefractoryLif":
        held = "membrane 0 in the step after a spike"
        return f"beta {_parameter(neuron['beta'])}, threshold {_parameter(neuron['threshold'])}, {held}"
    if neuron["kind"] != "Lif":
        return ""
    when = "after the next decay" if neuron["reset_delay"] else "before the next decay"
    reset = f"{neuron['reset']}, reset_delay {str(neuron['reset_delay']).lower()} ({when})"
    return f"beta {_parameter(neuron['beta'])}, threshold {_parameter(neuron['threshold'])}, reset {reset}"


def _parameter(value: float | Mapping[str, float]) -> str:
    """A number, or the range of those of all neurons."""
    return f"{value['min']:.6g} to {value['max']:.6g}" if isinstance(value, Mapping) else f"{value:.6g}"


def _share(value: float | None, digits: int = 0) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}%}"


def _beta(config: Mapping[str, Any]) -> str:
    """Beta, of all layers or of each."""
    beta = config["spiking"]["beta"]
    return " / ".join(f"{each:g}" for each in beta) if isinstance(beta, list) else f"{beta:g}"


def _spread(quantiles: tuple[float, ...] | None) -> str:
    """Min, median and max of the five quantiles."""
    return UNKNOWN if quantiles is None else " / ".join(f"{quantiles[i]:.3g}" for i in (0, 2, 4))
