"""TFLite files in ai-edge-litert and tflite-runtime."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from sen_runtime.engines import Engine
from sen_runtime.engines.session import Array, Float32Array, Model, read_model
from sen_runtime.engines.tflite_file import check_signature, read_properties
from sen_runtime.engines.tflite_session import GridSession
from sen_runtime.errors import EngineError
from sen_runtime.ir.int8 import Grid
from sen_runtime.untrusted import printable


class TfliteSession(GridSession):
    """A TFLite model in an interpreter with `tf.lite.Interpreter`'s interface."""

    def __init__(self, interpreter: Any, properties: dict[str, str], *, allow_nonfinite: bool = False) -> None:
        self._inputs, self._outputs = _signature(interpreter)
        membranes = {name: int(d["shape"][-1]) for name, d in self._inputs.items() if name != "input"}
        shape, signature = self._inputs["input"]["shape"], self._inputs["input"]["shape_signature"]
        super().__init__([int(size) for size in shape[1:]], membranes, properties, allow_nonfinite=allow_nonfinite)
        self.interpreter = interpreter
        details = {**self._inputs, **self._outputs}
        self.grids = {
            name: Grid(each["quantization"][0], each["quantization"][1], 8 * np.dtype(each["dtype"]).itemsize)
            for name, each in details.items()
            if each["dtype"] in (np.int8, np.int16)
        }
        self._rows_allocated = int(shape[0])
        self.batch_size = None if signature[0] < 0 else self._rows_allocated

    def _bare_call(self, x: Float32Array) -> Callable[[], Array]:
        """Set, invoke, get; the tensors have the shape of `x`."""
        given, taken = self._inputs["input"]["index"], self._outputs["output"]["index"]
        stored = self._to_stored("input", x)

        def call(interpreter: Any = self.interpreter) -> Array:
            interpreter.set_tensor(given, stored)
            interpreter.invoke()
            output: Array = interpreter.get_tensor(taken)
            return output

        return call

    def _invoke(self, stored: dict[str, Array]) -> dict[str, Array]:
        if len(stored["input"]) != self._rows_allocated:
            self._resize(stored)
        for name, x in stored.items():
            self.interpreter.set_tensor(self._inputs[name]["index"], x)
        self.interpreter.invoke()
        return {name: self.interpreter.get_tensor(details["index"]) for name, details in self._outputs.items()}

    def _resize(self, stored: dict[str, Array]) -> None:
        for name, x in stored.items():
            self.interpreter.resize_tensor_input(self._inputs[name]["index"], x.shape)
        self.interpreter.allocate_tensors()
        self._rows_allocated = len(stored["input"])


def engine_of(name: str, package: str, library: Callable[[], Any], **fields: Any) -> Engine:
    """Engine of an interpreter, whose module `library` returns, or raises `MissingExtraError` where it cannot work."""

    def load(model: Model, threads: int = 1, *, allow_nonfinite: bool = False, xnnpack: bool = True) -> TfliteSession:
        """Load a `.tflite` file; without `xnnpack` the interpreter's own kernels run all of it."""
        tflite, data = library(), read_model(model)
        properties = read_properties(data)
        resolvers = tflite.OpResolverType
        resolver = resolvers.AUTO if xnnpack else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            interpreter = tflite.Interpreter(
                model_content=data, num_threads=threads, experimental_op_resolver_type=resolver
            )
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError, SystemError) as error:
            raise EngineError(f"{package} does not load the model: {printable(str(error))}") from error
        return TfliteSession(interpreter, properties, allow_nonfinite=allow_nonfinite)

    def find_version() -> str:
        library()
        try:
            return version(package)
        except PackageNotFoundError:  # a vendor's build, under another name
            return "of unknown version"

    return Engine(name, (".tflite",), load, find_version, is_threaded=True, package=package, **fields)


def _signature(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Details of inputs and outputs by their names in the first signature.

    The runner that has them references the interpreter, whose inputs cannot be resized while it exists.
    """
    signatures = interpreter.get_signature_list()
    if not signatures:
        raise EngineError("the TFLite file has no signature, so its inputs and outputs have no names")
    runner = interpreter.get_signature_runner(next(iter(signatures)))
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    check_signature(inputs, outputs)
    return inputs, outputs
