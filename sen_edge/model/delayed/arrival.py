"""Currents of spikes that arrive after delays, in torch.

A spike arrives after a whole number of steps. The forward pass takes rounded delays, as inference does; the backward
pass takes the derivative of linear interpolation between two steps. Interpolated spikes in the forward pass would let
training use two arrival times per synapse, of which rounding leaves one.

`convolve` takes time for all steps and slots of the ring, `scatter` for the spikes and their synapses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

#: Share of nonzero inputs, per slot, below which `scatter` takes less time than `convolve`.
SPARSE = 0.003
#: Additions at once in `scatter`, which bounds its memory.
CHUNK = 1 << 22


def arrive(x: Tensor, weight: Tensor, delay: Tensor | None, slots: int) -> Tensor:
    """Compute currents `[batch, T, n_out]` of inputs `[batch, T, n_in]`.

    Delays `[n_out, n_in]` are in steps, and clamped to the slots, at least two. Without delays inputs may lack the axis
    of the steps. Sparse inputs are scattered unless they require a gradient.
    """
    if delay is None:
        return functional.linear(x, weight)
    if not x.requires_grad and x.count_nonzero() < SPARSE * slots * x.numel():
        return scatter(x, weight, delay, slots)
    return convolve(x, place(weight, delay, slots))


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Compute currents `[batch, T, n_out]` of inputs `[batch, T, n_in]` by a kernel `[n_out, n_in, slots]`."""
    padded = functional.pad(x.transpose(1, 2), (kernel.shape[2] - 1, 0))
    return functional.conv1d(padded, kernel.flip(2)).transpose(1, 2)


def place(weight: Tensor, delay: Tensor, slots: int) -> Tensor:
    """Return weights `[n_out, n_in]` at their rounded delays: `[n_out, n_in, slots]`."""
    placed: Tensor = DelayedKernel.apply(weight, delay, slots)  # type: ignore[no-untyped-call]
    return placed


def scatter(x: Tensor, weight: Tensor, delay: Tensor, slots: int) -> Tensor:
    """Compute what `convolve` computes of `place`, without a gradient to `x`."""
    currents: Tensor = ScatteredSpikes.apply(x, weight, delay, slots)  # type: ignore[no-untyped-call]
    return currents


class DelayedKernel(torch.autograd.Function):
    """Kernel of weights and delays."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, delay: Tensor, slots: int) -> Tensor:  # noqa: D102
        rounded = round_delay(delay, slots).unsqueeze(2)
        ctx.save_for_backward(weight, delay)
        return weight.new_zeros(*weight.shape, slots).scatter_(2, rounded, weight.unsqueeze(2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: D102
        return *synapse_gradients(gradients[0], *ctx.saved_tensors), None


def synapse_gradients(kernel: Tensor, weight: Tensor, delay: Tensor) -> tuple[Tensor, Tensor]:
    """Compute gradients of weights and delays `[n_out, n_in]` from that of their kernel `[n_out, n_in, slots]`."""
    slots = kernel.shape[2]
    rounded, before = round_delay(delay, slots).unsqueeze(2), _before(delay, slots).unsqueeze(2)
    slope = kernel.gather(2, before + 1) - kernel.gather(2, before)
    return kernel.gather(2, rounded).squeeze(2), weight * slope.squeeze(2)


class ScatteredSpikes(torch.autograd.Function):
    """Currents of the nonzero inputs.

    With G the gradient of the currents, and d the delay from source j to target i,

        gradient of the weight = sum of x[b, t, j] G[b, t + d, i] over the nonzero inputs

    and that of the delay is the weight times the difference of this sum at the steps after and before d.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, delay: Tensor, slots: int) -> Tensor:  # noqa: D102
        (batch, steps, _), n_out = x.shape, weight.shape[0]
        events = x.nonzero(as_tuple=True)
        values, length = x[events], steps + slots - 1
        lines, by_source = _lines(round_delay(delay, slots)), weight.T.contiguous()
        ring = weight.new_zeros(batch * length * n_out)
        for part, index in _indices(events, lines, length):
            added = by_source.index_select(0, events[2][part]).mul_(values[part, None])
            ring.scatter_add_(0, index.view(-1), added.view(-1))
        ctx.save_for_backward(weight, delay, values, *events)
        ctx.slots = slots
        return ring.view(batch, length, n_out)[:, :steps]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor, None]:  # noqa: D102
        weight, delay, values, *events = ctx.saved_tensors
        slots, n_out = ctx.slots, weight.shape[0]
        padded = functional.pad(gradients[0], (0, 0, 0, slots - 1))
        before, gradient = _before(delay, slots), padded.reshape(-1)
        early, late = (weight.new_zeros(weight.T.shape) for _ in range(2))
        for part, index in _indices(events, _lines(before), padded.shape[1]):
            source, value = events[2][part], values[part, None]
            early.index_add_(0, source, gradient.take(index).mul_(value))
            late.index_add_(0, source, gradient.take(index.add_(n_out)).mul_(value))
        is_late = round_delay(delay, slots) > before
        return None, torch.where(is_late, late.T, early.T), weight * (late - early).T, None


def round_delay(delay: Tensor, slots: int) -> Tensor:
    """Round delays to slots."""
    return delay.round().clamp(0, slots - 1).long()


def _before(delay: Tensor, slots: int) -> Tensor:
    """Return the first of the two slots that a delay lies between, or next to."""
    return delay.floor().clamp(0, slots - 2).long()


def _lines(slot: Tensor) -> Tensor:
    """Return offsets `[n_in, n_out]` in a ring `[steps, n_out]` of slots `[n_out, n_in]`."""
    n_out = len(slot)
    return (slot * n_out + torch.arange(n_out)[:, None]).T.contiguous()


def _indices(events: tuple[Tensor, ...], lines: Tensor, length: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield parts of the events, and their indices `[events, n_out]` in rings `[batch, length, n_out]`."""
    batch, step, source = events
    start, n_out = batch * length + step, lines.shape[1]
    size = max(1, CHUNK // n_out)
    for first in range(0, len(source), size):
        part = slice(first, first + size)
        yield part, lines.index_select(0, source[part]).add_((start[part] * n_out)[:, None])
