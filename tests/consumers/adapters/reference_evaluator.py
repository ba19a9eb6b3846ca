"""ReferenceEvaluator of onnx."""

from typing import Any

import onnx
from adapters.protocol import Function, run_session, serve
from onnx.reference import ReferenceEvaluator


def evaluate(model: onnx.ModelProto | str, job: dict[str, Any]) -> Function:
    """Run a model in onnx itself, also after another tool has changed it."""
    return run_session(ReferenceEvaluator(model), job)


if __name__ == "__main__":
    serve(lambda job: evaluate(job["model"], job))
