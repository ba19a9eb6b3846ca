"""`sen-edge report`."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from sen_edge.cli import console
from sen_edge.errors import UsageError


class Format(str, Enum):
    """Formats of a report."""

    TEXT = "text"
    CSV = "csv"
    MARKDOWN = "markdown"
    HTML = "html"


SUFFIXES = {
    ".txt": Format.TEXT, ".csv": Format.CSV, ".md": Format.MARKDOWN, ".html": Format.HTML, ".htm": Format.HTML,
}  # fmt: skip


def report(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Records, histories (.jsonl), or folders of models, manifests and records.", metavar="SOURCE..."
        ),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File: .txt, .csv, .md, .html; .png, .svg or .pdf for the charts alone. Default: stdout.",
        ),
    ] = None,
    format: Annotated[  # noqa: A002
        Format | None, typer.Option("--format", help="Default: that of the file's suffix, or text.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Report on benchmarks, and on models, exports and compressions of a folder: tables or one page.

    The page needs no network. Nothing is run.
    """
    from sen_edge.overwrite import refuse_existing, write_outputs
    from sen_edge.report.contents import read
    from sen_edge.report.render import FORMATS, render

    name = "text" if format is None else format.value
    if output is not None:
        if format is None:
            name = FORMATS.get(output.suffix.lower(), "")
        if not name:
            raise UsageError(f"{output}: the suffix is {output.suffix!r}; expected {', '.join(FORMATS)}, or --format")
        refuse_existing(output.parent, [output.name], force=force)
    with console.interruptible():
        content = render(read(sources), name, console.note)
        if output is None:
            sys.stdout.write(content.decode())
            return
        write_outputs(output.parent, {output.name: content}, force=force)
    console.print_lines([output])
