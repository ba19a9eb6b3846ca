"""Compression layer by layer: second-order problems from calibration inputs, and compensation of errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sen_edge.compression.moments import (
    Inputs,
    Moments,
    check_calibration,
    moments,
    sensitivities,
    warn_of_rank,
)
from sen_edge.compression.quadratic import Quadratic
from sen_edge.passes.materialize import materialize
from sen_runtime.ir.network import Layer, Network, readout_factors
from sen_runtime.ir.operators import Dense, WeightOperator

FloatArray = NDArray[np.float64]
#: Number and problem of a layer -> its new weights, or None to leave it as it is.
Method = Callable[[int, Quadratic], "WeightOperator | None"]

#: Damping of the refit, as a share of the mean variance.
REFIT_DAMPING = 1e-2


@dataclass(frozen=True, eq=False)
class SecondOrder:
    """A network with the statistics of its second-order problems.

    Attributes:
        network: without coordinates.
        calibration: checked inputs.
        sensitivities: A of each layer, from `sen_edge.compression.moments`.
    """

    network: Network
    calibration: Inputs
    sensitivities: list[FloatArray]

    @classmethod
    def of(cls, network: Network, calibration: Inputs | None, seed: int = 0) -> SecondOrder:
        """Check the inputs and compute the statistics; `seed` is that of random mixtures of many outputs.

        Raises:
            DataError: calibration inputs are missing, of the wrong shape or not finite.
            NetworkError: weights that cannot be computed.
        """
        calibration, dense = check_calibration(network, calibration), materialize(network)
        return cls(dense, calibration, sensitivities(dense, calibration, seed))

    def problems(self, layers: Iterable[int]) -> dict[int, Quadratic]:
        """Return the problem of each of these layers; warn of too few inputs."""
        found, problems = moments(self.network, self.network, self.calibration), {}
        for index in layers:
            warn_of_rank(index, found[index])
            weight = self.network.layers[index].weight.to_dense().astype(np.float64)
            problems[index] = Quadratic.of(weight, found[index].covariance, self.sensitivities[index])
        return problems

    def compress(self, method: Method) -> Network:
        """Replace the weights of layers in order, with biases that preserve the means of their outputs.

        A layer behind a compressed one approximates the outputs of the original network from its actual inputs:
        `W' = W + W cov(x - z, z) (cov(z) + damping)^-1`, with inputs x of the original and z of the compressed network.
        """
        original = result = self.network
        found = moments(original, original, self.calibration)
        for index, layer in enumerate(original.layers):
            weight = layer.weight.to_dense().astype(np.float64)
            if result is not original:
                found = moments(original, result, self.calibration)
                weight = _refit(weight, found[index])
            operator = method(index, Quadratic.of(weight, found[index].covariance, self.sensitivities[index]))
            if operator is None:
                if result is original:
                    continue
                operator = Dense(weight.astype(np.float32)) if isinstance(layer.weight, Dense) else layer.weight
            result = _replace_layer(result, index, operator, _bias(original, layer, operator, found[index]))
        return result


def compensate_means(network: Network, compressed: Network, calibration: Inputs) -> Network:
    """`compressed` with biases that preserve the means of every layer's outputs in `network`."""
    original, result = materialize(network), compressed
    for index, layer in enumerate(compressed.layers):
        found = moments(original, materialize(result), calibration)[index]
        bias = _bias(original, original.layers[index], layer.weight, found)
        result = _replace_layer(result, index, layer.weight, bias)
    return result


def _replace_layer(network: Network, index: int, operator: WeightOperator, bias: NDArray[np.float32]) -> Network:
    layers = list(network.layers)
    layers[index] = replace(layers[index], weight=operator, bias=bias)
    return replace(network, layers=tuple(layers))


def _refit(weight: FloatArray, found: Moments) -> FloatArray:
    c = found.covariance
    if c.ndim == 1:
        return weight + weight * (found.lost / (c + (REFIT_DAMPING * float(c.mean()) or 1.0)))
    damped = c + np.eye(len(c)) * (REFIT_DAMPING * float(np.trace(c)) / len(c) or 1.0)
    result: FloatArray = weight + np.linalg.solve(damped, (weight @ found.lost).T).T
    return result


def _bias(network: Network, layer: Layer, operator: WeightOperator, found: Moments) -> NDArray[np.float32]:
    """Bias that preserves the mean of the layer's outputs."""
    before = layer.weight.to_dense().astype(np.float64) @ found.mean
    after = operator.to_dense().astype(np.float64) @ found.compressed_mean
    # inputs of a leaky integrator are summed over the steps, and its bias is added in each
    factor = float(readout_factors(network).sum()) if layer.neuron.role == "readout" else 1.0
    bias = 0.0 if layer.bias is None else layer.bias.astype(np.float64)
    result: NDArray[np.float32] = (bias + (before - after) / factor).astype(np.float32)
    return result
