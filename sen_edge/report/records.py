"""A report that opens in any browser: one file, no network, no script. All that comes from a record is escaped."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from sen_edge.report import charts, svg
from sen_edge.report.charts import unit_name
from sen_edge.report.style import STYLE
from sen_runtime.bench.load import busy
from sen_runtime.bench.record import is_wrong
from sen_runtime.bench.text import left_out
from sen_runtime.figures import UNITS_OF_TIME, significant, size, unit_of_time
from sen_runtime.untrusted import printable_page

Record = Mapping[str, Any]

UNKNOWN = "\N{EN DASH}"
LATENCIES = {"median": "median", "mad": "MAD", "min": "min", "p90": "p90", "p99": "p99", "p99_9": "p99.9"}


def report(record: Record | Sequence[Record]) -> str:
    """The page for one record, or for those of several devices side by side.

    Raises:
        ValueError: there is no record.
    """
    records = [record] if isinstance(record, Mapping) else list(record)
    if not records:
        raise ValueError("there is no record to report")
    labels = _labels(records)
    if len(records) == 1:
        title = f"Benchmark: {labels[0]}"
        body = sections(records[0], "d0")
    else:
        title = f"Benchmark: {len(records)} devices"
        body = _side_by_side(records, labels)
        for index, (one, label) in enumerate(zip(records, labels, strict=False)):
            body += [f'<h2 id="d{index}">{escape(label)}</h2>', *sections(one, f"d{index}")]
    return page(title, body)


def sections(record: Record, ident: str) -> list[str]:
    """Everything about one record, as markup; `ident` begins every id in it."""
    return [*_head(record), *_record(record, ident)]


def page(title: str, body: Iterable[str], style: str = "") -> str:
    """A whole page in the style of the reports; `body` is markup, `style` more of that."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return printable_page(
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{STYLE}{style}</style></head>\n'
        f"<body><main>\n<h1>{escape(title)}</h1>\n" + "\n".join(body) + "\n</main></body></html>\n"
    )


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]], class_: str = "") -> str:
    """An accessible table. `caption` and `headings` are plain text, cells are markup made by `cell`."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    lines = (f'<tr><th scope="row">{first}</th>{"".join(rest)}</tr>' for first, *rest in rows)
    shown = f' class="{class_}"' if class_ else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table{shown}>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def cell(words: str, class_: str = "") -> str:
    """A cell of a table; the words are escaped."""
    return f'<td class="{class_}">{escape(words)}</td>' if class_ else f"<td>{escape(words)}</td>"


def _labels(records: Sequence[Record]) -> list[str]:
    """Model of each device, or what else is known, numbered where it is there twice."""
    names = []
    for record in records:
        device = record["device"]
        known = [device[key] for key in ("model", "cpu", "architecture") if device[key] != "unavailable"]
        names.append(str(known[0]) if known else "unknown device")
    counts: dict[str, int] = {}
    labels = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        labels.append(f"{name} ({counts[name]})" if names.count(name) > 1 else name)
    return labels


def _side_by_side(records: Sequence[Record], labels: Sequence[str]) -> list[str]:
    by_name = [{row["name"]: row for row in record["rows"]} for record in records]
    names = list(dict.fromkeys(name for rows in by_name for name in rows))
    found = [row for rows in by_name for row in rows.values()]
    if not found:
        return []
    unit = unit_of_time(row["latency_us"]["median"] for row in found)
    figures = [{name: _time(row["latency_us"]["median"], unit) for name, row in rows.items()} for rows in by_name]
    lines = [[escape(name), *(cell(shown.get(name, UNKNOWN)) for shown in figures)] for name in names]
    keys = "".join(
        f'<li>{_key(index)}<a href="#d{index}" style="color:inherit">{escape(label)}</a>{_state_of(record)}</li>'
        for index, (label, record) in enumerate(zip(labels, records, strict=False))
    )
    return [
        f'<ul class="legend">{keys}</ul>',
        table(f"Median latency, {unit_name(unit)}", ["row", *labels], lines),
        figure("Median latency", charts.medians(names, by_name, labels, "all"), "from the least to p99", wide=True),
    ]


def _key(index: int) -> str:
    """The mark of a device, for the legend."""
    mark = svg.marker(8, 8, index, f"dot s{index % 5}")
    return svg.element("svg", mark, width=16, height=16, aria_hidden="true")


def _state_of(record: Record) -> str:
    states = [] if record["status"] == "complete" else ["interrupted"]
    states += [] if record["valid"] else ["not valid"]
    states += ["busy machine"] if busy(record) else []
    return f" ({', '.join(states)})" if states else ""


def _head(record: Record) -> list[str]:
    """When and with what it was made, and whether it holds."""
    tool = f"{record['tool']['name']} {record['tool']['version']}"
    parts = [f'<p class="soft">{escape(record["created"])} · {escape(tool)}</p>']
    if record["status"] != "complete":
        parts.append(_banner("warn", f"! {record['status']}: the figures are of what was measured until then"))
    load = busy(record)
    if record["valid"] and load:
        parts.append(_banner("warn", f"! Busy machine: {_checked(record)}, but other programs ran", [load]))
    elif record["valid"]:
        parts.append(_banner("good", f"✓ Valid: {_checked(record)}"))
    else:
        reasons = [*record["invalid_because"], *([load] if load else [])]
        parts.append(_banner("bad", "✗ Not valid: do not rely on these figures", reasons))
    return parts


def _checked(record: Record) -> str:
    """What was looked at and found in order."""
    before = record["device"]["before"]
    can_tell = any(before[name] != "unavailable" for name in ("throttled", "mhz", "arm_clock_mhz"))
    clock = "the clock held" if can_tell else "the machine does not tell of its clock"
    compared = any(row["agreement"] is not None for row in record["rows"])
    return f"{clock}, and {'the rows agree' if compared else 'no two rows were to be compared'}"


def _warnings(record: Record) -> list[str]:
    """What to keep in mind, below the figures that it is about: there may be much of it."""
    found = [reason for reason in record["device"]["throttled_during"] if reason not in record["invalid_because"]]
    found += [f"{row['name']}: {warning['message']}" for row in record["rows"] for warning in row["warnings"]]
    found += map(left_out, record.get("left_out", ()))
    return [_banner("warn", "! To be kept in mind", found)] if found else []


def _banner(class_: str, words: str, reasons: Sequence[str] = ()) -> str:
    items = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    listed = f"<ul>{items}</ul>" if items else ""
    return f'<div class="banner {class_}" role="status"><strong>{escape(words)}</strong>{listed}</div>'


def _record(record: Record, ident: str) -> list[str]:
    rows = record["rows"]
    parts = []
    if rows:
        parts += [_latencies(rows)]
    if len(rows) > 1:
        caption = "Latency over that of the first row"
        parts.append(figure(caption, charts.ratios(rows, f"{ident}-ratio"), _confidence(rows), wide=True))
    parts += _warnings(record)
    if rows:
        parts += [_correctness(rows), _sizes(rows)]
        parts += ["<h3>Histograms</h3>", '<p class="soft">Each has an axis of its own.</p>', '<div class="panels">']
        parts += [
            figure(row["name"], charts.histogram(row, f"{ident}-h{i}"), charts.beyond_histogram(row))
            for i, row in enumerate(rows)
        ]
        parts += ["</div>", "<h3>Latency over time</h3>"]
        parts.append(
            '<p class="soft">Line: median; nine tenths of the turns lie within the band.</p><div class="panels">'
        )
        drawn = [(i, row) for i, row in enumerate(rows) if row["turns_us"]]
        parts += [figure(row["name"], charts.over_turns(row, f"{ident}-t{i}")) for i, row in drawn]
        parts.append("</div>")
    if record["sustained"]:
        parts += _sustained(record["sustained"], [row["name"] for row in rows], ident)
    return [*parts, *_device(record["device"]), *_settings(record)]


def _confidence(rows: Sequence[Mapping[str, Any]]) -> str:
    shares = [row["ratio"]["confidence"] for row in rows if row["ratio"] is not None]
    return f"line: interval at {100 * shares[0]:g} % confidence" if shares else ""


def figure(caption: str, drawn: str, note: str = "", *, wide: bool = False) -> str:
    """A picture with its caption; where it is wide it scrolls on a narrow screen. `drawn` is markup."""
    more = f' <span class="soft">{escape(note)}</span>' if note else ""
    inner = f'<div class="scroll wide">{drawn}</div>' if wide else drawn
    return f"<figure><figcaption>{escape(caption)}{more}</figcaption>{inner}</figure>"


def _time(value_us: float | None, unit: str) -> str:
    return UNKNOWN if value_us is None else significant(value_us * UNITS_OF_TIME[unit])


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else significant(value)


def _count(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _size(value: float | None) -> str:
    return UNKNOWN if value is None else size(value)


def _latencies(rows: Sequence[Mapping[str, Any]]) -> str:
    unit = unit_of_time(row["latency_us"]["median"] for row in rows)
    cold = unit_of_time(row["load_us"] for row in rows if row["load_us"] is not None)
    optional = {"step_us": "step", "call_us": "call from Python"}
    optional = {key: name for key, name in optional.items() if any(row[key] is not None for row in rows)}
    shown = unit_name(unit)
    headings = ["row", *LATENCIES.values(), *optional.values(), "per second"]
    headings += [f"load, {unit_name(cold)}", f"first, {unit_name(cold)}"]
    lines = [
        [
            escape(row["name"]),
            *(cell(_time(row["latency_us"][key], unit)) for key in LATENCIES),
            *(cell(_time(row[key], unit)) for key in optional),
            cell(_count(row["throughput_per_s"])),
            cell(_time(row["load_us"], cold)),
            cell(_time(row["first_us"], cold)),
        ]
        for row in rows
    ]
    return table(f"Latency of one inference, {shown}", headings, lines)


def _correctness(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in rows:
        agreement = row["agreement"]
        accuracy = UNKNOWN if row["accuracy_percent"] is None else f"{row['accuracy_percent']:.2f} %"
        if agreement is None:
            cells = [cell("reference" if row is rows[0] else UNKNOWN), *[cell(UNKNOWN)] * 3]
        else:
            argmax = agreement["argmax_percent"]
            cells = [
                cell("✗ wrong outputs", "wrong") if is_wrong(row) else cell("✓ agrees"),
                cell(_exponent(agreement["max_error"])),
                cell(_exponent(agreement["max_error_over_std"])),
                cell(UNKNOWN if argmax is None else f"{argmax:.2f} %"),
            ]
        lines.append([escape(row["name"]), *cells, cell(accuracy)])
    headings = ["row", "outputs", "largest error", "over standard deviation", "same argmax", "accuracy"]
    return table("Correctness: outputs compared with those of the first row of the same model", headings, lines)


def _exponent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2e}"


def _sizes(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = {
        "file": [_size(row["bytes"]) for row in rows],
        "weights": [_size(row["weight_bytes"]) for row in rows],
        "not zero": [_count(row["nnz"]) for row in rows],
        "MACs": [_count(row["macs"]) for row in rows],
        "memory": [_size(row["rss_growth_bytes"]) for row in rows],
        "arena": [_size(row["arena_bytes"]) for row in rows],
        "GB/s": [_number(row["bytes_per_ns"]) for row in rows],
        "of L2": [_percent(row["share_of_l2"]) for row in rows],
        "of memory": [_percent(row["share_of_memory"]) for row in rows],
        "energy, µJ": [_number(row["energy_uj"]) for row in rows],
    }
    columns = {name: cells for name, cells in columns.items() if set(cells) != {UNKNOWN}}
    lines = [[escape(row["name"]), *(cell(cells[i]) for cells in columns.values())] for i, row in enumerate(rows)]
    return table("Size, memory and bandwidth", ["row", *columns], lines)


def _percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{100 * share:.0f} %"


def _sustained(samples: Sequence[Mapping[str, Any]], names: Sequence[str], ident: str) -> list[str]:
    t_s = np.array([sample["t_s"] for sample in samples], float)
    parts = ["<h3>Sustained</h3>"]
    for index, name in enumerate(names):
        latencies = np.array([sample["latency_us"].get(name, np.nan) for sample in samples], float)
        known = latencies[np.isfinite(latencies)]
        if len(known):
            unit = unit_of_time([float(np.median(known))])
            drawn = charts.over_time(
                t_s, latencies * UNITS_OF_TIME[unit], f"Latency of {name}", unit_name(unit), f"{ident}-s{index}"
            )
            parts.append(figure(name, drawn, f"latency, {unit_name(unit)}", wide=True))
    for key, what, unit in (("mhz", "Clock", "MHz"), ("celsius", "Temperature", "°C")):
        values = np.array([np.nan if sample[key] is None else sample[key] for sample in samples], float)
        if np.isfinite(values).any():
            drawn = charts.over_time(t_s, values, what, unit, f"{ident}-{key}")
            parts.append(figure(what, drawn, unit, wide=True))
    return parts


def _device(device: Mapping[str, Any]) -> list[str]:
    facts = {
        "board": device["model"], "revision": device["revision"], "processor": device["cpu"], "cores": device["cpus"],
        "architecture": f"{device['architecture']}, {device['userland_bits']}-bit programs",
        "memory": size(device["ram_bytes"]) if isinstance(device["ram_bytes"], (int, float)) else device["ram_bytes"],
        "caches": _caches(device["caches"]), "system": device["os"], "kernel": device["kernel"],
        "Python": device["python"], "compiler of the native library": device["compiler"], **device["libraries"],
    }  # fmt: skip
    before, after = device["before"], device["after"]
    names = {
        "governor": "governor", "mhz": "clock, MHz", "arm_clock_mhz": "clock measured by the firmware, MHz",
        "min_mhz": "least clock, MHz", "max_mhz": "greatest clock, MHz", "celsius": "temperature, °C",
        "throttled": "get_throttled", "load": "load", "swap_used_bytes": "swap used, bytes",
    }  # fmt: skip
    lines = [[escape(name), cell(_brief(before.get(key))), cell(_brief(after.get(key)))] for key, name in names.items()]
    return ["<h3>Device</h3>", _facts(facts), table("Before and after the run", ["", "before", "after"], lines)]


def _caches(caches: Any) -> str:
    if not isinstance(caches, Mapping):
        return str(caches)
    return ", ".join(f"{name.upper()} {size(count)}" for name, count in caches.items() if isinstance(count, int))


def _brief(value: Any) -> str:
    """Lists of one value per core shortened to the different ones."""
    if isinstance(value, (list, tuple)):
        return ", ".join(dict.fromkeys(_brief(one) for one in value)) or UNKNOWN
    if isinstance(value, float):
        return significant(value)
    return UNKNOWN if value is None else str(value)


def _facts(facts: Mapping[str, Any]) -> str:
    shown = (
        f"<div><dt>{escape(str(name))}</dt><dd>{escape(_brief(value))}</dd></div>" for name, value in facts.items()
    )
    return f"<dl>{''.join(shown)}</dl>"


def _settings(record: Record) -> list[str]:
    settings, clock, bandwidth = record["settings"], record["clock"], record["bandwidth"]
    facts = {
        "duration": f"{significant(settings['seconds'])} s", "seed": settings["seed"],
        "inputs": f"{settings.get('data') or settings['inputs']}, {settings['n_inputs']}",
        "cores used": "not pinned" if settings["cpus"] is None else f"{_brief(settings['cpus'])}"
        + ("" if settings["cpus_verified"] else " (not verified)"),
        "length of a turn": f"{significant(settings['turn_ns'] / 1000)} µs",
        "resolution of the clock": f"{_brief(clock['resolution_ns'])} ns",
        "reading the clock takes": f"{_brief(clock['timer_ns'])} ns",
        "an empty call takes": f"{_brief(clock['loop_ns'])} ns",
        "bandwidth of L2": _bandwidth(bandwidth["l2_bytes_per_ns"]),
        "bandwidth of memory": _bandwidth(bandwidth["memory_bytes_per_ns"]),
    }  # fmt: skip
    if record["energy"] is not None:
        idle = record["energy"]["idle_watts"]
        facts["meter"] = record["energy"]["meter"]
        facts["power when idle"] = UNKNOWN if idle is None else f"{significant(idle)} W"
    lines = [
        [
            escape(row["name"]),
            cell(row["file"], "words"),
            cell(f"{row['engine']} {row['engine_version']}", "words"),
            cell(_brief(row["kernels"]), "words"),
            *(cell(_count(row[key])) for key in ("threads", "n_samples", "calls_per_sample")),
            f"<td><code>{escape(str(row['sha256'])[:16])}</code></td>",
        ]
        for row in record["rows"]
    ]
    headings = ["row", "file", "engine", "kernels", "threads", "samples", "calls in one", "SHA-256 (start)"]
    command = " ".join(shlex.quote(word) for word in record["command"])
    return [
        "<h3>How it was measured</h3>",
        f"<pre><code>{escape(command)}</code></pre>",
        _facts(facts),
        table("Artifacts and engines", headings, lines),
    ]


def _bandwidth(bytes_per_ns: float | None) -> str:
    return UNKNOWN if bytes_per_ns is None else f"{significant(bytes_per_ns)} GB/s"
