"""Interpreters with the Python interface of TensorFlow Lite."""

from collections.abc import Callable
from typing import Any

from adapters.protocol import Function


def loader(interpreter_class: Any) -> Callable[[dict[str, Any]], Function]:
    """The `load` of an interpreter."""

    def load(job: dict[str, Any]) -> Function:
        interpreter = interpreter_class(job["model"], num_threads=1)
        interpreter.allocate_tensors()
        (key,) = interpreter.get_signature_list()
        runner = interpreter.get_signature_runner(key)

        def run(arrays: list) -> list:
            names = [each["name"] for each in job["inputs"]]
            results = runner(**dict(zip(names, arrays, strict=True)))
            return [results[each["name"]] for each in job["outputs"]]

        return run

    return load
