"""The network as a picture of the page that needs no script."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sen_edge.report import svg
from sen_edge.report.plot.scene import FloatArray, Scene
from sen_edge.report.plot.synapses import Drawn

#: Angles from which a network is first seen, in radians: turned about the vertical axis, then tilted.
YAW, PITCH = 0.62, 0.3
WIDTH, HEIGHT = 900, 480
#: Neurons and, of each layer, synapses of the still picture.
MOST_NEURONS, MOST_SYNAPSES = 2000, 150
#: Share of a large layer's neurons that may lie outside the frame, at each side.
FAR_OUT = 0.01


def still(scene: Scene, synapses: Sequence[Drawn], names: Sequence[str], ident: str = "still") -> str:
    """An `<svg>` of the network from its first angle; of many neurons it shows every second, third ...

    Every layer is within the frame, but for neurons far from the others of a large layer, which are left out.
    """
    places = [_seen(positions) for positions in scene.apart()]
    low, high = frame(places)
    room = np.array([WIDTH - 80.0, HEIGHT - 100.0])
    scale = float(np.min(room / np.maximum(high - low, 1e-12)))
    centre = (low + high) / 2
    pixels = [(at - centre) * [scale, -scale] + [WIDTH / 2, HEIGHT / 2 + 15] for at in places]
    parts = [_lines(drawn, pixels[layer], pixels[layer + 1]) for layer, drawn in enumerate(synapses)]
    step = -(-sum(map(len, places)) // MOST_NEURONS)
    for layer, at in enumerate(pixels):
        kinds = marks(scene, layer)
        inside = np.all((at >= 0) & (at <= [WIDTH, HEIGHT]), axis=1)
        shown = [i for i in range(0, len(at), step if len(at) > step else 1) if inside[i]]
        parts += [svg.marker(float(at[i, 0]), float(at[i, 1]), *SHAPES[kinds[i]], radius=2.6) for i in shown]
        top = max(16.0, float(np.quantile(at[:, 1], 0.01)) - 14)
        parts.append(svg.text(float(at[:, 0].mean()), top, names[layer], "middle"))
    return svg.picture(WIDTH, HEIGHT, ident, f"Neurons of {scene.source.name}", "; ".join(names), *parts)


#: Shape and class of each kind of neuron: a disc excites, a square inhibits, a diamond is an output.
SHAPES = {
    "excitatory": (0, "dot excitatory"),
    "inhibitory": (1, "dot"),
    "silent": (0, "hollow outward"),
    "output": (3, "dot outward"),
}


def marks(scene: Scene, layer: int) -> list[str]:
    """Kind of every drawn neuron of a layer: a key of `SHAPES`."""
    if layer == len(scene.links):
        return ["output"] * len(scene.neurons[layer])
    return [("silent", "excitatory", "inhibitory")[int(sign)] for sign in np.sign(scene.outgoing[layer])]


def frame(layers: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Corners `[2]` of what is shown of layers `[n, 2]`: all of a small layer, of a large one all but `FAR_OUT`.

    Over all neurons together, a layer of ten would be among the few that are far out.
    """
    shares = [FAR_OUT if len(at) * FAR_OUT > 1 else 0.0 for at in layers]
    lows = [np.quantile(at, share, axis=0) for at, share in zip(layers, shares, strict=True)]
    highs = [np.quantile(at, 1 - share, axis=0) for at, share in zip(layers, shares, strict=True)]
    return np.min(lows, axis=0), np.max(highs, axis=0)


def _seen(positions: FloatArray) -> FloatArray:
    """Positions `[n, 3]` on the screen `[n, 2]`, upward."""
    x, y, z = positions.T
    back = z * np.cos(YAW) - x * np.sin(YAW)
    return np.column_stack([x * np.cos(YAW) + z * np.sin(YAW), y * np.cos(PITCH) - back * np.sin(PITCH)])


def _lines(drawn: Drawn, source: FloatArray, target: FloatArray) -> str:
    """The strongest synapses: one path for each sign."""
    paths = []
    for is_inhibitory in (True, False):
        chosen = np.flatnonzero((drawn.weight[:MOST_SYNAPSES] < 0) == is_inhibitory)
        ends = np.hstack([source[drawn.source[chosen]], target[drawn.target[chosen]]])
        steps = "".join(f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" for a, b, c, d in ends)
        if steps:
            paths.append(svg.element("path", d=steps, class_="edge" if is_inhibitory else "edge excitatory"))
    return "".join(paths)
