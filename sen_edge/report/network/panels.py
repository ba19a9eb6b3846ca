"""Charts of a network: neurons in space, histograms of its synapses, its input as an image, two trainings compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from sen_edge.errors import UsageError
from sen_edge.model.model import Model
from sen_edge.report.drawing import INK, LINES, MARKERS, PAPER, RULE, SERIES, SOFT, Chart, short
from sen_edge.report.network.delays import delay_chart
from sen_edge.report.network.request import BEFORE_AFTER, PANELS
from sen_edge.report.network.scene import Scene, is_axis_fixed
from sen_exporters.view.layout import FloatArray, project
from sen_runtime.ir.network import positions_of

INHIBITORY, EXCITATORY = SERIES[:2]
#: Marker and colour of each kind of neuron.
KINDS = {"excitatory": ("o", EXCITATORY), "inhibitory": ("s", INHIBITORY), "silent": ("o", PAPER), "output": ("D", INK)}
BINS = 60
#: Share of a histogram's values within its axis, whose label gives the share beyond.
SPAN = 0.98
MAX_LINES = 300
#: Directions of the three coordinates on paper: right and up.
VIEW = np.array([[0.81, 0.17], [0.0, 0.96], [0.58, -0.24]])


def panel(name: str, scene: Scene, before: Model | None = None) -> Chart:
    """One of `PANELS`; `before` is the network before training, for "before-after".

    Raises:
        UsageError: the network has nothing to show in it.
    """
    if name == BEFORE_AFTER and before is not None:
        return _before_after(before, scene)
    side = image_side(scene)
    if name == "input-grid" and side is None:
        found = f"{scene.model.network.n_in:,} input neurons"
        raise UsageError(f"input-grid shows the input as a square image; {found} are none, or are too many to draw")
    if name == "delays":
        delays = delay_chart(scene.model.network)
        if delays is None:
            raise UsageError("delays shows the delays of synapses; those of this network are all the same, or none")
        return delays
    caption, draw_scene = {
        "network": (f"Network with its strongest synapses (at most {MAX_LINES} of a layer)", _draw_network),
        "distances": ("Lengths of synapses", _draw_distances),
        "weights": ("Weights", _draw_weights),
        "degrees": ("Degree", _draw_degrees),
        "wiring": ("Summed length of synapses", _draw_wiring),
        "input-grid": (f"Input neurons as a {side} x {side} image", _draw_input),
    }[name]
    size = (8.5, 4.6) if name == "network" else (3.5, 3.0)
    return Chart(caption, partial(draw_scene, scene=scene), size)


def default_panels(scene: Scene) -> list[str]:
    """The panels in which a network alone has something to show."""
    is_pruned = any(np.isinf(link.distances).any() for link in scene.links)
    empty = {
        "degrees": not is_pruned,
        "delays": delay_chart(scene.model.network) is None,
        "input-grid": image_side(scene) is None,
        BEFORE_AFTER: True,
    }
    return [name for name in PANELS if not empty.get(name)]


def image_side(scene: Scene) -> int | None:
    """Rows of the square image at the input; None if there is none, or not all neurons are drawn."""
    n_in = scene.model.network.n_in
    side = round(n_in**0.5)
    return side if side > 1 and side * side == n_in == len(scene.neurons[0]) else None


# --- the network in space ------------------------------------------------------------------------


def _draw_network(axes: Any, scene: Scene) -> None:
    """Neurons seen from the first angle of the page, layers moved apart, with the strongest synapses."""
    from matplotlib.collections import LineCollection

    places = [at @ VIEW for at in scene.apart()]
    for layer, link in enumerate(scene.links):
        ends = [places[layer][link.sources[:MAX_LINES]], places[layer + 1][link.targets[:MAX_LINES]]]
        colours = np.where(link.strongest[:MAX_LINES] > 0, EXCITATORY, INHIBITORY)
        axes.add_collection(
            LineCollection(np.stack(ends, axis=1), colors=colours, linewidths=0.45, alpha=0.35, zorder=1)
        )
    at, kinds = np.concatenate(places), np.concatenate([np.array(layer) for layer in scene.kinds])
    size = float(np.clip(9000 / len(at), 1.5, 14))
    for kind in (kind for kind in KINDS if kind in kinds):
        marker, colour = KINDS[kind]
        axes.scatter(
            *at[kinds == kind].T, s=size * (3 if kind == "output" else 1), c=colour, marker=marker, zorder=2,
            linewidths=0.4 if kind == "silent" else 0.15, edgecolors=SOFT if kind == "silent" else PAPER, label=kind,
        )  # fmt: skip
    low, high = np.quantile(at, [0.003, 0.997], axis=0)  # the few neurons far out lie outside
    margin = 0.12 * max(high - low) or 0.5
    for layer, name in zip(places, scene.layer_names, strict=True):
        x, y = layer[:, 0].mean(), np.quantile(layer[:, 1], 0.99) + 0.3 * margin
        axes.text(x, y, name.replace(": ", "\n", 1), ha="center", va="bottom", zorder=3, fontsize=8)
    for direction, name in zip(VIEW, ("layers, moved apart", *scene.axes[1:]), strict=True):
        if name:
            axes.annotate(
                name, (0.08, 0.1), tuple(36 * direction), xycoords="axes fraction", textcoords="offset points",
                arrowprops={"arrowstyle": "<-", "color": SOFT}, color=SOFT, fontsize=8,
                ha="left" if direction[0] > 0.3 else "center", va="center",
            )  # fmt: skip
    axes.set_xlim(low[0] - margin, high[0] + margin, auto=True)  # one of both grows to the aspect
    axes.set_ylim(low[1] - margin, high[1] + 2 * margin, auto=True)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_axis_off()
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, -0.04), ncols=4, markerscale=1.8)


# --- synapses ------------------------------------------------------------------------------------


def _draw_distances(axes: Any, scene: Scene) -> None:
    """Histogram of the synapses' lengths, layer by layer."""
    found = {f"layer {index} to {index + 1}": link.lengths for index, link in enumerate(scene.links)}
    _draw_histogram(axes, found, "distance of the neurons", "share of synapses")


