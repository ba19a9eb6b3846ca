"""A spiking network with delays in torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from sen_edge.model.config import SpikingConfig, at
from sen_edge.model.delayed.config import DelayedConfig
from sen_edge.model.delayed.connection import Connection
from sen_edge.model.delayed.scan import Constants, scan
from sen_edge.model.dynamics import LayeredNetwork, Product, code
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import Network, readout_factors
from sen_runtime.ir.neurons import Lif, Neuron
from sen_runtime.ir.operators import Dense

#: Root mean square of initial recurrent weights, times the root of their number per neuron.
RECURRENT_SCALE = 0.5


class DelayedNetwork(LayeredNetwork):
    """Hidden layers with delays and a readout without; all parameters are 0 before `reset_parameters`.

    Attributes:
        positions: `[n, d]` of each layer; of the readout only for weights from positions.
        inputs: connections from the layer before.
        recurrences: connections of hidden layers with themselves; empty without.
        biases: `[n]` of each layer of weights.
        rates: mean spikes per neuron `[n]` and inference of hidden layers in the last pass.
    """

    def __init__(self, config: DelayedConfig) -> None:
        super().__init__(config.neurons(), config.spiking, config.spiking.surrogate_slope)
        self.config = config
        sizes = config.layer_sizes
        n_placed = (len(sizes) if config.weights == "positions" else len(sizes) - 1) * config.has_positions
        self.positions = nn.ParameterList(
            nn.Parameter(torch.zeros(size, config.dimensions)) for size in sizes[:n_placed]
        )
        placed = [*self.positions, *(None,) * (len(sizes) - n_placed)]
        self.inputs = nn.ModuleList(
            Connection(placed[index], placed[index + 1], (n_out, n_in), config, has_delays=index < len(sizes) - 2)
            for index, (n_in, n_out) in enumerate(pairwise(sizes))
        )
        self.recurrences = nn.ModuleList(
            Connection(placed[index], placed[index], (size, size), config, shift=1)
            for index, size in enumerate(sizes[1:-1] * config.recurrent, start=1)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in sizes[1:])
        self.rates: list[Tensor] = []
        self._factors = _factors(self.neurons[-1], config.spiking)

    def connections(self) -> list[Connection]:
        """Return the connections, typed: from the layers before, then the recurrent ones."""
        return [each for each in (*self.inputs, *self.recurrences) if isinstance(each, Connection)]

    def delayed(self) -> list[Connection]:
        """Return the connections with delays that are learned."""
        return [each for each in self.connections() if each.limit]

    def products(self) -> list[Product]:
        """Return functions of spikes `[batch, T, n_in]` to arriving currents `[batch, T, n_out]`, without biases."""
        return [each.arrive for each in self.connections()[: len(self.biases)]]

    def _trace_spiking(self, x: Tensor, products: Sequence[Product], timing: SpikingConfig | Network) -> list[Tensor]:
        x, counts = code(x, timing), []
        for index, product in enumerate(products[:-1]):
            x = self._spikes(index, product(x))
            counts.append(x.sum(1))
        self.rates = [count.mean(0) for count in counts]
        return [*counts, self._read_out(x, products[-1])]

    def _spikes(self, index: int, arriving: Tensor) -> Tensor:
        """Return spikes `[batch, T, n]` of a hidden layer for the currents that arrive from the layer before."""
        recurrent, neuron = self._recurrence(index), self.neurons[index]
        assert isinstance(neuron, Lif)  # for mypy
        weight, delay = (None, None) if recurrent is None else recurrent.synapse_values(arriving.dtype)
        slots = 1 if recurrent is None else recurrent.slots
        constants = Constants.of(neuron, self.config.synapse, self.surrogate_slope, self.config.delay_sigma)
        return scan(arriving, weight, delay, self.biases[index], constants, slots)

    def _recurrence(self, index: int) -> Connection | None:
        """Return the recurrent connection of a layer, if it has one."""
        has_one = self.config.recurrent and index < len(self.biases) - 1
        return self.connections()[len(self.biases) + index] if has_one else None

    def _read_out(self, spikes: Tensor, product: Product) -> Tensor:
        """Return the membrane readout `[batch, n_out]`: one product, as it is linear in the spikes."""
        factors = self._factors.to(spikes.dtype)
        weighted = torch.einsum("t,bti->bi", factors, spikes)
        outputs: Tensor = product(weighted) + self.biases[-1] * factors.sum()
        return outputs

    def to_network(self) -> Network:
        """Return the network representation.

        Raises:
            NetworkError: a delay is longer than `max_delay` and overflow is "error"; a parameter is not finite.
        """
        found, spiking, overflow = self.connections(), self.config.spiking, self.config.overflow
        layers = []
        for index, neuron in enumerate(self.neurons):
            own = self._recurrence(index)
            delay = None if own is None else own.to_delay(overflow)
            layers.append(
                Layer(
                    found[index].to_operator(),
                    self.biases[index].detach().numpy().copy(),
                    neuron,
                    delay=found[index].to_delay(overflow),
                    recurrent=None if own is None or delay is None else Recurrence(own.to_operator(), delay),
                    synapse=self.config.synapse if isinstance(neuron, Lif) else 0.0,
                )
            )
        return Network(
            tuple(layers),
            spiking.timesteps,
            spiking.input_coding,
            spiking.readout,
            delta=spiking.delta or 0.0,
        )

    def reset_parameters(self, seed: int, position_scale: float) -> None:
        """Initialize parameters: positions uniform in [-scale, scale], free delays in half of the range."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for position in self.positions:
                position.uniform_(-position_scale, position_scale, generator=generator)
            for each in self.connections():
                if each.steps is not None:
                    each.steps.uniform_(0, min(each.limit, self.config.spiking.timesteps) / 2, generator=generator)
                if each.inhibition is not None:
                    each.inhibition.normal_(0, 1, generator=generator)
                if each.free is not None:
                    each.free.normal_(0, 1, generator=generator)
                if each.shift:
                    weight = each.weight()
                    rescale(each, RECURRENT_SCALE / float(weight.square().sum(1).mean().sqrt()))

    def calibrate(self, x: Tensor) -> None:
        """Scale weights layer by layer, such that membranes without spikes have the root mean square of the threshold.

        The readout gets outputs of standard deviation 1. `x` are inputs `[n, ...]`.
        """
        found, spiking = self.connections(), self.config.spiking
        with torch.no_grad():
            value = code(x, spiking)
            for index, threshold in enumerate(at(spiking.threshold, index) for index in range(len(self.biases) - 1)):
                arriving = found[index].arrive(value)
                membrane = current = torch.zeros(())
                squares = []
                for arrived in arriving.unbind(1):
                    current = self.config.synapse * current + arrived
                    membrane = at(spiking.beta, index) * membrane + current
                    squares.append(membrane.square().mean())
                factor = threshold / _spread(torch.stack(squares).mean().sqrt())
                rescale(found[index], factor)
                value = self._spikes(index, arriving * factor)
            last = found[len(self.biases) - 1]
            rescale(last, 1 / _spread(self._read_out(value, self.products()[-1]).std()))


def _factors(neuron: Neuron, spiking: SpikingConfig) -> Tensor:
    """Return factors `[T]` of the currents of the readout in its output."""
    layer = Layer(Dense(np.zeros((1, 1), np.float32)), None, neuron)
    readout = Network((layer,), spiking.timesteps, readout=spiking.readout)
    return torch.from_numpy(np.ascontiguousarray(readout_factors(readout)))


def _spread(value: Tensor) -> float:
    """Return a number to divide by: 1 instead of 0."""
    return float(value) or 1.0


def rescale(connection: Connection, factor: float) -> None:
    """Multiply the weights of a connection."""
    if connection.log_gain is not None:
        connection.log_gain.data.add_(math.log(factor))
    else:
        assert connection.free is not None  # for mypy
        connection.free.data.mul_(factor)
