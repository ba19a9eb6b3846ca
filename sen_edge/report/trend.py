"""Parts of a report about a history of benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sen_edge.report import charts
from sen_edge.report.document import UNKNOWN, WRONG, Note, Part, Table
from sen_runtime.bench.history import History
from sen_runtime.bench.record import began_s
from sen_runtime.figures import significant

Entry = Mapping[str, Any]


def brief_parts(history: History) -> list[Part]:
    """Every row of every entry."""
    rows = [
        [
            entry["created"], row["name"],
            *(UNKNOWN if row[key] is None else significant(row[key]) for key in ("low_us", "median_us", "high_us")),
            "valid" if _is_sound(entry) else f"{WRONG} not valid",
        ]
        for entry in sorted(history.entries, key=began_s) for row in entry["rows"]
    ]  # fmt: skip
    return [
        Table("Median latency with its interval", ["created", "row", "low us", "median us", "high us", "record"], rows)
    ]


def page_parts(history: History) -> list[Part]:
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
    changes = _changes(entries)
    names = dict.fromkeys(row["name"] for entry in entries for row in entry["rows"])
    parts += [charts.trend(entries, name, list(changes)) for name in names]
    if changes:
        rows = [[entries[index]["created"], words] for index, words in changes.items()]
        parts.append(Table("Changes of the device", ["since", "difference"], rows, is_text=True))
    return parts


def _is_sound(entry: Entry) -> bool:
    return bool(entry["valid"]) and entry["status"] == "complete"


def _changes(entries: Sequence[Entry]) -> dict[int, str]:
    """Index of each entry whose device is not that of the entry before -> the difference."""
    found = {}
    for index in range(1, len(entries)):
        before, now = entries[index - 1]["device"], entries[index]["device"]
        words = [f"{key}: {before.get(key)} / {now.get(key)}" for key in now if before.get(key) != now.get(key)]
        if words:
            found[index] = "; ".join(words)
    return found
