"""Forward pass in torch, independent of the form of the weights.

A layer is a product `x [..., n_in] -> W x + b [..., n_out]`; neurons are those of `sen_runtime.ir.neurons`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sen_edge.model.config import SpikingConfig
from sen_runtime import encoding
from sen_runtime.ir.checks import Parameter
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Neuron, Relu
from sen_runtime.ir.standardization import Standardization

Product = Callable[[Tensor], Tensor]
#: Membrane and output of a layer.
State = tuple[Tensor, Tensor]


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
        return gradients[0] / above.abs().mul_(ctx.slope).add_(1).square_(), None


def spike(above: Tensor, slope: float) -> Tensor:
    """Apply `FastSigmoidSpike`."""
    result: Tensor = FastSigmoidSpike.apply(above, slope)  # type: ignore[no-untyped-call]
    return result


class LayeredNetwork(nn.Module, ABC):
    """Base of the networks in torch.

    `timing` gives time steps, input coding and readout of a spiking network, and is None for a multilayer perceptron.
    Inputs are standardized by `input_scaling` and outputs restored by `output_scaling`; there is no output activation.
    """

    def __init__(
        self, neurons: Sequence[Neuron], timing: SpikingConfig | Network | None, surrogate_slope: float
    ) -> None:
        super().__init__()
        self.neurons, self.timing, self.surrogate_slope = neurons, timing, surrogate_slope
        self.input_scaling: Standardization | None = None
        self.output_scaling: Standardization | None = None

    @abstractmethod
    def products(self) -> list[Product]:
        """Return the product of every layer, for one pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs `[batch, n_out]`."""
        return self.trace(x)[-1]

    def trace(self, x: Tensor, products: Sequence[Product] | None = None) -> list[Tensor]:
        """Return outputs of every layer, `[batch, n]` each: activations, or spike counts and then the readout.

        Inputs are `[batch, ...]` of `input_shape`.
        """
        products = products or self.products()
        if self.input_scaling is not None:
            mean, inverse = map(torch.from_numpy, (self.input_scaling.mean, self.input_scaling.inverse))
            x = (x - mean) * inverse
        if self.timing is not None:
            outputs = self._trace_spiking(x, products, self.timing)
        else:
            outputs = self._trace_perceptron(x, products)
        if self.output_scaling is not None:
            mean, std = map(torch.from_numpy, (self.output_scaling.mean, self.output_scaling.std))
            outputs[-1] = outputs[-1] * std + mean
        return outputs

    def _trace_perceptron(self, x: Tensor, products: Sequence[Product]) -> list[Tensor]:
        outputs = []
        for product, neuron in zip(products, self.neurons, strict=True):
            x = activate(neuron, product(x))
            outputs.append(x)
        return outputs

    def _trace_spiking(self, x: Tensor, products: Sequence[Product], timing: SpikingConfig | Network) -> list[Tensor]:
        # The first product does not depend on the membranes, so one serves all steps.
        first = products[0](code(x, timing))
        states: list[State | None] = [None] * len(products)
        totals: list[Tensor | None] = [None] * len(products)
        for t in range(timing.timesteps):
            value = first if timing.coding.is_constant else first[:, t]
            for index, (product, neuron) in enumerate(zip(products, self.neurons, strict=True)):
                current = product(value) if index else value
                state = states[index] = advance(neuron, states[index], current, self.surrogate_slope)
                value, total = state[1], totals[index]
                totals[index] = value if total is None else total + value
        outputs = [total for total in totals if total is not None]
        if timing.readout == "mean_membrane":
            outputs[-1] = outputs[-1] / timing.timesteps
        elif timing.readout == "last_membrane":
            outputs[-1] = value
        return outputs


def code(x: Tensor, timing: SpikingConfig | Network) -> Tensor:
    """Return what arrives at the first layer, `[batch, n_in]` or `[batch, T, n_in]`."""
    if not timing.coding.is_computed:
        return x
    steps = encoding.arriving(timing.input_coding, x.numpy(), timing.timesteps, timing.delta or 0.0)
    return torch.from_numpy(np.stack(list(steps), axis=1))


@singledispatch
def activate(neuron: Neuron, current: Tensor) -> Tensor:
    """Return the output of stateless neurons, as `Neuron.activate`; one function per model."""
    raise TypeError(neuron)


@activate.register
def _identity(neuron: Identity, current: Tensor) -> Tensor:
    return current


@activate.register
def _relu(neuron: Relu, current: Tensor) -> Tensor:
    return functional.relu(current)


@singledispatch
def advance(neuron: Neuron, before: State | None, current: Tensor, slope: float) -> State:
    """Return membrane and output after one time step, as `Neuron.advance`; one function per model.

    `before` is the result of the previous step, None in the first.
    """
    raise TypeError(neuron)


@advance.register
def _leaky_integrator(neuron: LeakyIntegrator, before: State | None, current: Tensor, slope: float) -> State:
    membrane = current if before is None else _factor(neuron.beta) * before[0] + current
    return membrane, membrane


@advance.register
def _lif(neuron: Lif, before: State | None, current: Tensor, slope: float) -> State:
    beta, threshold = _factor(neuron.beta), _factor(neuron.threshold)
    if before is None:
        membrane = current
    elif neuron.subtracts_before_decay:
        membrane = beta * (before[0] - threshold * before[1]) + current
    elif neuron.reset == "subtract":
        membrane = beta * before[0] + current - threshold * before[1]
    else:
        membrane = beta * before[0] * (1 - before[1]) + current
    return membrane, spike(membrane - threshold, slope)


def _factor(parameter: Parameter) -> float | Tensor:
    return torch.tensor(parameter) if isinstance(parameter, np.ndarray) else parameter
