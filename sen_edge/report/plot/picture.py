"""From a network to the bytes of one picture: the interactive page, or a figure for a paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sen_edge.errors import UsageError
from sen_edge.report.plot import activity as activities
from sen_edge.report.plot.figures import Panel, sheet
from sen_edge.report.plot.page import page
from sen_edge.report.plot.scene import Scene, scene
from sen_edge.report.plot.source import Source
from sen_edge.report.plot.synapses import Choice, chosen_synapses
from sen_runtime.errors import NetworkError

PAGE = ".html"
FIGURES = (".png", ".svg", ".pdf")
ENDINGS = (PAGE, *FIGURES)


@dataclass(frozen=True)
class PlotRequest:
    """What to draw.

    Attributes:
        ending: of the file: one of `ENDINGS`.
        choice: which synapses.
        panels: of a figure; empty for those that the network has something to show in.
        before: the network before training, for the panel "before-after".
        data: data set that a spiking network's input is from; None for a random one.
        data_dir: folder of the data set's files.
        example: number of the input in that data.
        seed: of the random input.
    """

    ending: str
    choice: Choice = field(default_factory=Choice)
    panels: tuple[Panel, ...] = ()
    before: Source | None = None
    data: str | None = None
    data_dir: Path | None = None
    example: int = 0
    seed: int = 0


def draw(source: Source, request: PlotRequest, note: Callable[[str], None]) -> bytes:
    """The content of the file.

    Args:
        source: what to draw.
        request: how.
        note: told what a reader of the picture has to know; the page and the figure say the same.

    Raises:
        UsageError: a panel that the network has nothing for; an example that the data lack.
        DataError: the data are absent, or do not fit.
        MissingExtraError: matplotlib, which draws figures, is not installed.
    """
    laid_out = scene(source)
    synapses = chosen_synapses(laid_out, request.choice)
    notes = [each.note for each in synapses if each.note]
    if request.ending != PAGE:
        for line in (*laid_out.notes, *notes):
            note(line)
        return sheet(laid_out, synapses, request.panels, request.before, request.ending, notes)
    activity = None
    if source.network.is_spiking:
        activity, why = _activity(laid_out, request)
        notes += [why] if why else []
    for line in (*laid_out.notes, *notes):
        note(line)
    if activity is not None:
        note(f"spikes: input {activity.input_name}")
    return page(laid_out, synapses, activity, notes).encode(errors="replace")  # a file's name may be no text


def _activity(laid_out: Scene, request: PlotRequest) -> tuple[activities.Activity | None, str]:
    """Spikes of one inference; or None, and why there are none."""
    network = laid_out.source.network
    if network.macs > activities.MAX_WEIGHTS:
        return None, f"Spikes are not shown: the network has {network.macs:,} weights, too many to run it here."
    if request.data is None:
        x, name = activities.random_input(network, request.seed)
    else:
        x, name = activities.data_input(network, request.data, request.data_dir, request.example)
    try:
        return activities.record(laid_out.source.runnable(), x, name), ""
    except NetworkError as error:
        return None, f"Spikes are not shown, for the network does not run: {error.message}."


def check_options(request: PlotRequest, source: Source) -> None:
    """Refuse options that mean nothing for this network or this kind of file.

    Raises:
        UsageError: with the option.
    """
    if request.data is not None and not source.network.is_spiking:
        raise UsageError("--data gives a spiking network its input; this is a perceptron", hint="leave it out")
    if request.data is not None and request.ending != PAGE:
        raise UsageError("--data is for the spikes on a page", hint=f"leave it out, or write a {PAGE}")
    if request.panels and request.ending == PAGE:
        raise UsageError(f"--what is for {', '.join(FIGURES)}", hint="leave it out: a page shows the network")
