"""Networks as TFLite graphs.

A spike is computed without a comparison, which XNNPACK would not run: `u - threshold`, cut off below 0, is 0 or at
least the distance from the threshold to the next float32, so times the inverse of that distance, cut off at 1, it is
exactly 0 or 1. In int8 the same holds for the distance of two values of the membrane's grid, on which the threshold
lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import ArrayLike, NDArray

from sen_exporters import lowering
from sen_exporters.base import describe
from sen_exporters.operators import Activation
from sen_exporters.tflite.graph import Graph, Signal, TfliteOptions
from sen_exporters.tflite.schema import set_properties
from sen_exporters.tflite.weights import affine, gather, matrix, multiply
from sen_runtime.ir.checks import Parameter
from sen_runtime.ir.delays import Steps
from sen_runtime.ir.int8 import INT8_MAX, INT8_MIN, SPIKES, Grid
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, is_constant_readout, readout_factors, readout_grid
from sen_runtime.ir.operators import WeightOperator

#: Max magnitude of an int16 readout membrane, relative to the range of the outputs that one spike train gives.
READOUT_REACH = 4.0


class _Operators(Graph):
    """A graph with the operators of `sen_exporters.operators`.

    `membrane_grids` are those of a step model with int8 activations, by name: of spiking layers the grids of the
    network, of a readout 16 bits, because rounding in each step would make an int8 membrane drift.
    """

    def __init__(self, options: TfliteOptions, network: Network) -> None:
        super().__init__(options)
        self.membrane_grids: dict[str, Grid] = {}
        if network.is_spiking and network.input_grid is not None and options.snn == "step":
            self.reach = READOUT_REACH / float(np.max(readout_factors(network)))
            for index, layer in enumerate(network.layers):
                assert layer.grid is not None  # as the network has grids
                grid = layer.grid.widen(self.reach) if layer.neuron.role == "readout" else layer.grid
                self.membrane_grids[f"layer{index}/membrane"] = grid

    def affine(self, layer: Layer, index: int, x: Signal, name: str, activation: Activation = "") -> Signal:
        grid = self.membrane_grids.get(f"layer{index}/membrane", layer.grid)
        if grid is not None and x.grid is not None and grid.bits == 16:
            wide = Signal(f"layer{index}/inputs", x.rows, Grid(x.grid.scale, 0, 16))
            x = self.convert(x, wide, layer.weight.shape[1])
        return affine(self, layer, index, x, Signal(name, x.rows, grid, activation.upper() or "NONE"))

    def matrix(self, weight: WeightOperator, index: int, prefix: str) -> Signal:
        return matrix(self, weight, prefix)

    def multiply(self, x: Signal, matrix: Signal, name: str) -> Signal:
        return multiply(self, x, matrix, Signal(name, x.rows))

    def offsets(self, delays: Steps, prefix: str, like: Signal) -> Signal:
        n_out, n_in = delays.shape
        columns = delays * np.int32(n_in) + np.arange(n_in, dtype=np.int32)
        return Signal(self.constant(f"{prefix}/offsets", columns), n_out)

    def gather(self, line: Signal, offsets: Signal, matrix: Signal, shape: tuple[int, int], name: str) -> Signal:
        return gather(self, line, offsets, matrix, Signal(name, line.rows))

    def columns(self, x: Signal, start: int, stop: int, name: str) -> Signal:
        first, last = (self.constant(f"columns/{at}", np.array([0, at], np.int32)) for at in (start, stop))
        strides = self.constant("columns/strides", np.array([1, 1], np.int32))
        part = self.declare(x.named(name), stop - start)
        # all rows; SLICE refuses another number of rows than that of the file
        options = schema.StridedSliceOptionsT(beginMask=1, endMask=1)
        self.operator("STRIDED_SLICE", x.version, [x.name, first, last, strides], [name], options)
        return part

    def binary(self, operator: str, a: Signal, b: Signal, name: str) -> Signal:
        return self.arithmetic(operator.upper(), a, b, a.named(name))

    def vector(self, name: str, values: NDArray[np.float32]) -> Signal:
        return Signal(self.constant(name, values), 1)

    def activate(self, activation: str, x: Signal, name: str) -> Signal:
        if activation == "softmax":
            return self.map("SOFTMAX", x, name, schema.SoftmaxOptionsT(beta=1.0))
        return self.map("LOGISTIC", x, name)

    def scale(self, x: Signal, factor: Parameter, constant: str, name: str, like: Signal) -> Signal:
        if isinstance(factor, float) and factor == 1 and x.grid == like.grid:
            return x
        return self.arithmetic("MUL", x, self.factor(constant, factor, like), like.named(name))

    def silence(self, x: Signal, spikes: Signal, name: str) -> Signal:
        one = self.scalar("one", 1.0, spikes.grid)
        silent = self.arithmetic("SUB", one, spikes, spikes.named(f"{name}_silent"))
        return self.arithmetic("MUL", x, silent, x.named(name))

    def spikes(self, membrane: Signal, threshold: Parameter, layer: str, prefix: str) -> Signal:
        grid, rows = membrane.grid, membrane.rows
        stored = self.scalar(f"{layer}/threshold", threshold, grid)
        spacing = np.spacing(np.asarray(threshold, np.float32)).astype(np.float64) if grid is None else grid.scale
        excess_grid = None if grid is None else Grid(grid.scale / INT8_MAX, INT8_MIN)
        excess = self.arithmetic("SUB", membrane, stored, Signal(f"{prefix}/excess", rows, excess_grid, "RELU"))
        inverse = self.factor(f"{layer}/inverse_spacing", 1 / spacing, membrane)
        spikes = Signal(f"{prefix}/spikes", rows, None if grid is None else SPIKES, "RELU_N1_TO_1")
        return self.arithmetic("MUL", excess, inverse, spikes)

    def membrane(self, name: str, size: int, x: Signal) -> Signal:
        return self.declare(Signal(name, x.rows, self.membrane_grids.get(name)), size)

    def time_first(self, x: Signal, network: Network, name: str) -> Signal:
        steps, size = network.timesteps, network.n_features
        turned = self.declare(Signal(f"{name}_time_first", steps, x.grid), x.rows, size)
        order = self.constant(f"{name}_order", np.array([1, 0, 2], np.int32))
        self.operator("TRANSPOSE", x.version, [x.name, order], [turned.name], schema.TransposeOptionsT())
        rows = self.declare(Signal(name, x.rows * steps, x.grid), size)
        shape = self.constant(f"{name}_shape", np.array([-1, size], np.int32))
        self.operator("RESHAPE", 1, [turned.name, shape], [name], schema.ReshapeOptionsT(newShape=[-1, size]))
        return rows

    def floor(self, x: Signal, name: str) -> Signal:
        return self.map("FLOOR", x, name)

    def join_columns(self, parts: Sequence[Signal], name: str) -> Signal:
        joined = self.declare(parts[0].named(name), sum(self.shape(part.name)[-1] for part in parts))
        options = schema.ConcatenationOptionsT(axis=1)
        self.operator("CONCATENATION", joined.version, [part.name for part in parts], [name], options)
        return joined

    def join(self, parts: Sequence[Signal], name: str) -> Signal:
        joined = Signal(name, parts[0].rows * len(parts), parts[0].grid)
        self.declare(joined, self.shape(parts[0].name)[-1])
        names = [part.name for part in parts]
        self.operator("CONCATENATION", joined.version, names, [name], schema.ConcatenationOptionsT(axis=0))
        return joined

    def split(self, joined: Signal, names: Sequence[str]) -> list[Signal]:
        size, rows = self.shape(joined.name)[-1], joined.rows // len(names)
        parts = [self.declare(Signal(name, rows, joined.grid), size) for name in names]
        axis, options = self.constant("rows_axis", np.array(0, np.int32)), schema.SplitOptionsT(numSplits=len(names))
        self.operator("SPLIT", joined.version, [axis, joined.name], names, options)
        return parts

    def total(self, network: Network, train: Sequence[Signal]) -> Signal:
        grid = None if network.input_grid is None else readout_grid(network, network.input_grid)
        if len(train) == 1 and grid is not None:
            return self.convert(train[0], Signal("readout/sum", train[0].rows, grid), network.n_out)
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
                weighted.append(self.arithmetic("MUL", each, stored, Signal(f"readout/t{t}/weighted", each.rows, grid)))
        output = Signal(lowering.readout_name(network) if grid is None else "output/int8", x.rows, layer.grid)
        bias_factor = float(readout_factors(network).sum())
        return affine(self, layer, index, self.sum(weighted, grid), output, bias_factor=bias_factor)

    def sum(self, terms: Sequence[Signal], grid: Grid | None) -> Signal:
        """Sum of signals, on `grid` if there are several."""
        total = terms[0]
        for t, term in enumerate(terms[1:], start=1):
            total = self.arithmetic("ADD", total, term, Signal(f"readout/t{t}/sum", term.rows, grid))
        return total

    def factor(self, name: str, value: ArrayLike, x: Signal) -> Signal:
        """A stored number, or row, that a signal `x` is multiplied by; in int8 its max is that of its own grid."""
        grid = x.grid
        if grid is not None:
            grid = Grid((float(np.max(value)) or 1.0) / grid.largest, 0, grid.bits)
        return self.scalar(name, value, grid)


def build(network: Network, options: TfliteOptions) -> Any:
    """`ModelT` of a network in the form of the options."""
    graph, rows, grid = _Operators(options, network), options.rows or 1, network.input_grid
    size = network.input_shape if options.snn != "step" else (network.n_features,)
    x = graph.declare(Signal("input", rows, grid if options.has_int8_io else None), *size)
    x = lowering.standardize(graph, network, x)
    if grid is not None and not options.has_int8_io:
        x = graph.convert(x, Signal("input/int8", rows, grid), *size)
    readout = lowering.readout_name(network)
    signature, inputs, outputs = "serving_default", {"input": "input"}, {"output": "output"}
    if network.is_spiking and options.snn == "step":
        y, states = lowering.step(graph, network, x)
        signature = "step"
        inputs |= {state.before.name: state.before.name for state in states}
        outputs |= {state.after.name: state.after.name for state in states}
    elif network.is_spiking:
        y = lowering.unrolled(graph, network, x)
    else:
        y = lowering.perceptron(graph, network, x, readout if grid is None else "output/int8")
    if y.grid is not None and not options.has_int8_io:
        y = graph.convert(y, Signal(readout, rows), network.n_out)
    last = lowering.finish(graph, network, y).name
    outputs["output"] = last if last in outputs.values() else graph.rename(last, "output")
    graph.finish(signature, inputs, outputs)
    graph.subgraph.name = options.name
    graph.model.description = f"sen-edge {version('sen-edge')}"
    properties = describe(network, options.snn)
    if options.interpreters:
        properties["tflite_target"] = options.interpreters
    set_properties(graph.model, properties)
    return graph.model
