"""Adds the activations of hidden layers to the outputs of a TFLite file; finds them by the names of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from sen_exporters.lowering import hidden_values


def show_activations(model: Any, properties: Mapping[str, str]) -> None:
    """Add an output `layerN/activation [batch, n]` for every layer but the last, whose values are `output`.

    Activations of a multilayer perceptron; of a spiking network the spike counts over the steps that the graph
    holds (one, in a step model: the caller adds them up).

    Args:
        model: a `ModelT`, which is changed.
        properties: of the file.
    """
    tensors = {tensor.name.decode(): index for index, tensor in enumerate(model.subgraphs[0].tensors)}
    for name, parts in hidden_values(tensors, properties).items():
        found = [tensors[part] for part in parts]
        _show(model, name, found[0] if len(found) == 1 else _add_up(model, name, found))


def _show(model: Any, name: str, tensor: int) -> None:
    signature, graph = model.signatureDefs[0], model.subgraphs[0]
    graph.outputs = [*graph.outputs, tensor]
    signature.outputs.append(schema.TensorMapT(name=name, tensorIndex=tensor))


def _add_up(model: Any, name: str, tensors: list[int]) -> int:
    """Add a float32 tensor, the sum of `tensors`, and return its index."""
    if model.subgraphs[0].tensors[tensors[0]].type == schema.TensorType.INT8:
        tensors = [
            _append(model, "DEQUANTIZE", 2, [tensor], f"{name}/t{t}", schema.DequantizeOptionsT())
            for t, tensor in enumerate(tensors)
        ]
    return _append(model, "ADD_N", 1, tensors, name, schema.AddNOptionsT())


def _append(model: Any, operator: str, version: int, inputs: list[int], name: str, options: Any) -> int:
    """Add an operator with a float32 result of the inputs' shape, and return the index of the result."""
    graph, code = model.subgraphs[0], getattr(schema.BuiltinOperator, operator)
    first = graph.tensors[inputs[0]]
    model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=version))
    graph.tensors.append(
        schema.TensorT(
            shape=first.shape,
            shapeSignature=first.shapeSignature,
            type=schema.TensorType.FLOAT32,
            buffer=0,
            name=name,
        )
    )
    graph.operators.append(
        schema.OperatorT(
            opcodeIndex=len(model.operatorCodes) - 1,
            inputs=inputs,
            outputs=[len(graph.tensors) - 1],
            builtinOptionsType=getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T")),
            builtinOptions=options,
        )
    )
    return len(graph.tensors) - 1
