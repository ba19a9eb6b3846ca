"""`sen-edge export`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sen_edge.cli import arguments, compression, console, mapping
from sen_edge.cli.exporter_options import parse_assignments
from sen_edge.cli.options import command
from sen_edge.exporting.request import ExportRequest
from sen_runtime.figures import size
from sen_runtime.streams import suppress_announcements

if TYPE_CHECKING:
    from sen_edge.exporting.manifest import ExportResult


@command
def export(
    ctx: typer.Context,
    model: arguments.ModelPath,
    request: ExportRequest,
    *,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Folder for the files.", metavar="DIR")
    ] = Path(),
    assignments: Annotated[
        list[str] | None,
        typer.Option("-O", help="Option of one target, such as onnx.opset=17.", metavar="TARGET.OPTION=VALUE"),
    ] = None,
    as_json: arguments.AsJson = False,
) -> None:
    """Export a model, verify every file against it, and write the files and a manifest."""
    from sen_edge.exporting.pipeline import export as run_export
    from sen_edge.model.model import load

    request = replace(request, options={**ctx.obj, **parse_assignments(assignments)})
    with console.interruptible(), console.progress() as progress, suppress_announcements():
        result = run_export(load(model, map_path=request.map_path), output_dir, request, progress=progress)
    if as_json:
        console.print_json(result.manifest)
    else:
        _print(result, model, request.map_path)


def _on_data(result: ExportResult) -> str:
    """Describe the data of the accuracies."""
    figures = [found["data"] for each in result.manifest["artifacts"] for found in each["verification"]]
    return next((f", accuracies on {found['name']}" for found in figures if found is not None), "")


def _print(result: ExportResult, model: Path, map_path: Path | None) -> None:
    err = console.console(stderr=True)
    if result.manifest["compression"] is not None:
        compression.print_figures(f"{model.name}: compressed", result.manifest["compression"])
    quantization = result.manifest["quantization"]
    if quantization is not None:
        headings = ("layer", "rms error of the weights", "rms error of the output")
        errors = [
            (str(each["layer"]), f"{each['weights']:.2%}", "-" if each["output"] is None else f"{each['output']:.2%}")
            for each in quantization["layers"]
        ]
        calibration = quantization["calibration"]
        source = (
            "no calibration" if calibration is None else f"{calibration['samples']} inputs of {calibration['data']}"
        )
        err.print(console.table(f"int8 ({source})", headings, errors))
    rows = [row for artifact in result.artifacts for row in _rows(artifact)]
    columns = (
        "file",
        "size",
        "max error / std",
        "rounding",
        "argmax",
        "spikes",
        "accuracy (model)",
        "verified in",
    )
    used = [i for i in range(len(columns)) if any(row[i] != "-" for row in rows)]
    kept = [[row[i] for i in used] for row in rows]
    origin = result.manifest["input"]
    mapped_by = "" if origin["map"] is None or origin["expect"] else f" as {origin['map']['file']} maps it"
    title = f"{model.name}: exported and verified{mapped_by}{_on_data(result)}"
    err.print(console.table(title, [columns[i] for i in used], kept))
    mapping.note(origin)
    for artifact in result.artifacts:
        if artifact["footprint"] is not None:
            takes = " and ".join(f"{size(nbytes)} of {kind}" for kind, nbytes in artifact["footprint"].items())
            console.note(f"{next(iter(artifact['files']))} takes {takes}")
        for engine, reason in artifact["not_run_in"].items():
            console.note(f"{next(iter(artifact['files']))} was not run in {engine}: {reason}")
    dtypes = dict.fromkeys(layer["dtype"] for layer in result.manifest["network"]["layers"])
    is_stored = result.manifest["request"]["dtype"] == "float32" and result.manifest["compression"] is None
    if is_stored and list(dtypes) != ["float32"]:
        console.note(f"weights are exported as {model.name} stores them: {', '.join(dtypes)}")
    for target, reason in result.manifest["left_out"].items():
        console.note(f"skipped: {target} ({reason})")
    console.print_lines(result.files)
    first = next(iter(result.files))
    if result.manifest["compression"] is not None:
        return  # the files agree with the compressed network, not with the model
    mapped = [] if map_path is None else ["--map", str(map_path)]
    line = shlex.join(["sen-edge", "verify", str(first), "--against", str(model), *mapped])
    console.note(f"next: {line} --data DATA")


def _rows(artifact: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Format one row per engine of an artifact: its first file, and the size of all its files."""
    rows: list[tuple[str, ...]] = []
    name = next(iter(artifact["files"]))
    nbytes = sum(facts["bytes"] for facts in artifact["files"].values())
    for index, figures in enumerate(artifact["verification"]):
        data, spikes, rounding = figures["data"], figures["spike_agreement"], figures["rounding_error"]
        unit = figures["tolerance"]["rounding_unit"]
        rows.append(
            (
                name if index == 0 else "",
                size(nbytes) if index == 0 else "",
                f"{figures['max_rel_error']:.2g}",
                "-" if rounding is None else f"{rounding:.2g} {unit}",
                f"{figures['argmax_agreement']:.2%}",
                "-" if spikes is None else f"{spikes:.3%}",
                "-" if data is None else f"{data['artifact']:.2f} % ({data['model']:.2f} %)",
                figures["engine"],
            )
        )
    return rows
