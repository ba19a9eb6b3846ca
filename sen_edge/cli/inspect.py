"""`sen-edge inspect`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sen_edge.cli import console, options, tables
from sen_runtime.untrusted import printable

#: Max characters of a metadata value.
MAX_TEXT = 500


def inspect(
    model: options.ModelPath,
    *,
    map_path: options.MapPath = None,
    expect: Annotated[
        Path | None,
        typer.Option(
            help="Inputs x and outputs y (and layer0, layer1, ...) of your own model (.npz); exit code 3 on a "
            "difference.",
            metavar="FILE",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show layers, parameters, form and size of the weights, and distances of a model."""
    from sen_edge.exporting.verify.expectation import check
    from sen_edge.model.model import load
    from sen_edge.model.parameters import map_note
    from sen_edge.model.statistics import summarize
    from sen_edge.report.tables import facts, layer_tables

    loaded = load(model, map_path=map_path)
    agreement = None if expect is None else check(loaded, expect, model.name)
    summary = summarize(loaded)
    described = map_note(loaded.applied_map, agreement)
    if as_json:
        console.print_json({**asdict(summary), **described})
        return
    out = console.console(stderr=False)
    for table in layer_tables(summary):
        out.print(console.table(f"{model.name}: {table.caption}", table.headings, table.rows))
    console.print_lines(f"{printable(name, 40):<15} {printable(value, MAX_TEXT)}" for name, value in facts(summary))
    console.print_lines(tables.map_lines(described))
