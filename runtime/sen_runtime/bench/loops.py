"""The timed call of a session: its leanest complete call, on inputs that take turns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.bench.interleaved import Loop, repeated
from sen_runtime.engines import Session

FloatArray = NDArray[np.float32]

#: Inputs of a loop in C are repeated up to this size and number, so that one call runs many of them.
TILED_BYTES, TILED_ROWS = 1 << 16, 1024


def loop_over(session: Session, inputs: FloatArray) -> Loop:
    """A loop over `inputs [n, ...]`: in C where the engine has one, else in Python.

    A model of a fixed batch runs that many of them in each call.
    """
    bare_loop = getattr(session, "bare_loop", None)
    if bare_loop is not None:
        tiles = max(1, min(TILED_BYTES // inputs.nbytes, TILED_ROWS // len(inputs)))
        loop: Loop = bare_loop(np.concatenate([inputs] * tiles))
        return loop
    rows = rows_per_call(session)
    return repeated([call_of(session, batch) for batch in batches(inputs, rows)])


def call_of(session: Session, x: FloatArray) -> Callable[[], object]:
    """The engine's call on `x [rows, ...]` with input and output copied; all steps of a step model."""
    bare_call = getattr(session, "bare_call", None)
    properties = getattr(session, "properties", {})
    if bare_call is None or properties.get("snn") == "step":
        return partial(session.run, x)
    call: Callable[[], object] = bare_call(x)
    return call


def rows_per_call(session: Session) -> int:
    """Inputs of one call."""
    return session.batch_size or 1


def batches(inputs: FloatArray, rows: int) -> list[FloatArray]:
    """Split `inputs [n, ...]` into batches of `rows`, the last filled up from the first inputs."""
    short = -len(inputs) % rows
    padded = np.concatenate([inputs, *[inputs] * -(-short // len(inputs))])[: len(inputs) + short] if short else inputs
    return [padded[start : start + rows] for start in range(0, len(padded), rows)]


def outputs(session: Session, inputs: FloatArray) -> NDArray[Any]:
    """Outputs `[n, n_out]` of `inputs [n, ...]`, in batches as they are timed."""
    parts = [session.run(batch) for batch in batches(inputs, rows_per_call(session))]
    return np.concatenate(parts)[: len(inputs)]
