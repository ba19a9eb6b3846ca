"""Forward pass in torch, independent of the form of the weights.

A layer is a product `x [..., n_in] -> W x + b [..., n_out]`; neurons are those of `sen_runtime.ir.network`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sen_runtime.ir.network import LeakyIntegrator, Lif, Neuron, Relu

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Timing:
    """Time steps and readout of a spiking network; see `sen_runtime.ir.network.Network`.

    Attributes:
        timesteps: steps T.
        input_coding: "direct" or "spikes".
        readout: "mean_membrane", "last_membrane" or "spike_count".
        surrogate_slope: slope of the surrogate derivative.
    """

    timesteps: int
    input_coding: str
    readout: str
    surrogate_slope: float


class FastSigmoidSpike(torch.autograd.Function):
    """Heaviside function of `membrane - threshold` with the surrogate derivative 1 / (1 + slope |v|)^2.

    Source: Zenke and Ganguli, "SuperSpike", Neural Computation 30 (2018).
    """

    @staticmethod
    def forward(ctx: Any, above: Tensor, slope: float) -> Tensor:  # noqa: D102
        ctx.save_for_backward(above)
        ctx.slope = slope
        return (above > 0).to(above.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: D102
        (above,) = ctx.saved_tensors
        return gradients[0] / (above.abs().mul(ctx.slope).add(1).square()), None


def spike(above: Tensor, slope: float) -> Tensor:
    """Apply `FastSigmoidSpike`."""
    result: Tensor = FastSigmoidSpike.apply(above, slope)  # type: ignore[no-untyped-call]
    return result


def trace_perceptron(products: Sequence[Product], neurons: Sequence[Neuron], x: Tensor) -> list[Tensor]:
    """Return activations of every layer, `[batch, n]` each, for `x [batch, n_in]`."""
    outputs = []
    for product, neuron in zip(products, neurons, strict=True):
        x = functional.relu(product(x)) if isinstance(neuron, Relu) else product(x)
        outputs.append(x)
    return outputs


def trace_spiking(products: Sequence[Product], neurons: Sequence[Neuron], x: Tensor, timing: Timing) -> list[Tensor]:
    """Return spike counts of every hidden layer, then the readout, `[batch, n]` each.

    Args:
        products: one per layer.
        neurons: `Lif`; a `LeakyIntegrator` at the end for membrane readouts.
        x: `[batch, n_in]` for input coding "direct", `[batch, T, n_in]` for "spikes".
        timing: time steps and readout.
    """
    # The first product does not depend on the membranes, so one serves all steps.
    first = products[0](x)
    membranes: list[Tensor | None] = [None] * len(products)
    spikes: list[Tensor | None] = [None] * len(products)
    totals: list[Tensor | None] = [None] * len(products)
    for t in range(timing.timesteps):
        current = first if timing.input_coding == "direct" else first[:, t]
        for index, (product, neuron) in enumerate(zip(products, neurons, strict=True)):
            if index:
                current = product(current)
            out = membranes[index] = _membrane(neuron, current, membranes[index], spikes[index])
            if isinstance(neuron, Lif):
                out = spikes[index] = spike(out - neuron.threshold, timing.surrogate_slope)
            total = totals[index]
            totals[index] = out if total is None else total + out
            current = out
    outputs = [total for total in totals if total is not None]
    if timing.readout == "mean_membrane":
        outputs[-1] = outputs[-1] / timing.timesteps
    elif timing.readout == "last_membrane":
        outputs[-1] = current
    return outputs


def _membrane(neuron: Neuron, current: Tensor, before: Tensor | None, spiked: Tensor | None) -> Tensor:
    """Compute one step of the membrane; `spiked` is None for a leaky integrator and in the first step."""
    assert isinstance(neuron, (Lif, LeakyIntegrator))  # spiking networks have no other neurons
    if before is None:
        return current
    if spiked is None or not isinstance(neuron, Lif):
        return neuron.beta * before + current
    if neuron.subtracts_before_decay:
        return neuron.beta * (before - neuron.threshold * spiked) + current
    if neuron.reset == "subtract":
        return neuron.beta * before + current - neuron.threshold * spiked
    return neuron.beta * before * (1 - spiked) + current
