"""Synapses of different delays as ONNX nodes.

Gather copies the numbers of a line one by one, with 10 to 30 ns each in onnxruntime 1.32; GatherElements takes 1 ns,
but its indices have the batch axis of the line.
"""

from __future__ import annotations

import numpy as np
from onnx import helper

from sen_exporters.onnx.graph import INT64, SUFFIXES, GraphBuilder
from sen_runtime.ir.delays import Steps

#: Bytes of a stored delay at most.
DELAY_BYTES = 4


def delay_offsets(graph: GraphBuilder, delays: Steps, prefix: str, like: str, rank: int) -> str:
    """Add where each synapse reads a line, `[batch, n_in * n_out]`; of rank 3 with an axis of one step.

    Delays `[n_out, n_in]` are stored in 8 bits where these hold them, and a column of the line is
    `delay * n_in + source`. `like` has the batch size.
    """
    n_in = delays.shape[1]
    dtype = np.int8 if delays.max(initial=0) <= np.iinfo(np.int8).max else np.int32
    stored = np.ascontiguousarray(delays.T.astype(dtype))
    suffix = SUFFIXES[helper.np_dtype_to_tensor_dtype(stored.dtype)]
    steps = graph.node("Cast", [graph.constant(f"{prefix}_{suffix}", stored)], prefix, to=INT64)
    scaled = graph.node("Mul", [steps, graph.constant(f"{prefix}_n_in", np.array([n_in]))], f"{prefix}_scaled")
    sources = graph.constant(f"{prefix}_sources", np.arange(n_in)[:, np.newaxis])
    columns = graph.node("Add", [scaled, sources], f"{prefix}_columns")
    shape = graph.constant(f"{prefix}_row_shape", np.array([*[1] * (rank - 1), -1]))
    row = graph.node("Reshape", [columns, shape], f"{prefix}_row")
    return graph.node("Add", [row, _zeros(graph, prefix, like, rank)], f"{prefix}_offsets")


def gather(
    graph: GraphBuilder, line: str, offsets: str, matrix: str, shape: tuple[int, int], name: str, rank: int
) -> str:
    """Add what arrives through synapses `shape`, `[n_out, n_in]`, with weights `matrix [n_in, n_out]`, from a line."""
    read = graph.node("GatherElements", [line, offsets], f"{name}_read", axis=rank - 1)
    wanted = graph.constant(f"{name}_shape", np.array([*[0] * (rank - 1), *reversed(shape)]))
    values = graph.node("Reshape", [read, wanted], f"{name}_values")
    products = graph.node("Mul", [values, matrix], f"{name}_products")
    return graph.node("ReduceSum", [products, graph.constant("axes/sources", np.array([rank - 1]))], name, keepdims=0)


def _zeros(graph: GraphBuilder, prefix: str, like: str, rank: int) -> str:
    """Integers 0 in the batch size of `like`."""
    if isinstance(graph.batch, int):
        return graph.constant(f"{prefix}_zeros", np.zeros((graph.batch, *[1] * (rank - 1)), np.int64))
    size = graph.node("Shape", [like], f"{prefix}_input_shape")
    batch = graph.node("Gather", [size, graph.constant("axes/first", np.array([0]))], f"{prefix}_batch", axis=0)
    ones = graph.constant(f"{prefix}_ones", np.ones(rank - 1, np.int64))
    full = graph.node("Concat", [batch, ones], f"{prefix}_zeros_shape", axis=0)
    return graph.node("ConstantOfShape", [full], f"{prefix}_zeros", value=helper.make_tensor("zero", INT64, [1], [0]))
