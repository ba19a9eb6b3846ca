"""Layout of a network for drawing: three coordinates for every neuron, and the synapses between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.data.subsample import even_indices
from sen_edge.model.parameters import Synapses
from sen_edge.passes.materialize import weights
from sen_edge.report.network.source import Source
from sen_runtime.ir.operators import Coordinates

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IndexArray = NDArray[np.intp]

#: Neurons of a picture; larger networks are sampled.
MAX_NEURONS = 10_000
#: Neurons of a layer that a sample keeps at least.
MIN_OF_A_LAYER = 200
#: In place of the distance 0 of coincident neurons; its inverse is within float32.
TOUCHING = 1e-30
#: Layers are moved apart by multiples of their thickness along that axis, or of their width across it.
GAP_THICKNESS, GAP_WIDTH = 1.15, 0.8


@dataclass(frozen=True, eq=False)
class Link:
    """The synapses between the drawn neurons of a layer and those of the next.

    Attributes:
        operator: positions and masks of both.
        synapses: connected neurons `[n_out, n_in]`; None if `operator` defines them.
    """

    operator: Coordinates
    synapses: Synapses | None

    def distances(self) -> Float32Array:
        """Distances `[n_out, n_in]`, at least `min_distance`: 0 of coincident neurons, inf without a synapse."""
        operator = replace(
            self.operator,
            mask=np.ones_like(self.operator.mask),
            gain=1.0,
            exponent=1.0,
            min_distance=max(self.operator.min_distance, TOUCHING),
        )
        inverse = weights(operator)
        if self.synapses is not None:
            inverse[~self.synapses] = 0
        with np.errstate(divide="ignore"):
            distances: Float32Array = 1 / inverse
        distances[inverse > 0.5 / TOUCHING] = 0
        return distances

    def lengths(self) -> Float32Array:
        """Lengths `[n]` of the synapses."""
        distances = self.distances()
        lengths: Float32Array = distances[np.isfinite(distances)]
        return lengths

    def weights(self) -> Float32Array:
        """Weights `[n_out, n_in]`: infinite between coincident neurons, 0 where there is no synapse."""
        numerator = self.operator.gain * self.operator.mask.astype(np.float32)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            values: Float32Array = numerator / self.distances() ** np.float32(self.operator.exponent)
        values[:, numerator == 0] = 0
        return values


@dataclass(frozen=True, eq=False)
class Scene:
    """A network laid out for drawing.

    Attributes:
        source: the network.
        neurons: for each layer, input first, the numbers `[n]` of the drawn neurons.
        positions: for each layer `[n, 3]`; layers are moved apart along the first coordinate.
        axes: names of the three coordinates.
        gap: distance by which a layer is moved from the one before.
        links: for each layer but the last, its synapses to the next.
        notes: remarks for readers of the picture.
    """

    source: Source
    neurons: tuple[IndexArray, ...]
    positions: tuple[FloatArray, ...]
    axes: tuple[str, str, str]
    gap: float
    links: tuple[Link, ...]
    notes: tuple[str, ...]

    @property
    def layer_names(self) -> list[str]:
        """Name of each layer, with the number of its neurons."""
        sizes = self.source.network.layer_sizes
        roles = ["input", *(f"hidden {index}" for index in range(1, len(sizes) - 1)), "output"]
        if len(sizes) == 3:
            roles[1] = "hidden"
        return [f"layer {index}: {role}, {size:,}" for index, (role, size) in enumerate(zip(roles, sizes, strict=True))]

    @cached_property
    def kinds(self) -> list[list[str]]:
        """Kind of each drawn neuron of each layer: excitatory, inhibitory, silent or output."""
        signs = [np.sign(link.operator.mask * np.float32(link.operator.gain)) for link in self.links]
        hidden = [[("silent", "excitatory", "inhibitory")[int(sign)] for sign in layer] for layer in signs]
        return [*hidden, ["output"] * len(self.neurons[-1])]

    def apart(self) -> tuple[FloatArray, ...]:
        """Positions `[n, 3]` with the layers moved apart."""
        middle = (len(self.positions) - 1) / 2
        step = np.array([self.gap, 0, 0])
        return tuple(positions + (layer - middle) * step for layer, positions in enumerate(self.positions))


def scene(source: Source, most: int = MAX_NEURONS) -> Scene:
    """Lay a network out for drawing.

    Args:
        source: the network.
        most: neurons to draw; larger networks are sampled, evenly within each layer.
    """
    projected, axes, sentence = project(source.positions, is_axis_fixed=source.is_axis_fixed)
    sizes = source.network.layer_sizes
    neurons = sample(sizes, most)
    drawn = tuple(positions[chosen] for positions, chosen in zip(projected, neurons, strict=True))
    links = []
    for index, operator in enumerate(source.operators):
        before, after = neurons[index : index + 2]
        selected = replace(
            operator, source=operator.source[before], target=operator.target[after], mask=operator.mask[before]
        )
        synapses = source.synapses.get(index)
        links.append(Link(selected, None if synapses is None else synapses[np.ix_(after, before)]))
    gap = _gap(drawn)
    notes = [f"{sentence} Layers are drawn {gap:.3g} further apart than they are."]
    if sum(map(len, neurons)) < sum(sizes):
        shares = ", ".join(f"{len(chosen):,} of {size:,}" for chosen, size in zip(neurons, sizes, strict=True))
        notes.append(
            f"Too many neurons to draw them all: a sample, evenly spread over each layer, is shown ({shares}); "
            "synapses and figures are those between the neurons shown."
        )
    return Scene(source, neurons, drawn, axes, gap, tuple(links), tuple(notes))


def sample(sizes: Sequence[int], most: int) -> tuple[IndexArray, ...]:
    """Select for each layer the numbers of neurons to draw, evenly spread, at most `most` together.

    Each layer gets `MIN_OF_A_LAYER`, or an equal share if there are many layers; the rest is divided by size.
    """
    smallest = min(MIN_OF_A_LAYER, max(1, most // len(sizes)))
    counts = [min(size, smallest) for size in sizes]
    others = [size - count for size, count in zip(sizes, counts, strict=True)]
    share = min(1.0, max(0, most - sum(counts)) / max(1, sum(others)))
    counts = [count + int(share * other) for count, other in zip(counts, others, strict=True)]
    return tuple(even_indices(size, count) for size, count in zip(sizes, counts, strict=True))


def project(
    layers: Sequence[NDArray[Any]], *, is_axis_fixed: bool
) -> tuple[list[FloatArray], tuple[str, str, str], str]:
    """Map the neurons of all layers to three coordinates.

    Args:
        layers: positions `[n, d]` of each layer.
        is_axis_fixed: whether the last coordinate is that of the layer.

    Returns:
        Positions `[n, 3]` of each layer, the layer axis first if there is one; the names of the axes; a sentence about
        the projection and the share of the variance that it keeps.
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
        sentence += "; the layer axis is fixed, not learned"
    first, second, third = [*names, *["nothing"] * missing]
    return [np.pad(at, ((0, 0), (0, missing))) for at in exact], (first, second, third), f"{sentence}."


def _principal(layers: list[FloatArray], d: int) -> tuple[list[FloatArray], tuple[str, str, str], str]:
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


def _gap(layers: Sequence[FloatArray]) -> float:
    """Distance by which layers are moved apart."""
    spans = [np.quantile(positions, 0.98, axis=0) - np.quantile(positions, 0.02, axis=0) for positions in layers]
    thickness, *width = np.max(spans, axis=0)
    return float(max(GAP_THICKNESS * thickness, GAP_WIDTH * max(width))) or 1.0
