"""Charts of a network: neurons in space, histograms of its synapses, its input as an image, two trainings compared."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from sen_edge.errors import UsageError
from sen_edge.report.document import Chart
from sen_edge.report.drawing import INK, LINES, MARKERS, PAPER, RULE, SERIES, SOFT, short
from sen_edge.report.network.scene import FloatArray, Scene, project
from sen_edge.report.network.source import Source
from sen_edge.report.network.synapses import Selection

PANELS = ("network", "distances", "weights", "degrees", "wiring", "input-grid", "before-after")
SMALL, BROAD, LARGE = (3.5, 3.0), (7.0, 3.0), (8.5, 4.6)
INHIBITORY, EXCITATORY = SERIES[:2]
#: Marker and colour of each kind of neuron.
KINDS = {"excitatory": ("o", EXCITATORY), "inhibitory": ("s", INHIBITORY), "silent": ("o", PAPER), "output": ("D", INK)}
BINS = 60
#: Share of a histogram's values within its axis, whose label gives the share beyond.
SPAN = 0.98
MAX_LINES = 300


def panel(name: str, scene: Scene, synapses: Sequence[Selection], before: Source | None = None) -> Chart:
    """One of `PANELS`.

    Args:
        name: of the panel.
        scene: the network.
        synapses: synapses to draw, of each layer but the last.
        before: the network before training, for "before-after".

    Raises:
        UsageError: the network has nothing to show in it.
    """
    if name == "before-after":
        if before is None:
            raise UsageError("before-after needs another checkpoint", hint="--what before-after=OTHER.pt")
        _check_same_shape(before, scene.source)
        return Chart("Before and after", partial(_draw_before_after, scene=scene, before=before), BROAD)
    if name == "input-grid":
        side = image_side(scene)
        if side is None:
            found = f"{scene.source.network.n_in:,} input neurons"
            raise UsageError(f"input-grid shows the input as a square image; {found} are none, or are too many to draw")
        return Chart(f"Input neurons as a {side} x {side} image", partial(_draw_input, scene=scene, side=side), SMALL)
    if name == "network":
        caption = f"Network with its strongest synapses (at most {MAX_LINES} of a layer)"
        return Chart(caption, partial(_draw_network, scene=scene, synapses=synapses), LARGE)
    caption, draw = {
        "distances": ("Lengths of synapses", _draw_distances),
        "weights": ("Weights", _draw_weights),
        "degrees": ("Degree", _draw_degrees),
        "wiring": ("Summed length of synapses", _draw_wiring),
    }[name]
    return Chart(caption, partial(draw, scene=scene), SMALL)


def default_panels(scene: Scene, before: Source | None) -> list[str]:
    """The panels in which a network has something to show."""
    empty = {
        *([] if is_pruned(scene) else ["degrees"]),
        *([] if image_side(scene) is not None else ["input-grid"]),
        *([] if before is not None else ["before-after"]),
    }
    return [name for name in PANELS if name not in empty]


def image_side(scene: Scene) -> int | None:
    """Rows of the square image at the input; None if there is none, or not all neurons are drawn."""
    n_in = scene.source.network.n_in
    side = round(n_in**0.5)
    return side if side > 1 and side * side == n_in == len(scene.neurons[0]) else None


def is_pruned(scene: Scene) -> bool:
    """Whether some neurons lack synapses to some neurons of the next layer."""
    return any(link.synapses is not None or link.operator.has_max_distance for link in scene.links)


def _check_same_shape(before: Source, after: Source) -> None:
    found, expected = ((each.network.layer_sizes, each.dimensions) for each in (before, after))
    if found != expected:
        raise UsageError(
            f"{before.name} has layers {'-'.join(map(str, found[0]))} and d = {found[1]}; "
            f"expected {'-'.join(map(str, expected[0]))} and d = {expected[1]}, as {after.name}"
        )


def _draw_network(figure: Any, spot: Any, scene: Scene, synapses: Sequence[Selection]) -> None:
    """Neurons in three dimensions, layers moved apart, with the strongest synapses."""
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    axes = figure.add_subplot(spot, projection="3d", computed_zorder=False)
    places = scene.apart()
    for layer, chosen in enumerate(synapses):
        count = min(MAX_LINES, len(chosen.weight))
        ends = np.stack([places[layer][chosen.source[:count]], places[layer + 1][chosen.target[:count]]], axis=1)
        colours = np.where(chosen.weight[:count] > 0, EXCITATORY, INHIBITORY)
        lines = Line3DCollection(ends, colors=colours, linewidths=0.45, alpha=0.35, zorder=1, clip_on=False)
        axes.add_collection3d(lines)
    span = float(np.max(np.ptp(np.quantile(np.concatenate(places), [0.01, 0.99], axis=0), axis=0)[1:]))
    size = float(np.clip(9000 / sum(map(len, places)), 1.5, 14))
    named: set[str] = set()
    for layer, at in enumerate(places):
        kinds = np.array(scene.kinds[layer])
        for kind in (kind for kind in KINDS if kind in kinds):
            marker, colour = KINDS[kind]
            axes.scatter(
                *at[kinds == kind].T, s=size * (3 if kind == "output" else 1), c=colour, marker=marker,
                linewidths=0.4 if kind == "silent" else 0.15, edgecolors=SOFT if kind == "silent" else PAPER,
                depthshade=False, zorder=2, clip_on=False, label=None if kind in named else kind,
            )  # fmt: skip
            named.add(kind)
        name = scene.layer_names[layer].replace(": ", "\n", 1)
        top = float(np.quantile(at[:, 2], 0.99)) + 0.12 * span
        axes.text(at[:, 0].mean(), at[:, 1].mean(), top, name, ha="center", va="bottom", zorder=3, fontsize=8)
    _set_box(axes, places, scene.axes)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, -0.04), ncols=4, markerscale=1.8)


def _set_box(axes: Any, places: Sequence[FloatArray], names: Sequence[str]) -> None:
    """Set one scale on all axes, as distances matter; the few neurons far out lie outside."""
    low = np.min([np.quantile(at, 0.003, axis=0) for at in places], axis=0)
    high = np.max([np.quantile(at, 0.997, axis=0) for at in places], axis=0)
    span = np.maximum(high - low, 1e-3 * max(float(np.max(high - low)), 1e-12))
    axes.set_box_aspect(np.maximum(span, 0.25 * span.max()), zoom=1.25)
    for which, start, end, name in zip("xyz", low, high, names, strict=True):
        margin = 0.03 * (end - start) or 0.5
        label = "" if name == "nothing" else "layers, moved apart" if which == "x" else name
        axes.set(**{f"{which}lim": (start - margin, end + margin), f"{which}ticklabels": []})
        getattr(axes, f"set_{which}label")(label, fontsize=8, labelpad=-8)
        axis = getattr(axes, f"{which}axis")
        axis.set_pane_color((1, 1, 1, 0))
        axis._axinfo["grid"]["color"] = RULE
    axes.view_init(elev=18, azim=-62)


def _draw_distances(figure: Any, spot: Any, scene: Scene) -> None:
    """Histogram of the synapses' lengths, layer by layer."""
    lengths = [link.lengths() for link in scene.links]
    _draw_histogram(figure.add_subplot(spot), lengths, "distance of the neurons")


