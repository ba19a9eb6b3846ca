"""Parts of a report about records and histories of benchmarks, and their CSV."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from sen_edge.errors import UsageError
from sen_edge.report import charts
from sen_edge.report.document import UNKNOWN, WRONG, Heading, Note, Part, Table, Verbatim
from sen_runtime.bench import profile, text
from sen_runtime.bench.history import History
from sen_runtime.bench.record import began_s, busy, is_wrong
from sen_runtime.bench.text import cells, heading, remarks
from sen_runtime.figures import significant, size
from sen_runtime.task import Metric

#: A record, an entry of a history; a row of one.
Record = Mapping[str, Any]
Row = Mapping[str, Any]

#: Fields of a row in tables of their own; `outputs` and `sha256` as `_fields` shows them.
OUTPUTS = ("outputs", "max_error", "max_error_over_std", "argmax_percent", "score")
DETAILS = (
    "bytes", "weight_bytes", "nnz", "macs", "rss_growth_bytes", "arena_bytes", "bytes_per_ns", "share_of_l2",
    "share_of_memory", "call_us", "throughput_per_s",
)  # fmt: skip
ARTIFACT = (
    "file",
    "engine",
    "engine_version",
    "kernels",
    "threads",
    "batch",
    "n_samples",
    "calls_per_sample",
    "sha256",
)
SERVER = (
    "server_rate_per_s", "server_answered_per_s", "server_utilization", "server_overloaded", "server_p50_us",
    "server_p90_us", "server_p99_us", "server_p99_9_us",
)  # fmt: skip
COMPARED = "Outputs, compared with those of the first row of the same model"
#: Columns of records in CSV, in this order in every version of the schema; new ones are added at the end.
RECORD_FIELDS = (
    "created", "model", "cpu", "architecture", "status", "valid", "name", "file", "sha256", "bytes", "engine",
    "engine_version", "kernels", "threads", "n_in", "n_out", "timesteps", "load_us", "first_us", "calls_per_sample",
    "n_samples", "min_us", "median_us", "mean_us", "mad_us", "p90_us", "p95_us", "p99_us", "p99_9_us", "step_us",
    "call_us", "throughput_per_s", "ratio_to", "ratio_median", "ratio_low", "ratio_high", "ratio_confidence",
    "agreement_to", "agreement_inputs", "max_error", "max_error_over_std", "argmax_percent", "matches",
    "accuracy_percent", "macs", "nnz", "weight_bytes", "rss_growth_bytes", "arena_bytes", "bytes_per_ns",
    "share_of_l2", "share_of_memory", "energy_uj", "warnings", "source", "batch",
    "server_rate_per_s", "server_answered_per_s", "server_unanswered", "server_utilization", "server_overloaded",
    "server_p50_us", "server_p90_us", "server_p99_us", "server_p99_9_us", "metric", "unit", "score",
)  # fmt: skip
HISTORY_FIELDS = (
    "created", "model", "cpu", "architecture", "kernel", "os", "status", "valid", "name", "median_us", "low_us",
    "high_us", "source",
)  # fmt: skip


# --- records -------------------------------------------------------------------------------------


def record_text(record: Record) -> list[Part]:
    """The table of the device."""
    return [Verbatim(text.table(record))]


def record_brief(record: Record) -> list[Part]:
    """Device, rows, remarks, load tests and profiles."""
    parts: list[Part] = [
        Note(heading(record)),
        _rows_table(record),
        *([Note("", found)] if (found := remarks(record)) else []),
    ]
    for table in _tests_and_profiles(record["rows"]):
        parts += [Note(table.caption), table] if isinstance(table, Table) else [table]
    return parts


def record_parts(record: Record) -> list[Part]:
    """All that is known about one record, with charts."""
    rows = record["rows"]
    parts: list[Part] = [Note(f"{heading(record)} · {record['tool']['name']} {record['tool']['version']}")]
    parts.append(_verdict(record))
    if rows:
        parts.append(_rows_table(record))
    if len(rows) > 1:
        parts.append(charts.ratios(rows))
    if rows:
        parts += [_table(COMPARED, rows, OUTPUTS), _table("Work, memory, bandwidth, throughput", rows, DETAILS)]
        parts += _tests_and_profiles(rows)
        parts += [Heading("Histograms", 4), *map(charts.histogram, rows)]
        parts += [Heading("Latency over time", 4), Note("Line: median; nine tenths of the turns lie within the band.")]
        parts += [charts.over_turns(row) for row in rows if row["turns_us"]]
    if record["sustained"]:
        parts += _sustained(record["sustained"], [row["name"] for row in rows])
    device, settings = record["device"], record["settings"]
    before, after = device["before"], device["after"]
    states = [[name, _value(before[name], name), _value(after.get(name), name)] for name in before]
    constant = {name: value for name, value in device.items() if name not in ("before", "after", "throttled_during")}
    facts = {"settings": {name: value for name, value in settings.items() if name != "loads"}}
    facts |= {name: record[name] for name in ("clock", "bandwidth", "energy") if record[name] is not None}
    return [
        *parts,
        Heading("Device", 4),
        _facts("Machine and libraries", constant),
        Table("Before and after the run", ["", "before", "after"], states),
        Heading("Measurement", 4),
        Verbatim(" ".join(map(shlex.quote, record["command"]))),
        _facts("Settings", facts),
        _table("Artifacts and engines", rows, ARTIFACT, is_text=True),
    ]


def side_by_side(records: Mapping[str, Record]) -> list[Part]:
    """Median latencies of several records, by their labels; nothing for one."""
    by_name = {label: {row["name"]: row for row in record["rows"]} for label, record in records.items()}
    names = list(dict.fromkeys(name for rows in by_name.values() for name in rows))
    if not names or len(records) < 2:
        return []
    unit, per_us = charts.time_unit(row["latency_us"]["median"] for rows in by_name.values() for row in rows.values())
    table = [
        [name, *(significant(rows[name]["latency_us"]["median"] * per_us) if name in rows else UNKNOWN
                 for rows in by_name.values())]
        for name in names
    ]  # fmt: skip
    labels = [f"{label}{_state(record)}" for label, record in records.items()]
    return [Table(f"Median latency, {unit}", ["row", *labels], table), charts.medians(names, by_name)]


def _state(record: Record) -> str:
    states = [] if record["status"] == "complete" else ["interrupted"]
    states += [] if record["valid"] else ["not valid"]
    states += ["busy machine"] if busy(record) else []
    return f" ({', '.join(states)})" if states else ""


def _verdict(record: Record) -> Note:
    """Whether the record can be relied on, with the remarks that the device prints."""
    device, rows = record["device"], record["rows"]
    can_tell = any(device["before"][name] != "unavailable" for name in ("throttled", "mhz", "arm_clock_mhz"))
    clock = "the clock held" if can_tell else "the machine does not tell its clock"
    compared = any(row["agreement"] is not None for row in rows)
    passed = f"{clock}, and {'the rows agree' if compared else 'no two rows were to be compared'}"
    warnings = [device["throttled_during"], record.get("left_out"), *(row["warnings"] for row in rows)]
    if not record["valid"]:
        return Note(f"{WRONG} Not valid: do not rely on these figures", remarks(record), "bad")
    if record["status"] != "complete":
        text = f"! {record['status'].capitalize()}: figures of the measurement until then"
    elif busy(record):
        text = f"! Busy machine: {passed}, but other programs ran"
    elif any(warnings):
        text = f"! Valid, with warnings: {passed}"
    else:
        return Note(f"✓ Valid: {passed}", remarks(record), "good")
    return Note(text, remarks(record), "warn")


def _rows_table(record: Record) -> Table:
    """The columns of the table that the device prints."""
    names = [f"{row['name']} {WRONG} wrong outputs" if is_wrong(row) else row["name"] for row in record["rows"]]
    columns = [["row", *names], *([cell.strip() for cell in texts] for texts in cells(record["rows"]).values())]
    headings, *rows = zip(*columns, strict=True)
    return Table("Latency of a call", headings, rows)


def _table(caption: str, rows: Sequence[Row], names: Sequence[str], *, is_text: bool = False) -> Table:
    """Fields of rows; without those that no row knows."""
    fields = [_fields(row, is_first=row is rows[0]) for row in rows]
    columns = {name.replace("_", " "): [_value(each[name], name) for each in fields] for name in names}
    known = {"row": [row["name"] for row in rows]}
    known |= {heading: texts for heading, texts in columns.items() if set(texts) != {UNKNOWN}}
    return Table(caption, list(known), list(zip(*known.values(), strict=True)), is_text)


def _fields(row: Row, *, is_first: bool) -> dict[str, Any]:
    """Fields of a row and of its agreement, a verdict on its outputs, and the start of its SHA-256."""
    verdict = f"{WRONG} wrong outputs" if is_wrong(row) else "✓ agrees"
    if row["agreement"] is None:
        verdict = "reference" if is_first else UNKNOWN
    unknown = dict.fromkeys((*OUTPUTS, *SERVER))
    return {
        **unknown,
        **(row["agreement"] or {}),
        **row,
        **_server(row),
        "outputs": verdict,
        "sha256": row["sha256"][:16],
        "score": _score_text(row),
    }


def _score_text(row: Row) -> str | None:
    """Metric and value of the score."""
    score = row.get("score")
    if score is None or score["value"] is None:
        return None
    return f"{score['name']} {Metric(score['name'], score['unit']).text(score['value'])}"


def _server(row: Row) -> dict[str, Any]:
    """Result of a load test, under names of columns; empty without one."""
    found = {**row.get("server", {})}
    latency = {f"{key}_us": value for key, value in found.pop("latency_us", {}).items()}
    return {f"server_{key}": value for key, value in {**found, **latency}.items()}


def _tests_and_profiles(rows: Sequence[Row]) -> list[Part]:
    """Load tests and profiles of the rows that have them."""
    parts: list[Part] = []
    if any("server" in row for row in rows):
        parts.append(_table("Load test: random arrivals, latency with the time in the queue", rows, SERVER))
    for row in rows:
        if found := row.get("profile"):
            caption, reason = f"Profile of {row['name']}", found["unavailable"]
            layers = [profile.cells(layer) for layer in found["layers"]]
            parts.append(Table(caption, profile.HEADINGS, layers) if layers else Note(f"{caption}: {reason}"))
            parts.append(Note("", [profile.counter_line(found["counters"])]))
    return parts


def _sustained(samples: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Part]:
    t_s = np.array([sample["t_s"] for sample in samples], float)
    series = [(f"Latency of {name}", "", [sample["latency_us"].get(name) for sample in samples]) for name in names]
    for key, caption, unit in (("mhz", "Clock", "MHz"), ("celsius", "Temperature", "°C")):
        series.append((caption, unit, [sample[key] for sample in samples]))
    parts: list[Part] = [Heading("Sustained", 4)]
    for caption, unit, found in series:
        values = np.array(found, float)  # None becomes NaN
        if np.isfinite(values).any():
            shown, factor = (unit, 1.0) if unit else charts.time_unit([float(np.nanmedian(values))])
            parts.append(charts.over_time(t_s, values * factor, caption, shown))
    return parts


def _facts(caption: str, values: Mapping[str, Any]) -> Table:
    """Fields of a record under their names."""
    return Table(caption, ["field", "value"], list(_flatten(values)), is_text=True)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[list[str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield [f"{prefix}{name}", _value(value, f"{prefix}{name}")]


def _value(value: Any, name: str = "") -> str:
    """A value of the field `name`; lists of one value per core are shortened to the different ones."""
    if isinstance(value, (list, tuple)):
        return ", ".join(dict.fromkeys(_value(each, name) for each in value)) or UNKNOWN
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return UNKNOWN if value is None else str(value)
    if name.endswith("bytes") or name.startswith("caches."):
        return size(value)
    if name.endswith("_percent"):
        return f"{value:.2f}"
    if name.startswith("max_error"):
        return f"{value:.2e}"
    return f"{value:,}" if isinstance(value, int) else significant(value)


# --- histories -----------------------------------------------------------------------------------


def history_brief(history: History) -> list[Part]:
    """Every row of every entry."""
    rows = [
        [
            entry["created"], row["name"],
            *(UNKNOWN if row[key] is None else significant(row[key]) for key in ("low_us", "median_us", "high_us")),
            "valid" if entry["valid"] and entry["status"] == "complete" else f"{WRONG} not valid",
        ]
        for entry in sorted(history.entries, key=began_s) for row in entry["rows"]
    ]  # fmt: skip
    return [
        Table("Median latency with its interval", ["created", "row", "low us", "median us", "high us", "record"], rows)
    ]


def history_parts(history: History) -> list[Part]:
    """A chart for each row name: median and interval of every entry, by date."""
    entries = sorted(history.entries, key=began_s)
    parts: list[Part] = [Note(note) for note in history.notes]
    if not entries:
        return [*parts, Note("There is no record yet.")]
    first, last = entries[0], entries[-1]
    parts.append(Note(f"{len(entries)} records, {first['created']} to {last['created']}"))
    parts.append(
        Note(
            f"Dot: median; line: its interval at {100 * last['confidence']:g} % confidence; hollow: not valid or "
            "interrupted. Dashed: another device, system or kernel from here on."
        )
    )
    changes = {}  # index of an entry -> what differs from the device of the entry before
    for index, (before, now) in enumerate(pairwise(entry["device"] for entry in entries), 1):
        words = [f"{key}: {before.get(key)} / {now.get(key)}" for key in now if before.get(key) != now.get(key)]
        if words:
            changes[index] = "; ".join(words)
    names = dict.fromkeys(row["name"] for entry in entries for row in entry["rows"])
    parts += [charts.trend(entries, name, list(changes)) for name in names]
    if changes:
        rows = [[entries[index]["created"], words] for index, words in changes.items()]
        parts.append(Table("Changes of the device", ["since", "difference"], rows, is_text=True))
    return parts


# --- CSV -----------------------------------------------------------------------------------------


def to_csv(records: Mapping[str, Record], histories: Mapping[str, History]) -> str:
    """A line with full precision for each row of records by their sources; without records, of histories.

    Raises:
        UsageError: there is neither.
    """
    if not records and not histories:
        hint = "expected a record, a history, or another format"
        raise UsageError("there is no record to write as CSV", hint=hint)
    lines = [_line(row, record, name) for name, record in records.items() for row in record["rows"]]
    if not records:
        lines = [
            {**entry, **entry["device"], **row, "source": name}
            for name, history in histories.items() for entry in history.entries for row in entry["rows"]
        ]  # fmt: skip
    buffer = io.StringIO()
    writer = csv.DictWriter(
        buffer, RECORD_FIELDS if records else HISTORY_FIELDS, extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()


def _line(row: Row, record: Record, source: str) -> dict[str, Any]:
    """Values of the columns of a record and more; unknown ones are None."""
    agreement, score = dict(row["agreement"] or {}), row.get("score") or {}
    return {
        **record, **record["device"], **row, "source": source,
        "metric": score.get("name"), "unit": score.get("unit"), "score": score.get("value"),
        **{f"{key}_us": value for key, value in row["latency_us"].items()},
        **{f"ratio_{key}": value for key, value in (row["ratio"] or {}).items()},
        **_server(row),
        **{f"agreement_{key}": agreement.pop(key, None) for key in ("to", "inputs")}, **agreement,
        "warnings": "; ".join(warning["message"] for warning in row["warnings"]),
    }  # fmt: skip
