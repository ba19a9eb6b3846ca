"""`sen-edge export`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sen_edge.cli import console
from sen_edge.errors import UsageError

if TYPE_CHECKING:
    from sen_edge.export import ExportResult


def export(
    model: Annotated[Path, typer.Argument(help="Checkpoint, .pt or .safetensors.", metavar="MODEL")],
    *,
    to: Annotated[str, typer.Option(help="Targets, separated by commas: onnx, sen.")] = "onnx",
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder for the files.")] = Path(),
    name: Annotated[str | None, typer.Option(help="Stem of the files; the checkpoint's by default.")] = None,
    weights: Annotated[
        str, typer.Option(help="dense (computed now) or coordinates (computed by the engine at load).")
    ] = "dense",
    dtype: Annotated[str, typer.Option(help="Storage of the weights: float32 or float16.")] = "float32",
    opset: Annotated[int, typer.Option(help="ONNX operator set, 13 or newer.")] = 17,
    batch_size: Annotated[str, typer.Option(help="A number, or dynamic.")] = "dynamic",
    snn: Annotated[
        str, typer.Option(help="ONNX form of a spiking network: unrolled, scan, or step (membranes in and out).")
    ] = "unrolled",
    sparse_format: Annotated[
        str, typer.Option(help="ONNX storage of sparse weights: initializer (small file) or dense.")
    ] = "initializer",
    map_path: Annotated[
        Path | None, typer.Option("--map", help="TOML map of a foreign state dict.", metavar="FILE")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Compare accuracies on this data: mnist, digits or a .npz.", metavar="DATA")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data set's files.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON on stdout.")] = False,
) -> None:
    """Export a checkpoint, verify every file against it, and put the files and their manifest in place."""
    from sen_edge.cli.verify import load_data
    from sen_edge.export import ExportRequest
    from sen_edge.export import export as run_export
    from sen_exporters.base import ExportOptions

    request = ExportRequest(
        targets=tuple(filter(None, (target.strip() for target in to.split(",")))),
        weights=weights,
        dtype=dtype,
        options=ExportOptions(
            name=_stem(name, model),
            opset=opset,
            batch_size=_batch_size(batch_size),
            snn=snn,
            sparse_format=sparse_format,
        ),
    )
    labelled = None if data is None else partial(load_data, data, data_dir)
    result = run_export(model, output_dir, request, map_path=map_path, data=labelled, force=force)
    if as_json:
        console.print_json(result.manifest)
    else:
        _print(result, model)


def _stem(name: str | None, model: Path) -> str:
    stem = model.stem if name is None else name
    if not stem or stem != Path(stem).name or stem.startswith("."):
        raise UsageError(f"--name is {stem!r}; expected a file name without folders")
    return stem


def _batch_size(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--batch-size is {text!r}; expected a number >= 1, or dynamic")
    return int(text)


def _print(result: ExportResult, model: Path) -> None:
    sizes = {path.name: n_bytes for path, n_bytes in result.files.items()}
    rows = [row for artifact in result.manifest["artifacts"] for row in _rows(artifact, sizes)]
    headings = ("file", "size", "max error / std", "argmax", "spikes", "accuracy (checkpoint)", "verified in")
    console.console(stderr=True).print(console.table(f"{model.name}: exported and verified", headings, rows))
    console.print_lines(result.files)
    first = next(iter(result.files))
    console.note(f"next: {shlex.join(['sen-edge', 'verify', str(first), '--against', str(model)])} --data DATA")


def _rows(artifact: Mapping[str, Any], sizes: Mapping[str, int]) -> list[tuple[str, ...]]:
    figures = artifact["verification"]
    data, spikes = figures["data"], figures["spike_agreement"]
    return [
        (
            name,
            console.size(sizes[name]),
            f"{figures['max_rel_error']:.2g}",
            f"{figures['argmax_agreement']:.2%}",
            "-" if spikes is None else f"{spikes:.3%}",
            "-" if data is None else f"{data['artifact']:.2f} % ({data['checkpoint']:.2f} %)",
            figures["engine"],
        )
        for name in artifact["files"]
    ]
