"""Spiking networks as TFLite graphs: unrolled steps, or one step with its state as input and output.

A membrane readout is multiplied once, with the weighted sum of its inputs over time:
`sum_t c[t] (W x[t] + b) = W (sum_t c[t] x[t]) + b sum_t c[t]`.
"""

from __future__ import annotations

from sen_exporters.tflite.graph import Graph, Signal
from sen_exporters.tflite.neurons import factor, fire, integrate
from sen_exporters.tflite.weights import affine
from sen_runtime.ir.network import Layer, Network, is_constant_readout, readout_factors, readout_grid


class SpikingLowering:
    """Adds a spiking network to a graph, from the tensor `input`."""

    def __init__(self, graph: Graph, network: Network, rows: int | None) -> None:
        self.graph = graph
        self.network = network
        self.rows = rows

    def unrolled(self, x: Signal) -> Signal:
        """Add all steps, layer after layer, because layers are feed-forward; return the readout `[rows, n_out]`."""
        steps, n_in = self.network.timesteps, self.network.n_in
        if self.network.input_coding == "spikes":
            joined = self.graph.time_first(x, "layer0/inputs", steps, n_in)
            train: list[Signal] = []
        else:
            joined, train = x, [x] * steps
        for index, layer in enumerate(self.network.layers):
            if layer.neuron.role == "readout":
                train = train or self.graph.split(joined, [f"input/t{t}" for t in range(steps)], n_in)
                return self._read_out(index, layer, train)
            if index:
                joined = self.graph.join(train, f"layer{index}/inputs", layer.weight.shape[1])
            train = self._spikes(index, layer, self._currents(index, layer, joined, is_constant=joined is x))
        return self._total(train)

    def _currents(self, index: int, layer: Layer, joined: Signal, *, is_constant: bool) -> list[Signal]:
        """Current `[rows, n]` of each step; a constant one is computed once."""
        steps = self.network.timesteps
        if is_constant:
            return [affine(self.graph, layer, index, joined, f"layer{index}/current")] * steps
        currents = affine(self.graph, layer, index, joined, f"layer{index}/currents")
        return self.graph.split(currents, [f"layer{index}/t{t}/current" for t in range(steps)], layer.weight.shape[0])

    def _spikes(self, index: int, layer: Layer, currents: list[Signal]) -> list[Signal]:
        """Spikes `[rows, n]` of each step. The first membrane is the first current."""
        name, neuron, membrane = f"layer{index}", layer.neuron, currents[0]
        spikes = [fire(neuron, self.graph, name, membrane, f"{name}/t0")]
        for t, current in enumerate(currents[1:], start=1):
            prefix = f"{name}/t{t}"
            membrane = integrate(neuron, self.graph, name, membrane, spikes[-1], current, f"{prefix}/membrane")
            spikes.append(fire(neuron, self.graph, name, membrane, prefix))
        return spikes

    def _total(self, train: list[Signal]) -> Signal:
        """Sum over time."""
        total, input_grid = train[0], self.network.input_grid
        grid = None if input_grid is None else readout_grid(self.network, input_grid)
        if len(train) == 1 and grid is not None:
            return self.graph.convert(total, Signal("readout/sum", self.rows, grid), self.network.n_out)
        for t, spikes in enumerate(train[1:], start=1):
            after = Signal(f"readout/t{t}/sum", self.rows, grid)
            total = self.graph.binary("ADD", total, spikes, after, self.network.n_out)
        return total

    def _read_out(self, index: int, layer: Layer, train: list[Signal]) -> Signal:
        """Product of the last layer with its weighted input."""
        size, input_grid = layer.weight.shape[1], self.network.input_grid
        grid = None if input_grid is None else readout_grid(self.network, input_grid)
        factors = readout_factors(self.network, grid)
        if is_constant_readout(self.network):
            train, factors = train[:1], readout_factors(self.network).sum(keepdims=True)
        weighted = []
        for t, (x, weight) in enumerate(zip(train, factors.tolist(), strict=True)):
            if weight == 0:  # less than half a step of the grid, or long decayed
                continue
            stored = factor(self.graph, f"readout/t{t}/factor", weight, x)
            weighted.append(
                self.graph.binary("MUL", x, stored, Signal(f"readout/t{t}/weighted", self.rows, grid), size)
            )
        total = weighted[0]
        for t, term in enumerate(weighted[1:], start=1):
            total = self.graph.binary("ADD", total, term, Signal(f"readout/t{t}/sum", self.rows, grid), size)
        output = "output" if grid is None else "output/int8"
        bias_factor = float(readout_factors(self.network).sum())
        return affine(self.graph, layer, index, total, output, bias_factor=bias_factor)

    def step(self, x: Signal) -> tuple[dict[str, str], dict[str, str]]:
        """Add one step; return inputs and outputs by their names in the signature.

        Inputs besides `input` are `layerN/membrane`, outputs besides `output` are `layerN/membrane_next`. `output` is
        the last layer's membrane, or its spikes for a spike count.
        """
        inputs, outputs = {"input": x.name}, {"output": ""}
        for index, layer in enumerate(self.network.layers):
            name = f"layer{index}"
            before = self.graph.declare(Signal(f"{name}/membrane", self.rows), layer.weight.shape[0])
            after = f"{name}/membrane_next"
            current = affine(self.graph, layer, index, x, f"{name}/current")
            is_spiking = layer.neuron.role == "spiking"
            spikes = fire(layer.neuron, self.graph, name, before, f"{name}/before") if is_spiking else before
            x = integrate(layer.neuron, self.graph, name, before, spikes, current, after)
            inputs[before.name], outputs[after] = before.name, x.name
            if is_spiking:
                x = fire(layer.neuron, self.graph, name, x, name)
        outputs["output"] = x.name
        return inputs, outputs
