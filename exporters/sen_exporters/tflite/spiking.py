"""Spiking networks as TFLite graphs: every step written out, or one step with its state in and out.

The membrane equations are those of `sen_runtime.ir.network.Lif`. A spike is computed without a comparison, which
XNNPACK would not take: `u - threshold`, cut off below 0, is 0 or at least the distance from the threshold to the
next float32, so times the inverse of that distance, cut off at 1, it is exactly 0 or 1. In int8 the same holds for
the distance of two values of the membrane's grid, on which the threshold lies.

The readout of a leaky integrator is multiplied once, with the weighted sum of what arrives over time:
`sum_t c[t] (W x[t] + b) = W (sum_t c[t] x[t]) + b sum_t c[t]`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sen_exporters.base import ExportError
from sen_exporters.tflite.graph import Graph, Signal
from sen_exporters.tflite.weights import WeightLowering
from sen_runtime.ir.int8 import GREATEST, LEAST, SPIKES, Grid
from sen_runtime.ir.network import (
    Layer,
    LeakyIntegrator,
    Lif,
    Network,
    is_constant_readout,
    readout_factors,
    readout_grid,
)

#: Below, the inverse distance of two float32 around the threshold would overflow.
LEAST_THRESHOLD = 2.0**-100


def check_thresholds(network: Network) -> None:
    """Refuse thresholds whose neighbours a float32 product cannot tell apart.

    Raises:
        ExportError: with the layer.
    """
    for index, layer in enumerate(network.layers):
        if isinstance(layer.neuron, Lif) and layer.neuron.threshold < LEAST_THRESHOLD:
            raise ExportError(
                f"layer {index}: the threshold {layer.neuron.threshold:g} is below {LEAST_THRESHOLD:.1g}, the least "
                "that TFLite's float32 products can compare with",
                hint="scale the layer's weights, bias and threshold up together: the spikes stay the same",
            )


class SpikingLowering:
    """Adds a spiking network to a graph, from the tensor `input`."""

    def __init__(self, graph: Graph, weights: WeightLowering, network: Network, rows: int | None) -> None:
        self.graph = graph
        self.weights = weights
        self.network = network
        self.rows = rows

    def unrolled(self, x: Signal) -> Signal:
        """All steps, layer after layer, because layers only feed forward; the readout `[rows, n_out]`."""
        steps, n_in = self.network.timesteps, self.network.n_in
        if self.network.input_coding == "spikes":
            joined = self.graph.time_first(x, "layer0/inputs", steps, n_in)
            train: list[Signal] = []
        else:
            joined, train = x, [x] * steps
        for index, layer in enumerate(self.network.layers):
            if isinstance(layer.neuron, LeakyIntegrator):
                train = train or self.graph.split(joined, [f"input/t{t}" for t in range(steps)], n_in)
                return self._read_out(index, layer, train)
            if index:
                joined = self.graph.join(train, f"layer{index}/inputs", layer.weight.shape[1])
            train = self._spikes(index, layer, self._currents(index, layer, joined, is_constant=joined is x))
        return self._total(train)

    def _currents(self, index: int, layer: Layer, joined: Signal, *, is_constant: bool) -> list[Signal]:
        """The current `[rows, n]` of each step; a constant one is computed once."""
        steps = self.network.timesteps
        if is_constant:
            return [self.weights.affine(layer, index, joined, f"layer{index}/current")] * steps
        currents = self.weights.affine(layer, index, joined, f"layer{index}/currents")
        return self.graph.split(currents, [f"layer{index}/t{t}/current" for t in range(steps)], layer.weight.shape[0])

    def _spikes(self, index: int, layer: Layer, currents: list[Signal]) -> list[Signal]:
        """Spikes `[rows, n]` of each step. The first membrane is the first current."""
        membrane = currents[0]
        spikes = [self._fire(index, layer, membrane, f"layer{index}/t0")]
        for t, current in enumerate(currents[1:], start=1):
            prefix = f"layer{index}/t{t}"
            membrane = self._integrate(index, layer, membrane, spikes[-1], current, f"{prefix}/membrane")
            spikes.append(self._fire(index, layer, membrane, prefix))
        return spikes

    def _fire(self, index: int, layer: Layer, membrane: Signal, prefix: str) -> Signal:
        graph, neuron, size, grid = self.graph, layer.neuron, layer.weight.shape[0], membrane.grid
        assert isinstance(neuron, Lif)  # Network has checked it; this is for mypy
        threshold = graph.scalar(f"layer{index}/threshold", neuron.threshold, grid)
        # the least that a membrane can be above its threshold
        spacing = float(np.spacing(np.float32(neuron.threshold))) if grid is None else grid.scale
        excess = Signal(f"{prefix}/excess", self.rows, None if grid is None else Grid(grid.scale / GREATEST, LEAST))
        graph.binary("SUB", membrane, threshold, excess, size, "RELU")
        inverse = self._factor(f"layer{index}/inverse_spacing", 1 / spacing)
        spikes = Signal(f"{prefix}/spikes", self.rows, None if grid is None else SPIKES)
        return graph.binary("MUL", excess, inverse, spikes, size, "RELU_N1_TO_1")

    def _integrate(
        self, index: int, layer: Layer, before: Signal, spikes: Signal | None, current: Signal, after: str
    ) -> Signal:
        """The membrane `after`, from the one before, from its spikes if it has any, and from the current."""
        graph, neuron, size = self.graph, layer.neuron, layer.weight.shape[0]
        assert isinstance(neuron, (Lif, LeakyIntegrator))  # Network has checked it; this is for mypy
        membrane = replace(before, name=after)

        def on_the_way(name: str) -> Signal:
            return replace(before, name=f"{after}_{name}")

        def decay(value: Signal) -> Signal:
            beta = self._factor(f"layer{index}/beta", neuron.beta)
            return graph.binary("MUL", value, beta, on_the_way("decayed"), size)

        if spikes is None or isinstance(neuron, LeakyIntegrator):
            return graph.binary("ADD", decay(before), current, membrane, size)
        if neuron.reset == "zero":
            one = graph.scalar("one", 1.0, spikes.grid)
            silent = graph.binary("SUB", one, spikes, replace(spikes, name=f"{after}_silent"), size)
            kept = graph.binary("MUL", decay(before), silent, on_the_way("kept"), size)
            return graph.binary("ADD", kept, current, membrane, size)
        if neuron.threshold != 1 or before.grid is not None:
            threshold = self._factor(f"layer{index}/threshold_factor", neuron.threshold)
            spikes = graph.binary("MUL", spikes, threshold, on_the_way("reset"), size)
        if neuron.subtracts_before_decay:
            kept = graph.binary("SUB", before, spikes, on_the_way("kept"), size)
            return graph.binary("ADD", decay(kept), current, membrane, size)
        charged = graph.binary("ADD", decay(before), current, on_the_way("charged"), size)
        return graph.binary("SUB", charged, spikes, membrane, size)

    def _factor(self, name: str, value: float) -> Signal:
        """A stored number that is multiplied with; in int8 the greatest value of a grid of its own."""
        if self.network.input_grid is None or value == 0:
            return self.graph.scalar(name, value, self.network.input_grid and SPIKES)
        return self.graph.scalar(name, value, Grid(value / GREATEST, 0))

    def _total(self, train: list[Signal]) -> Signal:
        """The sum over time."""
        total, input_grid = train[0], self.network.input_grid
        grid = None if input_grid is None else readout_grid(self.network, input_grid)
        if len(train) == 1 and grid is not None:
            return self.graph.convert(total, Signal("readout/sum", self.rows, grid), self.network.n_out)
        for t, spikes in enumerate(train[1:], start=1):
            after = Signal(f"readout/t{t}/sum", self.rows, grid)
            total = self.graph.binary("ADD", total, spikes, after, self.network.n_out)
        return total

    def _read_out(self, index: int, layer: Layer, train: list[Signal]) -> Signal:
        """The last layer's weights, once, on its weighted input."""
        size, input_grid = layer.weight.shape[1], self.network.input_grid
        grid = None if input_grid is None else readout_grid(self.network, input_grid)
        factors = readout_factors(self.network, grid)
        if is_constant_readout(self.network):
            train, factors = train[:1], readout_factors(self.network).sum(keepdims=True)
        weighted = []
        for t, (x, factor) in enumerate(zip(train, factors.tolist(), strict=True)):
            if factor == 0:  # less than half a step of the grid, or long decayed
                continue
            stored = self._factor(f"readout/t{t}/factor", factor)
            weighted.append(
                self.graph.binary("MUL", x, stored, Signal(f"readout/t{t}/weighted", self.rows, grid), size)
            )
        total = weighted[0]
        for t, term in enumerate(weighted[1:], start=1):
            total = self.graph.binary("ADD", total, term, Signal(f"readout/t{t}/sum", self.rows, grid), size)
        output = "output" if grid is None else "output/int8"
        bias_factor = float(readout_factors(self.network).sum())
        return self.weights.affine(layer, index, total, output, bias_factor=bias_factor)

    def step(self, x: Signal) -> tuple[dict[str, str], dict[str, str]]:
        """One step: the names that inputs and outputs have in the signature, and their tensors.

        Inputs besides `input` are `layerN/membrane`, outputs besides `output` are `layerN/membrane_next`. `output`
        is the last layer's membrane, or its spikes where the readout counts them.
        """
        inputs, outputs = {"input": x.name}, {"output": ""}
        for index, layer in enumerate(self.network.layers):
            name = f"layer{index}"
            before = self.graph.declare(Signal(f"{name}/membrane", self.rows), layer.weight.shape[0])
            after = f"{name}/membrane_next"
            current = self.weights.affine(layer, index, x, f"{name}/current")
            is_spiking = isinstance(layer.neuron, Lif)
            spikes = self._fire(index, layer, before, f"{name}/before") if is_spiking else None
            x = self._integrate(index, layer, before, spikes, current, after)
            inputs[before.name], outputs[after] = before.name, x.name
            if is_spiking:
                x = self._fire(index, layer, x, name)
        outputs["output"] = x.name
        return inputs, outputs
