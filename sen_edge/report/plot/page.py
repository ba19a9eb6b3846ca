"""The interactive page: one file, no network. All that comes from a checkpoint is escaped, and only our script runs."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sen_edge
from sen_edge.report import svg
from sen_edge.report.plot.activity import Activity
from sen_edge.report.plot.scene import Scene
from sen_edge.report.plot.still import PITCH, SHAPES, YAW, marks, still
from sen_edge.report.plot.synapses import Drawn
from sen_edge.report.records import cell, table
from sen_edge.report.style import STYLE
from sen_runtime.untrusted import printable_page

#: Coordinates that a page carries so that they can be read there; of larger networks it has the drawn ones alone.
MOST_COORDINATES = 400_000
KEYS = (
    ("drag, arrow keys", "rotate"),
    ("wheel, pinch, + -", "zoom"),
    ("shift and drag, two fingers, shift and arrows", "move"),
    ("click, [ ]", "choose a neuron"),
    ("0", "back to the start"),
)


def page(scene: Scene, synapses: Sequence[Drawn], activity: Activity | None, notes: Sequence[str]) -> str:
    """The whole page.

    Args:
        scene: the network.
        synapses: of each layer but the last those to draw.
        activity: of a spiking network what it did for one input; None without.
        notes: what a reader has to know beside the scene's own.
    """
    names = layer_names(scene)
    style, script = STYLE + _resource("viewer.css"), _script()
    title = f"Network: {scene.source.name}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(_subtitle(scene))}</p>',
        *(f"<p>{escape(note)}</p>" for note in (*scene.notes, *notes)),
        _legend(scene),
        f'<div id="still" class="still">{still(scene, synapses, names)}'
        "<noscript><p>Without scripts the network is this still picture; the table below sums it up.</p></noscript>"
        "</div>",
        _viewer(names, activity),
        _table(scene, names, synapses),
        _facts(scene),
        f'<script type="application/json" id="data">{as_json(_data(scene, synapses, activity, names))}</script>',
        f"<script>{script}</script>",
    ]
    text = f"{_head(title, style, script)}\n<body><main>\n" + "\n".join(body) + "\n</main></body></html>\n"
    return printable_page(text)


def layer_names(scene: Scene) -> list[str]:
    """What each layer is called, with the number of its neurons."""
    sizes = scene.source.network.layer_sizes
    roles = ["input", *(f"hidden {index}" for index in range(1, len(sizes) - 1)), "output"]
    if len(sizes) == 3:
        roles[1] = "hidden"
    return [f"layer {index}: {role}, {size:,}" for index, (role, size) in enumerate(zip(roles, sizes, strict=True))]


def _head(title: str, style: str, script: str) -> str:
    """No request leaves the page, and no script runs in it but the one whose hash is named."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{style}</style></head>"
    )


def _script() -> str:
    """The viewer as one function, whose names are its own."""
    parts = "".join(_resource(name) for name in ("viewer_drawing.js", "viewer_marks.js", "viewer_controls.js"))
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _subtitle(scene: Scene) -> str:
    network = scene.source.network
    kind = "spiking network" if network.is_spiking else "perceptron"
    sizes = "-".join(map(str, network.layer_sizes))
    return f"{kind} {sizes}, d = {scene.source.dimensions} · sen-edge {sen_edge.__version__}"


def _legend(scene: Scene) -> str:
    counts = dict.fromkeys(SHAPES, 0)
    for layer in range(len(scene.neurons)):
        for kind in marks(scene, layer):
            counts[kind] += 1
    words = {
        "excitatory": "excitatory: weights > 0",
        "inhibitory": "inhibitory: weights < 0",
        "silent": "silent: mask 0",
        "output": "output",
    }
    items = []
    for kind, (shape, class_) in SHAPES.items():
        if counts[kind]:
            mark = svg.marker(8, 8, shape, class_, radius=6)
            key = svg.element("svg", mark, class_="key", viewBox="0 0 16 16", aria_hidden="true")
            items.append(f"<li>{key}{escape(words[kind])} ({counts[kind]:,})</li>")
    items.append("<li>lines: strongest synapses, coloured by their sign</li>")
    return f'<ul class="legend">{"".join(items)}</ul>'


def _viewer(names: Sequence[str], activity: Activity | None) -> str:
    boxes = "".join(
        f'<label><input type="checkbox" data-layer="{index}" checked>{escape(name)}</label>'
        for index, name in enumerate(names)
    )
    keys = " · ".join(f"<kbd>{escape(key)}</kbd> {escape(what)}" for key, what in KEYS)
    return (
        f'<div id="viewer" hidden>{_time(activity)}<div id="stage">'
        '<canvas id="canvas" tabindex="0" role="application" aria-label="Neurons in three dimensions" '
        'aria-describedby="keys"></canvas><canvas id="front" aria-hidden="true"></canvas>'
        '<div id="tip" hidden></div></div>'
        '<p id="picked" role="status" aria-live="polite"></p>'
        '<div class="controls">'
        '<label>Layers apart <input type="range" id="apart" min="0" max="100" value="100"></label>'
        '<label>Synapses <input type="range" id="links" min="0" max="100" value="100">'
        '<output id="links-said"></output></label>'
        f"<fieldset><legend>Show</legend>{boxes}</fieldset>"
        '<button type="button" id="reset">Reset</button></div>'
        f'<p class="hint" id="keys">{keys}</p></div>'
    )


