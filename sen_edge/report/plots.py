"""Histograms and latency over time as a PNG or SVG file, drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sen_edge.report import charts
from sen_runtime.bench.statistics import LOG_FROM
from sen_runtime.errors import MissingExtraError, SenError
from sen_runtime.figures import UNITS_OF_TIME, unit_of_time
from sen_runtime.files import write_atomic

PIP_LINE = "pip install 'sen-edge[plot]'"
ENDINGS = (".png", ".svg")
LONGEST_NAME = 60


class PlotError(SenError):
    """A plot that cannot be drawn or written."""


def check(path: Path) -> None:
    """Whether a plot could be drawn to such a file: asked before a long run rather than after it.

    Raises:
        PlotError: the ending is none of `ENDINGS`.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise PlotError(f"{path}: the ending is {path.suffix!r}; expected one of {', '.join(ENDINGS)}")
    _figure_class()


def save(record: Mapping[str, Any], path: Path) -> None:
    """Draw a histogram and the latency over the turns of each row, one row below the other.

    Raises:
        PlotError: the ending is none of `ENDINGS`, there are no rows, or the file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    check(path)
    rows = record["rows"]
    if not rows:
        raise PlotError(f"cannot draw {path}: the record has no rows")
    figure = _figure_class()(figsize=(11, 2.6 * len(rows) + 0.6), layout="constrained")
    figure.suptitle(plain(f"{record['device']['model']}, {record['created']}"))
    for (histogram, over_time), row in zip(figure.subplots(len(rows), 2, squeeze=False), rows, strict=False):
        _draw_row(histogram, over_time, row)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower(), dpi=120)
    try:
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        raise PlotError(f"cannot write {path}: {error.strerror}") from error


def _draw_row(histogram: Any, over_time: Any, row: Mapping[str, Any]) -> None:
    unit = unit_of_time([row["latency_us"]["median"]])
    edges = np.array(row["histogram"]["edges_us"]) * UNITS_OF_TIME[unit]
    histogram.stairs(row["histogram"]["counts"], edges, fill=True, color="#0063a6", alpha=0.6)
    for key, style in (("median", "-"), ("p99", ":")):
        value = row["latency_us"][key] * UNITS_OF_TIME[unit]
        if value <= edges[-1]:  # a line beyond would widen the axis
            histogram.axvline(value, color="black", linestyle=style, label=key)
    histogram.legend(frameon=False)
    if edges[0] * LOG_FROM < edges[-1]:
        from matplotlib import ticker

        histogram.set_xscale("log")
        histogram.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        histogram.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        histogram.xaxis.set_minor_formatter(ticker.NullFormatter())
    beyond = charts.beyond_histogram(row)
    histogram.set(xlabel=f"latency, {unit}" + (f"; {beyond}" if beyond else ""), ylabel="samples")
    histogram.set_title(plain(row["name"]), fontsize=10, loc="left")
    over_time.plot(np.array(row["turns_us"]) * UNITS_OF_TIME[unit], color="#0063a6", linewidth=0.8)
    over_time.set(xlabel="turn", ylabel=f"latency, {unit}")


def plain(name: str, longest: int = LONGEST_NAME) -> str:
    """Names are no formulas: matplotlib would take what is between two dollars for one."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    return shown[:longest].replace("$", r"\$")


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure  # without pyplot, which would look for a display
    except ImportError:
        raise MissingExtraError("matplotlib, which draws .png and .svg,", PIP_LINE) from None
    return Figure
