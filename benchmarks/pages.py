"""Sections of pages that benchmarks write: lines between `<!-- NAME: start -->` and `<!-- NAME: end -->`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def replace_section(page: str, name: str, lines: Sequence[str]) -> str:
    """Return the page with other lines in a section; a `SystemExit` if it lacks the section."""
    start, end = f"<!-- {name}: start -->", f"<!-- {name}: end -->"
    before, found_start, rest = page.partition(start)
    _, found_end, after = rest.partition(end)
    if not (found_start and found_end):
        raise SystemExit(f"the page lacks the marks {start} ... {end}")
    return "\n".join([before + start, "", *lines, "", end + after])


def write_section(path: Path, lines: Sequence[str], name: str = "measured") -> None:
    """Replace a section of a page."""
    page = path.read_text(encoding="utf-8")
    path.write_text(replace_section(page, name, lines), encoding="utf-8")
