"""Adds the activations of hidden layers to the outputs of an ONNX file; finds them by the names of values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from sen_exporters.onnx.graph import value_info


def show_activations(model: ModelProto) -> None:
    """Add an output `layerN/activation [batch, n]` for every layer but the last, whose values are `output`.

    Activations of a multilayer perceptron; of a spiking network the spike counts over the steps that the
    graph holds (one, in a step graph: the caller adds them up).
    """
    graph = model.graph
    last = max((int(match[1]) for name in _values(graph) if (match := re.match(r"layer(\d+)/", name))), default=0)
    top = [name for node in graph.node for name in node.output]
    for names in _by_layer(top, r"layer(\d+)/activation").values():
        _add_output(graph, names[0])
    for index, names in _by_layer(top, r"layer(\d+)/(?:t\d+/)?spikes").items():
        if index < last:
            graph.node.append(helper.make_node("Sum", names, [_name(index)], name=_name(index)))
            _add_output(graph, _name(index))
    for node in list(graph.node):
        if node.op_type == "Scan":
            _show_scanned(graph, node, last)


def _show_scanned(graph: GraphProto, node: NodeProto, last: int) -> None:
    """Collect the spikes of a Scan's body over time, and sum them."""
    body = _body(node)
    spikes = _by_layer((name for inner in body.node for name in inner.output), r"layer(\d+)/spikes")
    for index, names in spikes.items():
        if index < last:
            train, axis = f"layer{index}/spike_train", f"layer{index}/time_axis"
            # with its own name: the spikes may be an output already, the state for the next step
            body.node.append(helper.make_node("Identity", names, [f"{train}_step"], name=f"{train}_step"))
            body.output.append(value_info(f"{train}_step", [None, None]))
            node.output.append(train)
            graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), axis))
            counting = helper.make_node("ReduceSum", [train, axis], [_name(index)], name=_name(index), keepdims=0)
            graph.node.append(counting)
            _add_output(graph, _name(index))


def _name(index: int) -> str:
    return f"layer{index}/activation"


def _add_output(graph: GraphProto, name: str) -> None:
    """Add an output `[batch, n]`, with the batch of the graph's own output and any n."""
    output = value_info(name, [None, None])
    output.type.tensor_type.shape.dim[0].CopyFrom(graph.output[0].type.tensor_type.shape.dim[0])
    graph.output.append(output)


def _body(node: NodeProto) -> GraphProto:
    body: GraphProto = next(attribute.g for attribute in node.attribute if attribute.name == "body")
    return body


def _values(graph: GraphProto) -> Iterator[str]:
    """Names of all computed values, including those in the bodies of Scans."""
    for node in graph.node:
        yield from node.output
        if node.op_type == "Scan":
            yield from _values(_body(node))


def _by_layer(names: Iterable[str], pattern: str) -> dict[int, list[str]]:
    """Layer index -> the names that match `pattern`, whose group is that index."""
    found: dict[int, list[str]] = {}
    for name in names:
        if match := re.fullmatch(pattern, name):
            found.setdefault(int(match[1]), []).append(name)
    return found
