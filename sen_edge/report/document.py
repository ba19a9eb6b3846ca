"""Parts of a report, independent of its format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

#: In place of an unknown value.
UNKNOWN = "\N{EN DASH}"
#: Start of a cell that is highlighted.
WRONG = "✗"


@dataclass(frozen=True)
class Heading:
    """Title of a section: level 2 is listed at the top of a page."""

    kind: ClassVar = "heading"
    title: str
    level: int = 2


@dataclass(frozen=True)
class Note:
    """A paragraph and a list; every `tone` but "plain" is a banner."""

    kind: ClassVar = "note"
    text: str
    items: Sequence[str] = ()
    tone: Literal["plain", "good", "warn", "bad"] = "plain"


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows; columns are numbers unless `is_text`."""

    kind: ClassVar = "table"
    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_text: bool = False


@dataclass(frozen=True)
class Verbatim:
    """Preformatted text; collapsed on a page if there is a summary."""

    kind: ClassVar = "verbatim"
    text: str
    summary: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart for pages and picture files.

    Attributes:
        caption: heading of the figure or table.
        draw: draws it on axes of matplotlib.
        size: width and height in inches.
        note: explanation below it.
        description: its main figures in words, for screen readers.
    """

    kind: ClassVar = "chart"
    caption: str
    draw: Callable[[Any], None]
    size: tuple[float, float] = (3.5, 1.9)
    note: str = ""
    description: str = ""


Part: TypeAlias = Heading | Note | Table | Verbatim | Chart
