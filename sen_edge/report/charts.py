"""Charts of benchmarks: ratios, medians, histograms, latency over time, trends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.report.drawing import INK, MARKERS, PAPER, SERIES, Chart, short
from sen_runtime.bench.record import began_s
from sen_runtime.bench.statistics import LOG_FROM
from sen_runtime.figures import UNITS_OF_TIME, significant, unit_of_time

FloatArray = NDArray[np.float64]
Row = Mapping[str, Any]

WIDE = 10.0
#: Points of a line over turns: more cannot be seen.
MAX_POINTS = 100


def time_unit(latencies_us: Iterable[float]) -> tuple[str, float]:
    """Unit for latencies, with letters that a terminal may lack, and how many of it a microsecond has."""
    unit = unit_of_time(latencies_us)
    return "µs" if unit == "us" else unit, UNITS_OF_TIME[unit]


def ratios(rows: Sequence[Row]) -> Chart:
    """Time per input of each row over that of the first, with intervals."""
    keys = ("low", "median", "high")
    found = [row["ratio"] or (dict.fromkeys(keys, 1.0) if row is rows[0] else None) for row in rows]
    words = [f"{row['name']}: {significant(ratio['median'])}" for row, ratio in zip(rows, found, strict=True) if ratio]
    levels = [row["ratio"]["confidence"] for row in rows if row["ratio"]]
    note = f"line: interval at {100 * levels[0]:g} % confidence" if levels else ""
    names, series = [row["name"] for row in rows], {"": _intervals(found, keys)}
    draw = partial(_draw_intervals, names=names, series=series, label="ratio; smaller is faster", line=1.0)
    return Chart(
        "Time per input over that of the first row", draw, (WIDE, 0.8 + 0.4 * len(rows)), note, "; ".join(words)
    )


def medians(names: Sequence[str], records: Mapping[str, Mapping[str, Row]]) -> Chart:
    """Median latency of each row, for each record by its label, from the minimum to p99."""
    unit, per_us = time_unit(row["latency_us"]["median"] for rows in records.values() for row in rows.values())
    series = {}
    for label, rows in records.items():
        latencies = [rows[name]["latency_us"] if name in rows else None for name in names]
        series[label] = per_us * _intervals(latencies, ("min", "median", "p99"))
    draw = partial(_draw_intervals, names=names, series=series, label=f"latency, {unit}")
    size = (WIDE, 1.0 + 0.25 * len(records) + len(names) * (0.25 + 0.15 * len(records)))
    return Chart("Median latency", draw, size, "line: from the minimum to p99")


def histogram(row: Row) -> Chart:
    """Histogram of the latencies, with median and p99."""
    unit, per_us = time_unit([row["latency_us"]["median"]])
    edges = np.array(row["histogram"]["edges_us"], float) * per_us
    lines = {key: row["latency_us"][key] * per_us for key in ("median", "p99")}

    def draw(axes: Any) -> None:
        # Divided by the width on the axis, so that equal areas are equal counts on a logarithmic axis as well.
        is_log = _set_scale(axes, "x", edges)
        widths = np.diff(np.log(edges)) if is_log else np.diff(edges)
        counts = np.array(row["histogram"]["counts"], float) / np.maximum(widths, 1e-12)
        axes.stairs(counts, edges, fill=True, color=SERIES[0], alpha=0.6)
        for (key, value), style in zip(lines.items(), "-:", strict=True):
            if value <= edges[-1]:  # a line beyond would widen the axis
                axes.axvline(value, color=INK, linestyle=style, linewidth=1.2, label=key)
        if axes.lines:
            axes.legend()
        axes.set(yticks=[], xlabel=f"latency, {unit}")
        axes.spines["left"].set_visible(False)

    left_out = 1 - sum(row["histogram"]["counts"]) / row["n_samples"]
    note = f"{100 * left_out:.2g} % of the samples lie beyond the axis" if left_out > 0 else ""
    words = ", ".join(f"{key} {significant(value)} {unit}" for key, value in lines.items())
    return Chart(row["name"], draw, note=note, description=words)


def over_turns(row: Row) -> Chart:
    """Latency from the first turn to the last: median, and the band of nine tenths of the turns."""
    unit, per_us = time_unit([row["latency_us"]["median"]])
    turns = np.array(row["turns_us"], float) * per_us
    parts = np.array_split(turns, min(MAX_POINTS, len(turns)))
    low, middle, high = np.array([np.percentile(part, [5, 50, 95]) for part in parts]).T
    sizes = np.array([len(part) for part in parts])
    x = np.cumsum(sizes) - sizes / 2
    draw = partial(_draw_line, x=x, y=middle, band=np.array([low, high]), xlabel="turn", ylabel=unit)
    return Chart(row["name"], draw)


def over_time(t_s: FloatArray, values: FloatArray, caption: str, unit: str) -> Chart:
    """A value over the time of a sustained run; NaN where it is unknown."""
    seconds, name = (60, "minutes") if t_s.max() >= 180 else (1, "seconds")
    draw = partial(_draw_line, x=t_s / seconds, y=values, xlabel=f"{name} since the start", ylabel=unit)
    known = values[np.isfinite(values)]
    words = f"{significant(float(known[0]))} {unit} at first, {significant(float(known[-1]))} {unit} at last"
    return Chart(caption, draw, (WIDE, 1.8), unit, words)


def trend(entries: Sequence[Row], name: str, changes: Sequence[int]) -> Chart:
    """Median latency of the rows called `name`, by date; from the entries `changes` on the device is another one."""
    points = [(entry, row) for entry in entries for row in entry["rows"] if row["name"] == name]
    unit, per_us = time_unit(row["median_us"] for _, row in points)
    keys = ("low_us", "median_us", "high_us")
    known = [[row["median_us"] if row[key] is None else row[key] for key in keys] for _, row in points]
    values = np.array(known) * per_us
    middle = values[:, 1]

    def draw(axes: Any) -> None:
        dates = _dates([began_s(entry) for entry, _ in points])
        fills = [SERIES[0] if entry["valid"] and entry["status"] == "complete" else PAPER for entry, _ in points]
        axes.errorbar(dates, middle, np.diff(values).T, color=SERIES[0], linewidth=0.6, elinewidth=2, zorder=1)
        axes.scatter(dates, middle, s=30, c=fills, edgecolors=SERIES[0], zorder=2)
        times_s = np.array([began_s(entry) for entry in entries])
        for date in _dates([times_s[at - 1 : at + 1].mean() for at in changes]):
            axes.axvline(date, color=INK, linestyle="--", linewidth=1)
        margin_s = max(60.0, 0.02 * np.ptp(times_s))
        axes.set(xlim=_dates([times_s[0] - margin_s, times_s[-1] + margin_s]), ylabel=f"latency, {unit}")
        _set_scale(axes, "y", values)
        axes.grid(axis="y")

    words = f"from {significant(middle[0])} to {significant(middle[-1])} {unit} in {len(points)} records"
    return Chart(name, draw, (WIDE, 2.2), description=words)


def _intervals(found: Sequence[Mapping[str, float] | None], keys: Sequence[str]) -> FloatArray:
    """Low, value and high `[n, 3]`; NaN where unknown."""
    return np.array([[np.nan if each is None else each[key] for key in keys] for each in found])


def _draw_intervals(
    axes: Any, names: Sequence[str], series: Mapping[str, FloatArray], label: str, line: float | None = None
) -> None:
    for index, (name, intervals) in enumerate(series.items()):
        y = np.arange(len(names)) + 0.16 * (index - (len(series) - 1) / 2)
        style = {"fmt": MARKERS[index % len(MARKERS)], "color": SERIES[index % len(SERIES)], "capsize": 3}
        axes.errorbar(intervals[:, 1], y, xerr=np.diff(intervals).T, label=short(name), **style)
    if line is not None:
        axes.axvline(line, color=INK, linestyle="--", linewidth=1)
    _set_scale(axes, "x", np.concatenate([np.full((1, 3), line or np.nan), *series.values()]))
    axes.set_yticks(range(len(names)), [short(name) for name in names], color=INK)
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel=label)
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(axis="x")
    if len(series) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)


def _draw_line(
    axes: Any, x: FloatArray, y: FloatArray, xlabel: str, ylabel: str, band: FloatArray | None = None
) -> None:
    axes.plot(x, y, color=SERIES[0], linewidth=1.3)
    if band is not None:
        axes.fill_between(x, *band, color=SERIES[0], alpha=0.25, linewidth=0)
        _set_scale(axes, "y", band)
    axes.grid(axis="y")
    axes.set(xlabel=xlabel, ylabel=ylabel)


def _dates(times_s: Sequence[float]) -> Any:
    return np.array(times_s, float).astype("datetime64[s]")


def _set_scale(axes: Any, which: str, values: FloatArray) -> bool:
    """Make an axis logarithmic if the values span much, with plain numbers; whether it is."""
    if not 0 < np.nanmin(values) * LOG_FROM < np.nanmax(values):
        return False
    from matplotlib import ticker

    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(ticker.NullLocator())
    return True