def _time(activity: Activity | None) -> str:
    """The slider over the time steps of a spiking network."""
    if activity is None:
        return ""
    steps = len(activity.layers[0])
    return (
        f"<p>Input: {escape(activity.input_name)}. A neuron that spikes has a halo.</p>"
        '<div class="controls"><button type="button" id="play">Play</button>'
        f'<label>Step <input type="range" id="time" min="0" max="{steps}" value="1"></label>'
        '<output id="time-said"></output></div>'
    )


def _table(scene: Scene, names: Sequence[str], synapses: Sequence[Drawn]) -> str:
    rows = []
    for layer, name in enumerate(names):
        kinds = marks(scene, layer)
        cells = [f"{len(kinds):,}"]
        if layer < len(scene.links):
            link, drawn = scene.links[layer], synapses[layer]
            distances = link.distances()
            is_there = np.isfinite(distances)
            cells += [f"{kinds.count(kind):,}" for kind in ("excitatory", "inhibitory")]
            cells += [f"{int(is_there.sum()):,}", f"{len(drawn.weight):,}"]
            cells.append(f"{np.median(distances[is_there]):.3g}" if is_there.any() else "–")
            cells.append(f"{drawn.weight[0]:.3g}" if len(drawn.weight) else "–")
        else:
            cells += ["–"] * 6
        rows.append([escape(name), *map(cell, cells)])
    headings = (
        "layer",
        "neurons",
        "excitatory",
        "inhibitory",
        "synapses",
        "drawn",
        "median distance",
        "strongest weight",
    )
    return table("Layers, and the synapses from each to the next", headings, rows)


def _facts(scene: Scene) -> str:
    """Its metadata."""
    shown = {**scene.source.metadata, "sha256": scene.source.sha256}
    rows = [[escape(name), cell(value, "words")] for name, value in shown.items() if value]
    return table("What travels with the file", ("name", "value"), rows, "words")


def _data(scene: Scene, synapses: Sequence[Drawn], activity: Activity | None, names: Sequence[str]) -> dict[str, Any]:
    """What the script draws; arrays as base64 of little-endian bytes."""
    drawn = [len(neurons) for neurons in scene.neurons]
    first = np.cumsum([0, *drawn])
    no_mask = np.full(drawn[-1], np.nan)
    signs = [np.sign(factor) for factor in scene.outgoing[:-1]]
    return {
        "drawn": drawn,
        "names": list(names),
        "axes": ["" if axis == "nothing" else axis for axis in scene.axes],
        "gap": scene.gap,
        "view": [YAW, PITCH],
        "dimensions": scene.source.dimensions,
        "isProjected": scene.source.dimensions > 3,
        "positions": _base64(np.concatenate(scene.positions), "<f4"),
        "numbers": _base64(np.concatenate(scene.neurons), "<u4"),
        "masks": _base64(np.concatenate([*(link.operator.mask for link in scene.links), no_mask]), "<f4"),
        "signs": _base64(np.concatenate([*signs, np.zeros(drawn[-1])]), "i1"),
        "links": [len(each.weight) for each in synapses],
        "sources": _base64(np.concatenate([first[i] + each.source for i, each in enumerate(synapses)]), "<u4"),
        "targets": _base64(np.concatenate([first[i + 1] + each.target for i, each in enumerate(synapses)]), "<u4"),
        "weights": _base64(np.concatenate([each.weight for each in synapses]), "<f4"),
        "coordinates": _coordinates(scene),
        "activity": None if activity is None else _activity(scene, activity),
    }


def _coordinates(scene: Scene) -> str | None:
    """Learned coordinates `[n, d]`, to be read beside those that are drawn."""
    learned = [*(link.operator.source for link in scene.links), scene.links[-1].operator.target]
    if sum(positions.size for positions in learned) > MOST_COORDINATES:
        return None
    return _base64(np.concatenate(learned), "<f4")


def _activity(scene: Scene, activity: Activity) -> dict[str, Any]:
    levels = [layer[:, neurons] for layer, neurons in zip(activity.layers, scene.neurons, strict=False)]
    return {
        "steps": len(levels[0]),
        "isCurrent": scene.source.network.input_coding == "direct",
        "values": _base64(np.rint(255 * np.concatenate(levels, axis=1)), "u1"),
    }


def _base64(array: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array).astype(dtype).tobytes()).decode()


def as_json(value: Any) -> str:
    """JSON that ends no script element, whatever text is in it."""
    text = json.dumps(value, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
