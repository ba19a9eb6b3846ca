"""Spikes of a layer of `Lif` neurons from its currents, all steps in one differentiable function.

    a[t] = x[t] + sum_k R_k s[t - 1 - k]         x: arriving currents, R_k: recurrent weights of delay k + 1
    i[t] = synapse * i[t-1] + a[t]
    u[t] = beta * u[t-1] * (1 - zero * s[t-1]) + i[t] + bias - loss * s[t-1]
    s[t] = 1 if u[t] > threshold else 0

with zero = 1 and loss = 0 for the reset "zero", and zero = 0 and loss = threshold, or beta * threshold without
`reset_delay`, for "subtract". The surrogate derivative is that of `sen_edge.model.dynamics.FastSigmoidSpike`. With G
the gradient of a value, S the surrogate derivative, and from the last step to the first,

    Gs[t] = gradient of the output + sum_k Ga[t + 1 + k] R_k
    Gu[t] = S[t] * Gs[t] + M[t] * Gu[t+1]      M[t] = beta * (1 - zero * s[t]) - S[t] * (zero * beta * u[t] + loss)
    Ga[t] = Gi[t] = Gu[t] + synapse * Gi[t+1]

A recurrent synapse has one delay. `_sum` takes time for the synapses, not for their number times the slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sen_edge.model.delayed.arrival import round_delay, synapse_gradients
from sen_runtime.ir.neurons import Lif


@dataclass(frozen=True)
class Constants:
    """Constants of a layer, see the equations above.

    Attributes:
        beta: decay of the membrane per step.
        threshold: of the membrane.
        zero: 1 if a spike resets the membrane to zero, else 0.
        loss: what a spike subtracts from the membrane.
        synapse: decay of the synaptic current per step; 0 without.
        slope: of the surrogate derivative.
        sigma: standard deviation in the gradient of delays, see `sen_edge.model.delayed.arrival`.
    """

    beta: float
    threshold: float
    zero: float
    loss: float
    synapse: float
    slope: float
    sigma: float

    @classmethod
    def of(cls, neuron: Lif, synapse: float, slope: float, sigma: float) -> Constants:
        """Return the constants of neurons without parameters of their own."""
        beta, threshold = float(neuron.beta), float(neuron.threshold)
        if neuron.reset == "zero":
            return cls(beta, threshold, 1.0, 0.0, synapse, slope, sigma)
        loss = beta * threshold if neuron.subtracts_before_decay else threshold
        return cls(beta, threshold, 0.0, loss, synapse, slope, sigma)


class LifScan(torch.autograd.Function):
    """Spikes of arriving currents, see `scan`.

    Inside, values are `[T, n, batch]` with recurrent synapses, and `[T, batch, n]` without, which needs no copies.
    """

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        delay: Tensor | None,
        bias: Tensor,
        constants: Constants,
        slots: int,
    ) -> Tensor:
        n = x.shape[2]
        if weight is None:
            slots, arriving, added = 0, x.transpose(0, 1), bias
            spikes = torch.empty_like(x).transpose(0, 1)
        else:
            arriving, added = x.permute(1, 2, 0).contiguous(), bias[:, None]
            spikes = x.new_zeros(slots + len(arriving), *arriving.shape[1:])
        steps, membranes = len(arriving), torch.empty_like(arriving)
        order = None if delay is None else (slots - 1 - round_delay(delay, slots)) * n + torch.arange(n)
        membrane, current, keep = (torch.zeros_like(arriving[0]) for _ in range(3))
        for t in range(steps):
            arrived = arriving[t]
            if weight is not None:
                arrived = arrived + _sum(weight, spikes[t : t + slots], order)
            if constants.synapse:
                current = arrived = torch.add(arrived, current, alpha=constants.synapse)
            after = torch.addcmul(arrived + added, membrane, keep)
            if constants.loss and t:
                after.sub_(spikes[slots + t - 1], alpha=constants.loss)
            is_above = after > constants.threshold
            spikes[slots + t] = is_above
            membranes[t] = membrane = after
            keep = (~is_above).to(x.dtype).mul_(constants.beta) if constants.zero else keep.fill_(constants.beta)
        spikes = spikes[slots:]
        ctx.constants, ctx.slots = constants, slots
        ctx.save_for_backward(spikes, membranes, weight, delay)
        return spikes.transpose(0, 1) if weight is None else spikes.permute(2, 0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        spikes, membranes, weight, delay = ctx.saved_tensors
        constants, slots, steps = ctx.constants, ctx.slots, len(spikes)
        surrogate = (membranes - constants.threshold).abs_().mul_(constants.slope).add_(1).square_().reciprocal_()
        factor = constants.beta * (1 - constants.zero * spikes)
        factor -= surrogate * (constants.zero * constants.beta * membranes + constants.loss)
        axes = (1, 0, 2) if weight is None else (1, 2, 0)
        to_spikes, to_membranes = gradients[0].permute(axes) * surrogate, torch.empty_like(membranes)
        by_source, order = None if weight is None else weight.T.contiguous(), None
        to_currents = membranes.new_zeros(steps + slots, *membranes.shape[1:])
        if delay is not None:
            order = (round_delay(delay, slots).T * len(delay) + torch.arange(len(delay))).contiguous()
        later, current = torch.zeros_like(membranes[0]), torch.zeros_like(membranes[0])
        for t in reversed(range(steps)):
            found = torch.addcmul(to_spikes[t], factor[t], later)
            if by_source is not None:
                found.addcmul_(_sum(by_source, to_currents[t + 1 : t + 1 + slots], order), surrogate[t])
            to_membranes[t] = later = found
            current = torch.add(found, current, alpha=constants.synapse) if constants.synapse else found
            to_currents[t] = current
        if weight is None:
            return to_currents.transpose(0, 1), None, None, to_membranes.sum((0, 1)), None, None
        to_x, to_bias = to_currents[:steps].permute(2, 0, 1), to_membranes.sum((0, 2))
        to_kernel = _correlate(to_currents, spikes, slots)
        if delay is None:
            return to_x, to_kernel[:, :, 0], None, to_bias, None, None
        return to_x, *synapse_gradients(to_kernel, weight, delay, constants.sigma), to_bias, None, None


def _sum(weight: Tensor, window: Tensor, order: Tensor | None) -> Tensor:
    """Sum rows of a window `[slots, n, batch]`, times weights `[n, n]`, to `[n, batch]`.

    `order` `[n, n]` are the rows of `[slots * n, batch]`; None for a window of one slot, all of whose rows are summed.
    """
    if order is None:
        return weight @ window[0]
    return functional.embedding_bag(order, window.flatten(0, 1), mode="sum", per_sample_weights=weight)


def _correlate(values: Tensor, spikes: Tensor, slots: int) -> Tensor:
    """Return `[n, n, slots]`: the sum over t of values `[T + slots, n, batch]` at t + 1 + k times spikes at t."""
    late, flat = values.transpose(0, 1).contiguous(), spikes.transpose(0, 1).flatten(1)
    return torch.stack([late[:, k : k + len(spikes)].flatten(1) @ flat.T for k in range(1, slots + 1)], 2)


def scan(
    x: Tensor,
    weight: Tensor | None,
    delay: Tensor | None,
    bias: Tensor,
    constants: Constants,
    slots: int = 1,
) -> Tensor:
    """Compute spikes `[batch, T, n]` of arriving currents `[batch, T, n]`, recurrent synapses and biases `[n]`.

    Recurrent weights are `[n, n]`, or None without. Their delays `[n, n]`, in steps without the first one, are clamped
    to the slots, at least two; without delays there is one slot.
    """
    spikes: Tensor = LifScan.apply(x, weight, delay, bias, constants, slots)  # type: ignore[no-untyped-call]
    return spikes
