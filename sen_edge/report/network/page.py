"""The interactive page of a network: one file that loads nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

import sen_edge
from sen_edge.report import page as pages
from sen_edge.report.document import UNKNOWN, Part, Table
from sen_edge.report.network.activity import Activity
from sen_edge.report.network.scene import Scene
from sen_edge.report.network.synapses import Selection

#: Learned coordinates of a neuron that the page shows.
MAX_COORDINATES = 8
SCRIPTS = ("viewer_drawing.js", "viewer_controls.js")
#: Mark and meaning of each kind of neuron, in the order of the script.
LEGEND = {
    "excitatory": ("●", "weights > 0"),
    "inhibitory": ("■", "weights < 0"),
    "silent": ("○", "mask 0"),
    "output": ("◆", ""),
}
#: Types of arrays in the script, and of their bytes.
ARRAYS = {"Float32Array": "<f4", "Uint32Array": "<u4", "Uint8Array": "u1"}


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
        notes: remarks for the reader.
        note: receives the names of tables that are left out.
    """
    script = Markup("\n").join(map(pages.resource, SCRIPTS))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    counts = {name: sum(kinds.count(name) for kinds in scene.kinds) for name in LEGEND}
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
        subtitle=f"{scene.source.description}, d = {scene.source.dimensions} · sen-edge {sen_edge.__version__}",
        notes=notes,
        legend=[(name, *LEGEND[name], f"{count:,}") for name, count in counts.items() if count],
        layers=scene.layer_names,
        activity=activity,
        data=to_json(_data(scene, synapses, activity)),
        script=script,
        script_source=Markup(f"'sha256-{digest}'"),
    )


def _layer_table(scene: Scene, synapses: Sequence[Selection]) -> Table:
    rows = []
    for layer, (name, kinds) in enumerate(zip(scene.layer_names, scene.kinds, strict=True)):
        cells = [f"{len(kinds):,}", *[UNKNOWN] * 6]
        if layer < len(scene.links):
            distances, weights = scene.links[layer].lengths(), synapses[layer].weight
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
    """Data of the script; `neurons` and `synapses` are the first index of each layer, then the total."""
    first = np.cumsum([0, *map(len, scene.neurons)])
    data: dict[str, Any] = {
        "names": scene.layer_names,
        "axes": ["" if axis == "nothing" else axis for axis in scene.axes],
        "gap": scene.gap,
        "dimensions": scene.source.dimensions,
        "neurons": first.tolist(),
        "synapses": np.cumsum([0, *(len(each.weight) for each in synapses)]).tolist(),
        # Low and high of the three coordinates, without the neurons far out.
        "boxes": [np.quantile(at, [0.02, 0.98], axis=0).T.tolist() for at in scene.positions],
    }
    kinds = [[list(LEGEND).index(kind) for kind in layer] for layer in scene.kinds]
    learned = [*(link.operator.source for link in scene.links), scene.links[-1].operator.target]
    no_mask = np.full(len(scene.neurons[-1]), np.nan)
    data["arrays"] = {
        "positions": _encode("Float32Array", scene.positions),
        "numbers": _encode("Uint32Array", scene.neurons),
        "kinds": _encode("Uint8Array", kinds),
        "masks": _encode("Float32Array", [*(link.operator.mask for link in scene.links), no_mask]),
        "sources": _encode("Uint32Array", [first[index] + each.source for index, each in enumerate(synapses)]),
        "targets": _encode("Uint32Array", [first[index + 1] + each.target for index, each in enumerate(synapses)]),
        "weights": _encode("Float32Array", [each.weight for each in synapses]),
        "coordinates": _encode("Float32Array", [positions[:, :MAX_COORDINATES] for positions in learned]),
    }
    if activity is not None:
        is_current = scene.source.network.input_coding == "direct"
        drawn = [layer[:, neurons] for layer, neurons in zip(activity.layers, scene.neurons, strict=False)]
        levels = np.concatenate(drawn, axis=1)
        spikes = levels[:, len(scene.neurons[0]) if is_current else 0 :].sum(axis=1)
        # Step 0 is the mean over all steps.
        data["arrays"]["activity"] = _encode("Uint8Array", [np.rint(255 * levels.mean(axis=0)), *np.rint(255 * levels)])
        data |= {"steps": len(levels), "isCurrent": is_current, "spikes": [int(spikes.sum()), *map(int, spikes)]}
    return data


def _encode(kind: str, arrays: Sequence[Any]) -> tuple[str, str]:
    return kind, base64.b64encode(np.concatenate(arrays).astype(ARRAYS[kind]).tobytes()).decode()


def to_json(value: Any) -> Markup:
    """Encode JSON for a script element: no text in it ends the element."""
    text = json.dumps(value, allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
