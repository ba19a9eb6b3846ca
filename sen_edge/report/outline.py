"""The parts of a report, section by section."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import sen_edge
from sen_edge.report import artifacts, records, trend
from sen_edge.report.contents import Contents, Item
from sen_edge.report.document import Heading, Note, Part
from sen_edge.report.records import Record
from sen_runtime.untrusted import printable

T = TypeVar("T")
#: Errors of reading a manifest that somebody has edited.
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration, ZeroDivisionError)


def title(contents: Contents) -> str:
    """Title of a page."""
    return f"Report: {', '.join(path.resolve().name for path in contents.paths)}"


def page_parts(contents: Contents, note: Callable[[str], None]) -> list[Part]:
    """All sections of a page, which starts with the notes; `note` receives the names of damaged files as well."""
    notes = list(contents.notes)

    def say(line: str) -> None:
        notes.append(line)
        note(line)

    compressions = [*contents.of("compression"), *_compressions_of_exports(contents)]
    found = {item.name: item.value for item in contents.of("record")}
    sections = {
        "Models": artifacts.model_parts(contents.of("model")),
        "Compression": _each(compressions, artifacts.compression_parts, say),
        "Exports and their verification": artifacts.export_parts(
            _each(contents.of("export"), artifacts.export_rows, say)
        ),
        "Benchmarks": [
            *(records.side_by_side(found) if len(found) > 1 else []),
            *(part for name, record in found.items() for part in [Heading(name, 3), *records.page_parts(record)]),
        ],
        "History": [
            part for item in contents.of("history") for part in [Heading(item.name, 3), *trend.page_parts(item.value)]
        ],
        "Files": artifacts.file_parts(contents.items) if any(path.is_dir() for path in contents.paths) else [],
    }
    parts: list[Part] = [
        Note(f"sen-edge {sen_edge.__version__}"),
        *([Note("! Left out", notes, "warn")] if notes else []),
    ]
    for heading, section in sections.items():
        parts += [Heading(heading), *section] if section else []
    return parts


def brief_parts(
    contents: Contents, note: Callable[[str], None], record_parts: Callable[[Record], list[Part]]
) -> list[Part]:
    """The tables without files and charts; `record_parts` makes those of a record."""
    parts = artifacts.model_parts(contents.of("model"))[:1]
    parts += _each(contents.of("compression"), artifacts.compression_parts, note)
    parts += artifacts.export_parts(_each(contents.of("export"), artifacts.export_rows, note))
    is_alone = len(contents.items) == 1
    for item in contents.of("record"):
        parts += [*([] if is_alone else [Heading(item.name)]), *record_parts(item.value)]
    for item in contents.of("history"):
        parts += [*([] if is_alone else [Heading(item.name)]), *trend.brief_parts(item.value)]
    return parts


def _compressions_of_exports(contents: Contents) -> list[Item]:
    found = [(item, item.value.get("compression")) for item in contents.of("export")]
    return [Item(item.name, item.path, "compression", value) for item, value in found if value and "before" in value]


def _each(items: Sequence[Item], make: Callable[[Item], list[T]], note: Callable[[str], None]) -> list[T]:
    """Apply `make` to each item; damaged ones are noted and left out."""
    made: list[T] = []
    for item in items:
        try:
            made += make(item)
        except DAMAGE as error:
            note(f"{item.name} is damaged, and left out: {type(error).__name__}: {printable(str(error), 200)}")
    return made
