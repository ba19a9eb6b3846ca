"""A report in one of its formats."""

from __future__ import annotations

from collections.abc import Callable

from sen_edge.errors import UsageError
from sen_edge.report import records, tables, trend
from sen_edge.report.contents import Contents
from sen_edge.report.page import page
from sen_runtime.bench import text


def render(contents: Contents, format_name: str, note: Callable[[str], None]) -> str:
    """Write a report: "text", "csv", "markdown" or "html"; `note` receives what is left out.

    Raises:
        UsageError: a table of contents without a record.
    """
    for line in contents.notes:
        note(line)
    found = {item.name: item.value for item in contents.of("record")}
    if format_name == "html":
        if len(contents.items) == 1 and contents.items[0].kind == "history":
            return trend.page(contents.items[0].value)
        if len(contents.items) == len(found):
            return records.report(list(found.values()))
        return page(contents, contents.items[0].path.resolve().parent.name, note)
    if not found:
        raise UsageError(f"{format_name} holds rows of records; there is none", hint="expected --format html")
    if format_name == "csv":
        return tables.csv(found)
    show, title = (text.table, "{}\n") if format_name == "text" else (tables.markdown, "## {}\n\n")
    titles = [title.format(name) if len(found) > 1 else "" for name in found]
    return "\n".join(title + show(record) for title, record in zip(titles, found.values(), strict=True))
