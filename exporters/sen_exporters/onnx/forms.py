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
from sen_exporters.onnx.graph import BOOL, FLOAT, GraphBuilder, OnnxOptions, set_properties, value_info
from sen_exporters.onnx.weights import affine
from sen_runtime.ir.checks import Array, Parameter
from sen_runtime.ir.network import Layer, Network, readout_factors
from sen_runtime.ir.neurons import LeakyIntegrator

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
        fired = f"{spikes.removesuffix('spikes')}fired"  # the same as bool, see `spikes`
        return self.node("Where", [fired, self.scalar("zero", 0.0), x], name)

    def spikes(self, membrane: str, threshold: Parameter, layer: str, prefix: str) -> str:
        stored = self.scalar(f"{layer}/threshold", threshold)
        fired = self.node("Greater", [membrane, stored], f"{prefix}/fired")
        return self.node_on_demand("Cast", [fired], f"{prefix}/spikes", to=FLOAT)

    def membrane(self, name: str, size: int, x: str) -> str:
        return name

    def time_first(self, x: str, network: Network, name: str) -> str:
        return self.reshape(self.node("Transpose", [x], f"{x}/time_first", perm=[1, 0, 2]), name, [network.n_features])

    def floor(self, x: str, name: str) -> str:
        return self.node("Floor", [x], name)

    def join_columns(self, parts: Sequence[str], name: str) -> str:
        return self.node("Concat", parts, name, axis=-1)

    def join(self, parts: Sequence[str], name: str) -> str:
        return self.node("Concat", parts, name, axis=0)

    def split(self, joined: str, names: Sequence[str]) -> list[str]:
        # from operator set 18 on, the number of equal parts is an attribute
        parts = {"num_outputs": len(names)} if self.options.opset >= 18 else {}
        self.add("Split", [joined], names, f"{joined}_split", axis=0, **parts)
        return list(names)

    def total(self, network: Network, train: Sequence[str]) -> str:
        return self.node("Sum", train, lowering.readout_name(network))

    def read_out(self, network: Network, x: str, train: Sequence[str]) -> str:
        index, layer = len(network.layers) - 1, network.layers[-1]
        weighted = f"layer{index}/readout_input"
        if not train and network.coding.is_constant:
            factor = self.scalar("readout/factor", readout_factors(network).sum())
            self.node("Mul", [x, factor], weighted)
        else:
            if train:
                joined = self.node("Concat", train, f"{weighted}_joined", axis=1)
                x = self.reshape(joined, f"{weighted}_train", [network.timesteps, layer.weight.shape[1]])
            self.node("MatMul", [_readout_factors(self, network), x], weighted)
        return self.read_out_weighted(network, weighted)

    def read_out_weighted(self, network: Network, weighted: str) -> str:
        """Product of the last layer with its weighted input."""
        index, bias_factor = len(network.layers) - 1, float(readout_factors(network).sum())
        name = lowering.readout_name(network)
        return affine(self, network.layers[-1], index, weighted, name, bias_factor=bias_factor)

    def reshape(self, x: str, name: str, shape: Sequence[int]) -> str:
        """`x` as rows of `shape`."""
        return self.node("Reshape", [x, self.constant(f"{name}_shape", np.array([-1, *shape]))], name)


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
        lowering.unrolled(graph, network, x)
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


@dataclass(frozen=True)
class _State:
    """A value that a Scan carries from step to step, `[batch, size]`."""

    name: str
    before: str
    size: int
    kind: int = FLOAT


def _scan(graph: _Operators, network: Network, x: str) -> None:
    """Add all steps as a Scan, whose body is one step of all spiking layers; its size does not depend on T.

    State: membrane and spikes of each spiking layer, and the sum of the readout, whose product is in the body where its
    neurons differ; of input coding "rate" the phase. Scanned: the readout's factors `[T]` or `[T, n]`, and of sequences
    the first layer's currents `[batch, T, n]`; a constant current is computed once, outside.
    """
    spiking = [layer for layer in network.layers if layer.neuron.role == "spiking"]
    if not spiking:
        lowering.unrolled(graph, network, x)
        return
    is_summed = network.has_summed_readout
    body = _Operators(graph.options, graph)
    factor_shape = [network.n_out] if network.layers[-1].neuron.role == "readout" and not is_summed else []
    scanned, axes = {_readout_factors(graph, network): value_info("readout/factor", factor_shape)}, [0]
    if network.coding.has_steps:
        train = _changes(graph, network, x) if network.input_coding == "delta" else x
        currents = _currents(graph, network, train)
        scanned[currents] = value_info("layer0/current", [graph.batch, spiking[0].weight.shape[0]])
        axes.append(1)
    elif network.input_coding == "direct":
        graph.affine(network.layers[0], 0, x, "layer0/current")
    else:
        lowering.round_rates(graph, x)
    state = _scan_body(body, network)
    before = [value_info(each.before, [graph.batch, each.size], each.kind) for each in state]
    after = [value_info(each.name, [graph.batch, each.size], each.kind) for each in state]
    body_graph = body.to_proto("step", [*before, *scanned.values()], after)
    summed = f"layer{len(spiking)}/readout_input" if is_summed else lowering.readout_name(network)
    inputs = [*_initial(graph, state), *scanned]
    outputs = [*(f"{each.name}_last" for each in state[:-1]), summed]
    graph.add("Scan", inputs, outputs, "steps", body=body_graph, num_scan_inputs=len(scanned), scan_input_axes=axes)
    if is_summed:
        graph.read_out_weighted(network, summed)


