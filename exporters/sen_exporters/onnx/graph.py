"""A small builder of ONNX graphs: nodes named after what they give, every array stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Array = NDArray[Any]
Dimension = str | int

FLOAT = TensorProto.FLOAT
DOUBLE = TensorProto.DOUBLE
BOOL = TensorProto.BOOL
#: What the name of an array ends with whose value, under the name itself, is another type.
SUFFIXES = {TensorProto.FLOAT16: "f16", TensorProto.FLOAT: "f32", TensorProto.INT8: "i8"}


def value_info(name: str, shape: Sequence[Dimension | None], kind: int = FLOAT) -> ValueInfoProto:
    """A value of a graph's border; a word in `shape` is a dynamic size, None an unknown one."""
    return helper.make_tensor_value_info(name, kind, list(shape))


class GraphBuilder:
    """A graph in the making, or the body of a Scan in one.

    Attributes:
        batch: the word "batch", or the fixed batch size.
        opset: ONNX operator set.
        root: the outermost graph, which holds every array and whatever is computed from arrays alone.
        nodes: in the order of computation.
        initializers: stored arrays.
    """

    def __init__(self, batch: Dimension, opset: int, root: GraphBuilder | None = None) -> None:
        self.batch = batch
        self.opset = opset
        self.root = root or self
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._stored: dict[tuple[object, ...], str] = {}

    def body(self) -> GraphBuilder:
        """An empty graph that runs inside this one and stores its arrays there."""
        return GraphBuilder(self.batch, self.opset, self.root)

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add an operator with one output; the node carries the output's name, which is returned."""
        self.add(operator, inputs, [output], output, **attributes)
        return output

    def add(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], name: str, **attributes: Any) -> None:
        """Add an operator with several outputs under a name of its own."""
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))

    def constant(self, name: str, array: Array) -> str:
        """Store `array`; its name, or the name under which the same bytes are stored already.

        A single number keeps its own name: a threshold that is called `beta` because both are 0.5 would cost a
        reader more than four bytes.
        """
        array = np.asarray(array)
        key = (name,) if array.size == 1 else _content(array)
        if key not in self.root._stored:
            self.root._stored[key] = name
            self.root.initializers.append(numpy_helper.from_array(array, name))
        return self.root._stored[key]

    def scalar(self, name: str, value: float, dtype: DTypeLike = np.float32) -> str:
        """Store one number."""
        return self.constant(name, np.asarray(value, dtype))

    def cast_constant(self, name: str, array: Array, to: int = FLOAT) -> str:
        """Store `array` as it is; the name of its value in the type `to`, cast in the graph where they differ."""
        stored = helper.np_dtype_to_tensor_dtype(array.dtype)
        if stored == to:
            return self.constant(name, array)
        return self.root.node("Cast", [self.constant(f"{name}_{SUFFIXES[stored]}", array)], name, to=to)

    def sparse_constant(self, name: str, w: Array) -> str:
        """Store the non-zero values of `w [n_out, n_in]` and their linear indices; the float32 value's name.

        A Constant node with `sparse_value`, which by the ONNX specification gives a dense tensor. As a
        `sparse_initializer` the value has a sparse type: shape inference refuses it as a factor of Gemm.
        """
        stored = helper.np_dtype_to_tensor_dtype(w.dtype)
        if stored == FLOAT:
            return self._sparse_node(name, w)
        return self.root.node("Cast", [self._sparse_node(f"{name}_{SUFFIXES[stored]}", w)], name, to=FLOAT)

    def _sparse_node(self, name: str, w: Array) -> str:
        flat = w.ravel()
        indices = np.flatnonzero(flat).astype(np.int64)
        values = flat[indices]
        key = ("sparse", w.shape, *_content(values), *_content(indices))
        if key not in self.root._stored:
            self.root._stored[key] = name
            sparse = helper.make_sparse_tensor(
                numpy_helper.from_array(values, name), numpy_helper.from_array(indices, f"{name}/indices"), w.shape
            )
            self.root.node("Constant", [], name, sparse_value=sparse)
        return self.root._stored[key]

    def to_proto(self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> GraphProto:
        """The graph with its border; a body leaves its arrays to the root."""
        return helper.make_graph(self.nodes, name, inputs, outputs, initializer=self.initializers)


def _content(array: Array) -> tuple[object, ...]:
    return array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest()
