"""Charts of benchmarks: ratios, medians, histograms, latency over time, trends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sen_edge.report.document import Chart
from sen_edge.report.drawing import INK, MARKERS, PAPER, SERIES, short
from sen_runtime.bench.record import began_s
from sen_runtime.bench.statistics import LOG_FROM
from sen_runtime.figures import UNITS_OF_TIME, significant, unit_of_time

Row = Mapping[str, Any]
Entry = Mapping[str, Any]

WIDE = 10.0
#: Points of a line over turns: more cannot be seen.
MAX_POINTS = 100


class Interval(NamedTuple):
    """A value between its bounds."""

    low: float
    value: float
    high: float


def unit_name(unit: str) -> str:
    """Unit with the letters that a terminal may lack."""
    return "µs" if unit == "us" else unit


def ratios(rows: Sequence[Row]) -> Chart:
    """Latency of each row over that of the first, with intervals."""
    found = [
        Interval(*(row["ratio"][key] for key in ("low", "median", "high"))) if row["ratio"]
        else Interval(1.0, 1.0, 1.0) if row is rows[0]
        else None
        for row in rows
    ]  # fmt: skip
    names = [row["name"] for row in rows]
    words = [f"{name}: {significant(ratio.value)}" for name, ratio in zip(names, found, strict=True) if ratio]
    confidence = next((f"{100 * row['ratio']['confidence']:g} %" for row in rows if row["ratio"]), "")
    draw = partial(_draw_intervals, names=names, series={"": found}, label="ratio; smaller is faster", line=1.0)
    note = f"line: interval at {confidence} confidence" if confidence else ""
    return Chart("Latency over that of the first row", draw, (WIDE, 0.8 + 0.4 * len(rows)), note, "; ".join(words))


def medians(names: Sequence[str], records: Mapping[str, Mapping[str, Row]]) -> Chart:
    """Median latency of each row, for each record by its label, from the minimum to p99."""
    unit = unit_of_time(row["latency_us"]["median"] for rows in records.values() for row in rows.values())
    series: dict[str, list[Interval | None]] = {
        label: [
            Interval(*(rows[name]["latency_us"][key] * UNITS_OF_TIME[unit] for key in ("min", "median", "p99")))
            if name in rows
            else None
            for name in names
        ]
        for label, rows in records.items()
    }
    draw = partial(_draw_intervals, names=names, series=series, label=f"latency, {unit_name(unit)}")
    size = (WIDE, 1.0 + 0.25 * len(records) + len(names) * (0.25 + 0.15 * len(records)))
    return Chart("Median latency", draw, size, "line: from the minimum to p99")


def histogram(row: Row) -> Chart:
    """Histogram of the latencies, with median and p99."""
    unit = unit_of_time([row["latency_us"]["median"]])
    edges = np.array(row["histogram"]["edges_us"], float) * UNITS_OF_TIME[unit]
    lines = {key: row["latency_us"][key] * UNITS_OF_TIME[unit] for key in ("median", "p99")}

    def draw(axes: Any) -> None:
        # Divided by the width on the axis, so that equal areas are equal counts on a logarithmic axis as well.
        is_log = _set_scale(axes, "x", edges.tolist())
        widths = np.diff(np.log(edges)) if is_log else np.diff(edges)
        counts = np.array(row["histogram"]["counts"], float) / np.maximum(widths, 1e-12)
        axes.stairs(counts, edges, fill=True, color=SERIES[0], alpha=0.6)
        for (key, value), style in zip(lines.items(), "-:", strict=True):
            if value <= edges[-1]:  # a line beyond would widen the axis
                axes.axvline(value, color=INK, linestyle=style, linewidth=1.2, label=key)
        if axes.lines:
            axes.legend()
        axes.set(yticks=[], xlabel=f"latency, {unit_name(unit)}")
        axes.spines["left"].set_visible(False)

    left_out = 1 - sum(row["histogram"]["counts"]) / row["n_samples"]
    note = f"{100 * left_out:.2g} % of the samples lie beyond the axis" if left_out > 0 else ""
    words = ", ".join(f"{key} {significant(value)} {unit_name(unit)}" for key, value in lines.items())
    return Chart(row["name"], draw, note=note, description=words)


def over_turns(row: Row) -> Chart:
    """Latency from the first turn to the last: median, and the band of nine tenths of the turns."""
    unit = unit_of_time([row["latency_us"]["median"]])
    turns = np.array(row["turns_us"], float) * UNITS_OF_TIME[unit]
    parts = np.array_split(turns, min(MAX_POINTS, len(turns)))
    low, middle, high = np.array([np.percentile(part, [5, 50, 95]) for part in parts]).T
    sizes = np.array([len(part) for part in parts])

    def draw(axes: Any) -> None:
        x = np.cumsum(sizes) - sizes / 2
        axes.fill_between(x, low, high, color=SERIES[0], alpha=0.25, linewidth=0)
        axes.plot(x, middle, color=SERIES[0], linewidth=1.3)
        _set_scale(axes, "y", [*low, *high])
        axes.grid(axis="y")
        axes.set(xlabel="turn", ylabel=unit_name(unit))

    return Chart(row["name"], draw)


def over_time(t_s: NDArray[np.float64], values: NDArray[np.float64], caption: str, unit: str) -> Chart:
    """A value over the time of a sustained run; NaN where it is unknown."""
    per_unit, time_unit = (60, "minutes") if t_s.max() >= 180 else (1, "seconds")

    def draw(axes: Any) -> None:
        axes.plot(t_s / per_unit, values, color=SERIES[0], linewidth=1.3)
        axes.grid(axis="y")
        axes.set(xlabel=f"{time_unit} since the start", ylabel=unit)

    known = values[np.isfinite(values)]
    words = f"{significant(float(known[0]))} {unit} at first, {significant(float(known[-1]))} {unit} at last"
    return Chart(caption, draw, (WIDE, 1.8), unit, words)


def trend(entries: Sequence[Entry], name: str, changes: Sequence[int]) -> Chart:
    """Median latency of the rows called `name`, by date.

    Args:
        entries: entries of a history in the order of their dates, at least one of them with such a row.
        name: name of the rows.
        changes: indices of entries from which the device is another one.
    """
    points = [(entry, row) for entry in entries for row in entry["rows"] if row["name"] == name]
    unit = unit_of_time(row["median_us"] for _, row in points)
    keys = ("low_us", "median_us", "high_us")
    values = [[row["median_us"] if row[key] is None else row[key] for key in keys] for _, row in points]
    low, middle, high = np.array(values).T * UNITS_OF_TIME[unit]

    def draw(axes: Any) -> None:
        dates = [_date(began_s(entry)) for entry, _ in points]
        fills = [SERIES[0] if entry["valid"] and entry["status"] == "complete" else PAPER for entry, _ in points]
        bounds = np.array([middle - low, high - middle])
        axes.errorbar(dates, middle, bounds, color=SERIES[0], linewidth=0.6, elinewidth=2, zorder=1)
        axes.scatter(dates, middle, s=30, c=fills, edgecolors=SERIES[0], zorder=2)
        for at in changes:
            middle_s = (began_s(entries[at - 1]) + began_s(entries[at])) / 2
            axes.axvline(_date(middle_s), color=INK, linestyle="--", linewidth=1)
        first_s, last_s = began_s(entries[0]), began_s(entries[-1])
        margin_s = max(60.0, 0.02 * (last_s - first_s))
        axes.set(xlim=(_date(first_s - margin_s), _date(last_s + margin_s)), ylabel=f"latency, {unit_name(unit)}")
        _set_scale(axes, "y", [*low, *high])
        axes.grid(axis="y")

    words = f"from {significant(middle[0])} to {significant(middle[-1])} {unit_name(unit)} in {len(points)} records"
    return Chart(name, draw, (WIDE, 2.2), description=words)


def _draw_intervals(
    axes: Any,
    names: Sequence[str],
    series: Mapping[str, Sequence[Interval | None]],
    label: str,
    line: float | None = None,
) -> None:
    values = [] if line is None else [line]
    for index, (name, intervals) in enumerate(series.items()):
        found = [(place, each) for place, each in enumerate(intervals) if each is not None]
        x = np.array([each for _, each in found]).reshape(-1, 3).T
        y = np.array([place for place, _ in found]) + 0.16 * (index - (len(series) - 1) / 2)
        style = {"fmt": MARKERS[index % len(MARKERS)], "color": SERIES[index % len(SERIES)], "capsize": 3}
        axes.errorbar(x[1], y, xerr=np.diff(x, axis=0), label=short(name), **style)
        values += x.ravel().tolist()
    if line is not None:
        axes.axvline(line, color=INK, linestyle="--", linewidth=1)
    _set_scale(axes, "x", values)
    axes.set_yticks(range(len(names)), [short(name) for name in names], color=INK)
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel=label)
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(axis="x")
    if len(series) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _set_scale(axes: Any, which: str, values: Sequence[float]) -> bool:
    """Make an axis logarithmic if the values span much, with plain numbers; whether it is."""
    low, high = min(values, default=1.0), max(values, default=1.0)
    if not 0 < low * LOG_FROM < high:
        return False
    from matplotlib import ticker

    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(ticker.NullLocator())
    return True
