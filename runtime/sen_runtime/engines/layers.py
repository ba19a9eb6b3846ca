"""What hidden layers gave out, of sessions that keep it in an arena."""

from __future__ import annotations

import ctypes
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sen_runtime.errors import EngineError

Array = NDArray[Any]


class LayeredSession(Protocol):
    """A session whose layers can be looked at after one inference, or one time step.

    Attributes:
        timesteps: of a spiking network; 0 for a multilayer perceptron.
    """

    timesteps: int

    def run(self, x: Array) -> Array:
        """Outputs `[batch, n_out]`."""

    def reset(self) -> None:
        """Membranes to 0."""

    def step(self, x: Array) -> Array:
        """One time step of one example."""

    def layer_output(self, index: int) -> Array:
        """What a layer gave out last, `[n]`."""


def run_all(session: LayeredSession, x: Array, n_layers: int) -> dict[str, Array]:
    """The outputs for `x`, and the activations (spike counts) of all layers but the last."""
    outputs = session.run(x)
    rows = [_hidden(session, row, n_layers - 1) for row in x]
    return {"output": outputs, **{f"layer{i}/activation": np.stack(layer) for i, layer in enumerate(zip(*rows))}}


def _hidden(session: LayeredSession, row: Array, count: int) -> list[Array]:
    """What the hidden layers give out for one row; spikes are counted step by step."""
    if not session.timesteps:
        session.run(row[np.newaxis])
        return [session.layer_output(i) for i in range(count)]
    session.reset()
    steps = []
    for t in range(session.timesteps):
        session.step(row[t] if row.ndim == 2 else row)
        steps.append([session.layer_output(i) for i in range(count)])
    return [np.sum(spikes, axis=0) for spikes in zip(*steps)]


def read(address: int | None, size: int, index: int) -> Array:
    """A copy of the output `[size]` of layer `index` that lies at `address`.

    Raises:
        EngineError: there is none.
    """
    if not address:
        raise EngineError(f"layer {index} has no output in the arena; it is the last, or there is none")
    return np.ctypeslib.as_array((ctypes.c_float * size).from_address(address)).copy()
