"""Activity of a spiking network for one input, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sen_edge.errors import UsageError
from sen_edge.report.network.request import PlotRequest
from sen_edge.report.network.source import Source
from sen_runtime import reference
from sen_runtime.errors import NetworkError
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


def simulate(source: Source, request: PlotRequest) -> tuple[Activity | None, str]:
    """Run a spiking network on the requested input; None with the reason if it does not run.

    Raises:
        DataError: see `sen_edge.data.datasets.load_part`.
        UsageError: the data lack the example.
    """
    network = source.network
    if network.macs > MAX_WEIGHTS:
        return None, f"Spikes are not shown: the network has {network.macs:,} weights, too many to run it here."
    x, name = random_input(network, request.seed) if request.data is None else _data_input(network, request)
    try:
        return Activity(record(source.runnable(), x), name), ""
    except NetworkError as error:
        return None, f"Spikes are not shown, as the network does not run: {error.message}."


def random_input(network: Network, seed: int) -> tuple[FloatArray, str]:
    """A seeded random input of the network's shape, and its name."""
    values = np.random.default_rng(seed).random(network.input_shape)
    low, high = network.input_range
    x = values < RANDOM_RATE if network.input_coding == "spikes" else low + (high - low) * values
    return x.astype(np.float32), f"random, seed {seed}"


def _data_input(network: Network, request: PlotRequest) -> tuple[FloatArray, str]:
    """One example of a data set's test part, and its name."""
    from sen_edge.data.datasets import load_part
    from sen_runtime.data import TEST

    found = load_part(str(request.data), TEST, request.data_dir, network)
    index = request.example
    if index >= len(found.inputs):
        raise UsageError(f"--example is {index}; {found.title} has the examples 0 to {len(found.inputs) - 1}")
    label = "" if found.labels is None else f", label {found.labels[index]}"
    return found.inputs[index], f"example {index} of {found.title}{label}"


def record(network: Network, x: FloatArray) -> tuple[FloatArray, ...]:
    """Activity of the layers for one input `[n_in]`, or `[T, n_in]` spikes, as `Activity.layers`.

    Raises:
        NetworkError: neurons coincide, so that there are no weights.
    """
    network = reference.expand(network)
    is_current = network.input_coding == "direct"
    inputs = np.repeat(x[np.newaxis], network.timesteps, axis=0) if is_current else x
    membranes = reference.initial_membranes(network, 1, np.float32)
    steps: list[list[FloatArray]] = []
    for x_t in inputs:
        membranes, spikes = reference.step(network, membranes, x_t[np.newaxis])
        steps.append([spike[0] for spike in spikes])
    low, high = network.input_range
    levels = np.clip((inputs - low) / (high - low), 0, 1) if is_current else inputs
    return (levels.astype(np.float32), *(np.stack(train) for train in zip(*steps, strict=True)))
