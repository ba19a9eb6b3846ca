"""TFLite files in ai-edge-litert."""

from __future__ import annotations

from functools import partial

from sen_runtime.engines import library
from sen_runtime.engines.tflite import engine_of

MODULE = "ai_edge_litert.interpreter"

ENGINE = engine_of(
    "litert",
    "ai-edge-litert",
    partial(library, "litert", MODULE),
    extra="tflite",
    machines=("x86_64", "aarch64", "arm64", "AMD64"),
    min_python=(3, 10),
    export_options=({"tflite_target": "litert", "sparse_format": "block"}, {"tflite_target": "litert"}),
    fast_patterns=("1x4",),
)
