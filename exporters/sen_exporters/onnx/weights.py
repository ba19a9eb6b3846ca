"""Weight operators as ONNX nodes: `y = x W^T + b` for `x [..., n_in]`; matrices are stored as `W^T [n_in, n_out]`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_exporters.base import ExportError
from sen_exporters.onnx.coordinates import coordinate_weights
from sen_exporters.onnx.graph import GraphBuilder
from sen_runtime.errors import NetworkError
from sen_runtime.ir.int8 import Scale
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.operators import Coordinates, LowRank, Sparse, Sum, WeightOperator

Array = NDArray[Any]


def affine(
    graph: GraphBuilder, layer: Layer, index: int, x: str, output: str, *, bias_factor: float | None = None
) -> str:
    """Add `W x + bias_factor b` of a layer, from `x [..., n_in]` to `output [..., n_out]`; return the name `output`.

    Raises:
        NetworkError: coordinates whose weights are not finite; the message names the layer and both neurons.
        ExportError: coordinates whose weights float32 does not give; the message names the layer.
    """
    b = layer.bias
    if b is not None and bias_factor is not None:
        b = (b.astype(np.float64) * bias_factor).astype(np.float32)
    bias = None if b is None else graph.cast_constant(f"layer{index}/bias", b)
    with in_layer(index):
        return product(layer.weight, graph, f"layer{index}", x, bias, output)


@contextmanager
def in_layer(index: int) -> Iterator[None]:
    """Name the layer in errors of its weights."""
    try:
        yield
    except (NetworkError, ExportError) as error:
        raise type(error)(f"layer {index}: {error.message}", error.hint) from error


@singledispatch
def product(operator: WeightOperator, graph: GraphBuilder, prefix: str, x: str, bias: str | None, output: str) -> str:
    """Add `W x + b`, and return the name `output`; one function for each operator, by default of one matrix.

    `x` and `bias` are names; `prefix` is that of all other values.
    """
    return _multiply(graph, prefix, x, matrix(operator, graph, prefix), bias, output)


@product.register
def _low_rank(operator: LowRank, graph: GraphBuilder, prefix: str, x: str, bias: str | None, output: str) -> str:
    """Two products."""
    right = _scaled(graph, f"{prefix}/right", operator.right, operator.right_scale)
    left = _scaled(graph, f"{prefix}/left", operator.left, operator.left_scale)
    inner = graph.node("MatMul", [x, right], f"{prefix}/inner")
    return _multiply(graph, prefix, inner, left, bias, output)


@product.register
def _sum(operator: Sum, graph: GraphBuilder, prefix: str, x: str, bias: str | None, output: str) -> str:
    a = product(operator.a, graph, f"{prefix}/a", x, None, f"{prefix}/a/result")
    b = product(operator.b, graph, f"{prefix}/b", x, bias, f"{prefix}/b/result")
    return graph.node("Add", [a, b], output)


@singledispatch
def matrix(operator: WeightOperator, graph: GraphBuilder, prefix: str) -> str:
    """Add all weights as one value `W^T [n_in, n_out]`; one function for each storage, by default dense."""
    return _scaled(graph, f"{prefix}/weight", operator.stored_matrix(), operator.scale)


@matrix.register
def _coordinates(operator: Coordinates, graph: GraphBuilder, prefix: str) -> str:
    return coordinate_weights(graph, operator, f"{prefix}/weight")


@matrix.register
def _sparse(operator: Sparse, graph: GraphBuilder, prefix: str) -> str:
    is_sparse = graph.options.sparse_format == "densify"
    return _scaled(graph, f"{prefix}/weight", operator.stored_matrix(), operator.scale, is_sparse=is_sparse)


def _multiply(graph: GraphBuilder, prefix: str, x: str, weight: str, bias: str | None, output: str) -> str:
    """`x weight + bias`; a MatMul takes rows of any rank, and engines merge it with the sum."""
    if bias is None:
        return graph.node("MatMul", [x, weight], output)
    return graph.node("Add", [graph.node("MatMul", [x, weight], f"{prefix}/product"), bias], output)


def _scaled(graph: GraphBuilder, name: str, w: Array, scale: Scale | None, *, is_sparse: bool = False) -> str:
    """Stored `w [rows, columns]` as float32 `[columns, rows]`; int8 is multiplied by its scale, folded at load."""
    stored_name = name if scale is None else f"{name}_unscaled"
    store = graph.sparse_constant if is_sparse else graph.cast_constant
    stored = store(stored_name, np.ascontiguousarray(w.T))
    if scale is None:
        return stored
    return graph.node("Mul", [stored, graph.constant(f"{name}_scale", scale.reshape(1, -1))], name)
