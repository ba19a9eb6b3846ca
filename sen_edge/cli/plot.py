"""`sen-edge plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sen_edge.cli import console, mapping
from sen_edge.errors import OutputError, UsageError

BEFORE_AFTER = "before-after"


def plot(
    model: Annotated[Path, typer.Argument(help="Checkpoint, or .sen image that stores coordinates.", metavar="MODEL")],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help=".html for a page to explore; .png, .svg or .pdf for a figure.")
    ] = Path("network.html"),
    what: Annotated[
        str | None,
        typer.Option(
            help="Panels of a figure, separated by commas: network, distances, weights, degrees, wiring, input-grid, "
            "before-after=OTHER.pt. Default: all that the network has something to show in.",
            metavar="NAME,...",
        ),
    ] = None,
    synapses: Annotated[
        int | None, typer.Option(help="Draw the strongest N of each layer. Default: 500.", metavar="N", min=0)
    ] = None,
    max_distance: Annotated[
        float | None, typer.Option(help="Draw all that are not longer, instead.", metavar="R")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Input of a spiking network: mnist, digits, a .npz or IDX images. Default: random.", metavar="DATA"
        ),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data sets' files.")] = None,
    example: Annotated[int, typer.Option(help="Which input of the test data, from 0.", metavar="N")] = 0,
    seed: Annotated[int, typer.Option(help="Of the random input.", min=0)] = 0,
    map_path: mapping.MapFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Draw a network: where its neurons sit, its strongest synapses, and the spikes of a spiking one.

    The page is one file that needs no network; it shows at most 10,000 neurons, evenly chosen, and says so.
    """
    from sen_edge.model.notes import map_note
    from sen_edge.overwrite import refuse_existing, write_outputs
    from sen_edge.report.network.picture import SUFFIXES, PlotRequest, check_request, draw
    from sen_edge.report.network.source import load
    from sen_edge.report.network.synapses import Choice

    suffix = output.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{output}: the suffix is {output.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    if synapses is not None and max_distance is not None:
        raise UsageError("--synapses and --max-distance both say which synapses to draw", hint="leave one out")
    if max_distance is not None and not 0 < max_distance < float("inf"):
        raise UsageError(f"--max-distance is {max_distance:g}; expected more than 0")
    panels, before_path = _panels(what)
    if output.resolve() in {path.resolve() for path in (model, before_path) if path is not None}:
        raise OutputError(f"{output} is the model itself", hint="choose another with -o")
    refuse_existing(output.parent, [output.name], force=force)
    source = load(model, map_path=map_path)
    request = PlotRequest(
        suffix=suffix,
        choice=Choice(Choice.strongest if synapses is None else synapses, max_distance),
        panels=panels,
        before=None if before_path is None else load(before_path, map_path=map_path),
        data=data,
        data_dir=data_dir,
        example=example,
        seed=seed,
    )
    check_request(request, source)
    with console.interruptible():
        write_outputs(output.parent, {output.name: draw(source, request, console.note)}, force=force)
    console.print_lines([output])
    mapping.note(map_note(None if source.checkpoint is None else source.checkpoint.applied_map, None))


def _panels(what: str | None) -> tuple[tuple[str, ...], Path | None]:
    """Names of panels, and the other checkpoint of `before-after`."""
    from sen_edge.report.network.panels import PANELS

    panels: list[str] = []
    before = None
    for word in [] if what is None else what.split(","):
        name, _, value = word.strip().partition("=")
        if name == BEFORE_AFTER:
            if not value:
                raise UsageError(f"--what {name} names no checkpoint", hint=f"--what {name}=OTHER.pt")
            before = Path(value)
        if name not in PANELS or (value and name != BEFORE_AFTER):
            raise UsageError(f"--what has {word.strip()!r}; expected {', '.join(PANELS)}=OTHER.pt")
        panels += [] if name in panels else [name]
    return tuple(panels), before
