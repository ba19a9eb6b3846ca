"""Spiking networks as ONNX graphs: unrolled steps, steps in a Scan, or one step with its state as input and output.

A membrane readout is linear in its inputs, so unrolled and Scan graphs multiply its weights once, with the weighted sum
of its inputs over time:

    readout = sum_t c[t] (W x[t] + b) = W (sum_t c[t] x[t]) + b sum_t c[t]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from onnx import ValueInfoProto, helper

from sen_exporters.onnx.graph import BOOL, FLOAT, Dimension, GraphBuilder, value_info
from sen_exporters.onnx.neurons import fire, fired, integrate, reset_signal, to_spikes
from sen_exporters.onnx.weights import affine
from sen_runtime.ir.network import Layer, Network, readout_factors
from sen_runtime.ir.neurons import LeakyIntegrator, Neuron

#: inputs and outputs of a graph besides `input` and `output`
Border = tuple[list[ValueInfoProto], list[ValueInfoProto]]
#: State of a Scan: value -> shape and element type.
State = dict[str, tuple[list[Dimension], int]]


def unrolled(graph: GraphBuilder, network: Network) -> Border:
    """Separate nodes for every time step; each layer's weights are multiplied once, for all steps together.

    Layers are feed-forward, so all steps of a layer come before the next layer: `[T * batch, n_in]` spikes, time first,
    times W^T, split into T currents `[batch, n_out]`.
    """
    spikes: list[str] = []
    for index, layer in enumerate(network.layers):
        if layer.neuron.role == "readout":
            _read_out(graph, network, _weighted_train(graph, network, spikes))
            return [], []
        currents = _unrolled_currents(graph, network, index, spikes)
        spikes = _unrolled_spikes(graph, layer.neuron, f"layer{index}", currents)
    graph.node("Sum", spikes, "output")
    return [], []


def _unrolled_currents(graph: GraphBuilder, network: Network, index: int, spikes: list[str]) -> list[str]:
    """Current `[batch, n]` of a layer in each step, from the spikes of the layer before or the input."""
    layer, steps = network.layers[index], network.timesteps
    if not spikes and network.input_coding == "direct":
        return [affine(graph, layer, index, "input", f"layer{index}/current")] * steps
    if spikes:
        x = graph.node("Concat", spikes, f"layer{index}/inputs", axis=0)
    else:
        time_first = graph.node("Transpose", ["input"], "input/time_first", perm=[1, 0, 2])
        x = _reshape(graph, time_first, f"layer{index}/inputs", [-1, network.n_in])
    joined = affine(graph, layer, index, x, f"layer{index}/currents")
    currents = [f"layer{index}/t{t}/current" for t in range(steps)]
    # from operator set 18 on, the number of equal parts is an attribute
    parts = {"num_outputs": steps} if graph.options.opset >= 18 else {}
    graph.add("Split", [joined], currents, f"layer{index}/split", axis=0, **parts)
    return currents


def _unrolled_spikes(graph: GraphBuilder, neuron: Neuron, layer: str, currents: list[str]) -> list[str]:
    """Add membranes and spikes of a layer in all steps; return the spikes. The first membrane is the current."""
    membrane = graph.node("Identity", [currents[0]], f"{layer}/t0/membrane")
    spikes = [fire(neuron, graph, layer, membrane, f"{layer}/t0")]
    for t, current in enumerate(currents[1:], start=1):
        before = f"{layer}/t{t - 1}/{reset_signal(neuron)}"
        membrane = integrate(neuron, graph, layer, membrane, before, current, f"{layer}/t{t}/membrane")
        spikes.append(fire(neuron, graph, layer, membrane, f"{layer}/t{t}"))
    return spikes


def scan(graph: GraphBuilder, network: Network) -> Border:
    """Steps as a Scan, whose body is one step of all spiking layers; its size does not depend on T.

    State: membrane and spikes of each spiking layer, and the sum of the readout. Scanned: the readout's factors `[T]`,
    and with input coding "spikes" the first layer's currents `[batch, T, n]`; a constant current is computed once,
    outside.
    """
    spiking = [layer for layer in network.layers if layer.neuron.role == "spiking"]
    if not spiking:
        return unrolled(graph, network)
    is_count = len(spiking) == len(network.layers)
    state = _scan_state(graph, spiking)
    scanned, axes = {_readout_factors(graph, network): value_info("readout/factor", [])}, [0]
    if network.input_coding == "spikes":
        current = value_info("layer0/current", [graph.batch, spiking[0].weight.shape[0]])
        scanned[_currents(graph, network)] = current
        axes.append(1)
    else:
        affine(graph, network.layers[0], 0, "input", "layer0/current")

    body = graph.body()
    _scan_body(body, spiking, is_weighted=not is_count)
    before = [value_info(f"{name}_before", shape, kind) for name, (shape, kind) in state.items()]
    after = [value_info(name, shape, kind) for name, (shape, kind) in state.items()]
    body_graph = body.to_proto("step", [*before, *scanned.values()], after)
    summed = "output" if is_count else f"layer{len(spiking)}/readout_input"
    inputs = [*_initial(graph, state), *scanned]
    outputs = [*(f"{name}_last" for name in list(state)[:-1]), summed]
    graph.add("Scan", inputs, outputs, "steps", body=body_graph, num_scan_inputs=len(scanned), scan_input_axes=axes)
    if not is_count:
        _read_out(graph, network, summed)
    return [], []


def _scan_state(graph: GraphBuilder, spiking: Sequence[Layer]) -> State:
    state: State = {}
    for index, layer in enumerate(spiking):
        shape = [graph.batch, layer.weight.shape[0]]
        signal = reset_signal(layer.neuron)
        state[f"layer{index}/membrane"] = shape, FLOAT
        state[f"layer{index}/{signal}"] = shape, BOOL if signal == "fired" else FLOAT
    state["readout/sum"] = shape, FLOAT
    return state


def _scan_body(body: GraphBuilder, spiking: Sequence[Layer], *, is_weighted: bool) -> None:
    """One step: membranes and spikes of all layers, then the sum of the spikes of the last one."""
    x = "layer0/current"
    for index, layer in enumerate(spiking):
        name = f"layer{index}"
        if index:
            x = affine(body, layer, index, x, f"{name}/current")
        neuron = layer.neuron
        before = f"{name}/{reset_signal(neuron)}_before"
        membrane = integrate(neuron, body, name, f"{name}/membrane_before", before, x, f"{name}/membrane")
        x = fire(neuron, body, name, membrane, name)
    if is_weighted:
        x = body.node("Mul", [x, "readout/factor"], "readout/weighted")
    body.node("Add", ["readout/sum_before", x], "readout/sum")


def _currents(graph: GraphBuilder, network: Network) -> str:
    """Currents `[batch, T, n]` of the first layer for a spike train, in one product."""
    rows = _reshape(graph, "input", "layer0/inputs", [-1, network.n_in])
    joined = affine(graph, network.layers[0], 0, rows, "layer0/joined_currents")
    return _reshape(graph, joined, "layer0/currents", [-1, network.timesteps, network.layers[0].weight.shape[0]])


def _initial(graph: GraphBuilder, state: State) -> list[str]:
    """Zeros for every entry of the state, in the batch size of the input."""
    shape = graph.node("Shape", ["input"], "input/shape")
    first = graph.constant("input/first_axis", np.array([0], np.int64))
    batch = graph.node("Gather", [shape, first], "input/batch", axis=0)
    names = []
    for name, ((_, size), kind) in state.items():
        width = graph.constant(f"{name}_width", np.array([size], np.int64))
        full = graph.node("Concat", [batch, width], f"{name}_shape", axis=0)
        zero = helper.make_tensor("zero", kind, [1], [0])
        names.append(graph.node("ConstantOfShape", [full], f"{name}_initial", value=zero))
    return names


def step(graph: GraphBuilder, network: Network) -> Border:
    """One time step: inputs `input` and `layerN/membrane`, outputs `output` and `layerN/membrane_next`.

    `output` is the last layer's membrane, or its spikes for a spike count.
    """
    x, inputs, outputs = "input", [], []
    for index, layer in enumerate(network.layers):
        name = f"layer{index}"
        before, after = f"{name}/membrane", f"{name}/membrane_next"
        current = affine(graph, layer, index, x, f"{name}/current")
        if layer.neuron.role == "readout":
            x = integrate(layer.neuron, graph, name, before, "", current, after)
        else:
            x = _one_step(graph, layer.neuron, name, before, current, after)
        inputs.append(value_info(before, [graph.batch, layer.weight.shape[0]]))
        outputs.append(value_info(after, [graph.batch, layer.weight.shape[0]]))
    graph.node("Identity", [x], "output")
    return inputs, outputs


def _one_step(graph: GraphBuilder, neuron: Neuron, layer: str, before: str, current: str, after: str) -> str:
    """Add the membrane `after` from the membrane `before`, which is the whole state; return its spikes."""
    signal = fired(neuron, graph, layer, before, f"{layer}/before")
    if reset_signal(neuron) == "spikes":
        signal = to_spikes(graph, signal, f"{layer}/before")
    integrate(neuron, graph, layer, before, signal, current, after)
    return fire(neuron, graph, layer, after, layer)


def _reshape(graph: GraphBuilder, value: str, output: str, shape: list[int]) -> str:
    return graph.node("Reshape", [value, graph.constant(f"{output}_shape", np.array(shape, np.int64))], output)


def _readout_factors(graph: GraphBuilder, network: Network) -> str:
    """Factors c `[T]`, computed in the graph, whose size does not depend on T; onnxruntime folds them at load.

    With k = T - t: c[t] = beta^(k - 1) for the last membrane, and for the mean over T of the membranes
    (1 + beta + ... + beta^(k - 1)) / T = (1 - beta^k) / ((1 - beta) T), or k / T where beta = 1.
    """
    neuron, steps = network.layers[-1].neuron, network.timesteps
    beta = neuron.beta if isinstance(neuron, LeakyIntegrator) else 1.0
    is_last = network.readout == "last_membrane"

    def scalar(name: str, value: float) -> str:
        return graph.scalar(f"readout/{name}", value, np.float64)

    start, end, stride = scalar("first", steps - is_last), scalar("end", -float(is_last)), scalar("stride", -1)
    factors = graph.node("Range", [start, end, stride], "readout/steps_left")
    scale = 1.0 / steps
    if is_last or beta != 1:
        factors = graph.node("Pow", [scalar("beta", beta), factors], "readout/decay")
    if not is_last:
        if beta != 1:
            factors = graph.node("Sub", [scalar("one", 1), factors], "readout/one_less_decay")
            scale /= 1 - beta
        factors = graph.node("Mul", [factors, scalar("scale", scale)], "readout/factors_f64")
    return graph.node("Cast", [factors], "readout/factors", to=FLOAT)


def _weighted_train(graph: GraphBuilder, network: Network, spikes: list[str]) -> str:
    """sum_t c[t] x[t] `[batch, n_in]` of the last layer, from its inputs per step or the network's input."""
    output = f"layer{len(network.layers) - 1}/readout_input"
    if spikes:
        joined = graph.node("Concat", spikes, f"{output}_joined", axis=1)
        shape = [-1, network.timesteps, network.layers[-1].weight.shape[1]]
        train = _reshape(graph, joined, f"{output}_train", shape)
    elif network.input_coding == "spikes":
        train = "input"
    else:
        return graph.node("Mul", ["input", graph.scalar("readout/factor", readout_factors(network).sum())], output)
    return graph.node("MatMul", [_readout_factors(graph, network), train], output)


def _read_out(graph: GraphBuilder, network: Network, weighted: str) -> None:
    """Product of the last layer with its weighted input."""
    index = len(network.layers) - 1
    layer = network.layers[index]
    if layer.bias is not None:
        bias = layer.bias.astype(np.float64) * readout_factors(network).sum()
        layer = replace(layer, bias=bias.astype(np.float32))
    affine(graph, layer, index, weighted, "output")


Form = Callable[[GraphBuilder, Network], Border]
FORMS: dict[str, Form] = {"unrolled": unrolled, "scan": scan, "step": step}
