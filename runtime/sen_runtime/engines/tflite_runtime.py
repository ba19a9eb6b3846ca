"""TFLite files in tflite-runtime 2.14, which many device images still ship; the only interpreter for 32-bit ARM."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from sen_runtime import engines
from sen_runtime.engines.tflite import engine_of
from sen_runtime.errors import MissingExtraError

MODULE = "tflite_runtime.interpreter"
#: The newest Python with a wheel of tflite-runtime 2.14.
MAX_PYTHON = (3, 11)


def _library() -> Any:
    """Its module; the package imports under numpy 2, but cannot run there."""
    if sys.version_info[:2] > MAX_PYTHON:
        raise MissingExtraError(
            f"tflite-runtime, which has no wheel for Python {sys.version_info[0]}.{sys.version_info[1]},",
            "use Python 3.9 to 3.11, or a file for every interpreter (--tflite-target any) in ai-edge-litert",
        )
    library = engines.library("tflite-runtime", MODULE)
    if int(np.__version__.split(".")[0]) >= 2:
        raise MissingExtraError(
            f"numpy before version 2, which tflite-runtime needs (here is {np.__version__}),",
            "pip install 'numpy<2'",
        )
    return library


ENGINE = engine_of(
    "tflite-runtime",
    "tflite-runtime",
    _library,
    pip_line="pip install tflite-runtime==2.14.0 'numpy<2'",
    extra="tflite-legacy",
    machines=("x86_64", "aarch64", "armv7l"),
    export_options=({"tflite_target": "tflite-runtime"},),
)
