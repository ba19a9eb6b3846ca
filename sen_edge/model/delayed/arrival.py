"""Currents of spikes that arrive after delays, in torch.

A spike arrives after a whole number of steps. The forward pass takes rounded delays, as inference does. Interpolated
spikes there would let training use two arrival times per synapse, of which rounding leaves one.

The backward pass is straight-through: the gradient with respect to a delay is that of the loss, linearized in what
arrives at each slot and smoothed by a Gaussian of the delay. With G the gradient with respect to a unit that arrives at
a slot, and r the rounded delay, it is a derivative-of-Gaussian filter:

    dL/ddelay = weight * sum_m c[m] G[r + m]        c[m] = g(m) m / sum_m g(m) m^2        g: density of the Gaussian

Slots beyond the ring are its ends, to which delays are clamped. Where a neuron with a short memory misses a coincidence
by a few steps, the difference of the two nearest slots, the gradient of an interpolated spike, is about 0; that of the
filter is not. Source: I. Hammouamri et al., "Learning delays in spiking neural networks using dilated convolutions with
learnable spacings", 2023, with the Gaussian in the forward pass too.

`convolve` takes time for all steps and slots of the ring, `scatter` for the spikes and their synapses.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

#: Share of nonzero inputs, per slot, below which `scatter` takes less time than `convolve`.
SPARSE = 0.003
#: Additions at once in `scatter`, which bounds its memory.
CHUNK = 1 << 22


def arrive(x: Tensor, weight: Tensor, delay: Tensor | None, slots: int, sigma: float) -> Tensor:
    """Compute currents `[batch, T, n_out]` of inputs `[batch, T, n_in]`.

    Delays `[n_out, n_in]` are in steps, and clamped to the slots, at least two. Without delays inputs may lack the axis
    of the steps. Sparse inputs are scattered unless they require a gradient. `sigma` is the standard deviation of the
    Gaussian in the gradient of a delay, in steps.
    """
    if delay is None:
        return functional.linear(x, weight)
    if not x.requires_grad and x.count_nonzero() < SPARSE * slots * x.numel():
        return scatter(x, weight, delay, slots, sigma)
    return convolve(x, place(weight, delay, slots, sigma))


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Compute currents `[batch, T, n_out]` of inputs `[batch, T, n_in]` by a kernel `[n_out, n_in, slots]`."""
    padded = functional.pad(x.transpose(1, 2), (kernel.shape[2] - 1, 0))
    return functional.conv1d(padded, kernel.flip(2)).transpose(1, 2)


def place(weight: Tensor, delay: Tensor, slots: int, sigma: float) -> Tensor:
    """Return weights `[n_out, n_in]` at their rounded delays: `[n_out, n_in, slots]`."""
    placed: Tensor = DelayedKernel.apply(weight, delay, slots, sigma)  # type: ignore[no-untyped-call]
    return placed


def scatter(x: Tensor, weight: Tensor, delay: Tensor, slots: int, sigma: float) -> Tensor:
    """Compute what `convolve` computes of `place`, without a gradient to `x`."""
    currents: Tensor = ScatteredSpikes.apply(x, weight, delay, slots, sigma)  # type: ignore[no-untyped-call]
    return currents


class DelayedKernel(torch.autograd.Function):
    """Kernel of weights and delays."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, delay: Tensor, slots: int, sigma: float) -> Tensor:  # noqa: D102
        rounded = round_delay(delay, slots).unsqueeze(2)
        ctx.save_for_backward(weight, delay)
        ctx.sigma = sigma
        return weight.new_zeros(*weight.shape, slots).scatter_(2, rounded, weight.unsqueeze(2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: D102
        weight, delay = ctx.saved_tensors
        return *synapse_gradients(gradients[0], weight, delay, ctx.sigma), None, None


def synapse_gradients(kernel: Tensor, weight: Tensor, delay: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Compute gradients of weights and delays `[n_out, n_in]` from that of their kernel `[n_out, n_in, slots]`."""
    slots = kernel.shape[2]
    rounded, (offset, coefficient) = round_delay(delay, slots).unsqueeze(2), gaussian_derivative(sigma)
    slope = kernel.gather(2, (rounded + offset).clamp_(0, slots - 1)) @ coefficient.to(kernel.dtype)
    return kernel.gather(2, rounded).squeeze(2), weight * slope


@cache
def gaussian_derivative(sigma: float) -> tuple[Tensor, Tensor]:
    """Return the offsets m, up to three standard deviations, and the coefficients c[m]."""
    offset = torch.arange(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1)
    density = (-0.5 * (offset / sigma) ** 2).exp()
    return offset, density * offset / (density * offset**2).sum()


class ScatteredSpikes(torch.autograd.Function):
    """Currents of the nonzero inputs.

    With G the gradient of the currents, that of the kernel of source j and target i is at slot k

        sum of x[b, t, j] G[b, t + k, i] over the nonzero inputs
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, delay: Tensor, slots: int, sigma: float) -> Tensor:  # noqa: D102
        (batch, steps, _), n_out = x.shape, weight.shape[0]
        events = x.nonzero(as_tuple=True)
        values, length = x[events], steps + slots - 1
        start, source = events[0] * length + events[1], events[2]
        places = (round_delay(delay, slots) * n_out + torch.arange(n_out)[:, None]).T.contiguous()
        by_source, ring = weight.T.contiguous(), weight.new_zeros(batch * length * n_out)
        size = max(1, CHUNK // n_out)
        for first in range(0, len(source), size):
            part = slice(first, first + size)
            index = places.index_select(0, source[part]).add_((start[part] * n_out)[:, None])
            added = by_source.index_select(0, source[part]).mul_(values[part, None])
            ring.scatter_add_(0, index.view(-1), added.view(-1))
        ctx.save_for_backward(weight, delay, values, start, source)
        ctx.slots, ctx.sigma = slots, sigma
        return ring.view(batch, length, n_out)[:, :steps]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor, None, None]:  # noqa: D102
        weight, delay, values, start, source = ctx.saved_tensors
        slots, (n_out, n_in) = ctx.slots, weight.shape
        rows = functional.pad(gradients[0], (0, 0, 0, slots - 1)).reshape(-1, n_out)
        order, n_events = source.argsort(stable=True), source.bincount(minlength=n_in)
        start, values, first = start[order], values[order], n_events.cumsum(0) - n_events
        sums = [
            functional.embedding_bag(start, rows[slot:], first, mode="sum", per_sample_weights=values)
            for slot in range(slots)
        ]
        of_synapses = synapse_gradients(torch.stack(sums, 2).transpose(0, 1), weight, delay, ctx.sigma)
        return None, *of_synapses, None, None


def round_delay(delay: Tensor, slots: int) -> Tensor:
    """Round delays to slots."""
    return delay.round().clamp(0, slots - 1).long()
