"""A small builder of ONNX graphs: nodes have the names of their outputs, equal arrays are stored once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import onnx
from annotated_types import Interval, doc
from numpy.typing import ArrayLike, NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from sen_exporters.base import SPARSE_FORMAT_HELP, ExportOptions, SparseFormat

Array = NDArray[Any]
Dimension = str | int

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
#: Suffix of the name of an array that is cast to the value of that name.
SUFFIXES = {TensorProto.FLOAT16: "f16", TensorProto.INT8: "i8", TensorProto.INT32: "i32"}

MIN_OPSET = 13
#: Newest operator set for which onnxruntime 1.32.0 loads and runs every form of graph.
MAX_OPSET = min(28, onnx.defs.onnx_opset_version())


@dataclass(frozen=True)
class OnnxOptions(ExportOptions):
    """Options of the ONNX exporter.

    Attributes:
        opset: ONNX operator set.
        sparse_format: "densify" (stored sparse, expanded at load) or "dense" (zeros stored).
    """

    opset: Annotated[int, Interval(ge=MIN_OPSET, le=MAX_OPSET), doc("ONNX operator set.")] = MIN_OPSET
    sparse_format: Annotated[SparseFormat, doc(SPARSE_FORMAT_HELP)] = "densify"


def value_info(name: str, shape: Sequence[Dimension | None], kind: int = FLOAT) -> ValueInfoProto:
    """Input or output of a graph; text in `shape` is a dynamic size, None an unknown one."""
    return helper.make_tensor_value_info(name, kind, list(shape))


def set_properties(model: ModelProto, properties: Mapping[str, str]) -> None:
    """Replace the metadata_props."""
    del model.metadata_props[:]
    helper.set_model_props(model, dict(sorted(properties.items())))


class GraphBuilder:
    """Builds a graph, or the body of a Scan, which stores its own arrays.

    Attributes:
        options: of the export.
        batch: the word "batch", or the fixed batch size.
        nodes: in the order of computation.
        initializers: stored arrays.
    """

    def __init__(self, options: OnnxOptions) -> None:
        self.options = options
        self.batch: Dimension = options.batch_size or "batch"
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._stored: dict[tuple[object, ...], str] = {}

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add an operator with one output, and return the output's name, which is the node's too."""
        self.add(operator, inputs, [output], output, **attributes)
        return output

    def add(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], name: str, **attributes: Any) -> None:
        """Add an operator with several outputs and its own name."""
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))

    def constant(self, name: str, array: Array) -> str:
        """Store `array`, and return its name; equal arrays share the first one's.

        A single number keeps its own name, so that a threshold equal to beta is not called `beta`.
        """
        array = np.asarray(array)
        key = (name,) if array.size == 1 else (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._stored:
            self._stored[key] = name
            self.initializers.append(numpy_helper.from_array(array, name))
        return self._stored[key]

    def scalar(self, name: str, value: ArrayLike) -> str:
        """Store one float32 number, or a row of numbers."""
        return self.constant(name, np.asarray(value, np.float32))

    def cast_constant(self, name: str, array: Array) -> str:
        """Store `array` in its own type, and return the name of its value in float32, cast in the graph."""
        stored = helper.np_dtype_to_tensor_dtype(array.dtype)
        if stored == FLOAT:
            return self.constant(name, array)
        return self.node("Cast", [self.constant(f"{name}_{SUFFIXES[stored]}", array)], name, to=FLOAT)

    def sparse_constant(self, name: str, w: Array) -> str:
        """Store the non-zero values of `w [n, m]` and their indices; return the name of its value in float32.

        ScatterND, which more readers of ONNX have than ScatterElements, or than Constant with `sparse_value`. Its
        indices are int64, stored in half of that.
        """
        flat = w.ravel()
        indices = np.flatnonzero(flat)[:, np.newaxis].astype(np.int32 if flat.size < 1 << 31 else np.int64)
        values = self.cast_constant(f"{name}_values", flat[indices[:, 0]])
        where = self.node("Cast", [self.constant(f"{name}_indices_i32", indices)], f"{name}_indices", to=INT64)
        size = self.constant(f"{name}_size", np.array([w.size]))
        shape = self.constant(f"{name}_shape", np.array(w.shape))
        zeros = self.node("ConstantOfShape", [size], f"{name}_zeros", value=helper.make_tensor("zero", FLOAT, [1], [0]))
        return self.node("Reshape", [self.node("ScatterND", [zeros, where, values], f"{name}_flat"), shape], name)

    def split(self, x: str, names: Sequence[str], axis: int = 1) -> list[str]:
        """Split `x` into equal parts."""
        if len(names) == 1:
            return [x]
        # from operator set 18 on, the number of equal parts is an attribute
        parts = {"num_outputs": len(names)} if self.options.opset >= 18 else {}
        self.add("Split", [x], names, f"{x}_split", axis=axis, **parts)
        return list(names)

    def is_above(self, a: str, b: str, near: ArrayLike, name: str) -> str:
        """1 where `a > b`, else 0, where one of them is `near`, a number or a row `[n]`.

        Comparisons give truth values, which some engines do not convert to numbers. A difference of float32 numbers is
        0 only if they are equal, and is at least the spacing of the numbers at `near` otherwise.
        """
        spacing = float(np.min(np.spacing(np.asarray(near, np.float32))))
        excess = self.node("Sub", [a, b], f"{name}_excess")
        # a power of 10, which formats in decimal text keep
        steepness = 10.0 ** math.ceil(-math.log10(spacing))
        return self.node("HardSigmoid", [excess], name, alpha=steepness, beta=0.0)

    def to_proto(self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> GraphProto:
        """Graph with these inputs and outputs."""
        return helper.make_graph(self.nodes, name, inputs, outputs, initializer=self.initializers)
