"""Spikes of a layer of `Lif` neurons from its currents, all steps in one differentiable function.

    a[t] = x[t] + sum_k R_k s[t - 1 - k]                   x: arriving currents, R_k: recurrent weights
    i[t] = synapse * i[t-1] + a[t]
    u[t] = beta * u[t-1] * (1 - zero * s[t-1]) + i[t] + bias - loss * s[t-1]
    s[t] = 1 if u[t] > threshold else 0

with zero = 1 and loss = 0 for the reset "zero", and zero = 0 and loss = threshold, or beta * threshold without
`reset_delay`, for "subtract". The surrogate derivative is that of `sen_edge.model.dynamics.FastSigmoidSpike`. With G
the gradient of a value, S the surrogate derivative, and from the last step to the first,

    Gs[t] = gradient of the output + sum_k Ga[t + 1 + k] R_k
    Gu[t] = S[t] * Gs[t] + M[t] * Gu[t+1]      M[t] = beta * (1 - zero * s[t]) - S[t] * (zero * beta * u[t] + loss)
    Ga[t] = Gi[t] = Gu[t] + synapse * Gi[t+1]

Shapes: currents and spikes `[batch, T, n]`, recurrent weights `[n, n, slots]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sen_runtime.ir.neurons import Lif


@dataclass(frozen=True)
class Constants:
    """Constants of a layer, see the equations above."""

    beta: float
    threshold: float
    zero: float
    loss: float
    synapse: float
    slope: float

    @classmethod
    def of(cls, neuron: Lif, synapse: float, slope: float) -> Constants:
        """Return the constants of neurons without parameters of their own."""
        beta, threshold = float(neuron.beta), float(neuron.threshold)
        if neuron.reset == "zero":
            return cls(beta, threshold, 1.0, 0.0, synapse, slope)
        loss = beta * threshold if neuron.subtracts_before_decay else threshold
        return cls(beta, threshold, 0.0, loss, synapse, slope)


class LifScan(torch.autograd.Function):
    """Spikes `[batch, T, n]` of arriving currents, recurrent weights (or None) and biases `[n]`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, recurrent: Tensor | None, bias: Tensor, constants: Constants) -> Tensor:  # noqa: D102
        batch, steps, n = x.shape
        slots = 0 if recurrent is None else recurrent.shape[2]
        spikes, membranes = x.new_zeros(batch, slots + steps, n), torch.empty_like(x)
        weights = None if recurrent is None else recurrent.flip(2).permute(2, 1, 0).reshape(slots * n, n)
        membrane, current = x.new_zeros(batch, n), x.new_zeros(batch, n)
        keep = torch.zeros_like(membrane)
        for t in range(steps):
            arrived = x[:, t]
            if weights is not None:
                arrived = torch.addmm(arrived, _window(spikes, t, slots), weights)
            if constants.synapse:
                current = arrived = torch.add(arrived, current, alpha=constants.synapse)
            after = torch.addcmul(arrived + bias, membrane, keep)
            if constants.loss and t:
                after.sub_(spikes[:, slots + t - 1], alpha=constants.loss)
            is_above = after > constants.threshold
            spikes[:, slots + t] = is_above
            membranes[:, t] = membrane = after
            keep = (~is_above).to(x.dtype).mul_(constants.beta) if constants.zero else keep.fill_(constants.beta)
        spikes = spikes[:, slots:]
        ctx.constants = constants
        ctx.save_for_backward(spikes, membranes, recurrent)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None]:  # noqa: D102
        spikes, membranes, recurrent = ctx.saved_tensors
        constants, (batch, steps, n) = ctx.constants, spikes.shape
        slots = 0 if recurrent is None else recurrent.shape[2]
        surrogate = (membranes - constants.threshold).abs_().mul_(constants.slope).add_(1).square_().reciprocal_()
        factor = constants.beta * (1 - constants.zero * spikes)
        factor -= surrogate * (constants.zero * constants.beta * membranes + constants.loss)
        to_spikes = gradients[0] * surrogate
        weights = None if recurrent is None else recurrent.permute(2, 0, 1).reshape(slots * n, n)
        to_membranes, to_currents = torch.empty_like(membranes), membranes.new_zeros(batch, steps + slots, n)
        later, current = membranes.new_zeros(batch, n), membranes.new_zeros(batch, n)
        for t in reversed(range(steps)):
            found = torch.addcmul(to_spikes[:, t], factor[:, t], later)
            if weights is not None:
                found.addcmul_(_window(to_currents, t + 1, slots) @ weights, surrogate[:, t])
            to_membranes[:, t] = later = found
            current = torch.add(found, current, alpha=constants.synapse) if constants.synapse else found
            to_currents[:, t] = current
        arrived, to_recurrent = to_currents[:, :steps], None
        if recurrent is not None and ctx.needs_input_grad[1]:
            flat = spikes.reshape(-1, n)
            lags = [to_currents[:, lag : lag + steps].reshape(-1, n).T @ flat for lag in range(1, slots + 1)]
            to_recurrent = torch.stack(lags, 2)
        return arrived, to_recurrent, to_membranes.sum((0, 1)), None


def _window(values: Tensor, start: int, slots: int) -> Tensor:
    """Return steps `[start, start + slots)` of `[batch, T, n]` as `[batch, slots * n]`, a view."""
    batch, steps, n = values.shape
    return values.as_strided((batch, slots * n), (steps * n, 1), values.storage_offset() + start * n)


def scan(x: Tensor, recurrent: Tensor | None, bias: Tensor, neuron: Lif, synapse: float, slope: float) -> Tensor:
    """Apply `LifScan`."""
    constants = Constants.of(neuron, synapse, slope)
    spikes: Tensor = LifScan.apply(x, recurrent, bias, constants)  # type: ignore[no-untyped-call]
    return spikes
