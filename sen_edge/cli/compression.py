"""Tables of compression, for `compress` and `export`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sen_edge.cli import console
from sen_runtime.figures import size


def print_figures(title: str, figures: Mapping[str, Any]) -> None:
    """Print tables and warnings of a compression to stderr."""
    from sen_edge.report.tables import compression_table, weights_table

    err = console.console(stderr=True)
    if "search" in figures:
        err.print(_search_table(figures["search"]))
    for table in (weights_table(title, figures["layers"]), compression_table("before and after", figures)):
        err.print(console.table(table.caption, table.headings, table.rows))
    for warning in figures["warnings"]:
        console.note(f"warning: {warning}")


def _search_table(search: Mapping[str, Any]) -> Any:
    rows = []
    for each in [search["original"], *search["candidates"]]:
        what = f"{'; '.join(each['layers'])}, {each['dtype']}" + (f", {each['epochs']} epochs" * bool(each["epochs"]))
        latency = "-" if each["latency_us"] is None else f"{each['latency_us']:.2f} us"
        accuracy = f"{each['accuracy']:.2f} %"
        chosen = "*" if each == search["chosen"] else ""
        rows.append((what, f"{each['macs']:,}", size(each["bytes"]), latency, accuracy, f"{each['drop']:.2f}", chosen))
    headings = ("candidate", "MACs", "size", "latency", "accuracy", "drop", "chosen")
    title = f"candidates on {search['held_out']} held-out examples"
    return console.table(title, headings, rows)