def _draw_weights(axes: Any, scene: Scene) -> None:
    """Histogram of the nonzero weights, layer by layer, each over its median magnitude."""
    found = {}
    for index, link in enumerate(scene.links):
        weights = link.weights[np.isfinite(link.weights) & (link.weights != 0)]
        median = np.median(np.abs(weights)) if weights.size else np.float32(1)
        found[f"layer {index} to {index + 1}, median {median:.3g}"] = weights / median
    _draw_histogram(axes, found, "weight / median magnitude of its layer", "share of synapses")
    axes.axvline(0, color=RULE, linewidth=1, zorder=0)


def _draw_degrees(axes: Any, scene: Scene) -> None:
    """Histogram of the number of synapses of a neuron, incoming and outgoing."""
    found = {}
    for index, link in enumerate(scene.links):
        exists = np.isfinite(link.distances)
        for axis, name in ((1, f"into layer {index + 1}"), (0, f"out of layer {index}")):
            counts, possible = exists.sum(axis=axis), exists.shape[axis]
            found[f"{name}: median {np.median(counts):,.0f} of {possible:,}"] = 100 * counts / possible
    if all((percent == 100).all() for percent in found.values()):
        _write(axes, "every neuron is connected\nwith all of the next layer")
        return
    _draw_histogram(axes, found, "synapses of a neuron, % of all possible", "share of neurons")


def _draw_histogram(axes: Any, found: Mapping[str, Any], xlabel: str, ylabel: str) -> None:
    """Outlines of one histogram for each name, on common bins, as shares of its values."""
    found = {name: values for name, values in found.items() if values.size}
    if not found:
        _write(axes, "no synapses")
        return
    spans = np.array([np.quantile(values, [(1 - SPAN) / 2, (1 + SPAN) / 2]) for values in found.values()])
    low, high = float(spans[:, 0].min()), float(spans[:, 1].max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    for index, (name, values) in enumerate(found.items()):
        shares = np.histogram(values, edges)[0] / values.size
        style = {"color": SERIES[index % len(SERIES)], "linestyle": LINES[index % len(LINES)], "linewidth": 1.4}
        axes.stairs(shares, edges, label=name, **style)
    beyond = max(float(np.mean((values < low) | (values > high))) for values in found.values())
    if beyond > 0:
        xlabel += f"\n(up to {100 * beyond:.2g} % of a layer lie beyond)"
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(low, high))
    axes.set_ylim(0, axes.get_ylim()[1] * (1.02 + 0.085 * len(found)))  # the legend has room of its own
    axes.legend(loc="upper left", borderaxespad=0.1)


def _draw_wiring(axes: Any, scene: Scene) -> None:
    """Total length of the synapses of each layer, and their mean."""
    for index, link in enumerate(scene.links):
        lengths = link.lengths.astype(np.float64)
        axes.barh(index, lengths.sum(), color=SERIES[index % len(SERIES)], height=0.55)
        words = f"{lengths.sum():,.0f} in all, {lengths.mean() if lengths.size else 0.0:.3g} a synapse"
        axes.annotate(words, (0, index - 0.33), (2, 2), textcoords="offset points", fontsize=8)
    names = [f"layer {index} to {index + 1}" for index in range(len(scene.links))]
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(len(names) - 0.5, -0.75), xticks=[])
    axes.spines["bottom"].set_visible(False)


