"""Sessions of TFLite files, in either interpreter.

Inputs and outputs are float32 even where the model's own are int8: they are converted to and from the model's grid.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.engines import not_installed
from sen_runtime.engines.session import Float32Array, Model, read_model
from sen_runtime.engines.steps import GraphSession
from sen_runtime.engines.tflite_file import read_properties
from sen_runtime.errors import EngineError
from sen_runtime.ir.int8 import Grid

Array = NDArray[Any]


class TfliteSession(GraphSession):
    """A TFLite model.

    Attributes:
        grids: int8 grids of inputs and outputs, by name.
    """

    def __init__(self, interpreter: Any, properties: dict[str, str], *, allow_nonfinite: bool = False) -> None:
        self._inputs, self._outputs = _signature(interpreter)
        membranes = {name: int(d["shape"][-1]) for name, d in self._inputs.items() if name != "input"}
        shape, signature = self._inputs["input"]["shape"], self._inputs["input"]["shape_signature"]
        super().__init__([int(size) for size in shape[1:]], membranes, properties, allow_nonfinite=allow_nonfinite)
        self.interpreter = interpreter
        details = {**self._inputs, **self._outputs}
        self.grids = {name: grid for name in details if (grid := _grid(details[name])) is not None}
        self._rows_allocated = int(shape[0])
        self.batch_size = None if signature[0] < 0 else self._rows_allocated

    def _run(self, rows: Float32Array) -> Array:
        if self._membranes:
            return self._run_all(rows)["output"]
        self._invoke({"input": rows})
        return self._value("output")

    def _release(self) -> None:
        self.interpreter = None

    def bare_call(self, x: Array) -> Callable[[], Array]:
        """The interpreter's own three calls on `x [rows, n_in]`, without checks and conversions; for measurements.

        No other thread may use the session meanwhile.
        """
        if self._membranes:
            raise EngineError("a step model has no call of its own for all steps")
        self.run(x)  # checks the shape, and resizes the tensors
        given, taken = self._inputs["input"]["index"], self._outputs["output"]["index"]
        grid = self.grids.get("input")
        stored = np.ascontiguousarray(x, np.float32) if grid is None else grid.quantize(x)

        def call(interpreter: Any = self.interpreter) -> Array:
            interpreter.set_tensor(given, stored)
            interpreter.invoke()
            output: Array = interpreter.get_tensor(taken)
            return output

        return call

    def _call(self, feeds: dict[str, Array]) -> dict[str, Array]:
        self._invoke(feeds)
        return {name: self._value(name) for name in self._outputs}

    def _invoke(self, feeds: dict[str, Array]) -> None:
        try:
            if len(feeds["input"]) != self._rows_allocated:
                self._resize(feeds)
            for name, x in feeds.items():
                grid = self.grids.get(name)
                stored = np.ascontiguousarray(x, np.float32) if grid is None else grid.quantize(x)
                self.interpreter.set_tensor(self._inputs[name]["index"], stored)
            self.interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"TFLite refused the input: {_one_line(error)}") from error

    def _resize(self, feeds: dict[str, Array]) -> None:
        for name, x in feeds.items():
            self.interpreter.resize_tensor_input(self._inputs[name]["index"], x.shape)
        self.interpreter.allocate_tensors()
        self._rows_allocated = len(feeds["input"])

    def _value(self, name: str) -> Array:
        value: Array = self.interpreter.get_tensor(self._outputs[name]["index"])
        grid = self.grids.get(name)
        return value if grid is None else grid.dequantize(value)


class Interpreter:
    """The package of an interpreter.

    Attributes:
        engine: name of its engine.
        package: name on PyPI.
        module: import name of its interpreter module.
    """

    def __init__(self, engine: str, package: str, module: str) -> None:
        self.engine = engine
        self.package = package
        self.module = module

    def load(
        self, model: Model, threads: int = 1, *, allow_nonfinite: bool = False, xnnpack: bool = True
    ) -> TfliteSession:
        """Load a `.tflite` file; without `xnnpack` the interpreter's own kernels run all of it.

        Raises:
            MissingExtraError: the package is not installed, or cannot work with this Python or numpy.
            EngineError: the interpreter refuses the file; or it is one of sen-edge that has changed since.
        """
        library = self.library()
        data = read_model(model)
        properties = read_properties(data)
        resolvers = library.OpResolverType
        resolver = resolvers.AUTO if xnnpack else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            interpreter = library.Interpreter(
                model_content=data, num_threads=threads, experimental_op_resolver_type=resolver
            )
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError, SystemError) as error:
            raise EngineError(f"{self.package} does not load the model: {_one_line(error)}") from error
        return TfliteSession(interpreter, properties, allow_nonfinite=allow_nonfinite)

    def version(self) -> str:
        """Version of the package.

        Raises:
            MissingExtraError: see `load`.
        """
        self.library()
        try:
            return version(self.package)
        except PackageNotFoundError:  # a vendor's build, under another name
            return "of unknown version"

    def library(self) -> Any:
        """The interpreter's module.

        Raises:
            MissingExtraError: see `load`.
        """
        try:
            return importlib.import_module(self.module)
        except ImportError:
            raise not_installed(self.engine) from None


def _signature(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Details of inputs and outputs by their names in the first signature.

    The runner that has them references the interpreter, whose inputs cannot be resized while it exists.
    """
    signatures = interpreter.get_signature_list()
    if not signatures:
        raise EngineError("the TFLite file has no signature, so its inputs and outputs have no names")
    runner = interpreter.get_signature_runner(next(iter(signatures)))
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    if "input" not in inputs or "output" not in outputs:
        raise EngineError(
            f"the TFLite file takes {', '.join(inputs)} and gives {', '.join(outputs)}; expected input and output"
        )
    return inputs, outputs


def _grid(details: dict[str, Any]) -> Grid | None:
    if details["dtype"] is not np.int8:
        return None
    scale, zero_point = details["quantization"]
    return Grid(scale, zero_point)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
