"""Sessions of exported C with int8 activations, whose functions take and return stored values."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from sen_runtime.engines.session import ArenaSession, Array, Float32Array

#: A function of the C code by name, result and argument types; the optional ones are None where they are missing.
Bind = Callable[..., Any]


class IntegerCSession(ArenaSession):
    """An exported network with int8 activations, compiled with its conversions from and to floating point.

    It runs step by step if it counts spikes; a membrane is read out after all steps.

    Attributes:
        arena_bytes: memory of the network besides its code and constants.
    """

    def __init__(
        self, arena: Array, bind: Bind, sizes: dict[str, int], *, takes_train: bool, allow_nonfinite: bool
    ) -> None:
        n_in, steps = sizes["INPUTS"], sizes.get("TIMESTEPS", 0)
        super().__init__((steps, n_in) if takes_train else (n_in,), allow_nonfinite=allow_nonfinite)
        self.arena_bytes = sizes["ARENA_BYTES"]
        self._arena, self._n_out, self._n_layers = arena, sizes["OUTPUTS"], sizes["LAYERS"]
        pointer, place = ctypes.c_void_p, arena.ctypes.data
        self._quantize = bind("quantize", None, pointer, pointer)
        self._dequantize = bind("dequantize", None, pointer, pointer)
        self._infer = bind("run_u8", ctypes.c_int, pointer, pointer, pointer)
        self._find = bind("layer_output", pointer, pointer, ctypes.c_uint32, pointer)
        self._values = bind("layer_values", ctypes.c_uint32, pointer, ctypes.c_uint32, pointer)
        self._layer = lambda index, size: self._find(place, index, size)
        self._advance = bind("step_u8", ctypes.c_int, pointer, pointer, is_optional=True)
        self._restart = bind("reset", None, pointer, is_optional=True)
        self._hidden_steps = steps if self._advance else 0
        if self._layer(self._n_layers - 1, ctypes.byref(ctypes.c_uint32())):  # spikes
            self.timesteps = steps
            self._finish = self._finish_counts

    def _run(self, rows: Float32Array) -> Array:
        y = np.empty((len(rows), self._n_out), np.float32)
        stored = np.empty(self._n_out, np.uint8)
        for row, out in zip(rows, y):
            inputs = self._store(row)  # a name keeps it until the call has returned
            self._infer(self._arena.ctypes.data, inputs.ctypes.data, stored.ctypes.data)
            self._dequantize(stored.ctypes.data, out.ctypes.data)
        return y

    def _store(self, row: Float32Array) -> Array:
        """Stored values of an input, of one step or of all."""
        stored = np.empty(row.shape, np.uint8)
        for step, to in zip(np.atleast_2d(row), np.atleast_2d(stored)):
            self._quantize(step.ctypes.data, to.ctypes.data)
        return stored

    def _reset(self) -> None:
        self._restart(self._arena.ctypes.data)

    def _step(self, row: Float32Array) -> Array:
        inputs = self._store(row)
        self._advance(self._arena.ctypes.data, inputs.ctypes.data)
        return self._layer_output(self._n_layers - 1) if self.timesteps else np.empty(0, np.float32)

    def _layer_output(self, index: int) -> Array:
        size = ctypes.c_uint32()
        self._address_of(index, size)
        values = np.empty(size.value, np.float32)
        self._values(self._arena.ctypes.data, index, values.ctypes.data)
        return values

    def _finish_counts(self, address: int) -> None:
        counts = np.ctypeslib.as_array((ctypes.c_float * self._n_out).from_address(address))
        stored = counts.clip(0, 255).astype(np.uint8)
        self._dequantize(stored.ctypes.data, address)
