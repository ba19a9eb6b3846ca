"""The panels of a figure, each a function of the same arguments. Colours and shapes are those of the page."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from sen_edge.report.plot.page import layer_names
from sen_edge.report.plot.scene import FloatArray, Scene, project
from sen_edge.report.plot.source import Source
from sen_edge.report.plot.still import marks
from sen_edge.report.plot.synapses import Drawn
from sen_edge.report.plots import plain

EXCITATORY, INHIBITORY, SOFT, RULE = "#b34700", "#0063a6", "#57606a", "#d0d7de"
#: Of layers, in their order; the line styles tell them apart as well.
LAYERS = ("#0063a6", "#b34700", "#00795a", "#9c3f80", "#6b5b00")
LINES = ("-", "--", ":", "-.")
MARKERS = {"excitatory": "o", "inhibitory": "s", "silent": "o", "output": "D"}
COLOURS = {"excitatory": EXCITATORY, "inhibitory": INHIBITORY, "silent": "white", "output": "#1b1f24"}
STYLE: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.grid": False,
    "svg.hashsalt": "sen-edge",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
BINS = 60
#: Share of a histogram's values that its axis spans; the few beyond are left out, and the axis says so.
SPAN = 0.98
MOST_LINES = 300


def title(scene: Scene) -> str:
    """Of the whole sheet."""
    network = scene.source.network
    sizes = "-".join(map(str, network.layer_sizes))
    kind = f"spiking network {sizes}, T = {network.timesteps}" if network.is_spiking else f"perceptron {sizes}"
    return f"{plain(scene.source.name)}: {kind}, d = {scene.source.dimensions}"


def footnote(notes: Sequence[str], n_columns: int) -> str:
    """How positions were drawn, and what was left out."""
    return "\n".join(textwrap.wrap(plain(" ".join(notes), 1000), 56 * n_columns))


def image_side(scene: Scene) -> int | None:
    """Rows of the square image that the input neurons see; None where they see none, or not all are drawn."""
    n_in = scene.source.network.n_in
    side = round(n_in**0.5)
    return side if side > 1 and side * side == n_in == len(scene.neurons[0]) else None


def is_pruned(scene: Scene) -> bool:
    """Whether there are neurons that are not connected with all of the next layer."""
    return any(link.synapses is not None or link.operator.has_max_distance for link in scene.links)


def network(figure: Any, spot: Any, scene: Scene, synapses: Sequence[Drawn], before: Source | None) -> None:
    """Neurons in three dimensions, layers moved apart, with the strongest synapses."""
    del before
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    axes = figure.add_subplot(spot, projection="3d", computed_zorder=False)
    places = scene.apart()
    for layer, drawn in enumerate(synapses):
        count = min(MOST_LINES, len(drawn.weight))
        ends = np.stack([places[layer][drawn.source[:count]], places[layer + 1][drawn.target[:count]]], axis=1)
        colours = np.where(drawn.weight[:count] > 0, EXCITATORY, INHIBITORY)
        axes.add_collection3d(
            Line3DCollection(ends, colors=colours, linewidths=0.45, alpha=0.35, zorder=1, clip_on=False)
        )
    n_neurons = sum(map(len, places))
    span = float(np.max(np.ptp(np.quantile(np.concatenate(places), [0.01, 0.99], axis=0), axis=0)[1:]))
    size = float(np.clip(9000 / n_neurons, 1.5, 14))
    named = set()
    for layer, at in enumerate(places):
        kinds = np.array(marks(scene, layer))
        for kind in (kind for kind in MARKERS if kind in kinds):
            chosen = at[kinds == kind]
            axes.scatter(
                *chosen.T, s=size * (3 if kind == "output" else 1), c=COLOURS[kind], marker=MARKERS[kind],
                linewidths=0.4 if kind == "silent" else 0.15, edgecolors=SOFT if kind == "silent" else "white",
                depthshade=False, zorder=2, clip_on=False, label=None if kind in named else kind,
            )  # fmt: skip
            named.add(kind)
        top = float(np.quantile(at[:, 2], 0.99))
        name = layer_names(scene)[layer].replace(": ", "\n", 1)
        axes.text(
            at[:, 0].mean(), at[:, 1].mean(), top + 0.12 * span, name, ha="center", va="bottom", zorder=3, fontsize=8
        )
    _set_box(axes, places, scene)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, -0.04), ncols=4, frameon=False, markerscale=1.8, fontsize=8)
    axes.set_title(f"Network, with the strongest synapses (at most {MOST_LINES} of a layer)")


def _set_box(axes: Any, places: Sequence[FloatArray], scene: Scene) -> None:
    """One scale on all axes, as distances are what matters; the few neurons that lie far out are outside."""
    low, high = (
        pick([np.quantile(at, q, axis=0) for at in places], axis=0) for pick, q in ((np.min, 0.003), (np.max, 0.997))
    )
    span = np.maximum(high - low, 1e-3 * max(float(np.max(high - low)), 1e-12))
    axes.set_box_aspect(np.maximum(span, 0.25 * span.max()), zoom=1.08)
    for which, least, most, name in zip("xyz", low, high, scene.axes, strict=True):
        margin = 0.03 * (most - least) or 0.5
        getattr(axes, f"set_{which}lim")(least - margin, most + margin)
        label = "layers, moved apart" if which == "x" else name
        getattr(axes, f"set_{which}label")("" if name == "nothing" else label, fontsize=8, labelpad=-8)
        getattr(axes, f"set_{which}ticklabels")([])
        getattr(axes, f"{which}axis").set_pane_color((1, 1, 1, 0))
        getattr(axes, f"{which}axis")._axinfo["grid"]["color"] = RULE
    axes.view_init(elev=18, azim=-62)


def distances(figure: Any, spot: Any, scene: Scene, synapses: Sequence[Drawn], before: Source | None) -> None:
    """Histogram of the synapses' lengths, layer by layer."""
    del synapses, before
    found = []
    for link in scene.links:
        values = link.distances()
        found.append(values[np.isfinite(values)])
    axes = figure.add_subplot(spot)
    _histogram(axes, found, "distance of the neurons")
    axes.set_title("Lengths of synapses")


