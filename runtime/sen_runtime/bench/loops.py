"""The timed call of a session, its leanest complete call, and the random inputs that take turns in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.bench.interleaved import Loop, repeated
from sen_runtime.engines import Session
from sen_runtime.memory_limits import require

FloatArray = NDArray[np.float32]

#: Inputs of a loop in C are repeated up to this size and number, so that one call runs many of them.
TILED_BYTES, TILED_ROWS = 1 << 16, 1024
#: Different inputs that take turns.
N_INPUTS = 64
#: Share of ones in random spike trains.
FIRING = 0.2
#: SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
GAMMA, MULTIPLIERS = 0x9E3779B97F4A7C15, ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def loop_over(session: Session, inputs: FloatArray, batch: int = 1) -> Loop:
    """A loop over `inputs [n, ...]`, `batch` of them in each call: in C where the engine has one, else in Python."""
    if has_c_loop(session, batch):
        tiles = max(1, min(TILED_BYTES // inputs.nbytes, TILED_ROWS // len(inputs)))
        loop: Loop = session.bare_loop(np.concatenate([inputs] * tiles))  # type: ignore[attr-defined]
        return loop
    return repeated([call_of(session, rows) for rows in batches(inputs, batch)])


def has_c_loop(session: Session, batch: int) -> bool:
    """Whether the loop over calls is in C."""
    return batch == 1 and hasattr(session, "bare_loop")


def call_of(session: Session, x: FloatArray) -> Callable[[], object]:
    """The engine's call on `x [batch, ...]` with input and output copied; all steps of a step model."""
    bare_call = getattr(session, "bare_call", None)
    properties = getattr(session, "properties", {})
    if bare_call is None or properties.get("snn") == "step":
        return partial(session.run, x)
    call: Callable[[], object] = bare_call(x)
    return call


def batches(inputs: FloatArray, batch: int) -> list[FloatArray]:
    """Split `inputs [n, ...]` into batches, the last filled up from the first inputs."""
    short = -len(inputs) % batch
    padded = np.concatenate([inputs, *[inputs] * -(-short // len(inputs))])[: len(inputs) + short] if short else inputs
    return [padded[start : start + batch] for start in range(0, len(padded), batch)]


def outputs(session: Session, inputs: FloatArray, batch: int) -> NDArray[Any]:
    """Outputs `[n, n_out]` of `inputs [n, ...]`, in batches as they are timed."""
    parts = [session.run(rows) for rows in batches(inputs, batch)]
    return np.concatenate(parts)[: len(inputs)]


def require_batch(shape: tuple[int, ...], batch: int) -> None:
    """Refuse a batch whose inputs, and the engine's copy of them, do not fit into the memory."""
    values = math.prod(shape)
    require(8 * batch * values, f"a batch of {batch:,} inputs of {values:,} values")


def random_inputs(
    shape: tuple[int, ...], n: int, seed: int, low: float, high: float, *, is_binary: bool | None = None
) -> FloatArray:
    """`[n, *shape]`: uniform in [low, high), or random spikes if `is_binary`, by default where a row has time steps.

    `sen_bench` (c/tools/recorder.c) draws the same numbers.
    """
    is_binary = len(shape) > 1 if is_binary is None else is_binary
    values = math.prod(shape)
    require(4 * n * values, f"{n} inputs of {' x '.join(f'{size:,}' for size in shape)} values")
    x = np.empty((n, values), np.float32)
    span = np.float32(high) - np.float32(low)
    for index in range(n):
        unit = _uniform(seed, index * values, values)
        x[index] = unit < FIRING if is_binary else unit * span + np.float32(low)
    return x.reshape(n, *shape)


def _uniform(seed: int, start: int, count: int) -> FloatArray:
    """`[count]` numbers in [0, 1) of the sequence of a seed, from `start` on."""
    z = np.arange(start + 1, start + count + 1, dtype=np.uint64) * np.uint64(GAMMA) + np.uint64(seed % 2**64)
    for shift, multiplier in MULTIPLIERS:
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(multiplier)
    bits = (z ^ (z >> np.uint64(31))) >> np.uint64(40)
    return bits.astype(np.float32) / np.float32(1 << 24)
