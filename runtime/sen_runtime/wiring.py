"""Delays, recurrent synapses and synaptic currents of a layer: the plain reference.

What leaves a neuron is scattered into a ring of future currents, one slot per step:

    ring[(t + delay[j, i]) % slots, j] += w[j, i] * x[i]

Sums are in the order of the steps, in each step the inputs before the layer's own spikes, and in the order of neurons.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from sen_runtime.ir.checks import Array
from sen_runtime.ir.delays import ConstantDelay, Delay
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.operators import WeightOperator


class Wiring:
    """Synapses of a layer, with the currents that are under way and those of the synapses."""

    def __init__(self, layer: Layer, batch: int, dtype: DTypeLike) -> None:
        self._layer = layer
        self._synapses = [_Synapses(weight, delay, dtype) for weight, delay in layer.connections]
        n_slots = 1 + max(int(each.delays.max()) for each in self._synapses)
        self._ring = np.zeros((n_slots, layer.weight.shape[0], batch), dtype)
        self._synaptic = np.zeros(self._ring.shape[1:], dtype)
        self._spikes = np.zeros((batch, layer.weight.shape[0]), dtype)
        self._now = 0  # slot of the next step

    def current(self, x: Array) -> Array:
        """Current `[batch, n]` of the next step, in which `x [batch, n_in]` leaves the layer before."""
        for synapses, values, elapsed in zip(self._synapses, (x, self._spikes), (0, 1)):
            synapses.scatter(values, self._ring, self._now - elapsed)
        arrived = self._ring[self._now]
        self._synaptic = arrived.dtype.type(self._layer.synapse) * self._synaptic + arrived
        self._ring[self._now] = 0
        self._now = (self._now + 1) % len(self._ring)
        current, bias = self._synaptic.T, self._layer.bias
        return current if bias is None else current + bias.astype(arrived.dtype)

    def spike(self, spikes: Array) -> None:
        """Keep the spikes `[batch, n]` of the step for the recurrent synapses."""
        self._spikes = spikes


class _Synapses:
    """Weights and delays `[n_in, n_out]` of a connection."""

    def __init__(self, weight: WeightOperator, delay: Delay | None, dtype: DTypeLike) -> None:
        self.weights = np.ascontiguousarray(weight.to_dense().T.astype(dtype))
        self.delays = np.ascontiguousarray((ConstantDelay(0) if delay is None else delay).steps(weight.shape).T)

    def scatter(self, x: Array, ring: Array, slot: int) -> None:
        """Add the contributions of `x [batch, n_in]`, of the step of a slot, to `ring [slots, n_out, batch]`."""
        n_slots, n_out, batch = ring.shape
        lines, targets = ring.reshape(n_slots * n_out, batch), np.arange(n_out)
        for i in np.flatnonzero(x.any(axis=0)):
            lines[(slot + self.delays[i]) % n_slots * n_out + targets] += self.weights[i, :, np.newaxis] * x[:, i]
