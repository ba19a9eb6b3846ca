"""FlatBuffers' verifier with the schema of TFLite: litert runs it on a file in memory."""

from pathlib import Path
from typing import Any

from adapters.protocol import Function, Note, serve
from ai_edge_litert.interpreter import Interpreter


def load(job: dict[str, Any]) -> Function:
    Interpreter(model_content=Path(job["model"]).read_bytes())
    raise Note("valid")


serve(load)
