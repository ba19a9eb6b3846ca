"""Sessions of networks in an arena, whose membranes and activations can be read."""

from __future__ import annotations

import ctypes
from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.engines.session import Float32Array, Session
from sen_runtime.errors import EngineError

Array = NDArray[Any]


class ArenaSession(Session):
    """A network and its arena; a lock serializes threads."""

    _n_layers: int

    def layer_output(self, index: int) -> Array:
        """Last output of a layer, `[n]`: activations of the last `run`, or spikes of the last `step`.

        With several threads the last call may be another thread's; `run_all` is atomic.

        Raises:
            EngineError: the layer has no output in the arena or does not exist, or the session is closed.
        """
        with self._turn:
            self._check_open()
            return self._layer_output(index)

    @abstractmethod
    def _layer_address(self, index: int) -> tuple[int | None, int]:
        """Address of the output of a layer, 0 for none, and its size."""

    def _run_all(self, rows: Float32Array) -> dict[str, Array]:
        outputs = self._run(rows)
        hidden = [self._hidden(row) for row in rows]
        self._is_stream_over = True  # `_hidden` has begun one
        return {"output": outputs, **{f"layer{i}/activation": np.stack(layer) for i, layer in enumerate(zip(*hidden))}}

    def _hidden(self, row: Float32Array) -> list[Array]:
        """Activations of the hidden layers for one row; spikes are counted step by step."""
        hidden = range(self._n_layers - 1)
        if not self.timesteps:
            self._run(row[np.newaxis])
            return [self._layer_output(i) for i in hidden]
        self._begin()
        steps = []
        for t in range(self.timesteps):
            self._step(row[t] if row.ndim == 2 else row)
            steps.append([self._layer_output(i) for i in hidden])
        return [np.sum(spikes, axis=0) for spikes in zip(*steps)]

    def _layer_output(self, index: int) -> Array:
        address, size = self._layer_address(index)
        if not address:
            raise EngineError(f"layer {index} has no output in the arena: it is the last layer, or does not exist")
        return np.ctypeslib.as_array((ctypes.c_float * size).from_address(address)).copy()
