"""What a picture is drawn from: three coordinates for every neuron, and the synapses between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.data.subsample import even_indices
from sen_edge.model.parameters import Synapses
from sen_edge.passes.materialize import weights
from sen_edge.report.plot.source import Source
from sen_runtime.ir.operators import Coordinates

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IndexArray = NDArray[np.intp]

#: Neurons that are drawn; of larger networks a sample.
MAX_NEURONS = 10_000
#: A sample leaves so many neurons of each layer, or all.
LEAST_OF_A_LAYER = 200
#: Stands for the distance of coincident neurons, whose own has no inverse; its inverse is within float32.
TOUCHING = 1e-30
#: Layers are drawn apart by so many times their thickness along that axis, or their width across it.
GAP_THICKNESS, GAP_WIDTH = 1.15, 0.8


@dataclass(frozen=True, eq=False)
class Link:
    """The synapses between the drawn neurons of a layer and those of the next.

    Attributes:
        operator: positions and masks of both.
        synapses: `[n_out, n_in]`, which neurons are connected; None where `operator` says it.
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

    def weights(self) -> Float32Array:
        """Weights `[n_out, n_in]`: infinite between coincident neurons, 0 where there is no synapse."""
        numerator = self.operator.gain * self.operator.mask.astype(np.float32)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            values: Float32Array = numerator / self.distances() ** np.float32(self.operator.exponent)
        values[:, numerator == 0] = 0
        return values


@dataclass(frozen=True, eq=False)
class Scene:
    """A network as it is drawn.

    Attributes:
        source: that is drawn.
        neurons: for each layer, input first, the numbers `[n]` of the neurons that are drawn.
        positions: for each layer `[n, 3]`, the first coordinate that along which layers are drawn apart.
        axes: what the three coordinates are.
        gap: how far a layer is moved from the one before; 0 leaves them where they are.
        links: for each layer but the last, its synapses to the next.
        notes: what a reader has to know to understand the picture.
    """

    source: Source
    neurons: tuple[IndexArray, ...]
    positions: tuple[FloatArray, ...]
    axes: tuple[str, str, str]
    gap: float
    links: tuple[Link, ...]
    notes: tuple[str, ...]

    @property
    def outgoing(self) -> tuple[Float32Array, ...]:
        """For each layer the factor `[n]` of the weights that leave its neurons; empty for the last layer."""
        factors = [link.operator.mask * np.float32(link.operator.gain) for link in self.links]
        return (*factors, np.empty(0, np.float32))

    def apart(self) -> tuple[FloatArray, ...]:
        """Positions `[n, 3]` with the layers moved apart, their middle at the origin."""
        middle = (len(self.positions) - 1) / 2
        step = np.array([self.gap, 0, 0])
        return tuple(positions + (layer - middle) * step for layer, positions in enumerate(self.positions))


def scene(source: Source, most: int = MAX_NEURONS) -> Scene:
    """Lay a network out for drawing.

    Args:
        source: any; where neurons coincide it is drawn, too.
        most: neurons to draw; of more, a sample of each layer, evenly spread over its neurons.
    """
    operators = source.operators
    everything = [*(operator.source for operator in operators), operators[-1].target]
    projected, axes, sentence = project(everything, is_axis_fixed=source.is_axis_fixed)
    sizes = source.network.layer_sizes
    neurons = sample(sizes, most)
    drawn = tuple(positions[chosen] for positions, chosen in zip(projected, neurons, strict=True))
    links = tuple(
        _link(operator, source.synapses.get(index), neurons[index], neurons[index + 1])
        for index, operator in enumerate(operators)
    )
    gap = _gap(drawn)
    apart = f"Layers are drawn {gap:.3g} further apart than they are."
    return Scene(source, neurons, drawn, axes, gap, links, (f"{sentence} {apart}", *_sampling_note(sizes, neurons)))


def _link(operator: Coordinates, synapses: Synapses | None, source: IndexArray, target: IndexArray) -> Link:
    drawn = replace(
        operator, source=operator.source[source], target=operator.target[target], mask=operator.mask[source]
    )
    return Link(drawn, None if synapses is None else synapses[np.ix_(target, source)])


