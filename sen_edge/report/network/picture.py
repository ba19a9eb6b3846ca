"""Picture of a network as one file: the interactive page, or charts on a sheet."""

from __future__ import annotations

from collections.abc import Callable

from sen_edge.errors import UsageError
from sen_edge.report import drawing
from sen_edge.report.network import source as sources
from sen_edge.report.network.activity import simulate
from sen_edge.report.network.page import network_page
from sen_edge.report.network.panels import default_panels, panel
from sen_edge.report.network.request import PAGE, PlotRequest
from sen_edge.report.network.scene import scene
from sen_edge.report.network.source import Source
from sen_edge.report.network.synapses import STRONGEST, select_synapses


def draw(source: Source, request: PlotRequest, note: Callable[[str], None]) -> bytes:
    """Draw the file; the same network gives the same bytes.

    Args:
        source: the network.
        request: content and format.
        note: receives remarks for the reader of the picture, which the file holds as well.

    Raises:
        UsageError: an option without effect; a panel in which the network has nothing to show; an example that the
            data lack.
        DataError: the data are missing or do not fit.
        MissingExtraError: matplotlib, which draws charts, is not installed.
    """
    if request.data is not None and not source.network.is_spiking:
        raise UsageError("--data gives a spiking network its input; this is a perceptron", hint="leave it out")
    if request.data is not None and not request.is_page:
        raise UsageError("--data is for the spikes on a page", hint=f"leave it out, or write a {PAGE}")
    if not request.is_page:
        drawing.check_matplotlib()
    before = None if request.before is None else sources.load(request.before, map_path=request.map_path)
    network = scene(source)
    strongest = STRONGEST if request.synapses is None else request.synapses
    synapses = select_synapses(network, strongest, request.max_distance)
    notes = [*network.notes, *(each.note for each in synapses if each.note)]
    activity = None
    if request.is_page and source.network.is_spiking:
        activity, why = simulate(source, request)
        notes += [why] if why else []
    for line in notes:
        note(line)
    if not request.is_page:
        names = request.panels or default_panels(network, before)
        charts = [panel(name, network, synapses, before) for name in names]
        title = f"{source.name}: {source.description}, d = {source.dimensions}"
        return drawing.to_file(charts, title, " ".join(notes), request.suffix)
    if activity is not None:
        note(f"spikes: input {activity.input_name}")
    return network_page(network, synapses, activity, notes, note).encode(errors="replace")  # a name may be no text
