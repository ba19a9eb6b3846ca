"""The figures of docs/results/claims.md, drawn by matplotlib: the same numbers give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.figure import Figure  # without pyplot, which would look for a display

from sen_edge.report.plot.panels import LAYERS as COLOURS

STYLES, MARKERS = ("-", "--", ":", "-."), ("o", "s", "^", "D", "v")
#: Least area of a dot in points squared, and what a byte of a file adds.
LEAST_AREA, AREA_PER_BYTE = 18.0, 4e-4
#: Ratio of latencies and points of accuracy within which two dots have one label.
SAME_US, SAME_ACCURACY = 1.3, 0.08


@dataclass(frozen=True)
class Curve:
    """Means and ranges over seeds.

    Attributes:
        name: in the legend.
        x: where.
        values: for each x, one for each seed.
    """

    name: str
    x: Sequence[float]
    values: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Dot:
    """An exported file in one engine.

    Attributes:
        form: what is stored.
        engine: that it was measured in.
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
    drawn: Sequence[Curve], x_label: str, y_label: str, *, ticks: Sequence[float] = (), least: float | None = None
) -> bytes:
    """SVG of means as lines and ranges as bands; with `ticks`, x is logarithmic and marked there, y from `least`."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for number, curve in enumerate(drawn):
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
    axes.set_ylim(bottom=least)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return _svg(figure)


def pareto(dots: Sequence[Dot]) -> bytes:
    """SVG of accuracy over latency, a disc as large as the file, a colour and shape for each engine.

    Those that nothing beats in accuracy, latency and bytes at once are filled.
    """
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    engines = list(dict.fromkeys(dot.engine for dot in dots))
    best = front(dots)
    for number, engine in enumerate(engines):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        for dot in sorted((each for each in dots if each.engine == engine), key=lambda each: -each.size):
            axes.scatter(
                [dot.us], [dot.accuracy], s=LEAST_AREA + AREA_PER_BYTE * dot.size, marker=marker,
                facecolor=colour if dot in best else "none", edgecolor=colour, alpha=0.8, linewidth=1.2,
            )  # fmt: skip
        axes.scatter([], [], marker=marker, color=colour, label=engine)
    for group in together(best):
        greatest = max(group, key=lambda each: each.size)
        above = (LEAST_AREA + AREA_PER_BYTE * greatest.size) ** 0.5 / 2 + 4
        axes.annotate(", ".join(dot.form for dot in group), (greatest.us, greatest.accuracy), xytext=(0, above),
                      textcoords="offset points", fontsize=8, ha="center")  # fmt: skip
    axes.set_xscale("log")
    axes.margins(0.08, 0.14)
    axes.set_xlabel("latency, us (one thread, one input at a time)")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(engines))
    return _svg(figure)


def front(dots: Sequence[Dot]) -> list[Dot]:
    """Those that no other equals or beats in accuracy, latency and bytes at once."""

    def is_beaten(dot: Dot) -> bool:
        return any(
            other.accuracy >= dot.accuracy and other.us <= dot.us and other.size <= dot.size and other != dot
            for other in dots
        )

    return [dot for dot in dots if not is_beaten(dot)]


def together(dots: Sequence[Dot]) -> list[list[Dot]]:
    """Dots in groups that one label must do for, because their own would cover each other."""
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
