"""Weights from neuron positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sen_runtime.errors import NetworkError
from sen_runtime.ir.checks import Array, check_array, is_positive, require, store_float32
from sen_runtime.ir.operators.base import WeightOperator

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Coordinates(WeightOperator):
    """Weights from neuron positions; O(n) storage.

        r[j, i] = || source[i] - target[j] ||_2
        w[j, i] = gain * mask[i] / max(r[j, i], min_distance) ** exponent    where r[j, i] <= max_distance, else 0

    Attributes:
        source: `[n_in, d]` positions of the presynaptic neurons.
        target: `[n_out, d]` positions of the postsynaptic neurons.
        mask: `[n_in]` inhibition mask of the presynaptic neurons, in [-1, 1]; 0 silences a neuron.
        gain: factor of the layer.
        exponent: power of the distance, > 0; the paper's form is 1.
        min_distance: floor of the distance, >= 0; at 0 coincident neurons are an error.
        max_distance: radius, > min_distance; a longer synapse has weight 0. inf for none.

    Source: arXiv 2506.13410, section on spatially embedded networks.
    """

    source: Array
    target: Array
    mask: Array
    gain: float = 1.0
    exponent: float = 1.0
    min_distance: float = 0.0
    max_distance: float = np.inf

    weight_fields = ("source", "target", "mask")
    form = "coordinates"

    def __post_init__(self) -> None:
        check_array(self.source, "source positions", 2)
        check_array(self.target, "target positions", 2)
        check_array(self.mask, "mask", 1)
        (n_in, dimensions), found = self.source.shape, self.target.shape[1]
        require(
            dimensions == found,
            f"source positions have {dimensions} coordinates, target positions have {found}; both need the same number",
        )
        require(len(self.mask) == n_in, f"mask has {len(self.mask)} values for {n_in} source neurons")
        is_mask = np.all(np.abs(self.mask) <= 1)
        require(is_mask, "mask has values outside [-1, 1]; expected 2 * sigmoid(k * inhibition) - 1")
        store_float32(self, "gain")
        store_float32(self, "exponent", "> 0", is_positive)
        store_float32(self, "min_distance", ">= 0", lambda distance: distance >= 0)
        if self.max_distance != np.inf:
            bound = f"> min_distance, which is {self.min_distance:g}"
            store_float32(self, "max_distance", bound, lambda distance: distance > self.min_distance)

    @property
    def shape(self) -> tuple[int, int]:
        """`(n_out, n_in)`."""
        return self.target.shape[0], self.source.shape[0]

    @property
    def dimensions(self) -> int:
        """Number of coordinates d of a position."""
        return int(self.source.shape[1])

    @property
    def has_max_distance(self) -> bool:
        """Whether longer synapses have weight 0."""
        return self.max_distance != np.inf

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one product with a dense matrix, in which weights beyond `max_distance` are 0."""
        return self.shape[0] * self.shape[1]

    @property
    def nnz(self) -> int:
        """Weights that the positions give."""
        return self.macs

    def to_dense(self) -> NDArray[np.float32]:
        """Weights `[n_out, n_in]`, computed in float64, rounded once; refuses coincident neurons and overflow."""
        source = self.source.astype(np.float64)
        numerator = self.gain * self.mask.astype(np.float64)
        weights = np.empty(self.shape, np.float32)
        for j, target in enumerate(self.target.astype(np.float64)):
            distance = np.sqrt(squared_distances(source, target))
            is_beyond = distance > self.max_distance
            distance = np.maximum(distance, self.min_distance)
            check_distances(distance[np.newaxis, :], first_target=j)
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # check_range reports it
                row = numerator / distance**self.exponent
            row[is_beyond] = 0
            check_range(row[np.newaxis, :], first_target=j)
            weights[j] = row
        return weights


def squared_distances(source: FloatArray, target: FloatArray) -> FloatArray:
    """Squared distances `[n]` of the rows of `source [n, d]` from those of `target`, `[n, d]` or `[d]`.

    The one definition for comparisons with `max_distance`: sums of squared differences, always in the same order.
    """
    difference = np.ascontiguousarray(source - target)  # the order of a sum follows the layout
    squared: FloatArray = np.sum(difference**2, axis=1)
    return squared


def check_distances(distance: FloatArray, first_source: int = 0, first_target: int = 0) -> None:
    """Refuse a distance of 0 in a tile `[targets, sources]`; the message names the first pair of coincident neurons."""
    if np.min(distance) > 0:
        return
    j, i = np.unravel_index(int(np.argmin(distance)), distance.shape)
    raise NetworkError(
        f"source neuron {first_source + int(i)} and target neuron {first_target + int(j)} sit at the same point: "
        "the weight between them is infinite",
        hint="move one of them, or train and save with a positive min_distance",
    )


def check_range(weights: FloatArray, first_source: int = 0, first_target: int = 0) -> None:
    """Refuse weights beyond float32, or NaN, in a tile `[targets, sources]`; the message names the first."""
    magnitude = np.abs(weights)
    if np.max(magnitude) <= np.finfo(np.float32).max:  # False for NaN too
        return
    j, i = np.unravel_index(int(np.argmax(magnitude)), weights.shape)
    raise NetworkError(
        f"the weight from source neuron {first_source + int(i)} to target neuron {first_target + int(j)} is "
        f"{weights[j, i]:.3g}: beyond float32",
        hint="the two neurons nearly coincide; train and save with a positive min_distance",
    )