def sample(sizes: Sequence[int], most: int) -> tuple[IndexArray, ...]:
    """For each layer the numbers of the neurons to draw: all, or at most `most` in all, evenly spread.

    Of each layer there are `LEAST_OF_A_LAYER`, or an equal share where there are many layers; the rest goes by size.
    """
    least = min(LEAST_OF_A_LAYER, max(1, most // len(sizes)))
    counts = [min(size, least) for size in sizes]
    others = [size - count for size, count in zip(sizes, counts, strict=True)]
    share = min(1.0, max(0, most - sum(counts)) / max(1, sum(others)))
    counts = [count + int(share * other) for count, other in zip(counts, others, strict=True)]
    return tuple(even_indices(size, count) for size, count in zip(sizes, counts, strict=True))


def _sampling_note(sizes: Sequence[int], neurons: Sequence[IndexArray]) -> list[str]:
    drawn = [len(chosen) for chosen in neurons]
    if sum(drawn) == sum(sizes):
        return []
    shares = ", ".join(f"{count:,} of {size:,}" for count, size in zip(drawn, sizes, strict=True))
    return [
        f"Too many neurons to draw them all: a sample, evenly spread over each layer, is shown ({shares}); "
        "synapses and figures are those between the neurons shown."
    ]


def project(
    layers: Sequence[NDArray[Any]], *, is_axis_fixed: bool
) -> tuple[list[FloatArray], tuple[str, str, str], str]:
    """Three coordinates for every neuron, those of all layers in the same way.

    Args:
        layers: positions `[n, d]` of each layer.
        is_axis_fixed: whether the last coordinate is that of the layer.

    Returns:
        Positions `[n, 3]` of each layer, the first that of the layer where there is one; the names of the axes; a
        sentence that says what was done, and what share of the variance is kept.
    """
    d = layers[0].shape[1]
    exact = [positions.astype(np.float64) for positions in layers]
    if d > 3:
        return _principal(exact, d)
    names = [f"coordinate {index + 1}" for index in range(d)]
    if is_axis_fixed:
        names = ["layer axis", *names[:-1]]
        exact = [np.roll(positions, 1, axis=1) for positions in exact]
    elif d < 3:
        names = ["layer index", *names]
        exact = [np.column_stack([np.full(len(at), float(index)), at]) for index, at in enumerate(exact)]
    missing = 3 - len(names)
    exact = [np.pad(positions, ((0, 0), (0, missing))) for positions in exact]
    axes = (*names, *["nothing"] * missing)
    sentence = f"d = {d}: positions are drawn as they were learned"
    if d < 3:
        added = [] if is_axis_fixed else ["the layer index"]
        sentence += ", with " + " and ".join([*added, *["0"] * missing]) + " as further coordinates"
    if is_axis_fixed:
        sentence += "; the layer axis is fixed, not learned"
    return exact, (axes[0], axes[1], axes[2]), sentence + "."


def _principal(layers: list[FloatArray], d: int) -> tuple[list[FloatArray], tuple[str, str, str], str]:
    """Principal components of all neurons together: the third first, for layers are thinnest along it."""
    everything = np.concatenate(layers)
    middle = everything.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(everything - middle, rowvar=False, bias=True))
    chosen = directions[:, [-3, -1, -2]]
    largest = np.abs(chosen).argmax(axis=0)
    chosen = chosen * np.where(chosen[largest, range(3)] < 0, -1, 1)  # their sign is free: one that repeats
    total = float(variances.sum())
    kept = float(variances[-3:].sum()) / total if total > 0 else 1.0
    sentence = (
        f"d = {d}: positions are projected on the three principal components of all neurons, "
        f"which keep {100 * kept:.1f} % of their variance."
    )
    axes = ("component 3", "component 1", "component 2")
    return [(positions - middle) @ chosen for positions in layers], axes, sentence


def _gap(layers: Sequence[FloatArray]) -> float:
    """How far layers have to be moved apart to be seen as layers."""
    spans = [np.quantile(positions, 0.98, axis=0) - np.quantile(positions, 0.02, axis=0) for positions in layers]
    thickness, *width = np.max(spans, axis=0)
    return float(max(GAP_THICKNESS * thickness, GAP_WIDTH * max(width))) or 1.0
