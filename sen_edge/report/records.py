"""Parts of a report about records of benchmarks."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sen_edge.report import charts
from sen_edge.report.charts import unit_name
from sen_edge.report.document import UNKNOWN, WRONG, Heading, Note, Part, Table, Verbatim
from sen_runtime.bench.load import busy
from sen_runtime.bench.record import is_wrong
from sen_runtime.bench.text import cells, heading, left_out, remarks
from sen_runtime.figures import UNITS_OF_TIME, significant, size, unit_of_time

Record = Mapping[str, Any]
Row = Mapping[str, Any]

#: Fields of the device's state, which are compared before and after a run.
STATE = {
    "governor": "governor", "mhz": "clock, MHz", "arm_clock_mhz": "clock measured by the firmware, MHz",
    "min_mhz": "min clock, MHz", "max_mhz": "max clock, MHz", "celsius": "temperature, °C",
    "throttled": "get_throttled", "load": "load", "swap_used_bytes": "swap used, bytes",
}  # fmt: skip


def brief_parts(record: Record) -> list[Part]:
    """Device, rows and remarks."""
    return [Note(heading(record)), _rows_table(record), *([Note("", found)] if (found := remarks(record)) else [])]


def page_parts(record: Record) -> list[Part]:
    """All that is known about one record, with charts."""
    rows = record["rows"]
    parts: list[Part] = [Note(f"{heading(record)} · {record['tool']['name']} {record['tool']['version']}")]
    parts += _verdict(record)
    if rows:
        parts.append(_rows_table(record))
    if len(rows) > 1:
        parts.append(charts.ratios(rows))
    parts += _warnings(record)
    if rows:
        parts += [_outputs_table(rows), _size_table(rows)]
        parts += [Heading("Histograms", 4), *map(charts.histogram, rows)]
        parts += [Heading("Latency over time", 4), Note("Line: median; nine tenths of the turns lie within the band.")]
        parts += [charts.over_turns(row) for row in rows if row["turns_us"]]
    if record["sustained"]:
        parts += _sustained(record["sustained"], [row["name"] for row in rows])
    return [*parts, *_device(record["device"]), *_settings(record)]


def side_by_side(records: Mapping[str, Record]) -> list[Part]:
    """Median latencies of several records, by their labels."""
    by_name = {label: {row["name"]: row for row in record["rows"]} for label, record in records.items()}
    names = list(dict.fromkeys(name for rows in by_name.values() for name in rows))
    if not names:
        return []
    unit = unit_of_time(row["latency_us"]["median"] for rows in by_name.values() for row in rows.values())
    table = [
        [
            name,
            *(
                _time(rows[name]["latency_us"]["median"], unit) if name in rows else UNKNOWN
                for rows in by_name.values()
            ),
        ]
        for name in names
    ]
    labels = [f"{label}{_state(record)}" for label, record in records.items()]
    return [Table(f"Median latency, {unit_name(unit)}", ["row", *labels], table), charts.medians(names, by_name)]


def _state(record: Record) -> str:
    states = [] if record["status"] == "complete" else ["interrupted"]
    states += [] if record["valid"] else ["not valid"]
    states += ["busy machine"] if busy(record) else []
    return f" ({', '.join(states)})" if states else ""


def _verdict(record: Record) -> list[Part]:
    """Whether the record can be relied on."""
    parts: list[Part] = []
    if record["status"] != "complete":
        parts.append(Note(f"! {record['status']}: the figures are of what was measured until then", tone="warn"))
    load = [sentence for sentence in [busy(record)] if sentence]
    if not record["valid"]:
        text = f"{WRONG} Not valid: do not rely on these figures"
        parts.append(Note(text, [*record["invalid_because"], *load], "bad"))
    elif load:
        parts.append(Note(f"! Busy machine: {_checks(record)}, but other programs ran", load, "warn"))
    else:
        parts.append(Note(f"✓ Valid: {_checks(record)}", tone="good"))
    return parts


def _checks(record: Record) -> str:
    """Checks that passed."""
    before = record["device"]["before"]
    can_tell = any(before[name] != "unavailable" for name in ("throttled", "mhz", "arm_clock_mhz"))
    clock = "the clock held" if can_tell else "the machine does not tell its clock"
    compared = any(row["agreement"] is not None for row in record["rows"])
    return f"{clock}, and {'the rows agree' if compared else 'no two rows were to be compared'}"


def _warnings(record: Record) -> list[Part]:
    found = [reason for reason in record["device"]["throttled_during"] if reason not in record["invalid_because"]]
    found += [f"{row['name']}: {warning['message']}" for row in record["rows"] for warning in row["warnings"]]
    found += map(left_out, record.get("left_out", ()))
    return [Note("! Warnings", found, "warn")] if found else []


def _rows_table(record: Record) -> Table:
    """The columns of the table that the device prints."""
    columns = list(cells(record["rows"]).values())
    names = [f"{row['name']} {WRONG} wrong outputs" if is_wrong(row) else row["name"] for row in record["rows"]]
    headings = ["row", *(texts[0].strip() for texts in columns)]
    rows = [[name, *(texts[index + 1].strip() for texts in columns)] for index, name in enumerate(names)]
    return Table("Latency of one inference", headings, rows)


def _outputs_table(rows: Sequence[Row]) -> Table:
    def verdict(row: Row) -> str:
        if row["agreement"] is None:
            return "reference" if row is rows[0] else UNKNOWN
        return f"{WRONG} wrong outputs" if is_wrong(row) else "✓ agrees"

    def error(key: str) -> Callable[[Row], str]:
        return lambda row: _text((row["agreement"] or {}).get(key), "{:.2e}")

    return _table("Outputs, compared with those of the first row of the same model", rows, {
        "outputs": verdict,
        "max error": error("max_error"),
        "over standard deviation": error("max_error_over_std"),
        "same argmax": lambda row: _text((row["agreement"] or {}).get("argmax_percent"), "{:.2f} %"),
        "accuracy": lambda row: _text(row["accuracy_percent"], "{:.2f} %"),
    })  # fmt: skip


def _size_table(rows: Sequence[Row]) -> Table:
    return _table("Size, memory, bandwidth, throughput", rows, {
        "file": lambda row: _size(row["bytes"]),
        "weights": lambda row: _size(row["weight_bytes"]),
        "nnz": lambda row: _text(row["nnz"], "{:,.0f}"),
        "MACs": lambda row: _text(row["macs"], "{:,.0f}"),
        "memory": lambda row: _size(row["rss_growth_bytes"]),
        "arena": lambda row: _size(row["arena_bytes"]),
        "GB/s": lambda row: _value(row["bytes_per_ns"]),
        "of L2": lambda row: _text(row["share_of_l2"], "{:.0%}"),
        "of memory": lambda row: _text(row["share_of_memory"], "{:.0%}"),
        "call from Python, µs": lambda row: _value(row["call_us"]),
        "per second": lambda row: _text(row["throughput_per_s"], "{:,.0f}"),
    })  # fmt: skip


def _table(caption: str, rows: Sequence[Row], columns: Mapping[str, Callable[[Row], str]]) -> Table:
    """Columns in which at least one value is known."""
    found = {name: [value(row) for row in rows] for name, value in columns.items()}
    found = {name: texts for name, texts in found.items() if set(texts) != {UNKNOWN}}
    lines = [[row["name"], *(texts[index] for texts in found.values())] for index, row in enumerate(rows)]
    return Table(caption, ["row", *found], lines)


def _sustained(samples: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Part]:
    t_s = np.array([sample["t_s"] for sample in samples], float)
    parts: list[Part] = [Heading("Sustained", 4)]
    for name in names:
        latencies = np.array([sample["latency_us"].get(name, np.nan) for sample in samples], float)
        known = latencies[np.isfinite(latencies)]
        if len(known):
            unit = unit_of_time([float(np.median(known))])
            parts.append(charts.over_time(t_s, latencies * UNITS_OF_TIME[unit], f"Latency of {name}", unit_name(unit)))
    for key, caption, unit in (("mhz", "Clock", "MHz"), ("celsius", "Temperature", "°C")):
        values = np.array([np.nan if sample[key] is None else sample[key] for sample in samples], float)
        if np.isfinite(values).any():
            parts.append(charts.over_time(t_s, values, caption, unit))
    return parts


def _device(device: Mapping[str, Any]) -> list[Part]:
    ram, caches = device["ram_bytes"], device["caches"]
    facts = {
        "board": device["model"], "revision": device["revision"], "processor": device["cpu"], "cores": device["cpus"],
        "architecture": f"{device['architecture']}, {device['userland_bits']}-bit programs",
        "memory": size(ram) if isinstance(ram, (int, float)) else ram,
        "caches": [f"{name.upper()} {size(count)}" for name, count in caches.items() if isinstance(count, int)]
        if isinstance(caches, Mapping)
        else caches,
        "system": device["os"], "kernel": device["kernel"], "Python": device["python"],
        "compiler of the native library": device["compiler"], **device["libraries"],
    }  # fmt: skip
    states = [[name, *(_value(device[when].get(key)) for when in ("before", "after"))] for key, name in STATE.items()]
    return [
        Heading("Device", 4),
        _facts("Machine and libraries", facts.items()),
        Table("Before and after the run", ["", "before", "after"], states),
    ]


def _settings(record: Record) -> list[Part]:
    settings, clock, bandwidth = record["settings"], record["clock"], record["bandwidth"]
    checked = "" if settings["cpus_verified"] else " (not verified)"
    facts = {
        "duration, s": settings["seconds"], "seed": settings["seed"],
        "inputs": f"{settings.get('data') or settings['inputs']}, {settings['n_inputs']}",
        "cores used": "not pinned" if settings["cpus"] is None else f"{_value(settings['cpus'])}{checked}",
        "length of a turn, µs": settings["turn_ns"] / 1000,
        "resolution of the clock, ns": clock["resolution_ns"],
        "reading the clock, ns": clock["timer_ns"],
        "an empty call, ns": clock["loop_ns"],
        "bandwidth of L2, GB/s": bandwidth["l2_bytes_per_ns"],
        "bandwidth of memory, GB/s": bandwidth["memory_bytes_per_ns"],
    }  # fmt: skip
    if record["energy"] is not None:
        facts |= {"meter": record["energy"]["meter"], "power when idle, W": record["energy"]["idle_watts"]}
    artifacts = [
        [
            row["name"], row["file"], f"{row['engine']} {row['engine_version']}", _value(row["kernels"]),
            *(_text(row[key], "{:,.0f}") for key in ("threads", "n_samples", "calls_per_sample")), row["sha256"][:16],
        ]
        for row in record["rows"]
    ]  # fmt: skip
    headings = ["row", "file", "engine", "kernels", "threads", "samples", "calls in one", "SHA-256 (start)"]
    return [
        Heading("Measurement", 4),
        Verbatim(" ".join(map(shlex.quote, record["command"]))),
        _facts("Settings", facts.items()),
        Table("Artifacts and engines", headings, artifacts, is_text=True),
    ]


def _facts(caption: str, facts: Iterable[tuple[str, Any]]) -> Table:
    return Table(caption, ["", ""], [[str(name), _value(value)] for name, value in facts], is_text=True)


def _time(value_us: float, unit: str) -> str:
    return significant(value_us * UNITS_OF_TIME[unit])


def _text(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else form.format(value)


def _size(count: float | None) -> str:
    return UNKNOWN if count is None else size(count)


def _value(value: Any) -> str:
    """Any value; lists of one value per core shortened to the different ones."""
    if isinstance(value, (list, tuple)):
        return ", ".join(dict.fromkeys(_value(each) for each in value)) or UNKNOWN
    if isinstance(value, float):
        return significant(value)
    return UNKNOWN if value is None else str(value)
