"""Synapses of a connection in torch: weights and delays, as numbers or from positions.

    w[j, i] = exp(log_gain) * mask[i] / max(r[j, i], min_distance) ** exponent        r: distance of the neurons
    d[j, i] = exp(log_scale) * r[j, i]                                       in steps

`sen_edge.model.delayed.arrival` has the arrival of spikes after rounded delays, and its gradient.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sen_edge.model.delayed.arrival import arrive
from sen_edge.model.delayed.config import DelayedConfig
from sen_edge.model.layers import InverseDistance, inhibition_mask
from sen_edge.passes.materialize import to_sparse_layout
from sen_runtime.ir.delays import ConstantDelay, Delay, SpatialDelay, StoredDelay
from sen_runtime.ir.operators import Coordinates, Dense, WeightOperator


class Connection(nn.Module):
    """Synapses from `n_in` to `n_out` neurons.

    Attributes:
        source: `[n_in, d]` positions, or None.
        target: `[n_out, d]` positions, or None.
        free: `[n_out, n_in]` weights, or None.
        inhibition: `[n_in]` of weights from positions, or None.
        log_gain: scalar, likewise.
        steps: `[n_out, n_in]` free delays, or None.
        log_scale: scalar of delays from positions, or None.
        synapses: `[n_out, n_in]`, 1 for connected neurons and 0 elsewhere; None if all are connected.
        shift: steps that are added to each delay.
        limit: longest delay without the shift.
    """

    free: nn.Parameter | None
    inhibition: nn.Parameter | None
    log_gain: nn.Parameter | None
    steps: nn.Parameter | None
    log_scale: nn.Parameter | None
    synapses: Tensor | None

    def __init__(
        self,
        source: nn.Parameter | None,
        target: nn.Parameter | None,
        shape: tuple[int, int],
        config: DelayedConfig,
        *,
        shift: int = 0,
        has_delays: bool = True,
    ) -> None:
        super().__init__()
        self.source, self.target, self.shape, self.config, self.shift = source, target, shape, config, shift
        form = config.delays if has_delays else "none"
        is_free = config.weights == "free"
        self.limit = 0 if form == "none" else config.max_delay - shift
        self.free = nn.Parameter(torch.zeros(shape)) if is_free else None
        self.inhibition = None if is_free else nn.Parameter(torch.zeros(shape[1]))
        self.log_gain = None if is_free else nn.Parameter(torch.zeros(()))
        self.steps = nn.Parameter(torch.zeros(shape)) if form == "free" else None
        self.log_scale = nn.Parameter(torch.zeros(())) if form == "positions" else None
        self.register_buffer("synapses", torch.ones(shape) if is_free and form == "positions" else None)

    def weight(self) -> Tensor:
        """Compute weights `[n_out, n_in]`, differentiable."""
        if self.free is not None:
            return self.free if self.synapses is None else self.free * self.synapses
        assert self.inhibition is not None and self.log_gain is not None  # for mypy
        inverse: Tensor = InverseDistance.apply(  # type: ignore[no-untyped-call]
            self.source, self.target, 0.0, self.config.exponent, self.config.min_distance
        )
        return inverse * inhibition_mask(self.inhibition, 1.0) * self.log_gain.exp()

    def distance(self) -> Tensor:
        """Compute distances `[n_out, n_in]` of the neurons, differentiable."""
        assert self.source is not None and self.target is not None  # for mypy
        return torch.cdist(self.target, self.source, compute_mode="donot_use_mm_for_euclid_dist")

    def delay(self) -> Tensor | None:
        """Compute delays `[n_out, n_in]` in steps without the shift, differentiable; None without delays."""
        if self.log_scale is not None:
            return self.log_scale.exp() * self.distance()
        return self.steps

    @property
    def slots(self) -> int:
        """Number of delays without the shift."""
        return self.limit + 1

    def synapse_values(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor | None]:
        """Compute weights, and delays in steps without the shift, `[n_out, n_in]`; None where all are 0.

        Weights are of `dtype`. In evaluation they are those of the converted network, with clamped delays.
        """
        if self.training:
            return self.weight().to(dtype), self.delay() if self.limit else None
        weight, converted = torch.from_numpy(self.to_operator().to_dense()).to(dtype), self.to_delay("clamp")
        if converted is None or not self.limit:
            return weight, None
        return weight, torch.from_numpy((converted.steps(self.shape) - self.shift).astype(np.float32))

    def arrive(self, x: Tensor) -> Tensor:
        """Compute the currents `[batch, T, n_out]` of inputs `[batch, T, n_in]`, in the type of the inputs."""
        return arrive(x, *self.synapse_values(x.dtype), self.slots, self.config.delay_sigma)

    def excess(self) -> Tensor:
        """Compute the mean of the steps by which delays are outside of the ring; 0 without delays."""
        delay = self.delay()
        if delay is None:
            return torch.zeros(())
        return (functional.relu(delay - self.limit) + functional.relu(-delay)).mean()

    def prune(self, share: float) -> None:
        """Disconnect this share of the synapses, the longest ones."""
        assert self.synapses is not None  # for mypy
        with torch.no_grad():
            distance, kept = self.distance(), round((1 - share) * self.synapses.numel())
            self.synapses.zero_().view(-1)[distance.flatten().argsort(stable=True)[:kept]] = 1

    def to_operator(self) -> WeightOperator:
        """Return the weights of the network representation; those of a pruned connection are sparse."""
        if self.free is None:
            assert self.inhibition is not None and self.log_gain is not None  # for mypy
            mask = inhibition_mask(self.inhibition.detach(), 1.0)
            config = self.config
            return Coordinates(
                _array(self.source),
                _array(self.target),
                _array(mask),
                math.exp(float(self.log_gain.detach())),
                config.exponent,
                config.min_distance,
            )
        if self.synapses is None or bool(self.synapses.all()):
            return Dense(_array(self.free))
        return to_sparse_layout(_array(self.weight()), _array(self.synapses) != 0)

    def to_delay(self, overflow: str) -> Delay | None:
        """Return the delays of the network representation; `overflow` is that of delays from positions."""
        if self.steps is not None:
            rounded = np.clip(np.rint(_array(self.steps)), 0, self.limit) + self.shift
            is_byte = self.config.max_delay <= np.iinfo(np.uint8).max
            return StoredDelay(rounded.astype(np.uint8 if is_byte else np.uint16))
        if self.log_scale is not None:
            found = SpatialDelay(
                _array(self.source),
                _array(self.target),
                math.exp(float(self.log_scale.detach())),
                limit=self.limit,
                overflow=overflow,
                shift=self.shift,
            )
            found.steps(self.shape)  # refuses longer ones, if these are errors
            return found
        return ConstantDelay(self.shift) if self.shift else None


def _array(tensor: Tensor | None) -> NDArray[np.float32]:
    """Copy a tensor to a float32 array."""
    assert tensor is not None  # for mypy
    return tensor.detach().numpy().astype(np.float32)
