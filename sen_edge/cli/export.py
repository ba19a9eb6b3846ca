"""`sen-edge export`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sen_edge.cli import console, options, tables
from sen_edge.errors import UsageError
from sen_edge.exporting.request import ExportRequest
from sen_runtime.figures import size
from sen_runtime.streams import suppress_announcements
from sen_runtime.untrusted import quote

if TYPE_CHECKING:
    from rich.table import Table

    from sen_edge.exporting.manifest import ExportResult

SCORE = "score (model)"
COLUMNS = ("file", "size", "max error / std", "rounding", "equal decisions", "spikes", SCORE, "verified in")
#: Notes on `preprocess` in a manifest.
INPUTS = {
    "fold": "inputs are raw: their standardization is in the weights",
    "node": "inputs are raw: the files standardize them",
    "none": "standardize inputs first: (x - mean) / std with input_mean and input_std of the metadata",
}


@options.command
def export(
    ctx: typer.Context,
    model: options.ModelPath,
    request: ExportRequest,
    *,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Folder for the files.", metavar="DIR")
    ] = Path(),
    assignments: Annotated[
        list[str] | None,
        typer.Option("-O", help="Option of one target, such as onnx.opset=17.", metavar="TARGET.OPTION=VALUE"),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Export a model, verify every file against it, and write the files and a manifest."""
    from sen_edge.exporting.pipeline import export as run_export
    from sen_edge.model.model import load

    request = replace(request, options={**ctx.obj, **_parse(assignments or ())})
    with console.interruptible(), console.progress() as progress, suppress_announcements():
        result = run_export(load(model, map_path=request.map_path), output_dir, request, progress=progress)
    if as_json:
        console.print_json(result.manifest)
    else:
        _print(result, model, request.map_path)


def _parse(assignments: Iterable[str]) -> dict[str, str]:
    """Return the values of `-O TARGET.NAME=VALUE` by `TARGET.NAME`.

    Raises:
        UsageError: invalid format.
    """
    found = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or "." not in key:
            raise UsageError(f"-O is {quote(text)}; expected TARGET.OPTION=VALUE, such as onnx.opset=17")
        found[key] = value
    return found


def _print(result: ExportResult, model: Path, map_path: Path | None) -> None:
    err, manifest = console.console(stderr=True), result.manifest
    compression, origin = manifest["compression"], manifest["input"]
    if compression is not None:
        tables.print_compression(f"{model.name}: compressed", compression)
    if manifest["quantization"] is not None:
        err.print(_quantization_table(manifest["request"]["dtype"], manifest["quantization"]))
    rows = [row for artifact in result.artifacts for row in _rows(artifact)]
    used = [i for i in range(len(COLUMNS)) if any(row[i] != "-" for row in rows)]
    mapped_by = "" if origin["map"] is None or origin["expect"] else f" as {origin['map']['file']} maps it"
    data = [one["data"] for each in manifest["artifacts"] for one in each["verification"] if one["data"]]
    on_data = f", scores on {data[0]['name']}" if data else ""
    metric = data[0]["scores"][0]["metric"] if data else ""
    headings = [f"{metric} (model)" if name == SCORE else name for name in COLUMNS]
    title = f"{model.name}: exported and verified{mapped_by}{on_data}"
    err.print(console.table(title, [headings[i] for i in used], [[row[i] for i in used] for row in rows]))
    tables.note_map(origin)
    for artifact in result.artifacts:
        name = next(iter(artifact["files"]))
        if artifact["footprint"] is not None:
            takes = " and ".join(f"{size(nbytes)} of {kind}" for kind, nbytes in artifact["footprint"].items())
            console.note(f"{name} takes {takes}")
        for engine, reason in artifact["not_run_in"].items():
            console.note(f"{name} was not run in {engine}: {reason}")
    dtypes = dict.fromkeys(layer["dtype"] for layer in manifest["network"]["layers"])
    if manifest["request"]["dtype"] == "float32" and compression is None and list(dtypes) != ["float32"]:
        console.note(f"weights are exported as {model.name} stores them: {', '.join(dtypes)}")
    if (choice := manifest["request"].get("preprocess")) is not None:
        console.note(INPUTS[choice])
    for target, reason in manifest["left_out"].items():
        console.note(f"skipped: {target} ({reason})")
    console.print_lines(result.files)
    if compression is None:  # else the files agree with the compressed network, not with the model
        mapped = [] if map_path is None else ["--map", str(map_path)]
        line = shlex.join(["sen-edge", "verify", str(next(iter(result.files))), "--against", str(model), *mapped])
        console.note(f"next: {line} --data DATA")


def _quantization_table(dtype: str, quantization: Mapping[str, Any]) -> Table:
    calibration = quantization["calibration"]
    source = "no calibration" if calibration is None else f"{calibration['samples']} inputs of {calibration['data']}"
    errors = [
        (str(each["layer"]), f"{each['weights']:.2%}", "-" if each["output"] is None else f"{each['output']:.2%}")
        for each in quantization["layers"]
    ]
    headings = ("layer", "rms error of the weights", "rms error of the output")
    return console.table(f"{dtype} ({source})", headings, errors)


def _rows(artifact: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Format one row per engine of an artifact: its first file, and the size of all its files."""
    from sen_edge.report.tables import scores_text

    rows: list[tuple[str, ...]] = []
    first = (next(iter(artifact["files"])), size(sum(facts["bytes"] for facts in artifact["files"].values())))
    for figures in artifact["verification"]:
        spikes, rounding = figures["spike_agreement"], figures["rounding_error"]
        decisions = figures["decision_agreement"]
        row = (
            f"{figures['max_rel_error']:.2g}",
            "-" if rounding is None else f"{rounding:.2g} {figures['tolerance']['rounding_unit']}",
            "-" if decisions is None else f"{decisions:.2%}",
            "-" if spikes is None else f"{spikes:.3%}",
            "-" if figures["data"] is None else scores_text(figures["data"]),
            figures["engine"],
        )
        rows.append((*(("", "") if rows else first), *row))
    return rows
