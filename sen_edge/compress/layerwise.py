"""Compress one layer after the other, each making up for what the ones before it lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sen_edge.compress.moments import Inputs, Moments, moments, warn_of_rank
from sen_edge.compress.quadratic import Quadratic
from sen_edge.passes.materialize import precompute
from sen_runtime.ir.network import Layer, LeakyIntegrator, Network, readout_factors
from sen_runtime.ir.operators import Dense, WeightOperator

FloatArray = NDArray[np.float64]
#: A layer's number and problem -> its new weights, or None to leave it as it is.
Method = Callable[[int, Quadratic], "WeightOperator | None"]

#: Share of the mean variance that holds back what a layer may change to make up for those before it.
REFIT_DAMPING = 1e-2


def layerwise(network: Network, calibration: Inputs, method: Method, sensitivities: Sequence[FloatArray]) -> Network:
    """The network with the weights that `method` gives, and biases that make up for the means.

    A layer behind a compressed one aims at the outputs of the original network from the inputs that it gets now:
    `W' = W + W cov(x - z, z) (cov(z) + damping)^-1`, x and z being the original and the compressed network's.

    Args:
        network: to compress.
        calibration: checked inputs.
        method: new weights of one layer.
        sensitivities: A of each layer, from `sen_edge.compress.moments`.
    """
    original = precompute(network)
    done = original
    found = moments(original, original, calibration)
    for index, layer in enumerate(original.layers):
        if done is not original:
            found = moments(original, done, calibration)
        here = found[index]
        weight = layer.weight.to_dense().astype(np.float64)
        aim = _refitted(weight, here) if done is not original else weight
        operator = method(index, Quadratic.of(aim, here.covariance, sensitivities[index]))
        if operator is None:
            if done is original:
                continue
            operator = Dense(aim.astype(np.float32)) if isinstance(layer.weight, Dense) else layer.weight
        changed = replace(layer, weight=operator, bias=_bias(original, layer, operator, here))
        done = replace(done, layers=(*done.layers[:index], changed, *done.layers[index + 1 :]))
    return done


def second_order_problems(
    dense: Network, chosen: Sequence[int], calibration: Inputs, sensitivities: Sequence[FloatArray]
) -> list[Quadratic]:
    """The problem of each chosen layer of a network without coordinates; warns of inputs that leave some of it open."""
    found = moments(dense, dense, calibration)
    for index in chosen:
        warn_of_rank(index, found[index])
    return [
        Quadratic.of(dense.layers[i].weight.to_dense().astype(np.float64), found[i].covariance, sensitivities[i])
        for i in chosen
    ]


def with_means_kept(network: Network, compressed: Network, calibration: Inputs) -> Network:
    """`compressed` with biases such that every layer's outputs keep the means they had in `network`."""
    original, done = precompute(network), compressed
    for index, layer in enumerate(compressed.layers):
        here = moments(original, precompute(done), calibration)[index]
        bias = _bias(original, original.layers[index], layer.weight, here)
        done = replace(done, layers=(*done.layers[:index], replace(layer, bias=bias), *done.layers[index + 1 :]))
    return done


def _refitted(weight: FloatArray, found: Moments) -> FloatArray:
    c = found.covariance
    if c.ndim == 1:
        return weight + weight * (found.lost / (c + (REFIT_DAMPING * float(c.mean()) or 1.0)))
    damped = c + np.eye(len(c)) * (REFIT_DAMPING * float(np.trace(c)) / len(c) or 1.0)
    result: FloatArray = weight + np.linalg.solve(damped, (weight @ found.lost).T).T
    return result


def _bias(network: Network, layer: Layer, operator: WeightOperator, found: Moments) -> NDArray[np.float32]:
    """The bias that keeps the mean of the layer's outputs."""
    before = layer.weight.to_dense().astype(np.float64) @ found.mean
    after = operator.to_dense().astype(np.float64) @ found.compressed_mean
    # what arrives at a leaky integrator is summed over the steps, and its bias is added in each
    factor = float(readout_factors(network).sum()) if isinstance(layer.neuron, LeakyIntegrator) else 1.0
    bias = 0.0 if layer.bias is None else layer.bias.astype(np.float64)
    result: NDArray[np.float32] = (bias + (before - after) / factor).astype(np.float32)
    return result
