"""Dense baseline: conventional networks with one parameter per weight.

They have the layers, neurons, time steps and biases of a configuration, are initialized as in K. He et al., "Delving
deep into rectifiers", 2015, and are trained on the same examples in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from sen_edge.data.datasets import Dataset, check_dataset
from sen_edge.model.config import SpatialConfig
from sen_edge.model.free import FreeNetwork
from sen_edge.progress import Progress, silent
from sen_edge.training.loop import Epoch, Recipe, fit, prepare, start
from sen_runtime.ir.network import Layer, Network
from sen_runtime.ir.operators import Dense

#: Peak learning rate and second decay of Adam: best of 0.0005 to 0.008 by validation on MNIST.
LEARNING_RATE, SECOND_MOMENT = 4e-3, 0.999


@dataclass(frozen=True)
class Trained:
    """Dense network of the best epoch; its accuracy on the held-out examples, in percent; figures of each epoch."""

    network: Network
    best_epoch: int
    validation_accuracy: float
    history: tuple[Epoch, ...]


def conventional_recipe(recipe: Recipe) -> Recipe:
    """Adapt the recipe of a spatially embedded network to free weights."""
    return replace(recipe, learning_rate=LEARNING_RATE, second_moment=SECOND_MOMENT)


def initial(config: SpatialConfig, seed: int) -> Network:
    """Initialize a dense network with weights of variance 2 / n_in."""
    rng = np.random.default_rng(seed)
    spiking = config.spiking
    layers = [
        Layer(
            Dense(rng.standard_normal((n_out, n_in), np.float32) * np.float32((2 / n_in) ** 0.5)),
            np.zeros(n_out, np.float32) if config.bias else None,
            neuron,
        )
        for (n_in, n_out), neuron in zip(pairwise(config.layer_sizes), config.neurons(), strict=True)
    ]
    if spiking is None:
        return Network(tuple(layers))
    return Network(
        tuple(layers), timesteps=spiking.timesteps, input_coding=spiking.input_coding, readout=spiking.readout
    )


def train_conventional(
    config: SpatialConfig, dataset: Dataset, recipe: Recipe, *, progress: Progress = silent
) -> Trained:
    """Train a dense baseline; does not use the test data. Errors are those of `sen_edge.training.train.train`."""
    check_dataset(dataset, config.input_shape, config.input_range, config.layer_sizes[-1])
    network, spiking = initial(config, recipe.seed), config.spiking
    module = FreeNetwork(network) if spiking is None else FreeNetwork(network, spiking.surrogate_slope)
    examples = prepare(dataset, recipe)
    run = start(module, examples, recipe)
    best = fit(run, examples, recipe, progress=progress)
    return Trained(module.to_network(), best.epoch, best.accuracy, tuple(run.history))
