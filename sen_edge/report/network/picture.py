"""Picture of a network as one file: the interactive page, or charts on a sheet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sen_edge.errors import UsageError
from sen_edge.report import drawing
from sen_edge.report.network import activity as activities
from sen_edge.report.network.page import network_page
from sen_edge.report.network.panels import default_panels, panel
from sen_edge.report.network.scene import Scene, scene
from sen_edge.report.network.source import Source
from sen_edge.report.network.synapses import Choice, select_synapses
from sen_runtime.errors import NetworkError

PAGE = ".html"
SUFFIXES = (PAGE, *drawing.PICTURES)


@dataclass(frozen=True)
class PlotRequest:
    """Request of a picture.

    Attributes:
        suffix: one of `SUFFIXES`.
        choice: synapses to draw.
        panels: charts of a sheet; empty for all in which the network has something to show.
        before: the network before training, for the panel "before-after".
        data: data set of a spiking network's input; None for a random one.
        data_dir: folder of the data sets' files.
        example: index of the input in the data.
        seed: seed of the random input.
    """

    suffix: str
    choice: Choice = field(default_factory=Choice)
    panels: tuple[str, ...] = ()
    before: Source | None = None
    data: str | None = None
    data_dir: Path | None = None
    example: int = 0
    seed: int = 0


def check_request(request: PlotRequest, source: Source) -> None:
    """Refuse options without effect for this network or this kind of file.

    Raises:
        UsageError: names the option.
        MissingExtraError: a sheet without matplotlib.
    """
    is_page = request.suffix == PAGE
    if request.data is not None and not source.network.is_spiking:
        raise UsageError("--data gives a spiking network its input; this is a perceptron", hint="leave it out")
    if request.data is not None and not is_page:
        raise UsageError("--data is for the spikes on a page", hint=f"leave it out, or write a {PAGE}")
    if request.panels and is_page:
        raise UsageError(f"--what is for {', '.join(drawing.PICTURES)}", hint="leave it out: a page shows the network")
    if not is_page:
        drawing.check_matplotlib()


def draw(source: Source, request: PlotRequest, note: Callable[[str], None]) -> bytes:
    """Draw the file; the same network gives the same bytes.

    Args:
        source: the network.
        request: see `PlotRequest`.
        note: receives remarks for the reader of the picture, which the file holds as well.

    Raises:
        UsageError: a panel in which the network has nothing to show; an example that the data lack.
        DataError: the data are missing or do not fit.
        MissingExtraError: matplotlib, which draws sheets, is not installed.
    """
    network = scene(source)
    synapses = select_synapses(network, request.choice)
    notes = [each.note for each in synapses if each.note]
    activity = None
    if request.suffix == PAGE and source.network.is_spiking:
        activity, why = _activity(source, request)
        notes += [why] if why else []
    for line in (*network.notes, *notes):
        note(line)
    if request.suffix != PAGE:
        names = request.panels or default_panels(network, request.before)
        charts = [panel(name, network, synapses, request.before) for name in names]
        return drawing.to_file(charts, _title(network), " ".join([*network.notes, *notes]), request.suffix)
    if activity is not None:
        note(f"spikes: input {activity.input_name}")
    return network_page(network, synapses, activity, notes, note).encode(errors="replace")  # a name may be no text


def _title(network: Scene) -> str:
    source = network.source
    sizes = "-".join(map(str, source.network.layer_sizes))
    kind = (
        f"spiking network {sizes}, T = {source.network.timesteps}"
        if source.network.is_spiking
        else f"perceptron {sizes}"
    )
    return f"{source.name}: {kind}, d = {source.dimensions}"


def _activity(source: Source, request: PlotRequest) -> tuple[activities.Activity | None, str]:
    """Spikes of one inference; or None, and the reason."""
    network = source.network
    if network.macs > activities.MAX_WEIGHTS:
        return None, f"Spikes are not shown: the network has {network.macs:,} weights, too many to run it here."
    if request.data is None:
        x, name = activities.random_input(network, request.seed)
    else:
        x, name = activities.data_input(network, request.data, request.data_dir, request.example)
    try:
        return activities.record(source.runnable(), x, name), ""
    except NetworkError as error:
        return None, f"Spikes are not shown, as the network does not run: {error.message}."
