"""onnxruntime, the engine that exports are verified in."""

from typing import Any

import onnxruntime
from adapters.protocol import Function, run_session, serve


def load(job: dict[str, Any]) -> Function:
    session = onnxruntime.InferenceSession(job["model"], providers=["CPUExecutionProvider"])
    return run_session(session, job)


serve(load)
