"""`sen-edge compress`."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sen_edge.cli import console, options, tables
from sen_edge.compression.request import CompressRequest
from sen_runtime.streams import suppress_announcements


@options.command
def compress(
    model: options.ModelPath,
    request: CompressRequest,
    *,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help=".sen for any result; .pt or .safetensors for a SEN.", metavar="FILE"),
    ] = Path("compressed.sen"),
    calibration: Annotated[
        str | None,
        typer.Option(help="Unlabelled inputs, sources as for --data. Default: inputs of --data.", metavar="DATA"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled data for training, search and scores: mnist, digits, a file or a folder.", metavar="DATA"
        ),
    ] = None,
    data_dir: options.DataDir = None,
    map_path: options.MapPath = None,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Prune or factorize a model, or search for the best network within a budget of the task's metric.

    Training data decide; the printed score is measured once on the test data. Repeat an interrupted search to resume
    it.
    """
    from sen_edge.compression.evaluator import remove_state, state_path
    from sen_edge.compression.pipeline import check_output, load_inputs
    from sen_edge.compression.pipeline import compress as run_compress
    from sen_edge.model import model as models
    from sen_edge.model.checkpoint import SUFFIXES

    check_output(output, model, force=force)  # before minutes of work
    source = models.load(model, map_path=map_path)
    inputs, dataset = load_inputs(source, calibration, data, data_dir)
    state = state_path(output) if request.task == "search" else None
    with console.interruptible(partial(_interrupted, state)):
        with console.progress() as progress, suppress_announcements():
            result = run_compress(
                source,
                request,
                calibration=inputs,
                dataset=dataset,
                as_checkpoint=output.suffix in SUFFIXES,
                state=state,
                progress=progress,
            )
        paths = result.save(output, force=force)
    if state is not None:
        remove_state(state)
    if as_json:
        console.print_json(result.manifest)
        return
    tables.print_compression(f"{model.name}: compressed", result.figures)
    tables.note_map({"map": result.manifest["map"], "expect": None})
    console.print_lines(paths)
    target = [] if request.max_flash is None else ["--to", "c", "--data", str(data)]
    console.note(f"next: {shlex.join(['sen-edge', 'export', str(output), *target])}")


def _interrupted(state: Path | None) -> list[str]:
    if state is None or not state.exists():
        return ["interrupted; nothing was written"]
    return [
        f"interrupted; {state} contains the candidates so far",
        "  -> repeat the command to resume, or remove the file to start over",
    ]
