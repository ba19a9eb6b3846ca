"""Input codings: what arrives at the first layer of a spiking network in each step.

    direct:   x
    spikes:   x[t], 0 or 1
    current:  x[t]
    rate:     floor((t + 1) r) - floor(t r), with r = floor(256 x + 1/2) / 256
    delta:    [x[t] - x[t-1] >= delta] of all values, then [x[t-1] - x[t] >= delta]; x[-1] = x[0]

Spikes are computed in float32, and every engine computes the same: r, and the fraction of t r that it keeps, are
multiples of 1/256 and exact; a difference of two float32 is rounded once. `sen_runtime.encoding` computes them.
"""

from __future__ import annotations

from dataclasses import dataclass

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
