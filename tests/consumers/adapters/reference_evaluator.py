"""ReferenceEvaluator of onnx."""

from typing import Any

import onnx
from adapters.protocol import Function, serve
from onnx.reference import ReferenceEvaluator


def evaluate(model: onnx.ModelProto | str, job: dict[str, Any]) -> Function:
    """Run a model in onnx itself, also after another tool has changed it."""
    session = ReferenceEvaluator(model)
    names = [each["name"] for each in job["inputs"]]
    outputs = [each["name"] for each in job["outputs"]]
    return lambda arrays: session.run(outputs, dict(zip(names, arrays, strict=True)))


if __name__ == "__main__":
    serve(lambda job: evaluate(job["model"], job))
