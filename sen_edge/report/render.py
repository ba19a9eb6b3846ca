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
        contents: what it is about.
        format_name: one of the values of `FORMATS`.
        note: receives the names of damaged files and of parts that are left out.

    Raises:
        UsageError: the contents have nothing for this format.
        MissingExtraError: a picture without matplotlib.
    """
    for line in contents.notes:
        note(line)
    if format_name in ("text", "markdown"):
        is_text = format_name == "text"
        parts = outline.brief_parts(contents, note, _record_as_text if is_text else records.brief_parts)
        shown = "\n".join(map(_text if is_text else _markdown, parts))
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


def _text(part: Part) -> str:
    match part:
        case Table():
            lines = [[printable(text) for text in line] for line in (part.headings, *part.rows)]
            widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
            found = [
                "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
            ]
            return "\n".join([printable(part.caption), *found, ""])
        case Heading():
            return printable(part.title) + "\n"
        case Note():
            return "\n".join(
                [*filter(None, [printable(part.text)]), *(f"- {printable(each)}" for each in part.items), ""]
            )
        case Verbatim():
            return part.text
    return ""


def _markdown(part: Part) -> str:
    match part:
        case Table():
            lines = [f"| {' | '.join(map(_escape, line))} |" for line in (part.headings, *part.rows)]
            rule = (
                f"|{' --- |' * len(part.headings)}"
                if part.is_text
                else f"| --- |{' ---: |' * (len(part.headings) - 1)}"
            )
            return "\n".join([lines[0], rule, *lines[1:], ""])
        case Heading():
            return f"{'#' * part.level} {_escape(part.title)}\n"
        case Note():
            return "\n".join([*filter(None, [_escape(part.text)]), *(f"- {_escape(each)}" for each in part.items), ""])
    return ""


def _escape(text: str) -> str:
    """One line of Markdown that shows the text and no markup."""
    codes = {ord(mark): f"&#{ord(mark)};" if mark in "<>|&" else f"\\{mark}" for mark in MARKS}
    return printable(text).translate(codes)
