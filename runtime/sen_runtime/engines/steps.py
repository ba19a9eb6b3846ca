"""Drive a step model, whose membranes are inputs and outputs, over all time steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.errors import EngineError
from sen_runtime.ir.network import MAX_TIMESTEPS
from sen_runtime.untrusted import listing, quote

Array = NDArray[Any]


def run_steps(
    call: Callable[[dict[str, Array]], dict[str, Array]],
    x: Array,
    membranes: Mapping[str, int],
    properties: Mapping[str, str],
) -> dict[str, Array]:
    """Readout and spike counts over all steps, from zero membranes.

    Args:
        call: one step, inputs by name to outputs by name; each membrane's next value is `NAME_next`.
        x: `[batch, n_in]`, or `[batch, T, n_in]` for input coding "spikes".
        membranes: name of each membrane and its number of neurons.
        properties: `timesteps`, `input_coding` and `readout` of the network, as the file carries them.

    Raises:
        EngineError: the properties lack one of these, or the input has another number of steps.
    """
    missing = [name for name in ("timesteps", "readout", "input_coding") if name not in properties]
    if missing:
        raise EngineError(
            f"the model has inputs besides `input`, and does not say its {missing[0]}",
            "only step models of sen-edge are run over all steps",
        )
    timesteps, readout = timesteps_of(properties), properties["readout"]
    is_train = properties["input_coding"] == "spikes"
    if is_train and (x.ndim != 3 or x.shape[1] != timesteps):
        raise EngineError(f"the input has shape {list(x.shape)}; expected [batch, {timesteps}, n_in]")
    state = {name: np.zeros((x.shape[0], size), np.float32) for name, size in membranes.items()}
    totals: dict[str, Array] = {}
    last: Array = x
    for t in range(timesteps):
        x_t = np.ascontiguousarray(x[:, t]) if is_train else x
        values = call({"input": x_t, **state})
        lacking = [name for name in ("output", *(f"{name}_next" for name in state)) if name not in values]
        if lacking:
            raise EngineError(f"the model gives no {listing(lacking)}", "only step models of sen-edge are run so")
        state = {name: values.pop(f"{name}_next") for name in state}
        last = values["output"]
        totals = {name: totals.get(name, 0) + value for name, value in values.items()}
    if readout == "mean_membrane":
        totals["output"] = totals["output"] / np.float32(timesteps)
    elif readout == "last_membrane":
        totals["output"] = last
    return totals


def row_shape_of(
    declared: Sequence[object], membranes: Mapping[str, int], properties: Mapping[str, str]
) -> tuple[int | None, ...]:
    """Shape of one row that `run` takes, from that of the model's input without its batch; None for a size left open.

    A step model declares one time step: where spike trains go in, a row of it has all of them.
    """
    sizes = [size if isinstance(size, int) and size > 0 else None for size in declared]
    if membranes and properties.get("input_coding") == "spikes":
        return (timesteps_of(properties), *sizes)
    return tuple(sizes)


def timesteps_of(properties: Mapping[str, str]) -> int:
    """Steps T of a spiking network, as its file says; 0 for a multilayer perceptron.

    Raises:
        EngineError: it is not a number up to `MAX_TIMESTEPS`.
    """
    found = properties.get("timesteps", "0")
    steps = int(found) if found.isdecimal() and len(found) <= len(str(MAX_TIMESTEPS)) else -1
    if not 0 <= steps <= MAX_TIMESTEPS:
        raise EngineError(f"the model's timesteps are {quote(found)}; expected a number up to {MAX_TIMESTEPS}")
    return steps
