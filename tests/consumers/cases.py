"""Exported files as jobs for adapters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from sen_exporters.tflite.schema import parse, schema
from tests.consumers.forms import STEPS, Form, inputs


@dataclass(frozen=True)
class Tensor:
    """An input or output of a file.

    Attributes:
        name: of the signature.
        tensor: name in the graph.
        dtype: "float32", "int8" or "int16".
        size: of a row.
        scale: of an integer type; 0 for float32.
        zero_point: of an integer type.
    """

    name: str
    tensor: str
    dtype: str
    size: int
    scale: float = 0.0
    zero_point: int = 0

    def store(self, values: np.ndarray) -> np.ndarray:
        """Quantize values, or cast them to float32."""
        if not self.scale:
            return values.astype(self.dtype)
        info = np.iinfo(self.dtype)
        return np.clip(np.rint(values / self.scale) + self.zero_point, info.min, info.max).astype(self.dtype)

    def restore(self, stored: np.ndarray) -> np.ndarray:
        """Dequantize what `store` returns."""
        return self.scale * (stored - self.zero_point) if self.scale else stored


@dataclass(frozen=True)
class Case:
    """An exported file, and the outputs that it must give for `inputs()`."""

    form: Form
    path: Path
    batch_size: int | None
    expected: np.ndarray

    @property
    def job(self) -> dict[str, Any]:
        """What an adapter reads; see `adapters/protocol.py`."""
        read, written = tensors(self.path)
        steps = STEPS if self.form.options.get("snn") == "step" else 0
        return {
            "model": str(self.path),
            "batch_size": self.batch_size,
            "steps": steps,
            "inputs": [vars(each) for each in read],
            "outputs": [vars(each) for each in written],
            "x": read[0].store(inputs()).tolist(),
        }

    def error(self, y: np.ndarray) -> float:
        """Max error of the first output, `[steps, rows, n_out]`, over the mean standard deviation of an output."""
        values = tensors(self.path)[1][0].restore(y.astype(np.float64)).mean(axis=0)  # the mean membrane of all steps
        if values.shape != self.expected.shape or not np.isfinite(values).all():
            return np.inf
        return float(np.abs(values - self.expected).max() / self.expected.std(axis=0).mean())


def build(form: Form, folder: Path, batch_size: int | None) -> Case:
    """Export a form with the batch of a tool, or its own."""
    batch_size = form.batch_size or batch_size
    path, expected = form.export(folder, batch_size)
    return Case(form, path, batch_size, expected)


def tensors(path: Path) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of a file, in its order."""
    return _tensors_of_onnx(path) if path.suffix == ".onnx" else _tensors_of_tflite(path)


def _tensors_of_onnx(path: Path) -> tuple[list[Tensor], list[Tensor]]:
    graph = onnx.load(path).graph
    sides = (
        [Tensor(each.name, each.name, "float32", each.type.tensor_type.shape.dim[1].dim_value) for each in side]
        for side in (graph.input, graph.output)
    )
    read, written = sides
    return read, written


def _tensors_of_tflite(path: Path) -> tuple[list[Tensor], list[Tensor]]:
    model = parse(path.read_bytes())
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    names = {each.tensorIndex: each.name.decode() for each in (*signature.inputs, *signature.outputs)}

    def describe(index: int) -> Tensor:
        tensor, grid = graph.tensors[index], graph.tensors[index].quantization
        dtype = {schema.TensorType.FLOAT32: "float32", schema.TensorType.INT8: "int8", schema.TensorType.INT16: "int16"}
        scaling = () if grid is None or grid.scale is None else (float(grid.scale[0]), int(grid.zeroPoint[0]))
        return Tensor(names[index], tensor.name.decode(), dtype[tensor.type], int(tensor.shape[-1]), *scaling)

    return [describe(index) for index in graph.inputs], [describe(index) for index in graph.outputs]
