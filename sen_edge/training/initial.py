"""Initial parameters, such that every layer passes the variation of its inputs on.

The weights of a presynaptic neuron have one sign (Dale's law), and in many dimensions nearly the same distance to all
targets. The rows of a matrix are then nearly equal: all neurons of a layer are active together or not at all, and after
a few layers the outputs are constant. Three measures prevent that. Gains and biases are calibrated on training inputs,
layer by layer: the current of a neuron has mean 0 over the inputs, and the layer has variance 1. Biases of hidden
neurons are then spread, so that equal currents are cut at different levels. In deep networks each layer starts at
positions of the one before, so that each neuron has near sources of its own; shallow ones learn products of features
worse from there.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from sen_edge.model.layers import SpatialNetwork
from sen_edge.training.objective import Part
from sen_edge.training.recipe import DEEP, Recipe
from sen_runtime.task import CLASSIFICATION, MULTILABEL

#: Inputs for the calibration.
MAX_INPUTS = 1000
#: Standard deviation of the distance between a neuron and the one it starts at.
JITTER = 0.05
#: Standard deviation of the biases of hidden neurons, in standard deviations of their currents.
SPREAD = 0.5
#: Factor of the gain of the last layer for continuous outputs, which start near their mean.
CONTINUOUS_GAIN = 0.1


def initialize(network: SpatialNetwork, training: Part, recipe: Recipe) -> None:
    """Set the initial parameters; calibrate those of deep perceptrons, and of perceptrons with continuous outputs."""
    network.reset_parameters(recipe.seed, recipe.position_scale, relaxed_spacing=recipe.relaxed_spacing or 0.0)
    config = network.config
    is_discrete, n_layers = config.task in (CLASSIFICATION, MULTILABEL), len(config.layer_sizes) - 1
    if config.spiking is not None or not (config.gain and config.bias) or (is_discrete and n_layers <= 2):
        return
    generator = torch.Generator().manual_seed(recipe.seed)
    if n_layers >= DEEP:
        _nest(network, generator)
    _calibrate(network, training, 1.0 if is_discrete else CONTINUOUS_GAIN, generator)


def _nest(network: SpatialNetwork, generator: torch.Generator) -> None:
    """Move each neuron near one of the layer before, of its own unless its layer is the wider one."""
    with torch.no_grad():
        for before, after in zip(network.positions, list(network.positions)[1:], strict=False):
            rounds = math.ceil(len(after) / len(before))
            chosen = torch.cat([torch.randperm(len(before), generator=generator) for _ in range(rounds)])[: len(after)]
            after.copy_(before[chosen]).add_(torch.randn(after.shape, generator=generator), alpha=JITTER)


def _calibrate(network: SpatialNetwork, training: Part, last_gain: float, generator: torch.Generator) -> None:
    """Set gains and biases layer by layer, such that currents have variance 1 altogether, and means of `SPREAD`."""
    x = training.examples.rows(training.indices[:: math.ceil(len(training) / MAX_INPUTS)])
    if network.input_scaling is not None:
        x = network.input_scaling.standardize(x)
    layers = network.linears()
    with torch.no_grad():
        value = torch.from_numpy(np.ascontiguousarray(x))
        for layer in layers:
            assert layer.gain is not None and layer.bias is not None  # checked before; for mypy
            layer.gain.fill_(1)
            current = value @ layer.weight().T
            mean = current.mean(dim=0)
            spread = float((current - mean).square().mean().sqrt())
            gain = (last_gain if layer is layers[-1] else 1.0) / (
                spread if spread > 0 and math.isfinite(spread) else 1.0
            )
            layer.gain.fill_(gain)
            layer.bias.copy_(-gain * mean)
            if layer is not layers[-1]:
                layer.bias.add_(torch.randn(len(mean), generator=generator), alpha=SPREAD)
            value = torch.relu(gain * current + layer.bias)
