"""The numpy interpreter as an engine for `.sen` images: the reference, not fast."""

from __future__ import annotations

import numpy as np

import sen_runtime
from sen_runtime import format as image
from sen_runtime import integer, reference
from sen_runtime.engines import Engine
from sen_runtime.engines.session import Array, Float32Array, Model, Session, source_of
from sen_runtime.ir.network import Network


class ReferenceSession(Session):
    """A network, interpreted in float32, or in integers where its activations are int8."""

    def __init__(self, network: Network, *, allow_nonfinite: bool = False) -> None:
        super().__init__(network.input_shape, allow_nonfinite=allow_nonfinite, is_reentrant=True)
        self.network = reference.expand(network) if network.input_grid is None else network

    def _run(self, rows: Float32Array) -> Array:
        return self._trace(rows)[-1]

    def _trace(self, rows: Float32Array) -> list[Array]:
        if self.network.input_grid is None:
            return reference.trace(self.network, rows, np.float32)
        return list(integer.trace(self.network, rows))

    def _run_all(self, rows: Float32Array) -> dict[str, Array]:
        layers = self._trace(rows)
        return {"output": layers[-1], **{f"layer{i}/activation": layer for i, layer in enumerate(layers[:-1])}}


def load(model: Model, threads: int = 1, *, allow_nonfinite: bool = False) -> ReferenceSession:
    """A session on a `.sen` image; numpy's BLAS chooses its own threads."""
    source = source_of(model)
    network = image.loads(source) if isinstance(source, bytes) else image.read(source)
    return ReferenceSession(network, allow_nonfinite=allow_nonfinite)


ENGINE = Engine("reference", (".sen",), load, lambda: sen_runtime.__version__, is_interpreter=True, is_on_demand=True)