def _draw_input(axes: Any, scene: Scene) -> None:
    """Input neurons as the image they see, coloured by the sum of their weights."""
    from matplotlib.colors import LinearSegmentedColormap

    side, weights = round(scene.model.network.n_in**0.5), scene.links[0].weights
    strength = np.where(np.isfinite(weights), weights, 0).sum(axis=0, dtype=np.float64).reshape(side, side)
    bound = float(np.quantile(np.abs(strength), 0.98)) or 1.0
    colours = [INHIBITORY, "#cfe3f2", "#f7f7f7", "#f6d9c4", EXCITATORY]
    cmap = LinearSegmentedColormap.from_list("inhibition", colours)
    image = axes.imshow(strength, cmap=cmap, vmin=-bound, vmax=bound, interpolation="nearest")
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.85, extend="both")
    bar.set_label("sum of outgoing weights", fontsize=8)
    bar.outline.set_visible(False)
    axes.set(xticks=[0, side - 1], yticks=[0, side - 1])


def _write(axes: Any, words: str) -> None:
    """Write words in place of a diagram."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", color=SOFT, transform=axes.transAxes)


# --- before and after ----------------------------------------------------------------------------


def _before_after(before: Model, scene: Scene) -> Chart:
    """Positions of another checkpoint and those of this one, in one projection, each on its own scale."""
    own = scene.model
    old, new = positions_of(before.network), positions_of(own.network)
    found, expected = (f"{'-'.join(str(len(at)) for at in each)} and d = {each[0].shape[1]}" for each in (old, new))
    if found != expected:
        raise UsageError(f"{before.name} has layers {found}; expected {expected}, as {own.name}")
    is_fixed = is_axis_fixed(own) and scene.dimensions > 1
    flat = [np.asarray(at[:, :-1] if is_fixed else at, np.float64) for at in (*old, *new)]
    half = len(old)
    moved = np.linalg.norm(np.concatenate(flat[half:]) - np.concatenate(flat[:half]), axis=1)
    places = [at[scene.neurons[index % half]] for index, at in enumerate(_to_plane(flat))]
    caption = f"Before and after; neurons moved by {np.median(moved):.3g} (median)"
    sides = {f"Before: {short(before.name, 28)}": places[:half], f"After: {short(own.name, 28)}": places[half:]}
    return Chart(caption, partial(_draw_sides, sides=sides), (7.0, 3.0))


def _to_plane(layers: list[FloatArray]) -> list[FloatArray]:
    """Two coordinates `[n, 2]` of each neuron: principal components if there are more than three."""
    if layers[0].shape[1] > 3:
        projected, _, _ = project(layers, is_axis_fixed=False)
        return [at[:, 1:] for at in projected]
    middle = np.concatenate(layers).mean(axis=0)
    return [np.pad(at - middle, ((0, 0), (0, 2)))[:, :2] for at in layers]


def _draw_sides(axes: Any, sides: Mapping[str, Sequence[FloatArray]]) -> None:
    """Neurons of two networks in one plane each, side by side."""
    from matplotlib.patches import Rectangle

    for side, (name, layers) in enumerate(sides.items()):
        limit = float(np.quantile(np.abs(np.concatenate(layers)), 0.997)) * 1.1 or 1.0
        x = 2.2 * side
        for index, at in enumerate(layers):
            axes.scatter(
                *(at[np.abs(at).max(axis=1) <= limit] / limit + [x, 0]).T, s=5 if len(at) > 50 else 22,
                color=SERIES[index % len(SERIES)], marker=MARKERS[index % len(MARKERS)], linewidths=0.2,
                edgecolors=PAPER, zorder=2 + index / 10, label=f"layer {index}" if side else None,
            )  # fmt: skip
        axes.add_patch(Rectangle((x - 1, -1), 2, 2, fill=False, edgecolor=RULE))
        axes.text(x, 1.03, name, ha="center", va="bottom")
        axes.text(x, -1.03, f"from {-limit:.2g} to {limit:.2g}", ha="center", va="top", fontsize=8, color=SOFT)
    axes.set(xlim=(-1.05, 3.25), ylim=(-1.25, 1.25), aspect="equal")
    axes.set_axis_off()
    axes.legend(markerscale=1.6, loc="upper left", bbox_to_anchor=(1, 1))