def weights(figure: Any, spot: Any, scene: Scene, synapses: Sequence[Drawn], before: Source | None) -> None:
    """Histogram of the weights that are not 0, layer by layer, each over its median magnitude."""
    del synapses, before
    found, units = [], []
    for link in scene.links:
        values = link.weights()
        values = values[np.isfinite(values) & (values != 0)]
        units.append(float(np.median(np.abs(values))) if values.size else 1.0)
        found.append(values / np.float32(units[-1]))
    axes = figure.add_subplot(spot)
    _histogram(axes, found, "weight / median magnitude of its layer", notes=[f"median {unit:.3g}" for unit in units])
    axes.axvline(0, color=RULE, linewidth=1, zorder=0)
    axes.set_title("Weights")


def degrees(figure: Any, spot: Any, scene: Scene, synapses: Sequence[Drawn], before: Source | None) -> None:
    """Histogram of how many synapses a neuron has, those that arrive and those that leave."""
    del synapses, before
    axes = figure.add_subplot(spot)
    counts = []
    for link in scene.links:
        is_there = np.isfinite(link.distances())
        counts.append((is_there.sum(axis=1), is_there.sum(axis=0)))
    if all((arriving == len(leaving)).all() for arriving, leaving in counts):
        _say(axes, "no synapse is left out:\nevery neuron is connected\nwith all of the next layer")
    else:
        most = max(float(arriving.max() / len(leaving)) for arriving, leaving in counts)
        most = max(most, *(float(leaving.max() / len(arriving)) for arriving, leaving in counts))
        edges = np.linspace(0, max(most, 0.01) * 1.02, BINS // 2 + 1)
        for index, (arriving, leaving) in enumerate(counts):
            for values, possible, what in ((arriving, len(leaving), f"into layer {index + 1}"),
                                           (leaving, len(arriving), f"out of layer {index}")):  # fmt: skip
                axes.stairs(
                    np.histogram(values / possible, edges)[0] / len(values), 100 * edges,
                    color=LAYERS[index % len(LAYERS)], linestyle=":" if values is leaving else "-", linewidth=1.4,
                    label=f"{what}: median {np.median(values):,.0f} of {possible:,}",
                )  # fmt: skip
        axes.set(xlabel="synapses of a neuron, % of all possible", ylabel="share of neurons")
        _legend_above(axes)
    axes.set_title("Degree")


def wiring(figure: Any, spot: Any, scene: Scene, synapses: Sequence[Drawn], before: Source | None) -> None:
    """Total length of the synapses of each layer, and their mean."""
    del synapses, before
    axes = figure.add_subplot(spot)
    names, means, totals = [], [], []
    for index, link in enumerate(scene.links):
        values = link.distances()
        values = values[np.isfinite(values)].astype(np.float64)
        names.append(f"{index} to {index + 1}")
        means.append(float(values.mean()) if values.size else 0.0)
        totals.append(float(values.sum()))
    places = range(len(names))
    axes.barh(places, totals, color=[LAYERS[i % len(LAYERS)] for i in places], height=0.55)
    for place, (total, mean) in enumerate(zip(totals, means, strict=True)):
        axes.annotate(
            f"{total:,.0f} in all, {mean:.3g} a synapse",
            (0, place - 0.33),
            (2, 2),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_yticks(list(places), [f"layer {name}" for name in names])
    axes.set_ylim(len(names) - 0.5, -0.75)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_title("Summed length of synapses")


def input_grid(figure: Any, spot: Any, scene: Scene, synapses: Sequence[Drawn], before: Source | None) -> None:
    """Input neurons laid out as the image they see, coloured by how strong their weights are together."""
    del synapses, before
    side = image_side(scene)
    assert side is not None
    values = scene.links[0].weights()
    values[~np.isfinite(values)] = 0
    strength = values.astype(np.float64).sum(axis=0).reshape(side, side)
    bound = float(np.quantile(np.abs(strength), 0.98)) or 1.0
    axes = figure.add_subplot(spot)
    shown = axes.imshow(strength, cmap=diverging(), vmin=-bound, vmax=bound, interpolation="nearest")
    bar = figure.colorbar(shown, ax=axes, shrink=0.85, extend="both")
    bar.set_label("sum of outgoing weights", fontsize=8)
    bar.outline.set_visible(False)
    axes.set_xticks([0, side - 1])
    axes.set_yticks([0, side - 1])
    axes.set_title(f"Input neurons as a {side} x {side} image")


def diverging() -> Any:
    """From inhibitory over white to excitatory."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("inhibition", [INHIBITORY, "#cfe3f2", "#f7f7f7", "#f6d9c4", EXCITATORY])


def before_after(figure: Any, spot: Any, scene: Scene, synapses: Sequence[Drawn], before: Source | None) -> None:
    """Positions of another checkpoint beside those of this one, in one projection, each on its own scale."""
    del synapses
    assert before is not None
    layers = [*(operator.source for operator in before.operators), before.operators[-1].target]
    own = scene.source
    layers += [*(operator.source for operator in own.operators), own.operators[-1].target]
    is_fixed = own.is_axis_fixed and own.dimensions > 1
    flat = [np.asarray(at[:, :-1] if is_fixed else at, np.float64) for at in layers]
    places = _in_a_plane(flat)
    half = len(places) // 2
    inner = spot.subgridspec(1, 2, wspace=0.1)
    moved = [np.linalg.norm(b - a, axis=1) for a, b in zip(flat[:half], flat[half:], strict=True)]
    middle = float(np.median(np.concatenate(moved)))
    for column, (name, shown) in enumerate((("Before", places[:half]), ("After", places[half:]))):
        axes = figure.add_subplot(inner[column])
        limit = float(np.quantile(np.abs(np.concatenate(shown)), 0.997)) * 1.1 or 1.0
        for layer, at in enumerate(shown):
            chosen = at[scene.neurons[layer]]
            axes.scatter(
                *chosen.T, s=5 if len(chosen) > 50 else 22, color=LAYERS[layer % len(LAYERS)],
                marker="osD^v"[layer % 5], linewidths=0.2, edgecolors="white",
                label=f"layer {layer}", zorder=2 + layer / 10,
            )  # fmt: skip
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
        axes.set_xticks([-limit / 2, 0, limit / 2], [f"{-limit / 2:.2g}", "0", f"{limit / 2:.2g}"])
        axes.set_yticks([-limit / 2, 0, limit / 2], [f"{-limit / 2:.2g}", "0", f"{limit / 2:.2g}"])
        axes.set_title(f"{name}: {plain((before if column == 0 else own).name, 28)}")
        axes.set_xlabel(f"neurons moved by {middle:.3g} (median)" if column else "each on its own scale", fontsize=8)
        if column:
            axes.legend(frameon=False, fontsize=8, markerscale=1.6, loc="upper left", bbox_to_anchor=(1, 1))


def _in_a_plane(layers: list[FloatArray]) -> list[FloatArray]:
    """Two coordinates `[n, 2]` for each neuron, the same for all layers: principal components where there are more."""
    everything = np.concatenate(layers)
    if layers[0].shape[1] > 3:
        projected, _, _ = project(layers, is_axis_fixed=False)
        return [at[:, 1:] for at in projected]
    middle = everything.mean(axis=0)
    return [np.pad(at - middle, ((0, 0), (0, 2)))[:, :2] for at in layers]


def _histogram(axes: Any, layers: Sequence[Any], label: str, notes: Sequence[str] = ()) -> None:
    """Outlines of one histogram for each layer, on common bins, each as shares of its own layer."""
    kept = [values for values in layers if values.size]
    if not kept:
        _say(axes, "no synapses")
        return
    spans = [np.quantile(values, [(1 - SPAN) / 2, (1 + SPAN) / 2]) for values in kept]
    low, high = float(min(span[0] for span in spans)), float(max(span[1] for span in spans))
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    beyond = max(float(np.mean((values < low) | (values > high))) for values in kept)
    for index, values in enumerate(layers):
        if not values.size:
            continue
        counts = np.histogram(values, edges)[0] / values.size
        note = f", {notes[index]}" if notes else ""
        axes.stairs(
            counts, edges, color=LAYERS[index % len(LAYERS)], linestyle=LINES[index % len(LINES)], linewidth=1.4,
            label=f"layer {index} to {index + 1}{note}", fill=False,
        )  # fmt: skip
        axes.stairs(counts, edges, color=LAYERS[index % len(LAYERS)], alpha=0.12, fill=True)
    if beyond > 0:
        label += f"\n(up to {100 * beyond:.2g} % of a layer lie beyond)"
    axes.set(xlabel=label, ylabel="share of synapses", xlim=(low, high))
    _legend_above(axes)


def _legend_above(axes: Any) -> None:
    """Legends get room of their own, as curves may be anywhere."""
    n_lines = len(axes.get_legend_handles_labels()[1])
    axes.set_ylim(0, axes.get_ylim()[1] * (1.02 + 0.085 * n_lines))
    axes.legend(frameon=False, fontsize=8, loc="upper left", borderaxespad=0.1)


def _say(axes: Any, words: str) -> None:
    """In place of a diagram."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", color=SOFT, transform=axes.transAxes)
