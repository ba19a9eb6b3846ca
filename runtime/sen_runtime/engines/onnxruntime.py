"""onnxruntime: runs `.onnx` files, step models of spiking networks included."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.engines import Model
from sen_runtime.engines.steps import row_shape_of, run_steps
from sen_runtime.errors import EngineError, MissingExtraError
from sen_runtime.untrusted import listing, open_regular

Array = NDArray[Any]

suffix, is_threaded, is_on_demand = ".onnx", True, False

PIP_LINE = "pip install onnxruntime"


def _library() -> Any:
    try:
        import onnxruntime  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise MissingExtraError("the engine onnxruntime", PIP_LINE) from None
    return onnxruntime


class OnnxRuntimeSession:
    """An ONNX graph on the CPU.

    A step model takes one time step per call: its inputs besides `input` are membranes, each answered by an
    output of the same name with `_next`. `run` then drives it over all time steps, from zero membranes.

    Attributes:
        properties: the metadata in the file.
        batch_size: rows it takes at once, or None for any number.
    """

    def __init__(self, session: Any) -> None:
        self.session = session
        try:
            self.properties: dict[str, str] = session.get_modelmeta().custom_metadata_map
            shapes: dict[str, list[Any]] = {value.name: value.shape for value in session.get_inputs()}
            self._outputs: list[str] = [value.name for value in session.get_outputs()]
        except UnicodeDecodeError as error:
            raise EngineError(f"the ONNX file holds text that is not UTF-8: {error.reason}") from None
        if "input" not in shapes or "output" not in self._outputs or any(len(shape) < 2 for shape in shapes.values()):
            raise EngineError(
                f"the ONNX file takes {listing(shapes)} and gives {listing(self._outputs)}; expected input [batch, n] "
                "and output"
            )
        rows, *self._row_shape = shapes.pop("input")
        self.batch_size: int | None = rows if isinstance(rows, int) else None
        self._membranes = {name: shape[1] for name, shape in shapes.items()}
        if not all(isinstance(size, int) for size in self._membranes.values()):
            raise EngineError(
                f"the ONNX file takes {listing(self._membranes)} besides input; expected membranes [batch, n]"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one row: `(n_in,)`, or `(T, n_in)` where spike trains go in; raises `EngineError` where a size is open."""
        return row_shape_of(self._row_shape, self._membranes, self.properties)

    def run(self, x: Array) -> Array:
        """Outputs `[batch, n_out]`."""
        if self._membranes:
            return self.run_all(x)["output"]
        result: Array = self._call(["output"], {"input": np.ascontiguousarray(x, np.float32)})[0]
        return result

    def bare_call(self, x: Array) -> Callable[[], object]:
        """The library's own call on `x [rows, n_in]`, nothing checked or converted: for measurements."""
        if self._membranes:
            raise EngineError("a step model has no call of its own for all steps")
        self.run(x)  # of the right shape
        return partial(self.session.run, ["output"], {"input": np.ascontiguousarray(x, np.float32)})

    def run_all(self, x: Array) -> dict[str, Array]:
        """Every output of the graph; for a step model the readout and the spike counts over all steps."""
        x = np.ascontiguousarray(x, np.float32)
        if self._membranes:
            return run_steps(self._named, x, self._membranes, self.properties)
        return self._named({"input": x})

    def _named(self, feeds: dict[str, Array]) -> dict[str, Array]:
        return dict(zip(self._outputs, self._call(self._outputs, feeds)))

    def _call(self, outputs: list[str], feeds: dict[str, Array]) -> list[Array]:
        try:
            results: list[Array] = self.session.run(outputs, feeds)
        except Exception as error:  # onnxruntime's own exception types are not public
            raise EngineError(f"onnxruntime refused the input: {error}") from error
        return results


def load(model: Model, threads: int = 1) -> OnnxRuntimeSession:
    """A session on an `.onnx` file.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        EngineError: onnxruntime refuses the model.
    """
    library = _library()
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not isinstance(model, bytes):
        open_regular(model, error=EngineError).close()  # the library would wait for a pipe
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = library.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exception types are not public
        raise EngineError(f"onnxruntime does not load the model: {error}") from error
    return OnnxRuntimeSession(session)


def version() -> str:
    """Version of onnxruntime."""
    return str(_library().__version__)
