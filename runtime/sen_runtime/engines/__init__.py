"""One module per inference engine, all with the same small face.

Each module has `load(model, threads=1) -> Session`, where `model` is a path or the file's bytes, and
`version() -> str`. An engine's library is imported when it is used; where it is missing the error
names the pip line.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol, Union, cast

from numpy.typing import NDArray

from sen_runtime.errors import EngineError

Array = NDArray[Any]
Model = Union[bytes, Path]

#: engine name -> file ending it runs
ENGINES = {"onnxruntime": ".onnx", "reference": ".sen"}


class Session(Protocol):
    """A loaded model.

    Attributes:
        batch_size: rows it takes at once, or None for any number.
    """

    batch_size: int | None

    def run(self, x: Array) -> Array:
        """Outputs `[batch, n_out]` for `x [batch, n_in]` (`[batch, T, n_in]` for input coding "spikes")."""

    def run_all(self, x: Array) -> dict[str, Array]:
        """`output`, and `layerN/activation [batch, n]` for every hidden layer the model lets see."""


class Engine(Protocol):
    """A module of this package."""

    def load(self, model: Model, threads: int = 1) -> Session:
        """A session on `model`."""

    def version(self) -> str:
        """Version of the engine's library; raises `MissingExtraError` where it is not installed."""


def engine(name: str) -> Engine:
    """The engine module called `name`.

    Raises:
        EngineError: no such engine.
    """
    if name not in ENGINES:
        raise EngineError(f"no engine called {name!r}; expected one of {', '.join(ENGINES)}")
    return cast(Engine, importlib.import_module(f"sen_runtime.engines.{name}"))
