"""Adds the activations of hidden layers to the outputs of an ONNX file; finds them by the names of values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import GraphProto, ModelProto, helper, numpy_helper

from sen_exporters.lowering import hidden_values
from sen_exporters.onnx.graph import value_info


def show_activations(model: ModelProto, properties: Mapping[str, str]) -> None:
    """Add an output `layerN/activation [batch, n]` for every layer but the last, whose values are `output`.

    Activations of a multilayer perceptron; of a spiking network the spike counts over the steps that the
    graph holds (one, in a step graph: the caller adds them up).
    """
    graph = model.graph
    for name, parts in hidden_values(_values(graph), properties).items():
        if parts != [name]:
            graph.node.append(helper.make_node("Sum", parts, [name], name=name))
        _add_output(graph, name)
    for scan in [node for node in graph.node if node.op_type == "Scan"]:
        body: GraphProto = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
        for name, spikes in hidden_values(_values(body), properties).items():
            train, axis = f"{name}_train", f"{name}_time_axis"
            # with its own name: the spikes may be an output already, the state for the next step
            body.node.append(helper.make_node("Identity", spikes, [f"{train}_step"], name=f"{train}_step"))
            body.output.append(value_info(f"{train}_step", [None, None]))
            scan.output.append(train)
            graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), axis))
            graph.node.append(helper.make_node("ReduceSum", [train, axis], [name], name=name, keepdims=0))
            _add_output(graph, name)


def _values(graph: GraphProto) -> list[str]:
    return [name for node in graph.node for name in node.output]


def _add_output(graph: GraphProto, name: str) -> None:
    """Add an output `[batch, n]`, with the batch of the graph's own output and any n."""
    output = value_info(name, [None, None])
    output.type.tensor_type.shape.dim[0].CopyFrom(graph.output[0].type.tensor_type.shape.dim[0])
    graph.output.append(output)
