"""The interactive page of a network: one file that loads nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

import sen_edge
from sen_edge.report import page as pages
from sen_edge.report.document import UNKNOWN, Part, Table
from sen_edge.report.network.activity import Activity
from sen_edge.report.network.scene import Scene
from sen_edge.report.network.synapses import Selection

#: First angles in radians: about the vertical axis, then tilt.
VIEW = (0.62, 0.3)
#: Learned coordinates that a page holds as text for the pointer; a larger network has the drawn ones alone.
MAX_COORDINATES = 400_000
SCRIPTS = ("viewer_drawing.js", "viewer_controls.js")
#: Mark and meaning of each kind of neuron.
LEGEND = {
    "excitatory": ("●", "weights > 0"),
    "inhibitory": ("■", "weights < 0"),
    "silent": ("○", "mask 0"),
    "output": ("◆", ""),
}


def network_page(
    scene: Scene,
    synapses: Sequence[Selection],
    activity: Activity | None,
    notes: Sequence[str],
    note: Callable[[str], None],
) -> str:
    """Write the page.

    Args:
        scene: the network.
        synapses: synapses to draw, of each layer but the last.
        activity: activity of a spiking network for one input.
        notes: remarks besides those of the scene.
        note: receives the names of tables that are left out.
    """
    network = scene.source.network
    kind = "spiking network" if network.is_spiking else "perceptron"
    sizes = "-".join(map(str, network.layer_sizes))
    script = Markup('"use strict";\n(() => {{\n{}}})();\n').format(Markup("").join(map(pages.resource, SCRIPTS)))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    counts = {name: sum(scene.kinds(layer).count(name) for layer in range(len(scene.neurons))) for name in LEGEND}
    facts = {**scene.source.metadata, "sha256": scene.source.sha256}
    parts: list[Part] = [
        _layer_table(scene, synapses),
        Table("Metadata", ["name", "value"], [[name, value] for name, value in facts.items() if value], is_text=True),
    ]
    return pages.page(
        f"Network: {scene.source.name}",
        parts,
        note,
        "viewer.html",
        style=pages.resource("style.css") + pages.resource("viewer.css"),
        subtitle=f"{kind} {sizes}, d = {scene.source.dimensions} · sen-edge {sen_edge.__version__}",
        notes=[*scene.notes, *notes],
        legend=[(name, *LEGEND[name], f"{count:,}") for name, count in counts.items() if count],
        layers=scene.layer_names,
        activity=activity,
        data=to_json(_data(scene, synapses, activity)),
        script=script,
        script_source=Markup(f"'sha256-{digest}'"),
    )


def _layer_table(scene: Scene, synapses: Sequence[Selection]) -> Table:
    rows = []
    for layer, name in enumerate(scene.layer_names):
        kinds = scene.kinds(layer)
        cells = [f"{len(kinds):,}", *[UNKNOWN] * 6]
        if layer < len(scene.links):
            distances, weights = scene.links[layer].distances(), synapses[layer].weight
            distances = distances[np.isfinite(distances)]
            cells[1:] = [
                *(f"{kinds.count(kind):,}" for kind in ("excitatory", "inhibitory")),
                f"{distances.size:,}",
                f"{len(weights):,}",
                f"{np.median(distances):.3g}" if distances.size else UNKNOWN,
                f"{weights[0]:.3g}" if len(weights) else UNKNOWN,
            ]
        rows.append([name, *cells])
    headings = [
        "layer", "neurons", "excitatory", "inhibitory", "synapses", "drawn", "median distance", "strongest weight",
    ]  # fmt: skip
    return Table("Layers, and the synapses from each to the next", headings, rows)


def _data(scene: Scene, synapses: Sequence[Selection], activity: Activity | None) -> dict[str, Any]:
    """Data of the script; arrays as base64 of little-endian bytes."""
    counts = [len(neurons) for neurons in scene.neurons]
    first = np.cumsum([0, *counts])
    last = np.full(counts[-1], np.nan)
    learned = [*(link.operator.source for link in scene.links), scene.links[-1].operator.target]
    has_coordinates = sum(positions.size for positions in learned) <= MAX_COORDINATES
    return {
        "drawn": counts,
        "names": scene.layer_names,
        "axes": ["" if axis == "nothing" else axis for axis in scene.axes],
        "gap": scene.gap,
        "view": VIEW,
        "dimensions": scene.source.dimensions,
        "isProjected": scene.source.dimensions > 3,
        "positions": _base64(scene.positions, "<f4"),
        "numbers": _base64(scene.neurons, "<u4"),
        "masks": _base64([*(link.operator.mask for link in scene.links), last], "<f4"),
        "signs": _base64([*map(np.sign, scene.outgoing[:-1]), np.zeros(counts[-1])], "i1"),
        "links": [len(each.weight) for each in synapses],
        "sources": _base64([first[index] + each.source for index, each in enumerate(synapses)], "<u4"),
        "targets": _base64([first[index + 1] + each.target for index, each in enumerate(synapses)], "<u4"),
        "weights": _base64([each.weight for each in synapses], "<f4"),
        "coordinates": _base64(learned, "<f4") if has_coordinates else None,
        "activity": None if activity is None else _activity(scene, activity),
    }


def _activity(scene: Scene, activity: Activity) -> dict[str, Any]:
    levels = [layer[:, neurons] for layer, neurons in zip(activity.layers, scene.neurons, strict=False)]
    return {
        "steps": len(levels[0]),
        "isCurrent": scene.source.network.input_coding == "direct",
        "values": _base64([np.rint(255 * np.concatenate(levels, axis=1))], "u1"),
    }


def _base64(arrays: Sequence[NDArray[Any]], dtype: str) -> str:
    return base64.b64encode(np.concatenate(arrays).astype(dtype).tobytes()).decode()


def to_json(value: Any) -> Markup:
    """Encode JSON for a script element: no text in it ends the element."""
    text = json.dumps(value, allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
