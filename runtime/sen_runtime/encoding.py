"""Values that arrive at the first layer of a spiking network, from its inputs; see `sen_runtime.ir.codings`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat

import numpy as np

from sen_runtime.ir.checks import Array
from sen_runtime.ir.codings import CODINGS, RATE_LEVELS


def arriving(name: str, x: Array, steps: int, delta: float) -> Iterable[Array]:
    """What arrives in each step, `[batch, n_in]`, of inputs `[batch, ...]` in the coding `name`; in the type of `x`."""
    if name == "rate":
        return _rate(x, steps)
    if name == "delta":
        return _delta(x, np.float32(delta))
    return x.transpose(1, 0, 2) if CODINGS[name].has_steps else repeat(x, steps)


def _rate(x: Array, steps: int) -> Iterator[Array]:
    levels = np.float32(RATE_LEVELS)
    rate = np.floor(x.astype(np.float32) * levels + np.float32(0.5)) / levels
    phase = np.zeros_like(rate)
    for _ in range(steps):
        phase = phase + rate
        spikes = (phase >= 1).astype(np.float32)
        phase = phase - spikes
        yield spikes.astype(x.dtype)


def _delta(x: Array, delta: np.float32) -> Iterator[Array]:
    samples = x.astype(np.float32).transpose(1, 0, 2)
    for before, after in zip((samples[0], *samples[:-1]), samples):
        change = after - before
        yield np.concatenate([change >= delta, -change >= delta], axis=1).astype(x.dtype)
