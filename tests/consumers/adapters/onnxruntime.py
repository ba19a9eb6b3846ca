"""onnxruntime, the engine that exports are verified in."""

from typing import Any

import onnxruntime
from adapters.protocol import Function, serve


def load(job: dict[str, Any]) -> Function:
    session = onnxruntime.InferenceSession(job["model"], providers=["CPUExecutionProvider"])
    names = [each["name"] for each in job["inputs"]]
    outputs = [each["name"] for each in job["outputs"]]
    return lambda arrays: session.run(outputs, dict(zip(names, arrays, strict=True)))


serve(load)
