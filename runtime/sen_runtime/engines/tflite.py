"""TFLite files in ai-edge-litert, or in tflite-runtime 2.14, which many device images still ship.

Inputs and outputs are float32 here even where a model's own are int8: they are put on, and read off, the
model's grid.
"""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.engines import missing
from sen_runtime.engines.session import Float32Array, Model, read_model
from sen_runtime.engines.steps import GraphSession
from sen_runtime.engines.tflite_file import read_properties
from sen_runtime.errors import EngineError, MissingExtraError
from sen_runtime.ir.int8 import Grid

Array = NDArray[Any]

LEGACY_PIP_LINE = "pip install tflite-runtime==2.14.0 'numpy<2'"
#: The newest Python for which there is a wheel of tflite-runtime 2.14.
NEWEST_LEGACY_PYTHON = (3, 11)


class TfliteSession(GraphSession):
    """A TFLite model.

    Attributes:
        grids: int8 grid of every input and output that has one, by name.
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
        """The interpreter's own three calls on `x [rows, n_in]`, nothing checked or converted: for measurements.

        No other thread may use the session meanwhile.
        """
        if self._membranes:
            raise EngineError("a step model has no call of its own for all steps")
        self.run(x)  # of the right shape, and the tensors resized to it
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


class TfliteEngine:
    """One of the two interpreters.

    Attributes:
        package: name on PyPI.
        module: import name of its interpreter module.
        pip_line: what installs it.
        machines: for which there are wheels, as `platform.machine()` calls them.
    """

    suffix, is_threaded, is_on_demand = ".tflite", True, False

    def __init__(self, package: str, module: str, pip_line: str, machines: tuple[str, ...]) -> None:
        self.machines = machines
        self.package = package
        self.module = module
        self.pip_line = pip_line

    def load(
        self, model: Model, threads: int = 1, *, allow_nonfinite: bool = False, xnnpack: bool = True
    ) -> TfliteSession:
        """A session on a `.tflite` file; without `xnnpack` the interpreter's own kernels run all of it.

        Raises:
            MissingExtraError: the package is not installed, or cannot work with this Python or numpy.
            EngineError: the interpreter refuses the file; or it is one of sen-edge that has changed since.
        """
        library = self._library()
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
        self._library()
        try:
            return version(self.package)
        except PackageNotFoundError:  # a build of a vendor, under another name
            return "of unknown version"

    def _library(self) -> Any:
        try:
            library = importlib.import_module(self.module)
        except ImportError:
            raise MissingExtraError(f"the engine {self.package}", _remedy(self)) from None
        return library


class LegacyEngine(TfliteEngine):
    """tflite-runtime 2.14: no wheel after Python 3.11, and it imports under numpy 2 but cannot run there."""

    def _library(self) -> Any:
        if sys.version_info[:2] > NEWEST_LEGACY_PYTHON:
            raise MissingExtraError(
                f"tflite-runtime, which has no wheel for Python {sys.version_info[0]}.{sys.version_info[1]},",
                "use Python 3.9 to 3.11, or a file for every interpreter (--tflite-target any) in ai-edge-litert",
            )
        library = super()._library()
        if int(np.__version__.split(".")[0]) >= 2:
            raise MissingExtraError(
                f"numpy before version 2, which tflite-runtime needs (here is {np.__version__}),",
                "pip install 'numpy<2'",
            )
        return library


litert = TfliteEngine(
    "ai-edge-litert",
    "ai_edge_litert.interpreter",
    "pip install ai-edge-litert",
    ("x86_64", "aarch64", "arm64", "AMD64"),
)
tflite_runtime = LegacyEngine(
    "tflite-runtime",
    "tflite_runtime.interpreter",
    LEGACY_PIP_LINE,
    ("x86_64", "aarch64", "armv7l"),
)


def load(model: Model, threads: int = 1, *, allow_nonfinite: bool = False, xnnpack: bool = True) -> TfliteSession:
    """A session in ai-edge-litert if it is there, else in tflite-runtime; as `TfliteEngine.load`."""
    engine = tflite_runtime if list(missing(("litert", "tflite-runtime"))) == ["litert"] else litert
    return engine.load(model, threads, allow_nonfinite=allow_nonfinite, xnnpack=xnnpack)


def _remedy(engine: TfliteEngine) -> str:
    """The pip line for an interpreter, or for the other one where this machine has no wheel of it."""
    machine = platform.machine()
    if machine in engine.machines:
        return engine.pip_line
    other = next((each for each in (litert, tflite_runtime) if machine in each.machines), None)
    return f"there is no wheel for {machine}" + (f": {other.pip_line}" if other else ", of neither interpreter")


def _signature(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Details of the inputs and outputs by the names of the first signature.

    The runner that knows them holds on to the interpreter, and no input can be resized while it does.
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
