"""A small builder of ONNX graphs: nodes have the names of their outputs, equal arrays are stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import onnx
from annotated_types import Interval, doc
from numpy.typing import ArrayLike, DTypeLike, NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from sen_exporters.base import SPARSE_FORMAT_HELP, ExportOptions, SparseFormat

Array = NDArray[Any]
Dimension = str | int

FLOAT = TensorProto.FLOAT
DOUBLE = TensorProto.DOUBLE
BOOL = TensorProto.BOOL
#: Suffix of the name of an array that is cast to the value of that name.
SUFFIXES = {TensorProto.FLOAT16: "f16", TensorProto.FLOAT: "f32", TensorProto.INT8: "i8"}

MIN_OPSET = 13
#: Newest operator set for which onnxruntime 1.32.0 loads and runs every form of graph.
MAX_OPSET = min(28, onnx.defs.onnx_opset_version())


@dataclass(frozen=True)
class OnnxOptions(ExportOptions):
    """Options of the ONNX exporter.

    Attributes:
        opset: ONNX operator set.
        sparse_format: "densify" (stored sparse, multiplied dense) or "dense" (zeros stored).
    """

    opset: Annotated[int, Interval(ge=MIN_OPSET, le=MAX_OPSET), doc("ONNX operator set.")] = 17
    sparse_format: Annotated[SparseFormat, doc(SPARSE_FORMAT_HELP)] = "densify"


def value_info(name: str, shape: Sequence[Dimension | None], kind: int = FLOAT) -> ValueInfoProto:
    """Input or output of a graph; text in `shape` is a dynamic size, None an unknown one."""
    return helper.make_tensor_value_info(name, kind, list(shape))


def set_properties(model: ModelProto, properties: Mapping[str, str]) -> None:
    """Replace the metadata_props."""
    del model.metadata_props[:]
    helper.set_model_props(model, dict(sorted(properties.items())))


class GraphBuilder:
    """Builds a graph, or the body of a Scan in the graph `root`, which stores the arrays of both.

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

    def scalar(self, name: str, value: ArrayLike, dtype: DTypeLike = np.float32) -> str:
        """Store one number, or a row of numbers."""
        return self.constant(name, np.asarray(value, dtype))

    def cast_constant(self, name: str, array: Array, to: int = FLOAT, *, is_sparse: bool = False) -> str:
        """Store `array` in its own type, and return the name of its value in the type `to`, cast in the graph."""
        store = self._sparse_constant if is_sparse else self.constant
        stored = helper.np_dtype_to_tensor_dtype(array.dtype)
        if stored == to:
            return store(name, array)
        return self.root.node("Cast", [store(f"{name}_{SUFFIXES[stored]}", array)], name, to=to)

    def _sparse_constant(self, name: str, w: Array) -> str:
        """Store the non-zero values of `w [n_out, n_in]` and their linear indices.

        A Constant node with `sparse_value`, whose output is dense by the ONNX specification. A `sparse_initializer`
        has a sparse type, which shape inference refuses as a factor of Gemm.
        """
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
