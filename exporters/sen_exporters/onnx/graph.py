"""A small builder of ONNX graphs: nodes have the names of their outputs, equal arrays are stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from sen_exporters.onnx.options import OnnxOptions

Array = NDArray[Any]
Dimension = str | int

FLOAT = TensorProto.FLOAT
DOUBLE = TensorProto.DOUBLE
BOOL = TensorProto.BOOL
#: Suffix of the name of an array that is cast to the value of that name.
SUFFIXES = {TensorProto.FLOAT16: "f16", TensorProto.FLOAT: "f32", TensorProto.INT8: "i8"}


def value_info(name: str, shape: Sequence[Dimension | None], kind: int = FLOAT) -> ValueInfoProto:
    """Input or output of a graph; text in `shape` is a dynamic size, None an unknown one."""
    return helper.make_tensor_value_info(name, kind, list(shape))


class GraphBuilder:
    """Builds a graph, or the body of a Scan.

    Attributes:
        options: of the export.
        batch: the word "batch", or the fixed batch size.
        root: the outermost graph, which holds every array and all values computed from arrays alone.
        nodes: in the order of computation.
        initializers: stored arrays.
    """

    def __init__(self, options: OnnxOptions, root: GraphBuilder | None = None) -> None:
        self.options = options
        self.batch: Dimension = options.batch_size or "batch"
        self.root = root or self
        self.nodes: list[NodeProto] = []
        self._on_demand: dict[str, NodeProto] = {}
        self.initializers: list[TensorProto] = []
        self._stored: dict[tuple[object, ...], str] = {}

    def body(self) -> GraphBuilder:
        """Empty graph of a Scan in this one; its arrays are stored in the root."""
        return GraphBuilder(self.options, self.root)

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add an operator with one output, and return the output's name, which is the node's too."""
        self.add(operator, inputs, [output], output, **attributes)
        return output

    def node_on_demand(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Name of a node's output; the node is added before the first one that reads it."""
        self._on_demand[output] = helper.make_node(operator, inputs, [output], name=output, **attributes)
        return output

    def add(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], name: str, **attributes: Any) -> None:
        """Add an operator with several outputs and its own name."""
        self.nodes += [self._on_demand.pop(name) for name in inputs if name in self._on_demand]
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))

    def constant(self, name: str, array: Array) -> str:
        """Store `array`, and return its name; equal arrays share the first one's.

        A single number keeps its own name, so that a threshold equal to beta is not called `beta`.
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
        """Store `array` in its own type, and return the name of its value in the type `to`, cast in the graph."""
        stored = helper.np_dtype_to_tensor_dtype(array.dtype)
        if stored == to:
            return self.constant(name, array)
        return self.root.node("Cast", [self.constant(f"{name}_{SUFFIXES[stored]}", array)], name, to=to)

    def sparse_constant(self, name: str, w: Array) -> str:
        """Store the non-zero values of `w [n_out, n_in]` and their linear indices; return the float32 value's name.

        A Constant node with `sparse_value`, whose output is dense by the ONNX specification. A `sparse_initializer`
        has a sparse type, which shape inference refuses as a factor of Gemm.
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
        """Graph with these inputs and outputs; the arrays of a body are in the root."""
        return helper.make_graph(self.nodes, name, inputs, outputs, initializer=self.initializers)


def _content(array: Array) -> tuple[object, ...]:
    return array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest()
