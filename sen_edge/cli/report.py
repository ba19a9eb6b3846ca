"""`sen-edge report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sen_edge.cli import console
from sen_edge.errors import UsageError


def report(
    folder: Annotated[
        Path, typer.Argument(help="Folder of models, exports, manifests and records.", metavar="RUN_DIR")
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page, .html.")] = Path("report.html"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write one page about a folder: its models, compression, verification, benchmarks, and manifests.

    The page needs no network. It reports on what lies in the folder, and runs nothing.
    """
    from sen_edge.export.overwrite import put_in_place, refuse_existing
    from sen_edge.report.folder import read_folder
    from sen_edge.report.page import page

    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{output}: the ending is {output.suffix!r}; expected .html")
    refuse_existing(output.parent, [output.name], force=force)
    with console.interruptible():
        found = read_folder(folder)
        for line in found.notes:
            console.note(line)
        text = page(found, console.note)
        put_in_place(output.parent, {output.name: text.encode(errors="replace")}, force=force)  # names may be no text
    console.print_lines([output])
