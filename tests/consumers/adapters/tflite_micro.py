"""tflite-micro: TensorFlow Lite for Microcontrollers, a row at a time."""

import sys
from typing import Any
from unittest.mock import MagicMock

# the old releases import TensorFlow, 2 GB, for functions that read files
for name in ("tensorflow", "tensorflow.python", "tensorflow.python.platform", "tensorflow.python.util"):
    sys.modules[name] = MagicMock()

from adapters.protocol import Function, serve  # noqa: E402
from tflite_micro.python.tflite_micro import runtime  # noqa: E402


def load(job: dict[str, Any]) -> Function:
    interpreter = runtime.Interpreter.from_file(job["model"])

    def run(arrays: list) -> list:
        for index, each in enumerate(arrays):
            interpreter.set_input(each, index)
        interpreter.invoke()
        return [interpreter.get_output(index).copy() for index in range(len(job["outputs"]))]

    return run


serve(load, max_rows=1)
