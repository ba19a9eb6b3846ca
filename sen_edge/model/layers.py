"""Spatially embedded layers and networks in torch: training, and the reference for verification.

Equations (arXiv 2506.13410; symbols as in docs/explanation/maths.md):

    mask[i] = 2 * sigmoid(k * inhibition[i]) - 1
    w[j, i] = gain * mask[i] / max(|| source[i] - target[j] ||, min_distance) ** exponent

Distances in few dimensions are sums of squared differences, one pass per coordinate. In more dimensions they use the
expanded form |p|^2 + |q|^2 - 2 p.q, one matrix product instead of an [n_out, n_in, d] tensor. It cancels for near
points, which `squared_distance` recomputes from differences. Training uses float32; evaluation computes weights in
float64 and rounds once.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sen_edge.model.config import SpatialConfig, at
from sen_edge.model.dynamics import LayeredNetwork, Product

#: Max dimensions in which differences take less time than the expanded form.
FEW_DIMENSIONS = 4
#: A pair is near, and is computed from differences, below this share of |p|^2 + |q|^2.
NEAR = 2.0**-7
#: Min squared distance if `min_distance` is 0: keeps training finite at coincident points.
TINY = 1e-12
#: Entries of the difference tensor of one chunk of near pairs.
NEAR_CHUNK = 1 << 22


def squared_distance(source: Tensor, target: Tensor) -> Tensor:
    """Compute squared distances `[n_out, n_in]` between points `[n_in, d]` and `[n_out, d]`.

    With u the unit round-off of the dtype, the relative error of every entry is at most 2 (d + 4) u / NEAR: below 2^-10
    for d = 32 in float32, 2^-39 in float64. The expanded form alone has no such bound.
    """
    if source.shape[1] <= FEW_DIMENSIONS:
        squares = ((q - p).square_() for p, q in zip(source.T.contiguous(), target.T.unsqueeze(2), strict=True))
        squared: Tensor = next(squares)
        for each in squares:
            squared += each
        return squared
    centre = (source.mean(0) + target.mean(0)) / 2
    p, q = source - centre, target - centre
    norms = q.square().sum(1, keepdim=True) + p.square().sum(1)
    squared = torch.addmm(norms, q, p.T, alpha=-2)
    is_near = squared < norms.mul_(NEAR)
    if is_near.any():  # takes a small part of the time of `nonzero`
        near = is_near.nonzero()
        for pairs in torch.split(near, max(1, NEAR_CHUNK // source.shape[1])):
            j, i = pairs.unbind(1)
            squared[j, i] = (target[j] - source[i]).square().sum(1)
    return squared


class InverseDistance(torch.autograd.Function):
    """`(squared distance + axis^2) ** (-exponent / 2)` with a gradient of two matrix products.

    With D the squared distance, w = D^(-e/2) and G the gradient of w, A = -e G w / D gives
    dp_i = p_i sum_j A_ji - sum_j A_ji q_j and dq_j = q_j sum_i A_ji - sum_i A_ji p_i.
    At or below the min distance the gradient is 0, never NaN. A learned axis (a scalar tensor) has
    daxis = axis sum_ij A_ji.
    """

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, source: Tensor, target: Tensor, axis: float | Tensor, exponent: float, min_distance: float
    ) -> Tensor:
        floor = max(min_distance**2, TINY)
        squared = squared_distance(source, target).add_(axis**2)
        clamped = squared <= floor if squared.amin() <= floor else None
        if clamped is not None:
            squared = squared.clamp_min_(floor)
        weight = _inverse_power(squared, exponent)
        ctx.save_for_backward(source, target, squared, weight, clamped, axis if isinstance(axis, Tensor) else None)
        ctx.exponent = exponent
        return weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        source, target, squared, weight, clamped, axis = ctx.saved_tensors
        a = (gradients[0] * weight).div_(squared).mul_(-ctx.exponent)
        if clamped is not None:
            a.masked_fill_(clamped, 0)
        to_source, to_target = _with_ones(target).T @ a, a @ _with_ones(source)
        d_source = source * to_source[-1:].T - to_source[:-1].T
        d_target = target * to_target[:, -1:] - to_target[:, :-1]
        return d_source, d_target, None if axis is None else axis * to_source[-1].sum(), None, None


def _inverse_power(squared: Tensor, exponent: float) -> Tensor:
    """Compute `squared ** (-exponent / 2)` from a reciprocal, whose second and third powers are products in torch."""
    if exponent % 2 == 0:
        return squared.reciprocal().pow_(exponent / 2)
    return squared.rsqrt() if exponent == 1 else squared.rsqrt().pow_(exponent)


def _with_ones(points: Tensor) -> Tensor:
    """Append a column of ones, whose product is a sum."""
    return torch.cat([points, points.new_ones(len(points), 1)], dim=1)


def inhibition_mask(inhibition: Tensor, steepness: float) -> Tensor:
    """Compute `2 * sigmoid(k * inhibition) - 1`, which equals `tanh(k * inhibition / 2)`."""
    return torch.tanh(inhibition * (steepness / 2))


class SpatialLinear(nn.Module):
    """Linear layer with weights computed from the positions of its neurons.

    Attributes:
        source: `[n_in, d_free]` positions of the presynaptic neurons.
        target: `[n_out, d_free]` positions of the postsynaptic neurons.
        inhibition: `[n_in]`.
        gain: scalar, or None.
        bias: `[n_out]`, or None.
        spacing: learned distance of the two layers along the layer axis, scalar; None if it is not learned.
        synapses: `[n_out, n_in]`, 1 for connected neurons and 0 elsewhere; None if all are connected.
        max_distance: max length of a synapse.
    """

    gain: nn.Parameter | None
    bias: nn.Parameter | None
    spacing: nn.Parameter | None
    synapses: Tensor | None

    def __init__(self, source: nn.Parameter, target: nn.Parameter, config: SpatialConfig, index: int = 0) -> None:
        """Create layer `index` of a configuration; two layers share positions through the same parameter."""
        super().__init__()
        self.source, self.target = source, target
        self.axis = at(config.layer_spacing, index) if config.has_layer_axis else 0.0
        self.steepness, self.exponent = at(config.steepness, index), at(config.exponent, index)
        self.min_distance = config.min_distance
        self.max_distance = config.radius(index)
        self.inhibition = nn.Parameter(torch.zeros(source.shape[0]))
        self.gain = nn.Parameter(torch.ones(())) if config.gain else None
        self.bias = nn.Parameter(torch.zeros(target.shape[0])) if config.bias else None
        self.spacing = nn.Parameter(torch.full((), self.axis)) if config.layer_axis == "learned" else None
        self.register_buffer("synapses", None)

    def weight(self) -> Tensor:
        """Compute weights `[n_out, n_in]` in the dtype of the positions."""
        exact = torch.float64 if not self.training else self.source.dtype
        axis = self.axis if self.spacing is None else self.spacing.to(exact)
        inverse = InverseDistance.apply(  # type: ignore[no-untyped-call]
            self.source.to(exact), self.target.to(exact), axis, self.exponent, self.min_distance
        )
        factor = inhibition_mask(self.inhibition.to(exact), self.steepness)
        if self.gain is not None:
            factor = factor * self.gain.to(exact)
        weight: Tensor = inverse * factor
        if self.max_distance < math.inf:  # inverse distances decrease with distance
            weight = weight * (inverse.detach() >= self.max_distance**-self.exponent)
        if self.synapses is not None:
            weight = weight * self.synapses
        return weight.to(self.source.dtype)

    def product(self) -> Product:
        """Return the function `x [..., n_in] -> W x + b [..., n_out]`; computes the weights once."""
        weight, bias = self.weight(), self.bias
        return lambda x: functional.linear(x, weight, bias)


class SpatialNetwork(LayeredNetwork):
    """Perceptron or spiking network with a position per neuron, all positions 0.

    A hidden neuron of a network with separate positions has two: as target of one layer, and as source of the next.
    """

    def __init__(self, config: SpatialConfig) -> None:
        slope = 0.0 if config.spiking is None else config.spiking.surrogate_slope
        super().__init__(config.neurons(), config.spiking, slope)
        self.config = config
        self.positions = nn.ParameterList(
            nn.Parameter(torch.zeros(size, config.free_dimensions)) for size in config.layer_sizes
        )
        self.targets = nn.ParameterList(
            nn.Parameter(torch.zeros(size, config.free_dimensions))
            for size in config.layer_sizes[1:-1] * config.separate_positions
        )
        targets = (*(self.targets or self.positions[1:-1]), self.positions[-1])
        self.layers = nn.ModuleList(
            SpatialLinear(source, target, config, index)
            for index, (source, target) in enumerate(zip(self.positions[:-1], targets, strict=True))
        )

    def linears(self) -> list[SpatialLinear]:
        """Return the layers, typed."""
        return [layer for layer in self.layers if isinstance(layer, SpatialLinear)]

    def products(self) -> list[Product]:
        """Return the product of every layer, for one pass."""
        return [layer.product() for layer in self.linears()]

    def named_tensors(self) -> dict[str, nn.Parameter]:
        """Return the parameters by the names of `SpatialConfig.tensor_shapes`, each once."""
        named = {f"positions.{index}": position for index, position in enumerate(self.positions)}
        named |= {f"target_positions.{index}": position for index, position in enumerate(self.targets, start=1)}
        for index, layer in enumerate(self.linears()):
            roles = {"inhibition": layer.inhibition, "gain": layer.gain, "bias": layer.bias, "spacing": layer.spacing}
            named |= {f"{role}.{index}": value for role, value in roles.items() if value is not None}
        return named

    def reset_parameters(
        self, seed: int, position_scale: float = 0.3, inhibition_scale: float = 1.0, relaxed_spacing: float = 0.0
    ) -> None:
        """Initialize parameters: positions uniform in [-scale, scale], inhibition normal, bias 0.

        The gain is set so that inputs of variance 1 give pre-activations of variance 1 (2 before a ReLU). With a
        `relaxed_spacing` the last coordinates of layer l are uniform in [l, l + 1) times it.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for position in (*self.positions, *self.targets):
                position.uniform_(-position_scale, position_scale, generator=generator)
            for index, position in enumerate(self.positions if relaxed_spacing else ()):
                position[:, -1].uniform_(index * relaxed_spacing, (index + 1) * relaxed_spacing, generator=generator)
            for layer in self.linears():
                layer.inhibition.normal_(0, inhibition_scale, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
                if layer.gain is not None:
                    layer.gain.fill_(1)
                    layer.gain.fill_(math.sqrt(2) / float(layer.weight().square().sum(1).mean().sqrt()))
