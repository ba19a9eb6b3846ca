"""Options of the TFLite exporter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import doc

from sen_exporters.base import SPARSE_FORMAT_HELP, ExportOptions, SparseFormat

#: `tflite_target` -> the engines that must run the file alike.
ENGINES = {
    "any": ("litert", "tflite-runtime"),
    "litert": ("litert",),
    "tflite-runtime": ("tflite-runtime",),
}


@dataclass(frozen=True)
class TfliteOptions(ExportOptions):
    """Options of the TFLite exporter.

    Attributes:
        tflite_target: "any" (right in every interpreter), "litert" or "tflite-runtime" (right in that one).
        sparse_format: "densify" (stored sparse, multiplied dense), "block" (kernels that skip zero blocks) or "dense"
            (zeros stored); None for densify where it is right in every engine.
        int8_io: input and output are int8 too, in a network whose activations are.
    """

    tflite_target: Annotated[
        Literal["any", "litert", "tflite-runtime"],
        doc("Supported interpreters: any (all), litert or tflite-runtime."),
    ] = "any"
    sparse_format: Annotated[SparseFormat | None, doc(SPARSE_FORMAT_HELP)] = None
    int8_io: Annotated[bool, doc("int8 input and output of an int8 model.")] = False
