"""Engine `netjson-numpy`: runs `.netjson` files in numpy."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.engines import Engine, Model, Session
from sen_runtime.engines.session import Float32Array, read_model
from sen_runtime.errors import EngineError


class NetjsonSession(Session):
    """Session of a multilayer perceptron in numpy."""

    def __init__(self, layers: list[dict[str, Any]], *, allow_nonfinite: bool) -> None:
        self._layers = [
            (np.array(layer["w"], np.float32).T, np.array(layer["bias"] or 0, np.float32), layer["relu"])
            for layer in layers
        ]
        # _run does not modify the session, so threads may call it concurrently
        super().__init__((len(self._layers[0][0]),), allow_nonfinite=allow_nonfinite, is_reentrant=True)

    def _run(self, rows: Float32Array) -> NDArray[Any]:
        return self._run_all(rows)["output"]

    def _run_all(self, rows: Float32Array) -> dict[str, NDArray[Any]]:
        found, x = {}, rows
        for index, (weight, bias, is_relu) in enumerate(self._layers):
            y = x @ weight + bias
            x = np.maximum(y, 0) if is_relu else y
            found[f"layer{index}/activation"] = x
        found["output"] = found.pop(f"layer{len(self._layers) - 1}/activation")
        return found


def load(model: Model, threads: int = 1, *, allow_nonfinite: bool = False) -> NetjsonSession:
    """Load a `.netjson` file.

    Raises:
        EngineError: the file cannot be read or is damaged.
    """
    del threads
    try:
        return NetjsonSession(json.loads(read_model(model))["layers"], allow_nonfinite=allow_nonfinite)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise EngineError(f"this is not a netjson file: {error}") from error


def version() -> str:
    """Return the version of numpy."""
    return np.__version__


ENGINE = Engine("netjson-numpy", (".netjson",), load, version)
