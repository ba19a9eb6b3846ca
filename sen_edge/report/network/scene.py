"""Layout of a network for drawing: three coordinates for every neuron, and the synapses between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sen_edge.errors import UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model import model as models
from sen_edge.model.model import Model
from sen_edge.model.nir import NIR_SUFFIX
from sen_edge.model.parameters import Checkpoint
from sen_edge.passes.materialize import weights
from sen_exporters.view.data import labels_of, layer_names
from sen_exporters.view.layout import (
    MAX_NEURONS,
    FloatArray,
    IndexArray,
    find_strongest,
    gap_of,
    has_layer_axis,
    project,
    sample,
)
from sen_runtime.ir.network import Network, positions_of
from sen_runtime.ir.operators import Coordinates

Float32Array = NDArray[np.float32]

#: In place of the distance 0 of coincident neurons; its inverse is within float32.
TOUCHING = 1e-30
#: Synapses of a layer in a picture: by default, and at most.
STRONGEST, MAX_DRAWN = 500, 20_000


# --- networks with positions ---------------------------------------------------------------------


def load_positions(path: Path, *, map_path: Path | None = None) -> Model:
    """Read a network with positions: a checkpoint, a `.sen` image that stores coordinates, or a folder of them.

    All weights are `Coordinates`, without the pattern of a checkpoint; coincident neurons are allowed.

    Raises:
        CheckpointError, ImageError: see `sen_edge.model.model.load`.
        UsageError: an image or NIR graph without coordinates; a map for an image; hidden neurons with two positions.
    """
    if path.is_dir() and (loaded := models.load(path, map_path=map_path)).path is not None:
        path = loaded.path
    if path.suffix not in (models.IMAGE_SUFFIX, NIR_SUFFIX):
        return _require_one_position(of_checkpoint(checkpoints.load(path, map_path=map_path), path), path)
    model = models.load(path, map_path=map_path)
    for index, layer in enumerate(model.network.layers):
        if not isinstance(layer.weight, Coordinates):
            raise UsageError(
                f"{path}: layer {index} holds weights and no positions, so there is nothing to draw",
                hint="draw the checkpoint, or a .sen image with --weights coordinates",
            )
    return _require_one_position(model, path)


def _require_one_position(model: Model, path: Path) -> Model:
    for index, (before, after) in enumerate(pairwise(operators(model.network))):
        if not np.array_equal(before.target, after.source):
            raise UsageError(
                f"{path}: neurons of layer {index + 1} have two positions each, as targets and as sources; expected one"
            )
    return model


def of_checkpoint(checkpoint: Checkpoint, path: Path) -> Model:
    """Model of a checkpoint whose network lacks the pattern of synapses."""
    network = checkpoints.to_network(replace(checkpoint, synapses={}))
    return Model(network, checkpoint.sha256, checkpoint, path, checkpoint.applied_map)


def operators(network: Network) -> list[Coordinates]:
    """Positions and masks of every layer."""
    return [layer.weight for layer in network.layers if isinstance(layer.weight, Coordinates)]


def is_axis_fixed(model: Model) -> bool:
    """Whether the last coordinate is that of the layer: in an image, equal within layers and distinct between."""
    if model.checkpoint is not None:
        return model.checkpoint.config.has_layer_axis
    return has_layer_axis(positions_of(model.network))


# --- the scene -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Link:
    """The synapses between the drawn neurons of a layer and those of the next.

    Attributes:
        operator: positions and masks of both.
        distances: `[n_out, n_in]`, at least `min_distance`: 0 of coincident neurons, inf without a synapse.
        weights: `[n_out, n_in]`: infinite between coincident neurons, 0 without a synapse.
        sources: `[n]` of the synapses to draw, the strongest first: indices among the drawn neurons of the layer.
        targets: `[n]`, indices among those of the next layer.
        strongest: `[n]`, their weights.
    """

    operator: Coordinates
    distances: Float32Array
    weights: Float32Array
    sources: IndexArray
    targets: IndexArray
    strongest: Float32Array

    @property
    def lengths(self) -> Float32Array:
        """Lengths `[n]` of all synapses."""
        lengths: Float32Array = self.distances[np.isfinite(self.distances)]
        return lengths


@dataclass(frozen=True, eq=False)
class Scene:
    """A network laid out for drawing.

    Attributes:
        model: of `load_positions`.
        neurons: for each layer, input first, the numbers `[n]` of the drawn neurons.
        positions: for each layer `[n, 3]`; layers are moved apart along the first coordinate.
        axes: names of the three coordinates.
        gap: distance by which a layer is moved from the one before.
        links: for each layer but the last, its synapses to the next.
        notes: remarks for readers of the picture.
    """

    model: Model
    neurons: tuple[IndexArray, ...]
    positions: tuple[FloatArray, ...]
    axes: tuple[str, ...]
    gap: float
    links: tuple[Link, ...]
    notes: tuple[str, ...]

    @property
    def dimensions(self) -> int:
        """Coordinates d of a position."""
        return self.links[0].operator.dimensions

    @property
    def description(self) -> str:
        """Kind of the network, layer sizes, time steps and dimensions."""
        network = self.model.network
        kind, steps = ("spiking network", f", T = {network.timesteps}") if network.is_spiking else ("perceptron", "")
        return f"{kind} {'-'.join(map(str, network.layer_sizes))}{steps}, d = {self.dimensions}"

    @property
    def layer_names(self) -> list[str]:
        """Name of each layer, with the number of its neurons."""
        return layer_names(self.model.network.layer_sizes)

    @property
    def labels(self) -> dict[int, list[str]]:
        """Names of the drawn neurons by layer: features of the input, classes or values of the output; if known."""
        return labels_of(self.model.network, self.neurons)

    @cached_property
    def kinds(self) -> list[list[str]]:
        """Kind of each drawn neuron of each layer: excitatory, inhibitory, silent or output."""
        signs = [np.sign(link.operator.mask * np.float32(link.operator.gain)) for link in self.links]
        hidden = [[("silent", "excitatory", "inhibitory")[int(sign)] for sign in layer] for layer in signs]
        return [*hidden, ["output"] * len(self.neurons[-1])]

    def apart(self) -> list[FloatArray]:
        """Positions `[n, 3]` with the layers moved apart."""
        middle = (len(self.positions) - 1) / 2
        step = np.array([self.gap, 0, 0])
        return [at + (layer - middle) * step for layer, at in enumerate(self.positions)]


def scene(
    model: Model, most: int = MAX_NEURONS, *, strongest: int = STRONGEST, max_distance: float | None = None
) -> Scene:
    """Lay out a model of `load_positions`: `most` neurons, sampled evenly within each layer.

    Synapses are the `strongest` of each layer by the magnitude of their weight, or all up to `max_distance`.
    """
    projected, axes, sentence = project(positions_of(model.network), is_axis_fixed=is_axis_fixed(model))
    sizes = model.network.layer_sizes
    neurons = sample(sizes, most)
    drawn = tuple(positions[chosen] for positions, chosen in zip(projected, neurons, strict=True))
    gap = gap_of(drawn)
    notes = [f"{sentence} Layers are drawn {gap:.3g} further apart than they are."]
    if sum(map(len, neurons)) < sum(sizes):
        shares = ", ".join(f"{len(chosen):,} of {size:,}" for chosen, size in zip(neurons, sizes, strict=True))
        notes.append(
            f"Too many neurons to draw them all: a sample, evenly spread over each layer, is shown ({shares}); "
            "synapses and figures are those between the neurons shown."
        )
    links = []
    for index, operator in enumerate(operators(model.network)):
        before, after = neurons[index : index + 2]
        selected = replace(
            operator, source=operator.source[before], target=operator.target[after], mask=operator.mask[before]
        )
        pattern = None if model.checkpoint is None else model.checkpoint.synapses.get(index)
        distances = _distances(selected, None if pattern is None else pattern[np.ix_(after, before)])
        values = _weights(selected, distances)
        sources, targets, remarks = _select(values, distances, strongest, max_distance)
        links.append(Link(selected, distances, values, sources, targets, values[targets, sources]))
        notes += [" ".join(f"Layer {index} to {index + 1}: {remark}" for remark in remarks)] if remarks else []
    return Scene(model, neurons, drawn, axes, gap, tuple(links), tuple(notes))


def _distances(operator: Coordinates, pattern: NDArray[np.bool_] | None) -> Float32Array:
    """Inverse weights of masks 1, so that rounding and `max_distance` are those of the network."""
    floor, ones = max(operator.min_distance, TOUCHING), np.ones_like(operator.mask)
    inverse = weights(replace(operator, mask=ones, gain=1.0, exponent=1.0, min_distance=floor))
    if pattern is not None:
        inverse[~pattern] = 0
    with np.errstate(divide="ignore"):
        distances: Float32Array = 1 / inverse
    distances[inverse > 0.5 / TOUCHING] = 0
    return distances


def _weights(operator: Coordinates, distances: Float32Array) -> Float32Array:
    numerator = operator.gain * operator.mask.astype(np.float32)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        values: Float32Array = numerator / distances ** np.float32(operator.exponent)
    values[:, numerator == 0] = 0
    return values


def _select(
    values: Float32Array, distances: Float32Array, strongest: int, max_distance: float | None
) -> tuple[IndexArray, IndexArray, list[str]]:
    """Sources and targets of the synapses to draw, and remarks on omitted ones."""
    strength = np.abs(values)
    is_infinite = np.isinf(strength)
    strength[is_infinite] = 0
    remarks = []
    if n_infinite := int(is_infinite.sum()):
        pairs = "1 pair of neurons" if n_infinite == 1 else f"{n_infinite:,} pairs of neurons"
        remarks.append(
            f"{pairs} at the same point; their weight is infinite and their synapse has no length, so it is not drawn."
        )
    asked, what = strongest, "were asked for"
    if max_distance is not None:
        strength[distances > max_distance] = 0
        asked, what = strength.size, f"are not longer than {max_distance:g}"
    wanted = min(asked, int(np.count_nonzero(strength)))
    count = min(wanted, MAX_DRAWN)
    if count < wanted:
        remarks.append(f"{wanted:,} synapses {what}; the {count:,} strongest are drawn.")
    return *find_strongest(strength, count), remarks
