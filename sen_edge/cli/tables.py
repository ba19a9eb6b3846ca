"""Printed results that several commands have: figures of a compression, and of a foreign checkpoint's map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sen_edge.cli import console
from sen_runtime.figures import size
from sen_runtime.untrusted import listing

PAGE = "docs/how-to/foreign-checkpoints.md"


def print_compression(title: str, figures: Mapping[str, Any]) -> None:
    """Print tables and warnings of a compression to stderr."""
    from sen_edge.report.tables import compression_table, weights_table

    err = console.console(stderr=True)
    if "search" in figures:
        err.print(_search_table(figures["search"]))
    for table in (weights_table(title, figures["layers"]), compression_table("before and after", figures)):
        err.print(console.table(table.caption, table.headings, table.rows))
    for warning in figures["warnings"]:
        console.warn(warning)


def _search_table(search: Mapping[str, Any]) -> Any:
    from sen_runtime.task import Metric

    rows, metric = [], Metric(search["metric"], search["unit"])
    for each in [search["original"], *search["candidates"]]:
        what = f"{'; '.join(each['layers'])}, {each['dtype']}" + (f", {each['epochs']} epochs" * bool(each["epochs"]))
        latency = "-" if each["latency_us"] is None else f"{each['latency_us']:.2f} us"
        if each["instructions"] is not None:
            latency = f"{each['instructions']:,.0f} instructions"
        score, drop = metric.text(each["score"]), metric.change_text(each["drop"])
        chosen = "*" if each == search["chosen"] else ""
        flash = "-" if each["flash"] is None else size(each["flash"])
        rows.append((what, f"{each['macs']:,}", size(each["bytes"]), flash, latency, score, drop, chosen))
    headings = ("candidate", "MACs", "size", "C flash", "latency", metric.name, "drop", "chosen")
    return console.table(f"candidates on {search['held_out']} held-out examples", headings, rows)


def map_lines(described: Mapping[str, Any]) -> list[str]:
    """Return lines about `sen_edge.model.parameters.map_note`: unused entries, assumed constants, compared outputs."""
    applied, agreement = described["map"], described["expect"]
    found = []
    if applied is not None:
        values = {name: f"{each:g}" if isinstance(each, float) else each for name, each in applied["assumed"].items()}
        assumed = ", ".join(f"{name} {value}" for name, value in values.items())
        found.append(f"unused entries  {listing(applied['unused'])}")
        found.append(f"assumed         {assumed or 'nothing'} (constants that {applied['file']} does not state)")
    if agreement is not None:
        errors = [f"layer {each['layer']} {each['max_rel_error']:.2g}" for each in agreement["layers"][:-1]]
        errors.append(f"output {agreement['layers'][-1]['max_rel_error']:.2g}")
        found.append(
            f"checked         agrees with {agreement['file']} on {agreement['inputs']} inputs; "
            f"max error / std: {', '.join(errors)}"
        )
    elif applied is not None:
        found.append(
            f"not checked     this is the model as {applied['file']} maps it; whether it is yours, only its outputs "
            f"tell: --expect FILE.npz ({PAGE})"
        )
    return found


def note_map(described: Mapping[str, Any]) -> None:
    """Write `map_lines` to stderr."""
    for line in map_lines(described):
        console.note(line)