def _scan_body(body: _Operators, network: Network) -> list[_State]:
    """Add one step: membranes and spikes, then the sum of the last spikes or currents; return the state."""
    state, x, size = [], "", 0
    if network.input_coding == "rate":
        phase = _State("input/phase", "input/phase_before", network.n_in)
        x, _ = lowering.code_rate(body, "input/rate", phase.before, "input", phase.name)
        state.append(phase)
    layers = network.layers[:-1] if network.has_summed_readout else network.layers
    for index, layer in enumerate(layers):
        name, neuron, size = f"layer{index}", layer.neuron, layer.weight.shape[0]
        current = body.affine(layer, index, x, f"{name}/current") if x else f"{name}/current"
        if neuron.role == "readout":
            x = current
            break
        membrane = _State(f"{name}/membrane", f"{name}/membrane_before", size)
        integrate(neuron, body, name, membrane.before, f"{name}/before/spikes", current, membrane.name)
        x = fire(neuron, body, name, membrane.name, name)
        takes_bool = any(f"{name}/before/fired" in node.input for node in body.nodes)
        signal, kind = ("fired", BOOL) if takes_bool else ("spikes", FLOAT)
        state += [membrane, _State(f"{name}/{signal}", f"{name}/before/{signal}", size, kind)]
    if network.readout != "spike_count":
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


def _currents(graph: _Operators, network: Network, train: str) -> str:
    """Currents `[batch, T, n]` of the first layer for a sequence, in one product."""
    layer = network.layers[0]
    joined = graph.affine(layer, 0, graph.reshape(train, "layer0/inputs", [network.n_in]), "layer0/joined_currents")
    return graph.reshape(joined, "layer0/currents", [network.timesteps, layer.weight.shape[0]])


def _initial(graph: GraphBuilder, state: Sequence[_State]) -> list[str]:
    """Zeros for every entry of the state, in the batch size of the input."""
    shape = graph.node("Shape", ["input"], "input/shape")
    first = graph.constant("input/first_axis", np.array([0], np.int64))
    batch = graph.node("Gather", [shape, first], "input/batch", axis=0)
    names = []
    for each in state:
        width = graph.constant(f"{each.name}_width", np.array([each.size], np.int64))
        full = graph.node("Concat", [batch, width], f"{each.name}_shape", axis=0)
        zero = helper.make_tensor("zero", each.kind, [1], [0])
        names.append(graph.node("ConstantOfShape", [full], f"{each.name}_initial", value=zero))
    return names


def _readout_factors(graph: GraphBuilder, network: Network) -> str:
    """Factors c `[T]`, computed in the graph, whose size does not depend on T; onnxruntime folds them at load.

    With k = T - t: c[t] = beta^(k - 1) for the last membrane, and for the mean over T of the membranes
    (1 + beta + ... + beta^(k - 1)) / T = (1 - beta^k) / ((1 - beta) T), or k / T where beta = 1. `[T, n]` where the
    neurons differ.
    """
    neuron, steps = network.layers[-1].neuron, network.timesteps
    beta = np.asarray(neuron.beta if isinstance(neuron, LeakyIntegrator) else 1.0, np.float64)
    is_last = network.readout == "last_membrane"

    def stored(name: str, value: Array | float) -> str:
        return graph.scalar(f"readout/{name}", value, np.float64)

    start, end, stride = stored("first", steps - is_last), stored("end", -float(is_last)), stored("stride", -1)
    left = graph.node("Range", [start, end, stride], "readout/steps_left")
    if beta.ndim:
        left = graph.node("Reshape", [left, graph.constant("readout/column", np.array([-1, 1]))], "readout/rows_left")
    factors, is_one = left, beta == 1
    if is_last or not is_one.all():
        factors = graph.node("Pow", [stored("beta", beta), left], "readout/decay")
    if not is_last:
        if not is_one.all():
            factors = graph.node("Sub", [stored("one", 1), factors], "readout/one_less_decay")
        scale = 1.0 / steps / np.where(is_one, 1.0, 1 - beta)
        factors = graph.node("Mul", [factors, stored("scale", scale)], "readout/factors_f64")
        if is_one.any() and not is_one.all():  # 1 - beta^k is 0 there
            linear = graph.node("Mul", [left, stored("slope", is_one / steps)], "readout/linear")
            factors = graph.node("Add", [factors, linear], "readout/all_factors_f64")
    return graph.node("Cast", [factors], "readout/factors", to=FLOAT)
