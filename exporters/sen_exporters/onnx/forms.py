"""Networks as ONNX graphs: the operators of `sen_exporters.lowering`, and all time steps in a Scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

from sen_exporters import lowering
from sen_exporters.base import describe
from sen_exporters.lowering import Activation, fire, integrate
from sen_exporters.onnx.graph import FLOAT, GraphBuilder, OnnxOptions, set_properties, value_info
from sen_exporters.onnx.weights import affine
from sen_runtime.ir.checks import Parameter
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, is_constant_readout, readout_factors

#: Stored numbers of slices along the time axis.
SLICES = (("start", 0), ("second", 1), ("last", -1), ("time_axis", 1))


class _Operators(GraphBuilder):
    """A graph with the operators of `sen_exporters.lowering`; a value is its name."""

    def affine(self, layer: Layer, index: int, x: str, name: str, activation: Activation = "") -> str:
        if not activation:
            return affine(self, layer, index, x, name)
        return self.node(activation, [affine(self, layer, index, x, f"layer{index}/preactivation")], name)

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
        sizes = [*[network.n_features] * (len(states) - len(network.layers)), *network.layer_sizes[1:]]
        for (before, after), size in zip(states, sizes, strict=True):
            inputs.append(value_info(before, [graph.batch, size]))
            outputs.append(value_info(after, [graph.batch, size]))
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
    if not network.coding.has_steps:
        shape = graph.constant("input/step_shape", np.array([0, 1, network.n_in]))
        x = graph.node("Reshape", [x, shape], "input/step")
    lowering.unrolled(graph, network, x)


@dataclass(frozen=True)
class _State:
    """A value that a Scan carries from step to step, `[batch, size]`, called `before` at the start of a step."""

    name: str
    before: str
    size: int


def _scan(graph: _Operators, network: Network, x: str) -> None:
    """Add all steps as a Scan, whose body is one step of all spiking layers; its graph does not grow with T.

    State: membrane and spikes of each spiking layer, and the sum of the readout, whose product is in the body where its
    neurons differ; of input coding "rate" the phase. Scanned: what arrives in each step, and the readout's factors
    `[T, 1]` or `[T, n]`. A body reads nothing from outside, which not all engines provide.
    """
    spiking = [layer for layer in network.layers if layer.neuron.role == "spiking"]
    if not spiking:
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
    state = _scan_body(body, network)
    before = [value_info(each.before, [graph.batch, each.size]) for each in state]
    after = [value_info(each.name, [graph.batch, each.size]) for each in state]
    body_graph = body.to_proto("step", [*before, *scanned.values()], after)
    summed = f"layer{len(spiking)}/readout_input" if is_summed else lowering.readout_name(network)
    inputs = [*_zeros(graph, [each.size for each in state]), *scanned]
    outputs = [*(f"{each.name}_last" for each in state[:-1]), summed]
    graph.add("Scan", inputs, outputs, "steps", body=body_graph, num_scan_inputs=len(scanned), scan_input_axes=axes)
    if is_summed:
        graph.read_out_weighted(network, summed)


def _arriving(graph: _Operators, network: Network, x: str) -> tuple[str, int, str, int]:
    """Add what arrives in each step: currents of the first layer, or rates, of which the body computes spikes.

    Returns:
        The value, its axis of time, and its name and size `[batch, size]` in a step.
    """
    layer = network.layers[0]
    size = layer.weight.shape[0]
    if network.coding.has_steps:
        train = _changes(graph, network, x) if network.input_coding == "delta" else x
        return graph.affine(layer, 0, train, "layer0/currents"), 1, "layer0/current", size
    if network.input_coding == "rate":
        constant, name, size = lowering.round_rates(graph, x), "input/step_rate", network.n_in
    else:
        constant, name = graph.affine(layer, 0, x, "layer0/constant_current"), "layer0/current"
    # scanned, it costs a step nothing; as a state it would be copied
    repeated = graph.scalar("input/repeat", np.ones((network.timesteps, 1, 1)))
    return graph.node("Mul", [repeated, constant], f"{name}s"), 0, name, size


def _scan_body(body: _Operators, network: Network) -> list[_State]:
    """Add one step: membranes and spikes, then the sum of the last spikes or currents; return the state."""
    state, x, size = [], "", 0
    if network.input_coding == "rate":
        phase = _State("input/phase", "input/phase_before", network.n_in)
        x, _ = lowering.code_rate(body, "input/step_rate", phase.before, "input", phase.name)
        state.append(phase)
    layers = network.layers[:-1] if network.has_summed_readout else network.layers
    for index, layer in enumerate(layers):
        name, neuron, size = f"layer{index}", layer.neuron, layer.weight.shape[0]
        current = body.affine(layer, index, x, f"{name}/current") if x else f"{name}/current"
        if neuron.role == "readout":
            x = current
            break
        membrane = _State(f"{name}/membrane", f"{name}/membrane_before", size)
        spikes = _State(f"{name}/spikes", f"{name}/spikes_before", size)
        integrate(neuron, body, name, membrane.before, spikes.before, current, membrane.name)
        x = fire(neuron, body, name, membrane.name, name)
        state += [membrane, spikes]
    if network.readout != "spike_count":  # the factors of a count are 1
        x = body.node("Mul", [x, "readout/factor"], "readout/weighted")
    total = _State("readout/sum", "readout/sum_before", size)
    body.binary("Add", total.before, x, total.name)
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
