"""Networks as TFLite graphs: perceptrons, and spiking networks unrolled or as one step with its state.

A spike is computed without a comparison, which XNNPACK would not run: `u - threshold`, cut off below 0, is 0 or at
least the distance from the threshold to the next float32, so times the inverse of that distance, cut off at 1, it is
exactly 0 or 1. In int8 the same holds for the distance of two values of the membrane's grid, on which the threshold
lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from sen_exporters import lowering
from sen_exporters.base import ExportError
from sen_exporters.lowering import Activation, advance
from sen_exporters.tflite.graph import Graph, Signal
from sen_exporters.tflite.weights import affine
from sen_runtime.ir.int8 import INT8_MAX, INT8_MIN, SPIKES, Grid
from sen_runtime.ir.network import Layer, Network, is_constant_readout, readout_factors, readout_grid
from sen_runtime.ir.neurons import Lif, Neuron

#: Below, the inverse distance of two float32 around the threshold would overflow.
MIN_THRESHOLD = 2.0**-100


@singledispatch
def check_neuron(neuron: Neuron) -> None:
    """Refuse constants that the operators cannot compute with; by default none.

    Raises:
        ExportError: with the reason and an alternative.
    """


@check_neuron.register
def _check_lif(neuron: Lif) -> None:
    if neuron.threshold < MIN_THRESHOLD:
        raise ExportError(
            f"the threshold {neuron.threshold:g} is below {MIN_THRESHOLD:.1g}, the min that TFLite's float32 products "
            "can compare with",
            hint="scale the layer's weights, bias and threshold up together: the spikes stay the same",
        )


@dataclass(frozen=True)
class _Operators:
    """`Operators` of TFLite."""

    graph: Graph

    def affine(self, layer: Layer, index: int, x: Signal, name: str, activation: Activation = "") -> Signal:
        return affine(self.graph, layer, index, x, Signal(name, x.rows, layer.grid, activation.upper() or "NONE"))

    def binary(self, operator: str, a: Signal, b: Signal, name: str) -> Signal:
        return self.graph.binary(operator.upper(), a, b, a.named(name))

    def scale(self, x: Signal, factor: float, constant: str, name: str, like: Signal) -> Signal:
        if factor == 1 and x.grid == like.grid:
            return x
        return self.graph.binary("MUL", x, self.factor(constant, factor, like), like.named(name))

    def silence(self, x: Signal, spikes: Signal, name: str) -> Signal:
        one = self.graph.scalar("one", 1.0, spikes.grid)
        silent = self.graph.binary("SUB", one, spikes, spikes.named(f"{name}_silent"))
        return self.graph.binary("MUL", x, silent, x.named(name))

    def spikes(self, membrane: Signal, threshold: float, layer: str, prefix: str) -> Signal:
        grid, rows = membrane.grid, membrane.rows
        stored = self.graph.scalar(f"{layer}/threshold", threshold, grid)
        spacing = float(np.spacing(np.float32(threshold))) if grid is None else grid.scale
        excess_grid = None if grid is None else Grid(grid.scale / INT8_MAX, INT8_MIN)
        excess = self.graph.binary("SUB", membrane, stored, Signal(f"{prefix}/excess", rows, excess_grid, "RELU"))
        inverse = self.factor(f"{layer}/inverse_spacing", 1 / spacing, membrane)
        spikes = Signal(f"{prefix}/spikes", rows, None if grid is None else SPIKES, "RELU_N1_TO_1")
        return self.graph.binary("MUL", excess, inverse, spikes)

    def time_first(self, x: Signal, network: Network, name: str) -> Signal:
        graph, steps, size = self.graph, network.timesteps, network.n_in
        turned = graph.declare(Signal(f"{name}_time_first", steps, x.grid), x.rows, size)
        order = graph.constant(f"{name}_order", np.array([1, 0, 2], np.int32))
        version = 1 if x.grid is None else 2
        graph.operator("TRANSPOSE", version, [x.name, order], [turned.name], schema.TransposeOptionsT())
        rows = graph.declare(Signal(name, None if x.rows is None else x.rows * steps, x.grid), size)
        shape = graph.constant(f"{name}_shape", np.array([-1, size], np.int32))
        graph.operator("RESHAPE", 1, [turned.name, shape], [name], schema.ReshapeOptionsT(newShape=[-1, size]))
        return rows

    def join(self, parts: Sequence[Signal], name: str) -> Signal:
        rows, grid = parts[0].rows, parts[0].grid
        joined = Signal(name, None if rows is None else rows * len(parts), grid)
        self.graph.declare(joined, self.graph.shape(parts[0].name)[-1])
        names, version = [part.name for part in parts], 1 if grid is None else 2
        self.graph.operator("CONCATENATION", version, names, [name], schema.ConcatenationOptionsT(axis=0))
        return joined

    def split(self, joined: Signal, names: Sequence[str]) -> list[Signal]:
        size, rows = self.graph.shape(joined.name)[-1], None if joined.rows is None else joined.rows // len(names)
        parts = [self.graph.declare(Signal(name, rows, joined.grid), size) for name in names]
        axis, version = self.graph.constant("rows_axis", np.array(0, np.int32)), 1 if joined.grid is None else 2
        options = schema.SplitOptionsT(numSplits=len(names))
        self.graph.operator("SPLIT", version, [axis, joined.name], list(names), options)
        return parts

    def total(self, network: Network, train: Sequence[Signal]) -> Signal:
        grid = None if network.input_grid is None else readout_grid(network, network.input_grid)
        if len(train) == 1 and grid is not None:
            return self.graph.convert(train[0], Signal("readout/sum", train[0].rows, grid), network.n_out)
        return self.sum(train, grid)

    def read_out(self, network: Network, x: Signal, train: Sequence[Signal]) -> Signal:
        index, layer, steps = len(network.layers) - 1, network.layers[-1], range(network.timesteps)
        grid = None if network.input_grid is None else readout_grid(network, network.input_grid)
        factors = readout_factors(network, grid)
        if is_constant_readout(network):
            train, factors = [x], readout_factors(network).sum(keepdims=True)
        elif not train:
            joined = self.time_first(x, network, f"layer{index}/inputs")
            train = self.split(joined, [f"input/t{t}" for t in steps])
        weighted = []
        for t, (each, factor) in enumerate(zip(train, factors.tolist(), strict=True)):
            if factor:  # 0 where it is less than half a step of the grid, or has decayed
                stored = self.factor(f"readout/t{t}/factor", factor, each)
                weighted.append(
                    self.graph.binary("MUL", each, stored, Signal(f"readout/t{t}/weighted", each.rows, grid))
                )
        output = Signal("output" if grid is None else "output/int8", x.rows, layer.grid)
        bias_factor = float(readout_factors(network).sum())
        return affine(self.graph, layer, index, self.sum(weighted, grid), output, bias_factor=bias_factor)

    def sum(self, terms: Sequence[Signal], grid: Grid | None) -> Signal:
        """Sum of signals, on `grid` if there are several."""
        total = terms[0]
        for t, term in enumerate(terms[1:], start=1):
            total = self.graph.binary("ADD", total, term, Signal(f"readout/t{t}/sum", term.rows, grid))
        return total

    def factor(self, name: str, value: float, x: Signal) -> Signal:
        """A stored number that a signal `x` is multiplied by; in int8 the max of its own grid."""
        grid = None if x.grid is None else SPIKES if value == 0 else Grid(value / INT8_MAX, 0)
        return self.graph.scalar(name, value, grid)


def perceptron(graph: Graph, network: Network, x: Signal) -> Signal:
    """Add all layers; return the output `[rows, n_out]`."""
    return lowering.perceptron(_Operators(graph), network, x, "output" if x.grid is None else "output/int8")


def unrolled(graph: Graph, network: Network, x: Signal) -> Signal:
    """Add all steps; return the readout `[rows, n_out]`."""
    return lowering.unrolled(_Operators(graph), network, x)


def step(graph: Graph, network: Network, x: Signal) -> tuple[dict[str, str], dict[str, str]]:
    """Add one step; return inputs and outputs by their names in the signature.

    Inputs besides `input` are `layerN/membrane`, outputs besides `output` are `layerN/membrane_next`. `output` is the
    last layer's membrane, or its spikes for a spike count.
    """
    inputs, outputs = {"input": x.name}, {"output": ""}
    for index, layer in enumerate(network.layers):
        name = f"layer{index}"
        before = graph.declare(Signal(f"{name}/membrane", x.rows), layer.weight.shape[0])
        current = affine(graph, layer, index, x, Signal(f"{name}/current", x.rows, layer.grid))
        membrane, x = advance(layer.neuron, _Operators(graph), name, before, current, f"{name}/membrane_next")
        inputs[before.name] = before.name
        outputs[membrane.name] = membrane.name
    outputs["output"] = x.name
    return inputs, outputs
