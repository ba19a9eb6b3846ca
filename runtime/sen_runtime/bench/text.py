"""A record as a table for a terminal, as Markdown, and as CSV."""

from __future__ import annotations

import csv as csv_format
import io
import shutil
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sen_runtime.bench.figures import UNITS_OF_TIME, significant, size, unit_of_time
from sen_runtime.bench.load import busy
from sen_runtime.bench.record import is_wrong
from sen_runtime.untrusted import printable

Row = Mapping[str, Any]

#: A terminal narrower than this is treated as being so wide.
NARROWEST = 40
SHORTEST_NAME = 12
GAP = "  "
#: What has a meaning in Markdown.
MARKS = "\\`*_[]<>|&"


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        heading: without the unit, which is added.
        value: of a row; None where it is not known.
        kind: "time" (microseconds), "figure", "percent", "size", or "text".
        scale: columns of one scale share a unit of time.
        keep: where the terminal is too narrow those with the least go first.
    """

    heading: str
    value: Callable[[Row], Any]
    kind: str
    scale: str = ""
    keep: int = 0


def _latency(key: str) -> Callable[[Row], Any]:
    return lambda row: row["latency_us"][key]


def _field(*path: str) -> Callable[[Row], Any]:
    def value(row: Row) -> Any:
        found: Any = row
        for key in path:
            found = None if found is None else found.get(key)
        return found

    return value


def _interval(row: Row) -> str | None:
    ratio = row["ratio"]
    return None if ratio is None else f"{significant(ratio['low'])} to {significant(ratio['high'])}"


COLUMNS = (
    Column("median", _latency("median"), "time", "latency", 10),
    Column("MAD", _latency("mad"), "time", "latency", 4),
    Column("min", _latency("min"), "time", "latency", 5),
    Column("p90", _latency("p90"), "time", "latency", 2),
    Column("p99", _latency("p99"), "time", "latency", 7),
    Column("p99.9", _latency("p99_9"), "time", "latency", 1),
    Column("step", _field("step_us"), "time", "latency", 3),
    Column("ratio", _field("ratio", "median"), "figure", "", 9),
    Column("interval", _interval, "text", "", 8),
    Column("load", _field("load_us"), "time", "load", 3),
    Column("first", _field("first_us"), "time", "load", 3),
    Column("argmax %", _field("agreement", "argmax_percent"), "percent", "", 6),
    Column("accuracy %", _field("accuracy_percent"), "percent", "", 5),
    Column("uJ", _field("energy_uj"), "figure", "", 6),
    Column("file", _field("bytes"), "size", "", 2),
)

#: Columns of the CSV, in this order in every version of the schema; new ones are added at the end.
CSV_FIELDS = (
    "created", "model", "cpu", "architecture", "status", "valid", "name", "file", "sha256", "bytes", "engine",
    "engine_version", "kernels", "threads", "n_in", "n_out", "timesteps", "load_us", "first_us", "calls_per_sample",
    "n_samples", "min_us", "median_us", "mean_us", "mad_us", "p90_us", "p95_us", "p99_us", "p99_9_us", "step_us",
    "call_us", "throughput_per_s", "ratio_to", "ratio_median", "ratio_low", "ratio_high", "ratio_confidence",
    "agreement_to", "agreement_inputs", "max_error", "max_error_over_std", "argmax_percent", "matches",
    "accuracy_percent", "macs", "nnz", "weight_bytes", "rss_growth_bytes", "arena_bytes", "bytes_per_ns",
    "share_of_l2", "share_of_memory", "energy_uj", "warnings",
)  # fmt: skip


def table(record: Mapping[str, Any], width: int | None = None) -> str:
    """Device, rows and warnings for a terminal `width` letters wide (None: that of the terminal in use).

    Of columns that do not fit those that tell least are left out; then names are shortened in the middle.
    """
    width = max(NARROWEST, shutil.get_terminal_size().columns if width is None else width)
    columns = _columns(record["rows"])
    cells = _cells(record["rows"], columns)
    names = [printable(row["name"]) for row in record["rows"]]
    longest = max([SHORTEST_NAME, *map(_width, names)])
    needed = min(longest, max(SHORTEST_NAME, width // 3))
    while len(columns) > 1 and needed + sum(len(GAP) + _width(cell[0]) for cell in cells) > width:
        least = min(range(len(columns)), key=lambda index: columns[index].keep)
        del columns[least], cells[least]
    room = max(SHORTEST_NAME, width - sum(len(GAP) + _width(cell[0]) for cell in cells))
    lines = [_padded("row", min(longest, room)) + "".join(GAP + cell[0] for cell in cells)]
    for index, name in enumerate(names):
        shown = _padded(_shortened(name, room), min(longest, room))
        mark = "  WRONG OUTPUTS" if is_wrong(record["rows"][index]) else ""
        lines.append(shown + "".join(GAP + cell[index + 1] for cell in cells) + mark)
    return "\n".join(line.rstrip() for line in [heading(record), "", *lines, *_remarks(record)]) + "\n"


def markdown(record: Mapping[str, Any]) -> str:
    """Device, rows and warnings, for a pull request or a wiki."""
    columns = _columns(record["rows"])
    cells = _cells(record["rows"], columns)
    lines = [_escaped(heading(record)), ""]
    lines += [_line(["row", *(cell[0].strip() for cell in cells)]), _line(["---", *["---:"] * len(cells)])]
    for index, row in enumerate(record["rows"]):
        name = _escaped(printable(row["name"])) + (" **wrong outputs**" if is_wrong(row) else "")
        lines.append(_line([name, *(_escaped(cell[index + 1].strip()) for cell in cells)]))
    remarks = [_escaped(remark) for remark in _remarks(record) if remark]
    return "\n".join([*lines, *([""] if remarks else []), *(f"- {remark}" for remark in remarks)]) + "\n"


def csv(record: Mapping[str, Any]) -> str:
    """All figures with full precision, a line for each row below the line of `CSV_FIELDS`; empty where not known."""
    buffer = io.StringIO()
    writer = csv_format.DictWriter(buffer, CSV_FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    device = record["device"]
    common = {key: record[key] for key in ("created", "status", "valid")}
    common.update({key: device[key] for key in ("model", "cpu", "architecture")})
    for row in record["rows"]:
        figures = {key: value for key, value in row.items() if key in CSV_FIELDS}
        figures.update({f"{key}_us": value for key, value in row["latency_us"].items()})
        figures.update({f"ratio_{key}": value for key, value in (row["ratio"] or {}).items()})
        agreement = dict(row["agreement"] or {})
        figures.update({f"agreement_{key}": agreement.pop(key, None) for key in ("to", "inputs")}, **agreement)
        figures["warnings"] = "; ".join(warning["message"] for warning in row["warnings"])
        writer.writerow({**common, **figures})
    return buffer.getvalue()


def heading(record: Mapping[str, Any]) -> str:
    """Machine, system and time in one line; what is not known is left out."""
    device = record["device"]
    bits = f"{device['userland_bits']}-bit programs"
    parts = [device["model"], device["cpu"], device["architecture"], bits, device["os"], record["created"]]
    return printable(", ".join(str(part) for part in parts if "unavailable" not in str(part)))


def _columns(rows: Sequence[Row]) -> list[Column]:
    """Those of which at least one row knows something."""
    return [column for column in COLUMNS if any(column.value(row) is not None for row in rows)]


def _cells(rows: Sequence[Row], columns: Sequence[Column]) -> list[list[str]]:
    """For each column the heading and a cell for each row, all equally wide, aligned at the decimal point."""
    units = {}
    for scale in {column.scale for column in columns if column.scale}:
        members = [column for column in columns if column.scale == scale]
        # The medians choose, not the tails: a row that was interrupted once must not change the unit of all.
        units[scale] = unit_of_time(value for row in rows if (value := members[0].value(row)) is not None)
    return [_aligned(column, [column.value(row) for row in rows], units.get(column.scale, "")) for column in columns]


def _aligned(column: Column, values: Sequence[Any], unit: str) -> list[str]:
    texts = ["-" if value is None else _shown(column.kind, value, unit) for value in values]
    if column.kind in ("time", "figure", "percent"):
        tails = [len(text) - text.index(".") if "." in text else 0 for text in texts]
        texts = [text + " " * (max(tails) - tail) for text, tail in zip(texts, tails)]
    cells = [f"{column.heading} {unit}".strip(), *texts]
    width = max(map(len, cells))
    return [cell.rjust(width) for cell in cells]


def _shown(kind: str, value: Any, unit: str) -> str:
    if kind == "time":
        return significant(value * UNITS_OF_TIME[unit])
    if kind == "size":
        return size(value)
    return f"{value:.2f}" if kind == "percent" else significant(value) if kind == "figure" else str(value)


def _remarks(record: Mapping[str, Any]) -> list[str]:
    """Below the table: to what the ratios are, warnings, and why the record is not to be used."""
    lines = [""]
    ratio = next((row["ratio"] for row in record["rows"] if row["ratio"] is not None), None)
    if ratio is not None:
        lines.append(f"ratio: latency over that of {ratio['to']}; interval: {100 * ratio['confidence']:g} % confidence")
    if record["settings"].get("data"):
        lines.append(f"data: {record['settings']['data']}")
    lines += [reason for reason in record["device"]["throttled_during"] if reason not in record["invalid_because"]]
    for row in record["rows"]:
        lines += [f"{row['name']}: {warning['message']}" for warning in row["warnings"]]
    if record["status"] != "complete":
        lines.append("INTERRUPTED: the figures are of what was measured until then")
    lines += [f"BUSY: {sentence}" for sentence in [busy(record)] if sentence]
    lines += [left_out(each) for each in record.get("left_out", ())]
    lines += [f"NOT VALID: {reason}" for reason in record["invalid_because"]]
    if not record["valid"] and not record["invalid_because"]:
        lines.append("NOT VALID")
    return [printable(line) for line in lines] if len(lines) > 1 else []


def left_out(each: Mapping[str, str]) -> str:
    """What could not be measured, why, and the pip line of a missing engine."""
    return f"left out: {each['file']} {each['engine']} ({': '.join(filter(None, (each['reason'], each['hint'])))})"


def _width(text: str) -> int:
    """Columns of a terminal."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _shortened(text: str, width: int) -> str:
    """Without its middle where it is too long: the start names the artifact, the end engine and threads."""
    if _width(text) <= width:
        return text
    end = (width - 2) // 2
    start = width - 2 - end
    while _width(shown := f"{text[:start]}..{text[len(text) - end :]}") > width:
        start, end = max(0, start - 1), max(0, end - 1)
    return shown


def _escaped(text: str) -> str:
    """As Markdown, without what would be taken for marks or HTML."""
    return text.translate({ord(mark): f"&#{ord(mark)};" if mark in "<>|&" else f"\\{mark}" for mark in MARKS})


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
