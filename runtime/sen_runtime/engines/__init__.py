"""Inference engines, all with the same small face.

Each has `load(model, threads=1) -> Session`, where `model` is a path or the file's bytes, and
`version() -> str`: a module of this package, or one of the two engines in `tflite`. An engine's library is imported
when it is used; where it is missing the error names the pip line.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Union, cast

from numpy.typing import NDArray

from sen_runtime.errors import EngineError, MissingExtraError

Array = NDArray[Any]
Model = Union[bytes, Path]

#: engine name -> file ending it runs
ENGINES = {
    "c": ".c",
    "litert": ".tflite",
    "native": ".sen",
    "onnxruntime": ".onnx",
    "reference": ".sen",
    "tflite-runtime": ".tflite",
}


class Session(Protocol):
    """A loaded model.

    Attributes:
        batch_size: rows it takes at once, or None for any number.
    """

    batch_size: int | None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one row: `(n_in,)`, or `(T, n_in)` where spike trains go in."""

    def run(self, x: Array) -> Array:
        """Outputs `[batch, n_out]` for `x [batch, n_in]` (`[batch, T, n_in]` for input coding "spikes")."""

    def run_all(self, x: Array) -> dict[str, Array]:
        """`output`, and `layerN/activation [batch, n]` for every hidden layer the model lets see."""


class Engine(Protocol):
    """What loads models; a module of this package, or an object in one."""

    def load(self, model: Model, threads: int = 1) -> Session:
        """A session on `model`."""

    def version(self) -> str:
        """Version of the engine's library; raises `MissingExtraError` where it is not installed."""


def engine(name: str) -> Engine:
    """The engine called `name`.

    Raises:
        EngineError: no such engine.
    """
    if name not in ENGINES:
        raise EngineError(f"no engine called {name!r}; expected one of {', '.join(ENGINES)}")
    if ENGINES[name] == ".tflite":
        from sen_runtime.engines import tflite

        return tflite.litert if name == "litert" else tflite.tflite_runtime
    return cast(Engine, importlib.import_module(f"sen_runtime.engines.{name}"))


def installed(names: Sequence[str]) -> list[str]:
    """Those engines that are installed and work with this Python.

    Raises:
        MissingExtraError: none is; the first one's pip line is named.
    """
    reasons = missing(names)
    if len(reasons) == len(names):
        raise next(iter(reasons.values()))
    return [name for name in names if name not in reasons]


def missing(names: Sequence[str]) -> dict[str, MissingExtraError]:
    """Those engines that are not installed or do not work with this Python, and why."""
    reasons = {}
    for name in names:
        try:
            engine(name).version()
        except MissingExtraError as error:
            reasons[name] = error
    return reasons
