"""Sessions of networks that run in an arena, with membranes and activations that can be looked at."""

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
    """A network and its arena, which threads use in turn."""

    _n_layers: int

    def layer_output(self, index: int) -> Array:
        """What a layer gave out last, `[n]`: the activations of the last `run`, or the spikes of the last `step`.

        With several threads the last call may be another thread's; `run_all` belongs together.

        Raises:
            EngineError: it keeps nothing, there is no such layer, or the session is closed.
        """
        with self._turn:
            self._check_open()
            return self._layer_output(index)

    @abstractmethod
    def _layer_address(self, index: int) -> tuple[int | None, int]:
        """Where the output of a layer lies, and its size."""

    def _run_all(self, rows: Float32Array) -> dict[str, Array]:
        outputs = self._run(rows)
        hidden = [self._hidden(row) for row in rows]
        self._is_stream_over = True  # which `_hidden` has begun
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
            raise EngineError(f"layer {index} has no output in the arena; it is the last, or there is none")
        return np.ctypeslib.as_array((ctypes.c_float * size).from_address(address)).copy()
