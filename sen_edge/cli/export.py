"""`sen-edge export`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sen_edge.cli import compression, console, mapping
from sen_edge.cli.exporter_options import parse_assignments
from sen_edge.cli.options import command
from sen_edge.compression.request import CompressRequest
from sen_edge.errors import UsageError
from sen_runtime.figures import size
from sen_runtime.quiet import suppress_announcements
from sen_runtime.untrusted import quote

if TYPE_CHECKING:
    from sen_edge.exporting.request import ExportResult


#: No batch size has more; Python itself refuses to read a number of thousands.
MAX_DIGITS = 20


@command
def export(
    ctx: typer.Context,
    model: Annotated[Path, typer.Argument(help="Checkpoint (.pt, .safetensors) or image (.sen).", metavar="MODEL")],
    compress: CompressRequest,
    *,
    to: Annotated[
        list[str] | None,
        typer.Option(
            help="Targets: c, onnx, sen, tflite; separated by commas or repeated. Left out: onnx and tflite.",
            show_default=False,
            metavar="TARGETS",
        ),
    ] = None,
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder for the files.")] = Path(),
    name: Annotated[str | None, typer.Option(help="Stem of the files; the model's by default.")] = None,
    weights: Annotated[
        str,
        typer.Option(
            help="What coordinates stand for: dense (computed now) or coordinates (computed by the engine at load). "
            "Sparse and low-rank weights keep their form."
        ),
    ] = "dense",
    dtype: Annotated[
        str,
        typer.Option(
            help="float32 (an image's weights as they are stored there); float16 or int8-dynamic (the weights are "
            "stored so); int8 (activations too, TFLite only)."
        ),
    ] = "float32",
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Inputs to fit int8 and compression to: mnist, digits, a .npz or IDX images. int8 needs them.",
            metavar="DATA",
        ),
    ] = None,
    granularity: Annotated[
        str, typer.Option(help="Scales of int8 weights: one per output channel, or one per tensor.")
    ] = "channel",
    activation_range: Annotated[
        str,
        typer.Option(help="How int8 ranges follow from the calibration: percentile (99.99), minmax or mse."),
    ] = "percentile",
    batch_size: Annotated[str, typer.Option(help="A number, or dynamic.")] = "dynamic",
    snn: Annotated[
        str,
        typer.Option(help="Form of a spiking network: unrolled, step (membranes in and out), or scan (ONNX only)."),
    ] = "unrolled",
    assignments: Annotated[
        list[str] | None,
        typer.Option("-O", help="An option of one target, such as onnx.opset=17.", metavar="TARGET.OPTION=VALUE"),
    ] = None,
    map_path: mapping.MapFile = None,
    expect: mapping.ExpectFile = None,
    data: Annotated[
        str | None,
        typer.Option(help="Compare accuracies on this data: mnist, digits, a .npz or IDX images.", metavar="DATA"),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data sets' files.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON on stdout.")] = False,
) -> None:
    """Export a model, verify every file against it, and put the files and their manifest in place."""
    from sen_edge.cli.verify import load_data
    from sen_edge.data.calibration import load_calibration
    from sen_edge.exporting.pipeline import export as run_export
    from sen_edge.exporting.request import ExportRequest

    fits_int8 = calibration is not None and (dtype.startswith("int8") or compress.task is None)
    request = ExportRequest(
        targets=None
        if to is None
        else tuple(filter(None, (target.strip() for each in to for target in each.split(",")))),
        weights=weights,
        dtype=dtype,
        granularity=granularity,
        activation_range=activation_range,
        name=_stem(name, model),
        batch_size=_batch_size(batch_size),
        snn=snn,
        options={**ctx.obj, **parse_assignments(assignments)},
    )
    with console.interruptible(), console.progress() as progress, suppress_announcements():
        result = run_export(
            model,
            output_dir,
            request,
            map_path=map_path,
            expect=expect,
            data=None if data is None else partial(load_data, data, data_dir),
            calibration=partial(load_calibration, calibration, data_dir) if calibration and fits_int8 else None,
            transform=compression.transform_of(compress, calibration, data, data_dir, progress),
            force=force,
        )
    if as_json:
        console.print_json(result.manifest)
    else:
        _print(result, model, map_path)


def _stem(name: str | None, model: Path) -> str:
    stem = model.stem if name is None else name
    if not stem or stem != Path(stem).name or stem.startswith(".") or not stem.isprintable():
        raise UsageError(f"--name is {quote(stem)}; expected a file name without folders, in printable characters")
    return stem


def _batch_size(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isdecimal() or len(text) > MAX_DIGITS:
        raise UsageError(f"--batch-size is {quote(text)}; expected a number >= 1, or dynamic")
    return int(text)


def _on_data(result: ExportResult) -> str:
    """Which data accuracies were measured on."""
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
    if result.manifest["request"]["dtype"] == "float32" and list(dtypes) != ["float32"]:
        console.note(f"weights are exported as {model.name} stores them: {', '.join(dtypes)}")
    for warning in result.manifest["warnings"]:
        console.note(f"warning: {warning}")
    for target, reason in result.manifest["left_out"].items():
        console.note(f"left out: {target} ({reason})")
    console.print_lines(result.files)
    first = next(iter(result.files))
    if result.manifest["compression"] is not None:
        return  # the files agree with the compressed network, not with the model
    mapped = [] if map_path is None else ["--map", str(map_path)]
    line = shlex.join(["sen-edge", "verify", str(first), "--against", str(model), *mapped])
    console.note(f"next: {line} --data DATA")


def _rows(artifact: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row for each engine that ran the artifact; the file is the first it holds, the size that of all."""
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
