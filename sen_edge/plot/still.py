"""The network as a picture of the page that needs no script."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sen_edge.plot.scene import FloatArray, Scene
from sen_edge.plot.synapses import Drawn
from sen_runtime.bench import svg

#: Angles from which a network is first seen, in radians: turned about the vertical axis, then tilted.
YAW, PITCH = 0.62, 0.3
WIDTH, HEIGHT = 900, 480
#: Neurons and, of each layer, synapses of the still picture.
MOST_NEURONS, MOST_SYNAPSES = 2000, 150


def still(scene: Scene, synapses: Sequence[Drawn], names: Sequence[str], ident: str = "still") -> str:
    """An `<svg>` of the network from its first angle; of many neurons it shows every second, third ..."""
    places = [_seen(positions) for positions in scene.apart()]
    everything = np.concatenate(places)
    low, high = np.quantile(everything, 0.01, axis=0), np.quantile(everything, 0.99, axis=0)
    room = np.array([WIDTH - 80.0, HEIGHT - 100.0])
    scale = float(np.min(room / np.maximum(high - low, 1e-12)))
    centre = (low + high) / 2
    pixels = [(at - centre) * [scale, -scale] + [WIDTH / 2, HEIGHT / 2 + 15] for at in places]
    parts = [_lines(drawn, pixels[layer], pixels[layer + 1]) for layer, drawn in enumerate(synapses)]
    step = -(-len(everything) // MOST_NEURONS)
    for layer, at in enumerate(pixels):
        kinds = marks(scene, layer)
        shown = range(0, len(at), step if len(at) > step else 1)
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
