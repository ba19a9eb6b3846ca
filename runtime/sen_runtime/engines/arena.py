"""Sessions of networks that run in an arena, with membranes and activations that can be looked at."""

from __future__ import annotations

import ctypes
from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sen_runtime.engines.session import Float32Array, Session, require_finite, to_float32
from sen_runtime.errors import EngineError

Array = NDArray[Any]


class ArenaSession(Session):
    """A network and its arena, which threads use in turn.

    The session of a spiking network holds one stream: `step` continues it, `reset` begins a new one, and `run` and
    `run_all` end it. `step` raises an error then, until `reset` is called.

    Attributes:
        timesteps: of a spiking network; 0 for a multilayer perceptron.
    """

    timesteps: int
    _n_layers: int
    _is_stream_over = False

    def step(self, x: ArrayLike) -> Array:
        """One time step of one example, `[n_in]` to `[n_out]`: the last layer's membranes, or its spikes if they count.

        Raises:
            EngineError: the network is not a spiking one, an input of another shape or one that is not finite, a stream
                that has ended, or a closed session.
        """
        row = to_float32(x)
        expected = self.input_shape[-1:]
        if row.shape != expected:
            raise EngineError(f"the input has shape {list(row.shape)}; expected {list(expected)}")
        if self._refuses_nonfinite:
            require_finite(row)
        with self._turn:
            self._check_spiking()
            if self._is_stream_over:
                raise EngineError("a run has ended the stream of this session", "call reset before the next step")
            return self._step(row)

    def reset(self) -> None:
        """Membranes to 0.

        Raises:
            EngineError: the network is not a spiking one, or the session is closed.
        """
        with self._turn:
            self._check_spiking()
            self._begin()

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
    def _step(self, row: Float32Array) -> Array:
        """One time step."""

    @abstractmethod
    def _reset(self) -> None:
        """Membranes to 0."""

    @abstractmethod
    def _layer_address(self, index: int) -> tuple[int | None, int]:
        """Where the output of a layer lies, and its size."""

    def _begin(self) -> None:
        self._reset()
        self._is_stream_over = False

    def _check_spiking(self) -> None:
        self._check_open()
        if not self.timesteps:
            raise EngineError("the network is not a spiking one")

    def _run_all(self, rows: Float32Array) -> dict[str, Array]:
        outputs = self._run(rows)
        hidden = [self._hidden(row) for row in rows]
        self._is_stream_over = True
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
