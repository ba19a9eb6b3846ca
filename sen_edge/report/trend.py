"""How latencies moved from record to record: a page drawn from a history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from typing import Any

from sen_edge.report import records as html
from sen_edge.report import svg
from sen_edge.report.charts import unit_name
from sen_runtime.bench.history import History
from sen_runtime.bench.record import began_s
from sen_runtime.figures import UNITS_OF_TIME, significant, unit_of_time

Entry = Mapping[str, Any]

WIDTH, HEIGHT, LEFT = 1100.0, 190.0, 64.0
DAY_S = 86400.0


def page(history: History) -> str:
    """One chart for each row name: median and interval of every record, by date.

    A dashed line marks where the device is another than in the record before; a hollow mark is a record that is not
    valid, or was interrupted.
    """
    entries = sorted(history.entries, key=began_s)
    body = [f"<p>{escape(note)}</p>" for note in history.notes]
    if not entries:
        return html.page("Benchmark history", [*body, "<p>There is no record yet.</p>"])
    first, last = entries[0], entries[-1]
    body.append(f'<p class="soft">{len(entries)} records, {first["created"]} to {last["created"]}</p>')
    confidence = f"{100 * last['confidence']:g} %"
    legend = f"Dot: median; line: its interval at {confidence} confidence; hollow: not valid or interrupted. "
    body.append(f'<p class="soft">{legend}Dashed: from here on another device, system or kernel.</p>')
    names = dict.fromkeys(row["name"] for entry in entries for row in entry["rows"])
    for index, name in enumerate(names):
        unit = _unit(entries, name)
        drawn = chart(entries, name, f"h{index}")
        body.append(html.figure(name, drawn, f"latency, {unit_name(unit)}", wide=True))
    changes = _changes(entries)
    if changes:
        lines = [[escape(entries[at]["created"]), html.cell(words, "words")] for at, words in changes]
        body.append(html.table("Changes of the device", ["since", "what is different"], lines, "words"))
    return html.page(f"Benchmark history: {last['device']['model']}", body)


def chart(entries: Sequence[Entry], name: str, ident: str) -> str:
    """Median latency of the rows called `name`, by date, as SVG.

    Args:
        entries: at least one with such a row, by time.
        name: of the rows.
        ident: of the element.
    """
    unit = _unit(entries, name)
    points = [(entry, row) for entry in entries for row in entry["rows"] if row["name"] == name]
    bounds = [
        [(row["median_us"] if row[key] is None else row[key]) * UNITS_OF_TIME[unit] for _, row in points]
        for key in ("low_us", "median_us", "high_us")
    ]
    top, bottom = 10.0, HEIGHT - 30
    times = [began_s(entry) for entry in entries]
    across = svg.scale(times, LEFT, WIDTH - 16, margin=0.02, allow_log=False)
    upward = svg.scale([value for bound in bounds for value in bound], bottom, top, margin=0.12)
    parts = [svg.left_axis(upward, LEFT, WIDTH - 16, 4), _dates(across, top, bottom)]
    for at, _ in _changes(entries):
        x = across((times[at - 1] + times[at]) / 2)
        parts.append(svg.line(x, top, x, bottom, "reference"))
    centres = [across(began_s(entry)) for entry, _ in points]
    parts.append(svg.path([*zip(centres, map(upward, bounds[1]), strict=False)], "line thin"))
    for (entry, _), x, low, median, high in zip(points, centres, *bounds, strict=False):
        parts.append(svg.line(x, upward(low), x, upward(high), "whisker"))
        is_sound = entry["valid"] and entry["status"] == "complete"
        parts.append(svg.marker(x, upward(median), 0, "dot" if is_sound else "hollow", 4))
    words = (
        f"from {significant(bounds[1][0])} to {significant(bounds[1][-1])} {unit_name(unit)} in {len(points)} records"
    )
    return svg.picture(WIDTH, HEIGHT, ident, f"History of {name}", words, *parts)


def _unit(entries: Sequence[Entry], name: str) -> str:
    return unit_of_time(row["median_us"] for entry in entries for row in entry["rows"] if row["name"] == name)


def _changes(entries: Sequence[Entry]) -> list[tuple[int, str]]:
    """Indices of entries whose device is another than that of the entry before, and what is different."""
    found = []
    for at in range(1, len(entries)):
        before, now = entries[at - 1]["device"], entries[at]["device"]
        words = [f"{key}: {before.get(key)} / {now.get(key)}" for key in now if before.get(key) != now.get(key)]
        if words:
            found.append((at, "; ".join(words)))
    return found


def _dates(across: svg.Scale, top: float, bottom: float) -> str:
    """Up to seven dates below the chart, with the time of day where all is within some days."""
    form = "%Y-%m-%d" if across.high - across.low > 6 * DAY_S else "%m-%d %H:%M"
    parts, count = [], 7
    for index in range(count):
        at = across.low + (across.high - across.low) * (index + 0.5) / count
        words = datetime.fromtimestamp(at, timezone.utc).strftime(form)
        x = across(at)
        parts += [svg.line(x, top, x, bottom, "grid"), svg.text(x, bottom + svg.LINE_PX + 2, words, "middle", "tick")]
    return "".join(parts)
