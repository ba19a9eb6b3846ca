"""TFLite files in TFLite Micro, the interpreter of microcontrollers, here with its plain and slow kernels.

pip's `tflite-micro` has wheels for x86-64 Linux.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from sen_runtime.engines import Engine, library
from sen_runtime.engines.session import Array, Float32Array, Model, read_model
from sen_runtime.engines.tflite_file import check_signature, read_properties
from sen_runtime.engines.tflite_session import GridSession
from sen_runtime.errors import EngineError
from sen_runtime.ir.int8 import Grid
from sen_runtime.untrusted import printable, quote

NAME = "tflite-micro"
_library = partial(library, NAME, "tflite_micro.python.tflite_micro.runtime")
#: Bytes of the arena: of small models this, because every tensor needs some.
MIN_ARENA, ARENA_PER_BYTE = 1 << 20, 10


class MicroSession(GridSession):
    """A TFLite model in TFLite Micro; inputs and outputs are numbered in the order of the subgraph."""

    def __init__(self, interpreter: Any, model: Any, properties: dict[str, str], *, allow_nonfinite: bool) -> None:
        graph, signature = model.subgraphs[0], model.signatureDefs[0]
        self._inputs = _positions(signature.inputs, graph.inputs)
        self._outputs = _positions(signature.outputs, graph.outputs)
        check_signature(self._inputs, self._outputs)
        details = {name: interpreter.get_input_details(at) for name, at in self._inputs.items()}
        shape = [int(size) for size in details["input"]["shape"]]
        membranes = {name: int(each["shape"][-1]) for name, each in details.items() if name != "input"}
        super().__init__(shape[1:], membranes, properties, allow_nonfinite=allow_nonfinite)
        details.update((name, interpreter.get_output_details(at)) for name, at in self._outputs.items())
        self.grids = {name: _grid(each) for name, each in details.items() if each["dtype"] is not np.float32}
        self.interpreter, self.batch_size = interpreter, shape[0]

    def _bare_call(self, x: Float32Array) -> Callable[[], Array]:
        stored, given, taken = self._to_stored("input", x), self._inputs["input"], self._outputs["output"]

        def call(interpreter: Any = self.interpreter) -> Array:
            interpreter.set_input(stored, given)
            interpreter.invoke()
            output: Array = interpreter.get_output(taken)
            return output

        return call

    def _invoke(self, stored: dict[str, Array]) -> dict[str, Array]:
        for name, x in stored.items():
            self.interpreter.set_input(x, self._inputs[name])
        self.interpreter.invoke()
        return {name: self.interpreter.get_output(at) for name, at in self._outputs.items()}


def load(model: Model, threads: int = 1, *, allow_nonfinite: bool = False) -> MicroSession:
    """Load a `.tflite` file with float32 or int8 activations; it runs in one thread."""
    runtime, data = _library(), read_model(model)
    properties = read_properties(data)
    target = properties.get("tflite_target", "micro")
    if target != "micro":
        raise EngineError(
            f"the file is for {quote(target)}; TFLite Micro would refuse it, or compute wrong numbers",
            "export with --tflite-target micro",
        )
    parsed = runtime.convert_bytearray_to_object(data)
    if not parsed.subgraphs or not parsed.signatureDefs:
        raise EngineError("the TFLite file has no signature, so its inputs and outputs have no names")
    if any(tensor.sparsity is not None for tensor in parsed.subgraphs[0].tensors):
        raise EngineError(
            "the file has sparse weights, which TFLite Micro would read as dense ones",
            "export with --tflite-target micro",
        )
    try:
        interpreter = runtime.Interpreter.from_bytes(data, arena_size=MIN_ARENA + ARENA_PER_BYTE * len(data))
    except (ValueError, RuntimeError, SystemError) as error:
        raise EngineError(
            f"TFLite Micro does not load the model: {printable(str(error))}", "export with --tflite-target micro"
        ) from error
    return MicroSession(interpreter, parsed, properties, allow_nonfinite=allow_nonfinite)


def _version() -> str:
    _library()
    return version(NAME)


def _positions(named: Any, indices: Any) -> dict[str, int]:
    """Positions of the values of a signature among the inputs or outputs of the subgraph; without those not there."""
    positions = {} if indices is None else {int(index): at for at, index in enumerate(indices)}
    found = [each for each in named or () if each.name and each.tensorIndex in positions]
    return {each.name.decode(errors="replace"): positions[each.tensorIndex] for each in found}


def _grid(details: dict[str, Any]) -> Grid:
    parameters = details["quantization_parameters"]
    if not len(parameters["scales"]):
        raise EngineError("the TFLite file has integer inputs or outputs without a scale", "export it again")
    bits = 8 * np.dtype(details["dtype"]).itemsize
    return Grid(float(parameters["scales"][0]), int(parameters["zero_points"][0]), bits)


ENGINE = Engine(
    NAME,
    (".tflite",),
    load,
    _version,
    is_on_demand=True,
    package=NAME,
    extra=NAME,
    machines=("x86_64",),
    min_python=(3, 10),
    export_options=({"tflite_target": "micro"},),
)
