"""`sen-edge compress`."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sen_edge
from sen_edge.cli import compression, console, mapping
from sen_edge.cli.options import command
from sen_edge.compression.options import CompressOptions
from sen_edge.errors import OutputError, UsageError
from sen_runtime.quiet import suppress_announcements

if TYPE_CHECKING:
    from sen_edge.compression.pipeline import Compressed
    from sen_edge.model.model import Model

CHECKPOINTS = (".pt", ".safetensors")
SUFFIXES = (*CHECKPOINTS, ".sen")


@command
def compress(
    model: Annotated[Path, typer.Argument(help="Checkpoint or .sen image.", metavar="MODEL")],
    options: CompressOptions,
    *,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help=".sen for any result; .pt or .safetensors where it stays a SEN."),
    ] = Path("compressed.sen"),
    calibration: Annotated[
        str | None,
        typer.Option(help="Inputs without labels: mnist, digits, a .npz or IDX images. Default: those of --data."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Labelled data for training, a search, the accuracy: mnist, digits, a .npz or IDX images."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data sets' files.")] = None,
    map_path: mapping.MapFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON on stdout.")] = False,
) -> None:
    """Prune or factorize a model, or search for the best network that keeps its accuracy.

    Training data decide; the printed accuracy is measured once on the test data. Repeat an interrupted search to resume
    it.
    """
    from sen_edge.compression.pipeline import compress as run_compress
    from sen_edge.compression.search_state import state_path
    from sen_edge.model import model as models

    request = options.request()
    if request is None:
        raise UsageError("nothing to do", hint="name --sparsity, --rank, --macs, --error or --max-accuracy-drop")
    _refuse_output(model, output, force=force)
    source = models.load(model, map_path=map_path)
    inputs, dataset = compression.load_inputs(source, request, calibration, data, data_dir)
    state = state_path(output) if request.budget is not None else None
    with console.interruptible(partial(_interrupted, state)):
        with console.progress() as progress, suppress_announcements():
            result = run_compress(
                source,
                request,
                calibration=inputs,
                dataset=dataset,
                as_checkpoint=output.suffix in CHECKPOINTS,
                state=state,
                progress=progress,
            )
        manifest = _write(result, source, model, output, force=force)
    if state is not None:
        state.unlink(missing_ok=True)
    if as_json:
        console.print_json(manifest)
        return
    compression.print_figures(f"{model.name}: compressed", result.figures)
    mapping.note({"map": manifest["map"], "expect": None})
    console.print_lines([output, _manifest_path(output)])
    console.note(f"next: {shlex.join(['sen-edge', 'export', str(output)])}")


def _refuse_output(model: Path, output: Path, *, force: bool) -> None:
    """Refuse before minutes of work what would fail after them."""
    from sen_edge.overwrite import refuse_existing

    if output.suffix not in SUFFIXES:
        raise UsageError(f"{output}: suffix is {output.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    if output.resolve() == model.resolve():
        raise OutputError(f"{output} is the model itself", hint="choose another with -o")
    refuse_existing(output.parent, [output.name, _manifest_path(output).name], force=force)


def _interrupted(state: Path | None) -> list[str]:
    """What an interrupted search keeps, and how to resume it."""
    if state is None or not state.exists():
        return ["interrupted; nothing was written"]
    return [
        f"interrupted; {state} holds the figures so far",
        "  -> repeat the command to resume, or remove the file to start over",
    ]


def _manifest_path(output: Path) -> Path:
    return output.with_name(f"{output.stem}.manifest.json")


def _write(result: Compressed, source: Model, model: Path, output: Path, *, force: bool) -> dict[str, Any]:
    """The output and its manifest, both or neither; what the manifest says."""
    from sen_edge.model import checkpoint as checkpoints
    from sen_edge.model.notes import compression_note, map_note
    from sen_edge.overwrite import write_outputs
    from sen_runtime import format as image

    figures: dict[str, Any] = {
        "sen_edge": sen_edge.__version__,
        "input": model.name,
        "map": map_note(source.applied_map, None)["map"],
        **result.figures,
    }
    accuracy, training = figures["accuracy"], figures.get("training")
    notes = compression_note(figures)
    if accuracy is not None:
        notes["test_accuracy"] = f"{accuracy['compressed']:.2f}"
    if training is not None:
        notes["validation_accuracy"] = f"{training['validation_accuracy']:.2f}"
    if result.checkpoint is not None:
        metadata = {**result.checkpoint.metadata, **notes}
        data = checkpoints.dumps(replace(result.checkpoint, metadata=metadata, sha256=""), output)
    else:
        origin = {f"{source.kind}_sha256": source.sha256}
        metadata = {**source.network.metadata, **origin, **notes}
        data = image.dumps(replace(result.network, metadata=metadata))
    manifest = (json.dumps(figures, indent=2, sort_keys=True) + "\n").encode()
    write_outputs(output.parent, {output.name: data, _manifest_path(output).name: manifest}, force=force)
    return figures
