"""Data and tables of compression, for `compress` and `export`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sen_edge.cli import console
from sen_runtime.figures import size

if TYPE_CHECKING:
    from sen_edge.compression.request import CompressRequest
    from sen_edge.data.calibration import Calibration
    from sen_edge.data.datasets import Dataset
    from sen_edge.model.model import Model
    from sen_runtime.ir.network import Network


def transform_of(
    request: CompressRequest,
    calibration: str | None,
    data: str | None,
    data_dir: Path | None,
    progress: Callable[[str, float], None],
) -> Callable[[Model], tuple[Network, dict[str, Any]]] | None:
    """Compression on the way to an export; None for a request of none."""
    if request.task is None:
        return None

    def transform(model: Model) -> tuple[Network, dict[str, Any]]:
        from sen_edge.compression.pipeline import compress

        inputs, dataset = load_inputs(model, calibration, data, data_dir)
        result = compress(model, request, calibration=inputs, dataset=dataset, progress=progress)
        return result.network, dict(result.figures)

    return transform


def load_inputs(
    model: Model, calibration: str | None, data: str | None, data_dir: Path | None
) -> tuple[Calibration | None, Dataset | None]:
    """The inputs and the labelled data that options name."""
    from sen_edge.compression.pipeline import max_inputs
    from sen_edge.data.calibration import load_calibration
    from sen_edge.data.datasets import load

    network = model.network
    inputs = None if calibration is None else load_calibration(calibration, data_dir, network, max_inputs(network))
    dataset = None if data is None else load(data, data_dir, spikes=network.input_coding == "spikes")
    return inputs, dataset


def print_figures(title: str, figures: Mapping[str, Any]) -> None:
    """Tables of what compression did, and its warnings, on stderr."""
    from sen_edge.report.model_tables import compression_table, weights_table

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
