"""Formats of a report: text, Markdown, CSV, a page, a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sen_edge.errors import UsageError
from sen_edge.report import drawing, outline, records, spreadsheet
from sen_edge.report.contents import Contents
from sen_edge.report.document import Chart, Heading, Note, Part, Table, Verbatim
from sen_edge.report.page import page
from sen_edge.report.records import Record
from sen_runtime.bench import text
from sen_runtime.untrusted import printable

#: Suffix of a file -> its format.
FORMATS = {".txt": "text", ".csv": "csv", ".md": "markdown", ".html": "html"} | {
    suffix: suffix[1:] for suffix in drawing.PICTURES
}
#: Characters with a meaning in Markdown.
MARKS = "\\`*_[]<>|&"


def render(contents: Contents, format_name: str, note: Callable[[str], None]) -> bytes:
    """Write a report.

    Args:
        contents: contents of the sources.
        format_name: one of the values of `FORMATS`.
        note: receives the names of damaged files and of parts that are left out.

    Raises:
        UsageError: the contents have nothing for this format.
        MissingExtraError: a picture without matplotlib.
    """
    for line in contents.notes:
        note(line)
    if format_name in ("text", "markdown"):
        is_markdown = format_name == "markdown"
        parts = outline.brief_parts(contents, note, records.brief_parts if is_markdown else _record_as_text)
        shown = "\n".join(_brief(part, is_markdown=is_markdown) for part in parts)
    elif format_name == "csv":
        shown = _csv(contents)
    else:
        parts, title = outline.page_parts(contents, note), outline.title(contents)
        if format_name != "html":
            return _picture(parts, title, format_name)
        shown = page(title, parts, note)
    return shown.encode(errors="replace")  # names of files may be no text


def _record_as_text(record: Record) -> list[Part]:
    return [Verbatim(text.table(record).rstrip())]


def _csv(contents: Contents) -> str:
    if found := contents.of("record"):
        return spreadsheet.from_records({item.name: item.value for item in found})
    if found := contents.of("history"):
        return spreadsheet.from_histories({item.name: item.value for item in found})
    raise UsageError("there is no record to write as CSV", hint="expected a record, a history, or another format")


def _picture(parts: Sequence[Part], title: str, format_name: str) -> bytes:
    charts = [part for part in parts if isinstance(part, Chart)]
    if not charts:
        raise UsageError("there is nothing to draw", hint="expected a record, a history, or a model with positions")
    return drawing.to_file(charts, title, "", f".{format_name}")


def _brief(part: Part, *, is_markdown: bool) -> str:
    """A part as text or Markdown; nothing for a chart."""
    escape = _escape if is_markdown else printable
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


def _escape(text: str) -> str:
    """One line of Markdown that shows the text and no markup."""
    codes = {ord(mark): f"&#{ord(mark)};" if mark in "<>|&" else f"\\{mark}" for mark in MARKS}
    return printable(text).translate(codes)
