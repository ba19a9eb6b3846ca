"""`sen-edge plot`."""

from __future__ import annotations

from sen_edge.cli import console, options, tables
from sen_edge.report.network.request import PlotRequest


@options.command
def plot(request: PlotRequest, *, force: options.Force = False) -> None:
    """Draw a network: positions, strongest synapses, and spikes of a spiking network.

    The page is one file without external resources. It shows at most 10,000 neurons, evenly sampled.
    """
    from sen_edge.model.parameters import map_note
    from sen_edge.overwrite import refuse_existing, write_outputs
    from sen_edge.report.network.picture import draw
    from sen_edge.report.network.scene import load_positions

    output = request.output
    refuse_existing(output.parent, [output.name], force=force)
    model = load_positions(request.model, map_path=request.map_path)
    with console.interruptible():
        write_outputs(output.parent, {output.name: draw(model, request, console.note)}, force=force)
    console.print_lines([output])
    tables.note_map(map_note(model.applied_map))