def _draw_weights(figure: Any, spot: Any, scene: Scene) -> None:
    """Histogram of the nonzero weights, layer by layer, each over its median magnitude."""
    found, medians = [], []
    for link in scene.links:
        values = link.weights()
        values = values[np.isfinite(values) & (values != 0)]
        medians.append(float(np.median(np.abs(values))) if values.size else 1.0)
        found.append(values / np.float32(medians[-1]))
    axes = figure.add_subplot(spot)
    _draw_histogram(
        axes, found, "weight / median magnitude of its layer", [f", median {median:.3g}" for median in medians]
    )
    axes.axvline(0, color=RULE, linewidth=1, zorder=0)


def _draw_histogram(axes: Any, layers: Sequence[Any], label: str, notes: Sequence[str] = ()) -> None:
    """Outlines of one histogram for each layer, on common bins, as shares of the layer."""
    kept = [values for values in layers if values.size]
    if not kept:
        _write(axes, "no synapses")
        return
    spans = np.array([np.quantile(values, [(1 - SPAN) / 2, (1 + SPAN) / 2]) for values in kept])
    low, high = float(spans[:, 0].min()), float(spans[:, 1].max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    for index, values in enumerate(layers):
        if values.size:
            shares = np.histogram(values, edges)[0] / values.size
            style = {"color": SERIES[index % len(SERIES)], "linestyle": LINES[index % len(LINES)], "linewidth": 1.4}
            name = f"layer {index} to {index + 1}{notes[index] if notes else ''}"
            axes.stairs(shares, edges, label=name, **style)
    beyond = max(float(np.mean((values < low) | (values > high))) for values in kept)
    if beyond > 0:
        label += f"\n(up to {100 * beyond:.2g} % of a layer lie beyond)"
    axes.set(xlabel=label, ylabel="share of synapses", xlim=(low, high))
    _add_legend(axes)


def _draw_degrees(figure: Any, spot: Any, scene: Scene) -> None:
    """Histogram of the number of synapses of a neuron, incoming and outgoing."""
    axes = figure.add_subplot(spot)
    counts = []
    for index, link in enumerate(scene.links):
        is_there = np.isfinite(link.distances())
        n_out, n_in = is_there.shape
        counts.append((is_there.sum(axis=1), n_in, f"into layer {index + 1}", "-", index))
        counts.append((is_there.sum(axis=0), n_out, f"out of layer {index}", ":", index))
    if all((values == possible).all() for values, possible, *_ in counts):
        _write(axes, "no synapse is left out:\nevery neuron is connected\nwith all of the next layer")
        return
    most = max(float(values.max()) / possible for values, possible, *_ in counts)
    edges = np.linspace(0, max(most, 0.01) * 1.02, BINS // 2 + 1)
    for values, possible, name, style, index in counts:
        shares = np.histogram(values / possible, edges)[0] / len(values)
        label = f"{name}: median {np.median(values):,.0f} of {possible:,}"
        axes.stairs(shares, 100 * edges, color=SERIES[index % len(SERIES)], linestyle=style, linewidth=1.4, label=label)
    axes.set(xlabel="synapses of a neuron, % of all possible", ylabel="share of neurons")
    _add_legend(axes)


def _draw_wiring(figure: Any, spot: Any, scene: Scene) -> None:
    """Total length of the synapses of each layer, and their mean."""
    axes = figure.add_subplot(spot)
    for index, link in enumerate(scene.links):
        values = link.lengths().astype(np.float64)
        total, mean = float(values.sum()), float(values.mean()) if values.size else 0.0
        axes.barh(index, total, color=SERIES[index % len(SERIES)], height=0.55)
        words = f"{total:,.0f} in all, {mean:.3g} a synapse"
        axes.annotate(words, (0, index - 0.33), (2, 2), textcoords="offset points", fontsize=8)
    names = [f"layer {index} to {index + 1}" for index in range(len(scene.links))]
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(len(names) - 0.5, -0.75), xticks=[])
    axes.spines["bottom"].set_visible(False)


def _draw_input(figure: Any, spot: Any, scene: Scene, side: int) -> None:
    """Input neurons as the image they see, coloured by the sum of their weights."""
    from matplotlib.colors import LinearSegmentedColormap

    values = scene.links[0].weights()
    values[~np.isfinite(values)] = 0
    strength = values.astype(np.float64).sum(axis=0).reshape(side, side)
    bound = float(np.quantile(np.abs(strength), 0.98)) or 1.0
    colours = [INHIBITORY, "#cfe3f2", "#f7f7f7", "#f6d9c4", EXCITATORY]
    axes = figure.add_subplot(spot)
    cmap = LinearSegmentedColormap.from_list("inhibition", colours)
    image = axes.imshow(strength, cmap=cmap, vmin=-bound, vmax=bound, interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, shrink=0.85, extend="both")
    bar.set_label("sum of outgoing weights", fontsize=8)
    bar.outline.set_visible(False)
    axes.set(xticks=[0, side - 1], yticks=[0, side - 1])


def _draw_before_after(figure: Any, spot: Any, scene: Scene, before: Source) -> None:
    """Positions of another checkpoint next to those of this one, in one projection, each on its own scale."""
    own = scene.source
    is_fixed = own.is_axis_fixed and own.dimensions > 1
    flat = [np.asarray(at[:, :-1] if is_fixed else at, np.float64) for at in (*before.positions, *own.positions)]
    places, half = _to_plane(flat), len(own.positions)
    moved = [np.linalg.norm(after - at, axis=1) for at, after in zip(flat[:half], flat[half:], strict=True)]
    notes = ("each on its own scale", f"neurons moved by {float(np.median(np.concatenate(moved))):.3g} (median)")
    sides = (("Before", before.name, places[:half]), ("After", own.name, places[half:]))
    grid = spot.subgridspec(1, 2)
    for column, ((title, name, layers), note) in enumerate(zip(sides, notes, strict=True)):
        axes = figure.add_subplot(grid[column])
        limit = float(np.quantile(np.abs(np.concatenate(layers)), 0.997)) * 1.1 or 1.0
        for layer, at in enumerate(layers):
            chosen = at[scene.neurons[layer]]
            axes.scatter(
                *chosen.T, s=5 if len(chosen) > 50 else 22, color=SERIES[layer % len(SERIES)],
                marker=MARKERS[layer % len(MARKERS)], linewidths=0.2, edgecolors=PAPER, label=f"layer {layer}",
                zorder=2 + layer / 10,
            )  # fmt: skip
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
        ticks, labels = [-limit / 2, 0, limit / 2], [f"{-limit / 2:.2g}", "0", f"{limit / 2:.2g}"]
        axes.set_xticks(ticks, labels)
        axes.set_yticks(ticks, labels)
        axes.set_title(f"{title}: {short(name, 28)}")
        axes.set_xlabel(note, fontsize=8)
    axes.legend(markerscale=1.6, loc="upper left", bbox_to_anchor=(1, 1))


def _to_plane(layers: list[FloatArray]) -> list[FloatArray]:
    """Two coordinates `[n, 2]` of each neuron: principal components if there are more than three."""
    if layers[0].shape[1] > 3:
        projected, _, _ = project(layers, is_axis_fixed=False)
        return [at[:, 1:] for at in projected]
    middle = np.concatenate(layers).mean(axis=0)
    return [np.pad(at - middle, ((0, 0), (0, 2)))[:, :2] for at in layers]


def _add_legend(axes: Any) -> None:
    """Add a legend in room of its own, as curves may be anywhere."""
    n_lines = len(axes.get_legend_handles_labels()[1])
    axes.set_ylim(0, axes.get_ylim()[1] * (1.02 + 0.085 * n_lines))
    axes.legend(loc="upper left", borderaxespad=0.1)


def _write(axes: Any, words: str) -> None:
    """Write words in place of a diagram."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", color=SOFT, transform=axes.transAxes)
