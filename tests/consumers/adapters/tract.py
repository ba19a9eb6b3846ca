"""tract."""

from typing import Any

import tract
from adapters.protocol import Function, serve


def load(job: dict[str, Any]) -> Function:
    model = tract.onnx().load(job["model"]).into_model().into_runnable()
    return lambda arrays: [each.to_numpy() for each in model.run(arrays)]


serve(load)
