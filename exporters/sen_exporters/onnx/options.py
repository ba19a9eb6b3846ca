"""Options of the ONNX exporter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import onnx
from annotated_types import Interval, doc

from sen_exporters.base import SPARSE_FORMAT_HELP, ExportOptions, SparseFormat

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
