"""Data of the view, as its scripts read them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_exporters.view.layout import FloatArray, IndexArray
from sen_runtime.ir.network import Network

#: Mark and meaning of each kind of neuron, in the order of the script.
KINDS = {
    "excitatory": ("●", "weights > 0"),
    "inhibitory": ("■", "weights < 0"),
    "silent": ("○", "mask 0"),
    "output": ("◆", ""),
}
#: Learned coordinates of a neuron that the page shows.
MAX_COORDINATES = 8
#: Types of arrays in the script, and of their bytes.
ARRAYS = {"Float32Array": "<f4", "Uint32Array": "<u4", "Uint16Array": "<u2", "Uint8Array": "u1"}


@dataclass(frozen=True, eq=False)
class View:
    """A network as it is drawn. Sequences have an item for each layer, input first.

    Attributes:
        names: of the layers.
        axes: names of the three coordinates; empty for one that is not used.
        labels: names of the drawn neurons of a layer, by its index.
        gap: distance by which a layer is moved from the one before.
        dimensions: learned coordinates d of a position; 0 without.
        neurons: numbers `[n]` of the drawn neurons.
        positions: `[n, 3]`.
        kinds: of `KINDS`.
        masks: `[n]`, NaN where there is none.
        coordinates: learned positions `[n, d]`.
        synapses: for each layer but the last, sources and targets `[k]`, indices among the drawn neurons, and weights.
    """

    names: Sequence[str]
    axes: Sequence[str]
    labels: Mapping[int, Sequence[str]]
    gap: float
    dimensions: int
    neurons: Sequence[IndexArray]
    positions: Sequence[FloatArray]
    kinds: Sequence[Sequence[str]]
    masks: Sequence[NDArray[Any]]
    coordinates: Sequence[NDArray[Any]]
    synapses: Sequence[tuple[IndexArray, IndexArray, NDArray[Any]]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `neurons` and `synapses` are the first index of each layer, then the total."""
        first = np.cumsum([0, *map(len, self.neurons)])
        links, kinds = self.synapses, list(KINDS)
        return {
            "names": list(self.names),
            "axes": list(self.axes),
            "labels": {layer: list(names) for layer, names in self.labels.items()},
            "gap": self.gap,
            "dimensions": self.dimensions,
            "neurons": first.tolist(),
            "synapses": np.cumsum([0, *(len(weights) for _, _, weights in links)]).tolist(),
            # Low and high of the three coordinates, without the neurons far out.
            "boxes": [np.quantile(at, [0.02, 0.98], axis=0).T.tolist() for at in self.positions],
            "arrays": {
                "positions": encode("Float32Array", self.positions),
                "numbers": encode("Uint32Array", self.neurons),
                "kinds": encode("Uint8Array", [[kinds.index(kind) for kind in layer] for layer in self.kinds]),
                "masks": encode("Float32Array", self.masks),
                "sources": encode("Uint32Array", [first[layer] + link[0] for layer, link in enumerate(links)]),
                "targets": encode("Uint32Array", [first[layer + 1] + link[1] for layer, link in enumerate(links)]),
                "weights": encode("Float32Array", [weights for _, _, weights in links]),
                "coordinates": encode("Float32Array", [at[:, :MAX_COORDINATES] for at in self.coordinates]),
            },
        }


def legend(kinds: Sequence[Sequence[str]]) -> list[tuple[str, str, str, str]]:
    """Name, mark, meaning and count of each kind of neuron in a network."""
    counts = {name: sum(layer.count(name) for layer in kinds) for name in KINDS}
    return [(name, *KINDS[name], f"{count:,}") for name, count in counts.items() if count]


def layer_names(sizes: Sequence[int]) -> list[str]:
    """Name of each layer, with the number of its neurons."""
    roles = ["input", *(f"hidden {index}" for index in range(1, len(sizes) - 1)), "output"]
    if len(sizes) == 3:
        roles[1] = "hidden"
    return [f"layer {index}: {role}, {size:,}" for index, (role, size) in enumerate(zip(roles, sizes, strict=True))]


def labels_of(network: Network, neurons: Sequence[IndexArray]) -> dict[int, list[str]]:
    """Names of the drawn neurons by layer: features of the input, classes or values of the output; if known."""
    last, sizes = len(neurons) - 1, network.layer_sizes
    features = network.names("feature_names")
    if network.n_features < network.n_in:  # input coding "delta"
        features = tuple(f"{name} {change}" for change in ("rises", "falls") for name in features)
    known = {0: features, last: network.names("output_names")}
    return {
        layer: [names[at] for at in neurons[layer]]
        for layer, names in known.items()
        if len(names) == sizes[layer]  # metadata of an image can be any text
    }


def encode(kind: str, arrays: Sequence[Any]) -> tuple[str, str]:
    """Encode the values of all arrays as base64; returns the type in the script and the text."""
    joined = np.concatenate([np.ravel(array) for array in arrays])
    return kind, base64.b64encode(joined.astype(ARRAYS[kind]).tobytes()).decode()
