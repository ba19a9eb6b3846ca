"""Sessions of TFLite files: inputs and outputs are float32 even where the model's own are integers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from sen_runtime.engines.session import Array
from sen_runtime.engines.steps import GraphSession
from sen_runtime.errors import EngineError
from sen_runtime.ir.int8 import Grid
from sen_runtime.untrusted import printable


class GridSession(GraphSession):
    """A TFLite model.

    Attributes:
        interpreter: of the library; None once the session is closed.
        grids: integer grids of inputs and outputs, by name.
    """

    interpreter: Any
    grids: dict[str, Grid]

    @abstractmethod
    def _invoke(self, stored: dict[str, Array]) -> dict[str, Array]:
        """Outputs by name for inputs by name, in the types of the model."""

    def _call(self, feeds: dict[str, Array]) -> dict[str, Array]:
        try:
            values = self._invoke({name: self._to_stored(name, x) for name, x in feeds.items()})
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"TFLite refused the input: {printable(str(error))}") from error
        return {name: self.grids[name].dequantize(x) if name in self.grids else x for name, x in values.items()}

    def _to_stored(self, name: str, x: Array) -> Array:
        return self.grids[name].quantize(x) if name in self.grids else np.ascontiguousarray(x, np.float32)

    def _release(self) -> None:
        self.interpreter = None
