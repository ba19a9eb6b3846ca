"""Input codings: what arrives at the first layer of a spiking network in each step.

    direct:   x
    spikes:   x[t], 0 or 1
    current:  x[t]
    rate:     floor((t + 1) r) - floor(t r), with r = floor(256 x + 1/2) / 256
    delta:    [x[t] - x[t-1] >= delta] of all values, then [x[t-1] - x[t] >= delta]; x[-1] = x[0]

Spikes are computed in float32, and every engine computes the same: r, and the fraction of t r that it keeps, are
multiples of 1/256 and exact; a difference of two float32 is rounded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from sen_runtime.ir.checks import Array

#: Inputs of coding "rate" are rounded to multiples of 1 / RATE_LEVELS.
RATE_LEVELS = 256


@dataclass(frozen=True)
class Coding:
    """An input coding.

    Attributes:
        has_steps: whether an input is a sequence `[T, ...]`; otherwise it is the same in all steps.
        is_binary: whether inputs are 0 and 1.
        gives_spikes: whether 0 and 1 arrive at the first layer.
    """

    has_steps: bool = False
    is_binary: bool = False
    gives_spikes: bool = False

    @property
    def is_constant(self) -> bool:
        """Whether the same arrives at the first layer in each step."""
        return not (self.has_steps or self.gives_spikes)

    @property
    def is_computed(self) -> bool:
        """Whether spikes are computed from inputs that are no spikes."""
        return self.gives_spikes and not self.is_binary


#: By name, in the order of their numbers in an image.
CODINGS = {
    "direct": Coding(),
    "spikes": Coding(has_steps=True, is_binary=True, gives_spikes=True),
    "current": Coding(has_steps=True),
    "rate": Coding(gives_spikes=True),
    "delta": Coding(has_steps=True, gives_spikes=True),
}


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
