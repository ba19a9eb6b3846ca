"""Spikes of one inference, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sen_edge.errors import UsageError
from sen_runtime import reference
from sen_runtime.ir.network import Network

FloatArray = NDArray[np.float32]

#: Weights of a network that is run for a picture.
MAX_WEIGHTS = 1 << 26
#: Spike probability of an input neuron in a step of random input.
RANDOM_RATE = 0.2


@dataclass(frozen=True, eq=False)
class Activity:
    """Activity of a spiking network for one input.

    Attributes:
        layers: for each layer with spikes, input first, `[T, n]`: 1 for a spike; an input current from 0 to 1.
        input_name: name of the input.
    """

    layers: tuple[FloatArray, ...]
    input_name: str


def random_input(network: Network, seed: int) -> tuple[FloatArray, str]:
    """A seeded random input of the network's shape, and its name."""
    rng = np.random.default_rng(seed)
    if network.input_coding == "spikes":
        x = (rng.random(network.input_shape) < RANDOM_RATE).astype(np.float32)
    else:
        low, high = network.input_range
        x = (low + (high - low) * rng.random(network.input_shape)).astype(np.float32)
    return x, f"random, seed {seed}"


def data_input(network: Network, data: str, data_dir: Path | None, example: int) -> tuple[FloatArray, str]:
    """One example of a data set's test part, and its name.

    Raises:
        DataError: see `sen_edge.data.datasets.load_part`.
        UsageError: there is no such example.
    """
    from sen_edge.data.datasets import load_part
    from sen_runtime.data import TEST

    found = load_part(data, TEST, data_dir, network)
    if not 0 <= example < len(found.inputs):
        raise UsageError(f"--example is {example}; {found.title} has the examples 0 to {len(found.inputs) - 1}")
    label = "" if found.labels is None else f", label {found.labels[example]}"
    return found.inputs[example], f"example {example} of {found.title}{label}"


def record(network: Network, x: FloatArray, input_name: str) -> Activity:
    """Run a spiking network on one input `[n_in]`, or `[T, n_in]` spikes, in the reference interpreter.

    Raises:
        NetworkError: neurons coincide, so that there are no weights.
    """
    network = reference.expand(network)
    is_train = network.input_coding == "spikes"
    membranes = reference.initial_membranes(network, 1, np.float32)
    steps: list[list[FloatArray]] = []
    for t in range(network.timesteps):
        membranes, spikes = reference.step(network, membranes, x[t : t + 1] if is_train else x[np.newaxis])
        steps.append([spike[0] for spike in spikes])
    hidden = [np.stack(train) for train in zip(*steps, strict=True)]
    return Activity((_scale_input(network, x), *hidden), input_name)


def _scale_input(network: Network, x: FloatArray) -> FloatArray:
    """The input `[T, n_in]`; a current is scaled from its range to [0, 1]."""
    if network.input_coding == "spikes":
        return x
    low, high = network.input_range
    scaled = np.clip((x - low) / (high - low), 0, 1).astype(np.float32)
    return np.repeat(scaled[np.newaxis], network.timesteps, axis=0)
