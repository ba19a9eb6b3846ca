"""A record as a table for a terminal."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sen_runtime.bench import profile, server
from sen_runtime.bench.record import busy, is_wrong
from sen_runtime.figures import UNITS_OF_TIME, significant, size, unit_of_time
from sen_runtime.untrusted import printable

Row = Mapping[str, Any]

#: Min width of a terminal, and of a name in it.
MIN_WIDTH = 40
MIN_NAME = 12
GAP = "  "


class Column(NamedTuple):
    """A column of the table; `kind` is one of `FORMATS`, or "latency" or "load", whose columns share a unit of time."""

    heading: str
    path: str  # of the value in a row
    kind: str
    keep: int  # where the terminal is too narrow, the smallest are dropped first


COLUMNS = (
    Column("median", "latency_us.median", "latency", 10),
    Column("MAD", "latency_us.mad", "latency", 4),
    Column("min", "latency_us.min", "latency", 5),
    Column("p90", "latency_us.p90", "latency", 2),
    Column("p99", "latency_us.p99", "latency", 7),
    Column("p99.9", "latency_us.p99_9", "latency", 1),
    Column("step", "step_us", "latency", 3),
    Column("inputs/s", "throughput_per_s", "figure", 9),
    Column("ratio", "ratio.median", "figure", 9),
    Column("interval", "ratio", "interval", 8),
    Column("load", "load_us", "load", 3),
    Column("first", "first_us", "load", 3),
    Column("argmax %", "agreement.argmax_percent", "percent", 6),
    Column("score", "score.value", "figure", 5),  # its heading is the metric
    Column("uJ", "energy_uj", "figure", 6),
    Column("file", "bytes", "size", 2),
)
FORMATS: Mapping[str, Callable[[Any], str]] = {
    "figure": significant,
    "percent": lambda value: f"{value:.2f}",
    "size": size,
    "interval": lambda ratio: f"{significant(ratio['low'])} to {significant(ratio['high'])}",
}


def table(record: Mapping[str, Any], width: int | None = None) -> str:
    """Device, rows and warnings for a terminal of `width` columns (None: the current one).

    Columns that do not fit are dropped in the order of `Column.keep`; then names are shortened in the middle.
    """
    width = max(MIN_WIDTH, shutil.get_terminal_size().columns if width is None else width)
    columns = cells(record["rows"])
    widths = {column: len(GAP) + len(texts[0]) for column, texts in columns.items()}
    names = ["row", *(printable(row["name"]) for row in record["rows"])]
    marks = ["", *("  WRONG OUTPUTS" if is_wrong(row) else "" for row in record["rows"])]
    longest = max(MIN_NAME, *map(_width, names))
    needed = min(longest, max(MIN_NAME, width // 3))
    while len(widths) > 1 and needed + sum(widths.values()) > width:
        del widths[min(widths, key=lambda column: column.keep)]
    room = max(MIN_NAME, width - sum(widths.values()))
    lines = []
    for index, (name, mark) in enumerate(zip(names, marks)):
        figures = "".join(GAP + columns[column][index] for column in widths)
        shown = _shorten(name, room)
        lines.append(shown + " " * (min(longest, room) - _width(shown)) + figures + mark)
    others = [part for part in (server.table(record), profile.table(record).splitlines()) if part]
    lines = [heading(record), "", *lines, "", *remarks(record), *(line for part in others for line in ["", *part])]
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"


def heading(record: Mapping[str, Any]) -> str:
    """Machine, system and time in one line, without unknown values."""
    device = record["device"]
    bits = f"{device['userland_bits']}-bit programs"
    parts = [device["model"], device["cpu"], device["architecture"], bits, device["os"], record["created"]]
    return printable(", ".join(str(part) for part in parts if "unavailable" not in str(part)))


def cells(rows: Sequence[Row]) -> dict[Column, list[str]]:
    """Heading and cells of each column with at least one value, padded to one width, aligned at the decimal point."""
    columns, units = {}, dict[str, str]()
    has_batches = any(row["batch"] > 1 for row in rows)  # else the throughput is that of the mean latency
    for column in (_score_column(each, rows) if each.path == "score.value" else each for each in COLUMNS):
        if column.path == "throughput_per_s" and not has_batches:
            continue
        values = [_value(row, column.path) for row in rows]
        if column.kind not in FORMATS and column.kind not in units:
            # The first column of a unit selects it: medians, because one interrupted row must not change it.
            units[column.kind] = unit_of_time(value for value in values if value is not None)
        if any(value is not None for value in values):
            columns[column] = _align(column, values, units.get(column.kind, ""))
    return columns


def _score_column(column: Column, rows: Sequence[Row]) -> Column:
    """Column of scores, named by the metric of the first one."""
    score = next((row["score"] for row in rows if row.get("score")), None)
    if score is None:
        return column
    kind = "percent" if score["unit"] else "figure"
    return column._replace(heading=f"{score['name']} {score['unit']}".strip(), kind=kind)


def _value(row: Row, path: str) -> Any:
    """A value of a row, or None where it or a part of its path is unknown."""
    value: Any = row
    for key in path.split("."):
        value = None if value is None else value.get(key)
    return value


def _align(column: Column, values: Sequence[Any], unit: str) -> list[str]:
    show = FORMATS.get(column.kind, lambda value: significant(value * UNITS_OF_TIME[unit]))
    texts = ["-" if value is None else show(value) for value in values]
    if column.kind not in ("size", "interval"):
        tails = [len(text) - text.index(".") if "." in text else 0 for text in texts]
        texts = [text + " " * (max(tails) - tail) for text, tail in zip(texts, tails)]
    cells = [f"{column.heading} {unit}".strip(), *texts]
    width = max(map(len, cells))
    return [cell.rjust(width) for cell in cells]


def remarks(record: Mapping[str, Any]) -> list[str]:
    """Lines below the table: reference of the ratios, warnings, and reasons why the record is not valid."""
    lines = []
    ratio = next((row["ratio"] for row in record["rows"] if row["ratio"] is not None), None)
    if ratio is not None:
        what = "time per input" if any(row["batch"] > 1 for row in record["rows"]) else "latency"
        lines.append(f"ratio: {what} over that of {ratio['to']}; interval: {100 * ratio['confidence']:g} % confidence")
    if record["settings"].get("data"):
        lines.append(f"data: {record['settings']['data']}")
    lines += [reason for reason in record["device"]["throttled_during"] if reason not in record["invalid_because"]]
    for row in record["rows"]:
        lines += [f"{row['name']}: {warning['message']}" for warning in row["warnings"]]
    if record["status"] != "complete":
        lines.append("INTERRUPTED: the run was not completed")
    if sentence := busy(record):
        lines.append(f"BUSY: {sentence}")
    lines += [left_out(each) for each in record.get("left_out", ())]
    lines += [f"NOT VALID: {reason}" for reason in record["invalid_because"]]
    if not record["valid"] and not record["invalid_because"]:
        lines.append("NOT VALID")
    return [printable(line) for line in lines]


def left_out(each: Mapping[str, str]) -> str:
    """A row that could not be measured, the reason, and the pip line of a missing engine."""
    return f"left out: {each['file']} {each['engine']} ({': '.join(filter(None, (each['reason'], each['hint'])))})"


def _width(text: str) -> int:
    """Width in columns of a terminal."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def _shorten(text: str, width: int) -> str:
    """Cut the middle of a long name: the start names the artifact, the end engine and threads."""
    if _width(text) <= width:
        return text
    end = (width - 2) // 2
    start = width - 2 - end
    while _width(cut := f"{text[:start]}..{text[len(text) - end :]}") > width:
        start, end = max(0, start - 1), max(0, end - 1)
    return cut
