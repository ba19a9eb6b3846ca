"""`sen-edge report`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from sen_edge.cli import console, options
from sen_edge.errors import UsageError
from sen_edge.schema import Option, Schema


@dataclass(frozen=True)
class ReportRequest(Schema):
    """Sources, file and format of a report."""

    sources: Annotated[
        tuple[Path, ...],
        Option(
            "Records, histories (.jsonl), models, manifests, or folders of them.",
            metavar="SOURCE...", is_argument=True, is_repeated=True,
        ),
    ]  # fmt: skip
    output: Annotated[
        Path | None,
        Option("Output: .txt, .csv, .md, .html; .png, .svg or .pdf for charts. Default: stdout.", short="-o"),
    ] = None
    format: Annotated[
        Literal["text", "csv", "markdown", "html"] | None, Option("Format. Default: by suffix, else text.")
    ] = None


@options.command
def report(request: ReportRequest, *, force: options.Force = False) -> None:
    """Report on benchmarks, models, exports and compressions as tables or one page.

    The page has no external resources. No model is run.
    """
    from sen_edge.overwrite import refuse_existing, write_outputs
    from sen_edge.report.contents import read
    from sen_edge.report.report import FORMATS, render

    output = request.output
    name: str = request.format or "text"
    if output is not None:
        name = request.format or FORMATS.get(output.suffix.lower(), "")
        if not name:
            raise UsageError(f"{output}: the suffix is {output.suffix!r}; expected {', '.join(FORMATS)}, or --format")
        refuse_existing(output.parent, [output.name], force=force)
    with console.interruptible():
        content = render(read(request.sources), name, console.note)
        if output is None:
            sys.stdout.write(content.decode())
            return
        write_outputs(output.parent, {output.name: content}, force=force)
    console.print_lines([output])
