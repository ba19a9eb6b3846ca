"""Parts of a report, and their formats: text, Markdown, and HTML pages.

A page is one file that loads nothing, prints, and can be read aloud. All text in it is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sen_edge.display import to_markdown
from sen_edge.report import drawing
from sen_edge.report.drawing import Chart
from sen_exporters.view.page import environment
from sen_runtime.errors import MissingExtraError
from sen_runtime.untrusted import printable

#: In place of an unknown value.
UNKNOWN = "\N{EN DASH}"
#: Start of a cell that is highlighted.
WRONG = "✗"
#: Bytes of a page; parts that do not fit are left out and named.
MAX_BYTES = 5_000_000
#: Replaced by U+FFFD: C0 except tab and newline, DEL, C1, and bidirectional controls.
CONTROLS = dict.fromkeys(
    [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"
)


@dataclass(frozen=True)
class Heading:
    """Title of a section: level 2 is listed at the top of a page."""

    title: str
    level: int = 2


@dataclass(frozen=True)
class Note:
    """A paragraph and a list; every `tone` but "plain" is a banner."""

    text: str
    items: Sequence[str] = ()
    tone: Literal["plain", "good", "warn", "bad"] = "plain"


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows; columns are numbers unless `is_text`."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_text: bool = False

    @classmethod
    def of(cls, caption: str, rows: Sequence[Mapping[str, str]]) -> Table:
        """A table of at least one row, each a text by its heading."""
        return cls(caption, list(rows[0]), [list(row.values()) for row in rows])


@dataclass(frozen=True)
class Verbatim:
    """Preformatted text; collapsed on a page if there is a summary."""

    text: str
    summary: str = ""


Part: TypeAlias = Heading | Note | Table | Verbatim | Chart


def to_lines(parts: Sequence[Part], *, is_markdown: bool) -> str:
    """Write parts as text or Markdown, without charts."""
    return "\n".join(_lines(part, is_markdown=is_markdown) for part in parts)


def _lines(part: Part, *, is_markdown: bool) -> str:
    escape = to_markdown if is_markdown else printable
    match part:
        case Heading():
            return f"{'#' * part.level + ' ' if is_markdown else ''}{escape(part.title)}\n"
        case Note():
            return "\n".join([*filter(None, [escape(part.text)]), *(f"- {escape(item)}" for item in part.items), ""])
        case Table():
            lines = [[escape(cell) for cell in line] for line in (part.headings, *part.rows)]
            if is_markdown:
                rule = ["---", *["---" if part.is_text else "---:"] * (len(part.headings) - 1)]
                return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]]) + "\n"
            widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
            found = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
            return "\n".join([escape(part.caption), *map(str.rstrip, found), ""])
        case Verbatim():
            return part.text
    return ""


def to_page(
    title: str, parts: Sequence[Part], note: Callable[[str], None], template: str = "page.html", **values: object
) -> str:
    """Fill page.html, or a template that extends it and takes `values`; control characters are replaced.

    `note` receives the names of parts that are left out.
    """
    try:
        drawing.check_matplotlib()
    except MissingExtraError as error:
        if any(isinstance(part, Chart) for part in parts):
            note(f"charts are left out: {error.message}; {error.hint}")
            parts = [Note(f"Charts are left out: {error.message}", [error.hint], "warn"), *parts]
        parts = [part for part in parts if not isinstance(part, Chart)]
    links = [part.title for part in parts if isinstance(part, Heading) and part.level == 2]
    filled = environment(__package__).get_template(template)
    return filled.render(title=title, links=links, parts=_elements(parts, note), **values).translate(CONTROLS)


def _elements(parts: Sequence[Part], note: Callable[[str], None]) -> list[str]:
    """HTML of each part, up to `MAX_BYTES`: macros of parts.html are named like the classes."""
    macros: Any = environment(__package__).get_template("parts.html").module
    elements: list[str] = []
    room = MAX_BYTES
    for index, part in enumerate(parts):
        drawn = [drawing.to_svg(part, f"c{index}")] if isinstance(part, Chart) else []
        element = getattr(macros, type(part).__name__)(part, *drawn)
        if len(element) > room:
            names = [getattr(part, field, "") for field in ("caption", "summary", "title")]
            name = next(filter(None, names), type(part).__name__.lower())
            sentence = f"{name} is left out: a page takes at most {MAX_BYTES / 1e6:g} MB"
            note(sentence)
            element = macros.Note(Note(sentence, tone="warn"))
        room -= len(element)
        elements.append(element)
    return elements
