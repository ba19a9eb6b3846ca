"""Selection of the synapses to draw: the strongest of each layer, or the short ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sen_edge.report.network.scene import Link, Scene

#: Synapses of a layer in a picture: by default, and at most.
STRONGEST, MAX_DRAWN = 500, 20_000


@dataclass(frozen=True, eq=False)
class Selection:
    """Selected synapses of one layer, the strongest first.

    Attributes:
        source: `[n]`, indices among the drawn neurons of the layer.
        target: `[n]`, indices among those of the next layer.
        weight: `[n]`.
        note: remark on omitted synapses, or empty.
    """

    source: NDArray[np.intp]
    target: NDArray[np.intp]
    weight: NDArray[np.float32]
    note: str


def select_synapses(scene: Scene, strongest: int = STRONGEST, max_distance: float | None = None) -> list[Selection]:
    """Select synapses of each layer but the last.

    Args:
        scene: the network.
        strongest: number of synapses of each layer, by the magnitude of their weight.
        max_distance: select all synapses up to this length instead.
    """
    return [_select(link, index, strongest, max_distance) for index, link in enumerate(scene.links)]


def _select(link: Link, index: int, strongest: int, max_distance: float | None) -> Selection:
    weights = link.weights()
    strength = np.abs(weights)
    is_infinite = np.isinf(strength)
    strength[is_infinite] = 0
    notes = []
    if n_infinite := int(is_infinite.sum()):
        pairs = "1 pair of neurons" if n_infinite == 1 else f"{n_infinite:,} pairs of neurons"
        notes.append(
            f"Layer {index} to {index + 1}: {pairs} at the same point; their weight is infinite and their synapse has "
            "no length, so it is not drawn."
        )
    asked, what = strongest, "were asked for"
    if max_distance is not None:
        strength[link.distances() > max_distance] = 0
        asked, what = strength.size, f"are not longer than {max_distance:g}"
    wanted = min(asked, int(np.count_nonzero(strength)))
    count = min(wanted, MAX_DRAWN)
    if count < wanted:
        notes.append(f"Layer {index} to {index + 1}: {wanted:,} synapses {what}; the {count:,} strongest are drawn.")
    flat = strength.ravel()
    best = np.argpartition(flat, flat.size - count)[flat.size - count :] if count else np.empty(0, np.intp)
    best = best[np.argsort(-flat[best], kind="stable")]
    target, source = np.unravel_index(best, strength.shape)
    return Selection(source, target, weights[target, source], " ".join(notes))
