"""Figures of docs/results/claims.md, drawn by matplotlib. Output is deterministic."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.figure import Figure  # without pyplot, which needs a display

from sen_edge.report.drawing import SERIES as COLOURS

STYLES, MARKERS = ("-", "--", ":", "-."), ("o", "s", "^", "D", "v")
#: Min area of a dot in points squared, and area per byte.
MIN_AREA, AREA_PER_BYTE = 18.0, 4e-4
#: Max ratio of latencies and difference of accuracies of dots with one label.
SAME_US, SAME_ACCURACY = 1.3, 0.08


@dataclass(frozen=True)
class Curve:
    """Means and ranges over seeds.

    Attributes:
        name: in the legend.
        x: abscissas.
        values: for each x, one per seed.
    """

    name: str
    x: Sequence[float]
    values: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Dot:
    """An exported file in one engine.

    Attributes:
        form: stored form.
        engine: name.
        us: latency.
        accuracy: in percent.
        size: bytes of the file.
    """

    form: str
    engine: str
    us: float
    accuracy: float
    size: int


def curves(
    data: Sequence[Curve], x_label: str, y_label: str, *, ticks: Sequence[float] = (), bottom: float | None = None
) -> bytes:
    """Draw means as lines and ranges as bands in SVG; with `ticks`, x is logarithmic; y starts at `bottom`."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for number, curve in enumerate(data):
        colour = COLOURS[number % len(COLOURS)]
        means = [sum(each) / len(each) for each in curve.values]
        axes.fill_between(
            curve.x, [min(each) for each in curve.values], [max(each) for each in curve.values],
            color=colour, alpha=0.18, linewidth=0,
        )  # fmt: skip
        style, marker = STYLES[number % len(STYLES)], MARKERS[number % len(MARKERS)]
        axes.plot(curve.x, means, style, marker=marker, color=colour, label=curve.name, markersize=4.5)
    if ticks:
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.set_ylim(bottom=bottom)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return _svg(figure)


def pareto(dots: Sequence[Dot]) -> bytes:
    """Draw accuracy over latency in SVG; area is the file size, colour and shape the engine.

    Pareto-optimal discs are filled.
    """
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    engines = list(dict.fromkeys(dot.engine for dot in dots))
    best = front(dots)
    for number, engine in enumerate(engines):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        for dot in sorted((each for each in dots if each.engine == engine), key=lambda each: -each.size):
            axes.scatter(
                [dot.us], [dot.accuracy], s=MIN_AREA + AREA_PER_BYTE * dot.size, marker=marker,
                facecolor=colour if dot in best else "none", edgecolor=colour, alpha=0.8, linewidth=1.2,
            )  # fmt: skip
        axes.scatter([], [], marker=marker, color=colour, label=engine)
    for group in group_labels(best):
        largest = max(group, key=lambda each: each.size)
        above = (MIN_AREA + AREA_PER_BYTE * largest.size) ** 0.5 / 2 + 4
        axes.annotate(", ".join(dot.form for dot in group), (largest.us, largest.accuracy), xytext=(0, above),
                      textcoords="offset points", fontsize=8, ha="center")  # fmt: skip
    axes.set_xscale("log")
    axes.margins(0.08, 0.14)
    axes.set_xlabel("latency, us (one thread, one input at a time)")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(engines))
    return _svg(figure)


def front(dots: Sequence[Dot]) -> list[Dot]:
    """Return the Pareto-optimal dots in accuracy, latency and bytes."""

    def is_dominated(dot: Dot) -> bool:
        return any(
            other.accuracy >= dot.accuracy and other.us <= dot.us and other.size <= dot.size and other != dot
            for other in dots
        )

    return [dot for dot in dots if not is_dominated(dot)]


def group_labels(dots: Sequence[Dot]) -> list[list[Dot]]:
    """Group dots whose labels would overlap."""
    groups: list[list[Dot]] = []
    for dot in dots:
        near = (
            group
            for group in groups
            if max(group[0].us, dot.us) < SAME_US * min(group[0].us, dot.us)
            and abs(group[0].accuracy - dot.accuracy) < SAME_ACCURACY
        )
        group = next(near, None)
        if group is None:
            groups.append([dot])
        else:
            group.append(dot)
    return groups


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "sen-edge"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
