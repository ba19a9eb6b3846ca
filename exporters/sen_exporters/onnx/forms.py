"""Networks as ONNX graphs: the operators of `sen_exporters.lowering`, and all time steps in a Scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

from sen_exporters import lowering
from sen_exporters.base import describe
from sen_exporters.lowering import fire, integrate
from sen_exporters.onnx.delays import delay_offsets, gather
from sen_exporters.onnx.graph import FLOAT, GraphBuilder, OnnxOptions, set_properties, value_info
from sen_exporters.onnx.weights import affine, in_layer, matrix
from sen_exporters.operators import Activation, State
from sen_exporters.wiring import Wiring
from sen_runtime.ir.checks import Parameter
from sen_runtime.ir.delays import Steps
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, is_constant_readout, readout_factors
from sen_runtime.ir.operators import WeightOperator

#: Stored numbers of slices along the time axis.
SLICES = (("start", 0), ("second", 1), ("last", -1), ("time_axis", 1))


class _Operators(GraphBuilder):
    """A graph with the operators of `sen_exporters.operators`; a value is its name.

    Attributes:
        rank: of a value in a step: 2, `[batch, n]`, or 3, `[batch, 1, n]`.
    """

    rank = 2

    def affine(self, layer: Layer, index: int, x: str, name: str, activation: Activation = "") -> str:
        if not activation:
            return affine(self, layer, index, x, name)
        return self.node(activation, [affine(self, layer, index, x, f"layer{index}/preactivation")], name)

    def matrix(self, weight: WeightOperator, index: int, prefix: str) -> str:
        with in_layer(index):
            return matrix(weight, self, prefix)

    def multiply(self, x: str, matrix: str, name: str) -> str:
        return self.node("MatMul", [x, matrix], name)

    def offsets(self, delays: Steps, prefix: str, like: str) -> str:
        return delay_offsets(self, delays, f"{prefix}/delays", like, self.rank)

    def gather(self, line: str, offsets: str, matrix: str, shape: tuple[int, int], name: str) -> str:
        return gather(self, line, offsets, matrix, shape, name, self.rank)

    def columns(self, x: str, start: int, stop: int, name: str) -> str:
        numbers = ((str(start), start), (str(stop), stop), ("axis", -1))
        stored = [self.constant(f"columns/{key}", np.array([number])) for key, number in numbers]
        return self.node("Slice", [x, *stored], name)

    def binary(self, operator: str, a: str, b: str, name: str) -> str:
        return self.node(operator, [a, b], name)

    def scale(self, x: str, factor: Parameter, constant: str, name: str, like: str) -> str:
        is_same = isinstance(factor, float) and factor == 1
        return x if is_same else self.node("Mul", [x, self.scalar(constant, factor)], name)

    def vector(self, name: str, values: NDArray[np.float32]) -> str:
        return self.constant(name, values)

    def activate(self, activation: str, x: str, name: str) -> str:
        kinds = {"softmax": ("Softmax", {"axis": -1}), "sigmoid": ("Sigmoid", {})}
        operator, attributes = kinds[activation]
        return self.node(operator, [x], name, **attributes)

    def silence(self, x: str, spikes: str, name: str) -> str:
        silent = self.node("Sub", [self.scalar("one", 1.0), spikes], f"{name}_silent")
        return self.node("Mul", [x, silent], name)

    def spikes(self, membrane: str, threshold: Parameter, layer: str, prefix: str) -> str:
        return self.is_above(membrane, self.scalar(f"{layer}/threshold", threshold), threshold, f"{prefix}/spikes")

    def membrane(self, name: str, size: int, x: str) -> str:
        return name

    def time_first(self, x: str, network: Network, name: str) -> str:
        return x

    def floor(self, x: str, name: str) -> str:
        return self.node("Floor", [x], name)

    def join_columns(self, parts: Sequence[str], name: str) -> str:
        return self.node("Concat", parts, name, axis=-1)

    def join(self, parts: Sequence[str], name: str) -> str:
        return self.node("Concat", parts, name, axis=1) if len(parts) > 1 else parts[0]

    def total(self, network: Network, train: Sequence[str]) -> str:
        axis = self.constant("axes/time", np.array([1]))
        joined = self.join(train, "readout/train")
        return self.node("ReduceSum", [joined, axis], lowering.readout_name(network), keepdims=0)

    def read_out(self, network: Network, x: str, train: Sequence[str]) -> str:
        name, factors = f"layer{len(network.layers) - 1}/readout_input", readout_factors(network)
        if is_constant_readout(network):
            factors = factors.sum(keepdims=True)
        joined = self.join(train, f"{name}_train") if train else x
        stored = self.scalar("readout/factors", factors[np.newaxis])
        summed = self.node("MatMul", [stored, joined], f"{name}_sum")
        shape = self.constant(f"{name}_shape", np.array([0, network.layers[-1].weight.shape[1]]))
        return self.read_out_weighted(network, self.node("Reshape", [summed, shape], name))

    def read_out_weighted(self, network: Network, weighted: str) -> str:
        """Product of the last layer with its weighted input `[batch, n]`."""
        index, bias_factor = len(network.layers) - 1, float(readout_factors(network).sum())
        name = lowering.readout_name(network)
        return affine(self, network.layers[-1], index, weighted, name, bias_factor=bias_factor)


def build(network: Network, options: OnnxOptions) -> ModelProto:
    """Model of a network in the form of the options."""
    graph = _Operators(options)
    input_shape = network.input_shape if options.snn != "step" else (network.n_features,)
    inputs = [value_info("input", [graph.batch, *input_shape])]
    outputs = [value_info("output", [graph.batch, network.n_out])]
    x, y = lowering.standardize(graph, network, "input"), lowering.readout_name(network)
    if not network.is_spiking:
        lowering.perceptron(graph, network, x, y)
    elif options.snn == "step":
        last, states = lowering.step(graph, network, x)
        graph.node("Identity", [last], y)
        inputs += [value_info(state.before, [graph.batch, state.size]) for state in states]
        outputs += [value_info(state.after, [graph.batch, state.size]) for state in states]
    elif options.snn == "scan":
        _scan(graph, network, x)
    else:
        _unrolled(graph, network, x)
    lowering.finish(graph, network, y)
    opsets = [helper.make_opsetid("", options.opset)]
    model = helper.make_model(
        graph.to_proto(options.name, inputs, outputs),
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),  # so that older engines read it
        producer_name="sen-edge",
        producer_version=version("sen-edge"),
    )
    set_properties(model, describe(network, options.snn))
    return model


def _unrolled(graph: _Operators, network: Network, x: str) -> None:
    """Add all steps one by one. Values are `[batch, T, n]`, and `[batch, 1, n]` in a step: any batch keeps its axis."""
    graph.rank = 3
    if not network.coding.has_steps:
        shape = graph.constant("input/step_shape", np.array([0, 1, network.n_in]))
        x = graph.node("Reshape", [x, shape], "input/step")
    lowering.unrolled(graph, network, x)


def _scan(graph: _Operators, network: Network, x: str) -> None:
    """Add all steps as a Scan, whose body is one step of all spiking layers; its graph does not grow with T.

    State: membrane and spikes of each spiking layer, what delays and synapses of layers keep, and the sum of the
    readout, whose product is in the body where its neurons differ; of input coding "rate" the phase. Scanned: what
    arrives in each step, and the readout's factors `[T, 1]` or `[T, n]`. A body reads nothing from outside, which not
    all engines provide.
    """
    spiking = [layer for layer in network.layers if layer.neuron.role == "spiking"]
    if not spiking and network.layers[0].is_instant:
        _unrolled(graph, network, x)
        return
    is_summed = network.has_summed_readout
    source, axis, arriving, size = _arriving(graph, network, x)
    scanned, axes = {source: value_info(arriving, [graph.batch, size])}, [axis]
    if network.readout != "spike_count":
        factors = readout_factors(network).astype(np.float32).reshape(network.timesteps, -1)
        scanned[graph.scalar("readout/factors", factors)] = value_info("readout/factor", factors.shape[1:])
        axes.append(0)
    body = _Operators(graph.options)
    state = _scan_body(body, network, arriving)
    before = [value_info(each.before, [graph.batch, each.size]) for each in state]
    after = [value_info(each.after, [graph.batch, each.size]) for each in state]
    body_graph = body.to_proto("step", [*before, *scanned.values()], after)
    summed = f"layer{len(spiking)}/readout_input" if is_summed else lowering.readout_name(network)
    inputs = [*_zeros(graph, [each.size for each in state]), *scanned]
    outputs = [*(f"{each.after}_last" for each in state[:-1]), summed]
    graph.add("Scan", inputs, outputs, "steps", body=body_graph, num_scan_inputs=len(scanned), scan_input_axes=axes)
    if is_summed:
        graph.read_out_weighted(network, summed)


def _arriving(graph: _Operators, network: Network, x: str) -> tuple[str, int, str, int]:
    """Add what arrives in each step: inputs or rates, or the products of the first layer where these need no body.

    Returns:
        The value, its axis of time, and its name and size `[batch, size]` in a step.
    """
    layer, coding = network.layers[0], network.coding
    value = _changes(graph, network, x) if network.input_coding == "delta" else x
    if network.input_coding == "rate":
        value, name, size = lowering.round_rates(graph, x), "input/step_rate", network.n_in
    elif layer.delay is not None:
        name, size = "input/step", network.n_in
    else:
        name, size = "layer0/current" if layer.is_instant else "layer0/arrival", layer.weight.shape[0]
        added = layer if layer.is_instant else replace(layer, bias=None)
        kind = name.rpartition("/")[2]
        value = graph.affine(added, 0, value, f"{name}s" if coding.has_steps else f"layer0/constant_{kind}")
    if coding.has_steps:
        return value, 1, name, size
    # scanned, it costs a step nothing; as a state it would be copied
    repeated = graph.scalar("input/repeat", np.ones((network.timesteps, 1, 1)))
    return graph.node("Mul", [repeated, value], f"{name}s"), 0, name, size


def _scan_body(body: _Operators, network: Network, arriving: str) -> list[State[str]]:
    """Add one step: membranes and spikes, then the sum of the last spikes or currents; return the state.

    `arriving` is the name of what is scanned.
    """
    state, x, size = [], arriving, 0
    if network.input_coding == "rate":
        phase = State("input/phase_before", "input/phase", network.n_in)
        x, _ = lowering.code_rate(body, arriving, phase.before, "input", phase.after)
        state.append(phase)
    layers = network.layers[:-1] if network.has_summed_readout else network.layers
    for index, layer in enumerate(layers):
        name, neuron, size = f"layer{index}", layer.neuron, layer.weight.shape[0]
        wiring = Wiring(body, layer, index, x)
        kept = {key: f"{name}/{key}_before" for key in wiring.sizes}
        is_multiplied = index == 0 and arriving.startswith(name)
        x, kept_next = (wiring.integrate if is_multiplied else wiring.current)(x, kept, name)
        if neuron.role == "spiking":
            membrane = State(f"{name}/membrane_before", f"{name}/membrane", size)
            spikes = State(f"{name}/spikes_before", f"{name}/spikes", size)
            integrate(neuron, body, name, membrane.before, spikes.before, x, membrane.after)
            x = fire(neuron, body, name, membrane.after, name)
            state += [membrane, spikes]
            kept_next |= wiring.remember(x, kept, name)
        state += [State(kept[key], kept_next[key], columns) for key, columns in wiring.sizes.items()]
    if network.readout != "spike_count":  # the factors of a count are 1
        x = body.node("Mul", [x, "readout/factor"], "readout/weighted")
    total = State("readout/sum_before", "readout/sum", size)
    body.binary("Add", total.before, x, total.after)
    return [*state, total]


def _changes(graph: _Operators, network: Network, x: str) -> str:
    """Spikes `[batch, T, n_in]` of input coding "delta"."""
    zero, one, last, axis = (graph.constant(f"input/{name}", np.array([value])) for name, value in SLICES)
    first = graph.node("Slice", [x, zero, one, axis], "input/first")
    earlier = graph.node("Slice", [x, zero, last, axis], "input/earlier")
    before = graph.node("Concat", [first, earlier], "input/before", axis=1)
    rise, fall = graph.binary("Sub", x, before, "input/rise"), graph.binary("Sub", before, x, "input/fall")
    return lowering.code_delta(graph, network, (rise, fall), "input")


def _zeros(graph: GraphBuilder, sizes: Sequence[int]) -> list[str]:
    """Zeros `[batch, size]` in the batch size of the input."""
    if isinstance(graph.batch, int):
        return [graph.scalar(f"zeros_{size}", np.zeros((graph.batch, size))) for size in sizes]
    shape = graph.node("Shape", ["input"], "input/shape")
    batch = graph.node("Gather", [shape, graph.constant("axes/first", np.array([0]))], "input/batch", axis=0)
    zero, zeros = helper.make_tensor("zero", FLOAT, [1], [0]), {}
    for size in dict.fromkeys(sizes):
        width = graph.constant(f"zeros_{size}_width", np.array([size]))
        full = graph.node("Concat", [batch, width], f"zeros_{size}_shape", axis=0)
        zeros[size] = graph.node("ConstantOfShape", [full], f"zeros_{size}", value=zero)
    return [zeros[size] for size in sizes]
