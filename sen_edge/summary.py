"""What a checkpoint holds, in figures: the content of `sen-edge inspect`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.checkpoint import Checkpoint, to_network
from sen_edge.precompute import weights
from sen_runtime.errors import NetworkError
from sen_runtime.operators import Coordinates

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)


@dataclass(frozen=True)
class LayerSummary:
    """One weight layer.

    Attributes:
        n_in: source neurons.
        n_out: target neurons.
        parameters: learned numbers that this layer adds: the target's positions (and the input's, for the
            first layer), inhibition, gain, bias.
        synapses: weights that the coordinates stand for, n_in * n_out.
        excitatory: share of source neurons with a positive outgoing weight.
        inhibitory: share of source neurons with a negative outgoing weight; the rest are silent.
        distance_quantiles: at 0, 5, 50, 95 and 100 %; None where neurons coincide.
        weight_quantiles: the same of the signed weights.
        problem: why the weights cannot be computed, or empty.
    """

    n_in: int
    n_out: int
    parameters: int
    synapses: int
    excitatory: float
    inhibitory: float
    distance_quantiles: tuple[float, ...] | None
    weight_quantiles: tuple[float, ...] | None
    problem: str


@dataclass(frozen=True)
class Summary:
    """A checkpoint.

    Attributes:
        architecture: "mlp" or "snn".
        layer_sizes: neurons per layer, input first.
        parameters: learned numbers.
        dense_parameters: those of the fully connected network with the same layers (weights, and biases if any).
        saved: share of `dense_parameters` that the coordinates save, in percent.
    """

    architecture: str
    config: dict[str, Any]
    layer_sizes: tuple[int, ...]
    neurons: int
    dimensions: int
    parameters: int
    synapses: int
    dense_parameters: int
    saved: float
    layers: tuple[LayerSummary, ...]
    metadata: dict[str, str]
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def summarize(checkpoint: Checkpoint) -> Summary:
    """Figures of a checkpoint; a layer whose neurons coincide is described, not refused."""
    network = to_network(checkpoint)
    layers = []
    for index, layer in enumerate(network.layers):
        operator = layer.weight
        if not isinstance(operator, Coordinates):  # to_network gives nothing else
            raise TypeError(type(operator).__name__)
        layers.append(_layer(checkpoint, index, operator))
    synapses = sum(layer.synapses for layer in layers)
    biases = sum(layer.n_out for layer in layers) if checkpoint.config.bias else 0
    dense = synapses + biases
    return Summary(
        architecture=checkpoint.config.architecture,
        config=checkpoint.config.to_dict(),
        layer_sizes=network.layer_sizes,
        neurons=sum(network.layer_sizes),
        dimensions=checkpoint.config.dimensions,
        parameters=checkpoint.n_parameters,
        synapses=synapses,
        dense_parameters=dense,
        saved=100 * (1 - checkpoint.n_parameters / dense),
        layers=tuple(layers),
        metadata=dict(checkpoint.metadata),
        sha256=checkpoint.sha256,
    )


def _layer(checkpoint: Checkpoint, index: int, operator: Coordinates) -> LayerSummary:
    n_out, n_in = operator.shape
    names = [f"positions.{index + 1}", f"inhibition.{index}", f"gain.{index}", f"bias.{index}"]
    names += ["positions.0"] if index == 0 else []
    outgoing = operator.mask * np.sign(operator.gain)
    distances, signed, problem = None, None, ""
    try:
        inverse = weights(replace(operator, mask=np.ones_like(operator.mask), gain=1.0, exponent=1.0))
        distances = _quantiles(1 / inverse)
        signed = _quantiles(weights(operator))
    except NetworkError as error:
        problem = error.message
    return LayerSummary(
        n_in=n_in,
        n_out=n_out,
        parameters=sum(int(checkpoint.tensors[name].size) for name in names if name in checkpoint.tensors),
        synapses=n_in * n_out,
        excitatory=float(np.mean(outgoing > 0)),
        inhibitory=float(np.mean(outgoing < 0)),
        distance_quantiles=distances,
        weight_quantiles=signed,
        problem=problem,
    )


def _quantiles(values: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(values, QUANTILES))
