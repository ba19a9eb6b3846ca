"""Three coordinates for every neuron: from learned positions, or by layers where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.data.subsample import even_indices

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

#: Neurons of a picture; larger networks are sampled.
MAX_NEURONS = 10_000
#: Min neurons of a layer in a sample.
MIN_OF_A_LAYER = 200
#: Layers are moved apart by multiples of their thickness along that axis, or of their width across it.
GAP_THICKNESS, GAP_WIDTH = 1.15, 0.8
#: Turn between one neuron and the next of a layer without positions: the golden angle, which fills a disc evenly.
TURN = np.pi * (3 - np.sqrt(5))


def gap_of(layers: Sequence[FloatArray]) -> float:
    """Distance by which each layer is moved from the one before, of positions `[n, 3]`."""
    spans = [np.quantile(at, 0.98, axis=0) - np.quantile(at, 0.02, axis=0) for at in layers]
    thickness, *width = np.max(spans, axis=0)
    return float(max(GAP_THICKNESS * thickness, GAP_WIDTH * max(width))) or 1.0


def has_layer_axis(layers: Sequence[NDArray[Any]]) -> bool:
    """Whether the last coordinate is that of the layer: equal within layers, and distinct between them."""
    last = [np.unique(at[:, -1]) for at in layers]
    is_equal = layers[0].shape[1] > 1 and all(len(values) == 1 for values in last)
    return is_equal and len(np.unique(np.concatenate(last))) == len(last)


def arrange(sizes: Sequence[int]) -> list[FloatArray]:
    """Positions `[n, 3]` where none were learned: a grid for a square input, a column for few outputs, else discs."""
    layers = []
    for index, n in enumerate(sizes):
        side, order = round(n**0.5), np.arange(n)
        if index == 0 and side > 1 and side * side == n:
            at = np.stack([0.5 - order // side / (side - 1), order % side / (side - 1) - 0.5], axis=1) * 1.8
        elif index == len(sizes) - 1 and n <= 32:
            at = np.stack([0.9 - 1.8 * (order + 0.5) / n, np.zeros(n)], axis=1)
        else:
            radius, angle = np.sqrt((order + 0.5) / n), TURN * order
            at = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        layers.append(np.insert(at, 0, 0.0, axis=1))
    return layers


def sample(sizes: Sequence[int], most: int) -> tuple[IndexArray, ...]:
    """Select for each layer the numbers of neurons to draw, evenly spread, at most `most` together.

    Each layer gets `MIN_OF_A_LAYER`, or an equal share if there are many layers; the rest is divided by size.
    """
    smallest = min(MIN_OF_A_LAYER, max(1, most // len(sizes)))
    counts = np.minimum(sizes, smallest)
    others = sizes - counts
    share = min(1.0, max(0, most - counts.sum()) / max(1, others.sum()))
    counts += (share * others).astype(int)
    return tuple(map(even_indices, sizes, counts.tolist()))


def find_strongest(strength: NDArray[Any], count: int) -> tuple[IndexArray, IndexArray]:
    """Return sources and targets of the `count` largest values > 0 of `strength [n_out, n_in]`, the largest first."""
    flat = strength.ravel()
    count = min(count, int(np.count_nonzero(flat)))
    least = np.partition(flat, flat.size - count)[flat.size - count] if count else np.inf
    best = np.flatnonzero(flat >= least)  # not argpartition, whose choice among equal values depends on the processor
    targets, sources = np.unravel_index(best[np.argsort(-flat[best], kind="stable")][:count], strength.shape)
    return sources, targets


def project(layers: Sequence[NDArray[Any]], *, is_axis_fixed: bool) -> tuple[list[FloatArray], tuple[str, ...], str]:
    """Map positions `[n, d]` of each layer to `[n, 3]`, the layer axis (the fixed last one) first if there is one.

    Also returns the names of the axes, empty for one that is not used, and a sentence about the projection.
    """
    d = layers[0].shape[1]
    exact = [positions.astype(np.float64) for positions in layers]
    if d > 3:
        return _principal(exact, d)
    names, added = [f"coordinate {index + 1}" for index in range(d)], []
    sentence = f"d = {d}: positions are drawn as they were learned"
    if is_axis_fixed:
        names = ["layer axis", *names[:-1]]
        exact = [np.roll(positions, 1, axis=1) for positions in exact]
    elif d < 3:
        names, added = ["layer index", *names], ["the layer index"]
        exact = [np.insert(at, 0, index, axis=1) for index, at in enumerate(exact)]
    missing = 3 - len(names)
    if added or missing:
        sentence += f", with {' and '.join([*added, *['0'] * missing])} as further coordinates"
    if is_axis_fixed:
        sentence += "; the layer axis is not free"
    padded = [np.pad(at, ((0, 0), (0, missing))) for at in exact]
    return padded, (*names, *[""] * missing), f"{sentence}."


def _principal(layers: list[FloatArray], d: int) -> tuple[list[FloatArray], tuple[str, ...], str]:
    """Project on the principal components of all neurons: the third first, as layers are thinnest along it."""
    everything = np.concatenate(layers)
    middle = everything.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(everything - middle, rowvar=False, bias=True))
    chosen = directions[:, [-3, -1, -2]]
    largest = np.abs(chosen).argmax(axis=0)
    chosen = chosen * np.where(chosen[largest, range(3)] < 0, -1, 1)  # fix the arbitrary sign
    total = float(variances.sum())
    kept = float(variances[-3:].sum()) / total if total > 0 else 1.0
    sentence = (
        f"d = {d}: positions are projected on the three principal components of all neurons, "
        f"which keep {100 * kept:.1f} % of their variance."
    )
    axes = ("component 3", "component 1", "component 2")
    return [(positions - middle) @ chosen for positions in layers], axes, sentence
