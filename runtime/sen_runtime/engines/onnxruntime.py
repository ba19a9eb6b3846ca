"""`.onnx` files in onnxruntime, including step models of spiking networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sen_runtime.engines import Engine, library
from sen_runtime.engines.session import Array, Float32Array, Model, source_of
from sen_runtime.engines.steps import GraphSession
from sen_runtime.errors import EngineError
from sen_runtime.untrusted import listing, open_regular

_library = partial(library, "onnxruntime", "onnxruntime")


class OnnxRuntimeSession(GraphSession):
    """An ONNX graph on the CPU."""

    def __init__(self, session: Any, *, allow_nonfinite: bool = False) -> None:
        try:
            properties: dict[str, str] = session.get_modelmeta().custom_metadata_map
            shapes: dict[str, list[Any]] = {value.name: value.shape for value in session.get_inputs()}
            self._outputs: list[str] = [value.name for value in session.get_outputs()]
        except UnicodeDecodeError as error:
            raise EngineError(f"the ONNX file holds text that is not UTF-8: {error.reason}") from None
        if "input" not in shapes or "output" not in self._outputs or any(len(shape) < 2 for shape in shapes.values()):
            raise EngineError(
                f"the ONNX file takes {listing(shapes)} and gives {listing(self._outputs)}; expected input [batch, n] "
                "and output"
            )
        rows, *declared = shapes.pop("input")
        membranes = {name: shape[1] for name, shape in shapes.items()}
        if not all(isinstance(size, int) for size in membranes.values()):
            raise EngineError(f"the ONNX file takes {listing(membranes)} besides input; expected membranes [batch, n]")
        super().__init__(declared, membranes, properties, allow_nonfinite=allow_nonfinite, is_reentrant=True)
        self.batch_size = rows if isinstance(rows, int) else None
        self.session = session

    def _bare_call(self, x: Float32Array) -> Callable[[], Array]:
        return partial(self.session.run, ["output"], {"input": x})

    def _release(self) -> None:
        self.session = None

    def _call(self, feeds: dict[str, Array]) -> dict[str, Array]:
        try:
            return dict(zip(self._outputs, self.session.run(self._outputs, feeds)))
        except Exception as error:  # onnxruntime's own exception types are not public
            raise EngineError(f"onnxruntime refused the input: {error}") from error


def load(model: Model, threads: int = 1, *, allow_nonfinite: bool = False) -> OnnxRuntimeSession:
    """A session on an `.onnx` file."""
    onnxruntime = _library()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = source_of(model)
    if isinstance(source, Path):
        open_regular(source, error=EngineError).close()  # the library would block on a pipe
    content = source if isinstance(source, bytes) else str(source)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exception types are not public
        raise EngineError(f"onnxruntime does not load the model: {error}") from error
    return OnnxRuntimeSession(session, allow_nonfinite=allow_nonfinite)


def version() -> str:
    """Version of onnxruntime."""
    return str(_library().__version__)


ENGINE = Engine("onnxruntime", (".onnx",), load, version, is_threaded=True, package="onnxruntime", extra="onnx")
