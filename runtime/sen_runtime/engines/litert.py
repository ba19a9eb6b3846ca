"""TFLite files in ai-edge-litert."""

from __future__ import annotations

from sen_runtime.engines.base import Engine
from sen_runtime.engines.tflite import Interpreter

INTERPRETER = Interpreter("litert", "ai-edge-litert", "ai_edge_litert.interpreter")
ENGINE = Engine(
    "litert",
    (".tflite",),
    INTERPRETER.load,
    INTERPRETER.version,
    is_threaded=True,
    package=INTERPRETER.package,
    extra="tflite",
    machines=("x86_64", "aarch64", "arm64", "AMD64"),
    min_python=(3, 10),
    export_options=({"tflite_target": "litert", "sparse_format": "block"}, {"tflite_target": "litert"}),
    fast_patterns=("1x4",),
)
