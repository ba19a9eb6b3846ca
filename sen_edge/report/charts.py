"""Charts of a record, as SVG: ratios, histograms, latency over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sen_edge.report import svg
from sen_runtime.bench.bootstrap import even_choice
from sen_runtime.figures import UNITS_OF_TIME, significant, unit_of_time

Row = Mapping[str, Any]

WIDTH = 920.0
NAMES_PX = 270.0
FIGURES_PX = 190.0
ROW_PX = 40.0
PANEL = 300.0, 150.0
#: Room for the values of an axis at the left of a panel.
LEFT_PX = 52.0
#: Latency over time is drawn in so many steps: more cannot be seen, and would make the report large.
STEPS = 100


class Mark(NamedTuple):
    """A value with its interval."""

    low: float
    middle: float
    high: float


def unit_name(unit: str) -> str:
    """With the letter that a terminal may not have."""
    return "µs" if unit == "us" else unit


def ratios(rows: Sequence[Row], ident: str) -> str:
    """Latency of each row over that of the first: dot and interval; the first is 1."""
    marks = [
        Mark(1.0, 1.0, 1.0) if row["ratio"] is None else Mark(*(row["ratio"][key] for key in ("low", "median", "high")))
        for row in rows
    ]
    names = [row["name"] for row in rows]
    figures = [
        "1 (what the others are compared with)" if row["ratio"] is None and index == 0
        else "not compared" if row["ratio"] is None
        else f"{significant(mark.middle)} ({significant(mark.low)} to {significant(mark.high)})"
        for index, (row, mark) in enumerate(zip(rows, marks, strict=False))
    ]  # fmt: skip
    words = "; ".join(f"{name}: {figure}" for name, figure in zip(names, figures, strict=False))
    shown = ["1" if figure.startswith("1 (what") else figure for figure in figures]
    return _dots(
        names,
        [[mark] for mark in marks],
        ident,
        title="Latency of each row over that of the first, with interval",
        description=words,
        label="ratio of latencies: less is faster",
        figures=shown,
        line_at=1.0,
    )


def medians(names: Sequence[str], devices: Sequence[Mapping[str, Row]], labels: Sequence[str], ident: str) -> str:
    """Latency of each row on each device: a mark at the median, a line from the least to p99.

    Args:
        names: of the rows, in order.
        devices: rows by name, for each device.
        labels: of the devices.
        ident: of the element.
    """
    found = [row["latency_us"] for rows in devices for row in rows.values()]
    unit = unit_of_time(latency["median"] for latency in found)
    per_us = UNITS_OF_TIME[unit]
    marks: list[list[Mark | None]] = [
        [
            Mark(*(rows[name]["latency_us"][key] * per_us for key in ("min", "median", "p99")))
            if name in rows
            else None
            for rows in devices
        ]
        for name in names
    ]
    words = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{significant(mark.middle)} {unit_name(unit)} on {label}"
            for label, mark in zip(labels, marks[index], strict=False)
            if mark is not None
        )
        for index, name in enumerate(names)
    )
    return _dots(
        names,
        marks,
        ident,
        title="Median latency of each row on each device",
        description=words,
        label=f"latency, {unit_name(unit)}",
    )


def histogram(row: Row, ident: str) -> str:
    """Histogram of latencies with median and p99; the share of samples beyond the axis is in the description."""
    latency = row["latency_us"]
    unit = unit_of_time([latency["median"]])
    edges = np.array(row["histogram"]["edges_us"], float) * UNITS_OF_TIME[unit]
    counts = np.array(row["histogram"]["counts"], float)
    width, height = PANEL
    top, bottom = 22.0, height - 36
    across = svg.scale([float(edges[0]), float(edges[-1])], 12, width - 12, margin=0.02)
    sides = np.array([across(edge) for edge in edges])
    # By the pixels of a bin, so that an area is a number of samples on a logarithmic axis as well.
    density = counts / np.maximum(np.diff(sides), 1e-9)
    tallest = float(density.max()) or 1.0
    corners = [(float(sides[0]), bottom)]
    for left, right, value in zip(sides[:-1], sides[1:], density, strict=False):
        y = bottom - float(value) / tallest * (bottom - top)
        corners += [(float(left), y), (float(right), y)]
    corners.append((float(sides[-1]), bottom))
    parts = [
        svg.bottom_axis(across, top, bottom, f"latency, {unit_name(unit)}", 4),
        svg.path(corners, "area", is_closed=True),
    ]
    median, p99 = (latency[key] * UNITS_OF_TIME[unit] for key in ("median", "p99"))
    parts += [svg.line(across(median), top, across(median), bottom, "mark")]
    label, shown = "p99", f"{significant(p99)} {unit_name(unit)}"
    if p99 > edges[-1]:
        label = f"p99 at {shown} \N{RIGHTWARDS ARROW}"
    else:
        parts += [svg.line(across(p99), top, across(p99), bottom, "mark dashed")]
    parts.append(_label_pair(across(median), "median", across(p99), label, width, top - 7))
    words = f"median {significant(median)} {unit_name(unit)}, p99 {shown}"
    words += f"; {beyond}" if (beyond := beyond_histogram(row)) else ""
    return svg.picture(width, height, ident, f"Histogram of {row['name']}", words, *parts)


def beyond_histogram(row: Row) -> str:
    """The share of samples beyond the axis of a histogram, in words; empty where there are none."""
    counts = row["histogram"]["counts"]
    left_out = 1 - sum(counts) / row["n_samples"]
    return f"{100 * left_out:.2g} % of the samples lie beyond the axis" if left_out > 0 else ""


def over_turns(row: Row, ident: str) -> str:
    """Latency from the first turn to the last: the line is the median, nine tenths of the turns lie in the band."""
    turns = np.array(row["turns_us"], float)
    unit = unit_of_time([row["latency_us"]["median"]])
    parts = np.array_split(turns, min(STEPS, len(turns)))
    bands = np.array([np.percentile(part, [5, 50, 95]) for part in parts]) * UNITS_OF_TIME[unit]
    ends = np.cumsum([len(part) for part in parts])
    places = ends - np.array([len(part) for part in parts]) / 2
    width, height = PANEL
    top, bottom = 8.0, height - 36
    across = svg.Scale(0, max(len(turns), 1), LEFT_PX, width - 12)
    upward = svg.scale([float(bands.min()), float(bands.max())], bottom, top)
    xs = [across(float(place)) for place in places]
    band = [
        *zip(xs, map(upward, bands[:, 2]), strict=False),
        *reversed([*zip(xs, map(upward, bands[:, 0]), strict=False)]),
    ]
    drawn = [
        svg.left_axis(upward, LEFT_PX, width - 12),
        svg.bottom_axis(across, bottom, bottom, f"turn (latency in {unit_name(unit)})", 4),
        svg.path(band, "band", is_closed=True),
        svg.path([*zip(xs, map(upward, bands[:, 1]), strict=False)], "line"),
    ]
    first, last = significant(float(bands[0, 1])), significant(float(bands[-1, 1]))
    words = f"from {first} {unit_name(unit)} in the first turns to {last} in the last"
    return svg.picture(width, height, ident, f"Latency over time of {row['name']}", words, *drawn)


def over_time(t_s: NDArray[Any], values: NDArray[Any], what: str, unit: str, ident: str) -> str:
    """A value over the time of a sustained run; NaN where it was not known."""
    width, height, top = WIDTH, 124.0, 8.0
    bottom = height - 36
    per_unit, time_unit = (60.0, "minutes") if t_s.max() >= 180 else (1.0, "seconds")
    known = values[np.isfinite(values)]
    across = svg.Scale(
        float(t_s.min()) / per_unit, max(float(t_s.max()), float(t_s.min()) + 1) / per_unit, 64, width - 12
    )
    upward = svg.scale([float(known.min()), float(known.max())], bottom, top, margin=0.1)
    keep = even_choice(len(t_s), 3 * STEPS)
    parts = [
        svg.left_axis(upward, 64, width - 12),
        svg.bottom_axis(across, bottom, bottom, f"{time_unit} since the start", 8),
    ]
    run: list[tuple[float, float]] = []
    for index in [*keep, None]:
        if index is not None and np.isfinite(values[index]):
            run.append((across(float(t_s[index]) / per_unit), upward(float(values[index]))))
        elif run:
            parts.append(svg.path(run, "line") if len(run) > 1 else svg.marker(*run[0], 0, "dot", 2))
            run = []
    words = f"{significant(float(known[0]))} {unit} at first, {significant(float(known[-1]))} at last"
    words += f"; between {significant(float(known.min()))} and {significant(float(known.max()))}"
    return svg.picture(width, height, ident, f"{what} over time", words, *parts)


def _dots(
    names: Sequence[str],
    marks: Sequence[Sequence[Mark | None]],
    ident: str,
    *,
    title: str,
    description: str,
    label: str,
    figures: Sequence[str] = (),
    line_at: float | None = None,
) -> str:
    """One line for each name, on it marks with their intervals; marks of a line are below each other."""
    series = max(map(len, marks))
    pitch = max(ROW_PX, 14.0 * series + 14)
    top, bottom = 6.0, 6.0 + pitch * len(names)
    right = WIDTH - (FIGURES_PX if figures else 16)
    values = [value for line in marks for mark in line if mark is not None for value in mark]
    across = svg.scale([*values, *([] if line_at is None else [line_at])], NAMES_PX, right)
    parts = [svg.bottom_axis(across, top, bottom, label, 6)]
    if line_at is not None:
        parts.append(svg.line(across(line_at), top, across(line_at), bottom, "reference"))
    for index, name in enumerate(names):
        middle = top + pitch * (index + 0.5)
        lines = svg.wrapped(name, NAMES_PX - 16)
        for number, words in enumerate(lines):
            y = middle + 4 + svg.LINE_PX * (number - (len(lines) - 1) / 2)
            parts.append(svg.text(NAMES_PX - 12, y, words, "end"))
        for place, mark in enumerate(marks[index]):
            if mark is None:
                continue
            y, colour = middle + 14.0 * (place - (series - 1) / 2), f"s{place % 5}"
            low, x_of_mark, high = map(across, mark)
            parts.append(svg.line(low, y, high, y, f"whisker {colour}"))
            parts += [svg.line(x, y - 6, x, y + 6, f"cap {colour}") for x in (low, high) if high > low]
            parts.append(svg.marker(x_of_mark, y, place, f"dot {colour}", 4.5))
        if figures:
            parts.append(svg.text(right + 12, middle + 4, figures[index], class_="label figure"))
    return svg.picture(WIDTH, bottom + 40, ident, title, description, *parts)


def _label_pair(x1: float, words1: str, x2: float, words2: str, width: float, y: float) -> str:
    """Two labels near their places, moved apart where they would touch."""
    widths = [len(words) * svg.LETTER_PX for words in (words1, words2)]
    left = min(max(x1 - widths[0] / 2, 0), width - sum(widths) - 10)
    right = min(max(x2 - widths[1] / 2, left + widths[0] + 8), width - widths[1])
    left = min(left, right - widths[0] - 8)
    return svg.text(left, y, words1, class_="tick") + svg.text(right, y, words2, class_="tick")
