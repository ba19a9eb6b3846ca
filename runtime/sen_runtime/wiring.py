"""Delays, recurrent synapses and synaptic currents of a layer: the plain reference.

What leaves a neuron is scattered into a ring of future currents, one slot per step:

    ring[(t + delay[j, i]) % slots, j] += w[j, i] * x[i]

Sums are in the order of the steps, in each step the inputs before the layer's own spikes, and in the order of neurons.

Where all that arrives are spikes and the weights are int8 with the same scales, the ring holds sums of integers, which
are scaled when they arrive: every engine has the same sums then, whatever its arithmetic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from sen_runtime.ir.checks import Array
from sen_runtime.ir.delays import Delay
from sen_runtime.ir.int8 import Scale
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.operators import Dense, WeightOperator

#: Sources of int8 weights whose sums fit in int32, fewer than this.
MAX_SOURCES = 1 << 24


def common_scale(layer: Layer, meets_spikes: bool) -> Scale | None:
    """Scale `[n]` or `[1]` of the sums of integers in the ring of a layer; None for a ring of floats.

    `meets_spikes` tells whether what leaves the layer before are spikes.
    """
    weights = [weight for weight, _ in layer.connections]
    scales = [weight.scale for weight in weights if isinstance(weight, Dense) and weight.scale is not None]
    n_sources = sum(weight.shape[1] for weight in weights)
    if not meets_spikes or len(scales) < len(weights) or n_sources >= MAX_SOURCES:
        return None
    return scales[0] if all(np.array_equal(each, scales[0]) for each in scales) else None


class Wiring:
    """Synapses of a layer, with the currents that are under way and those of the synapses."""

    def __init__(self, layer: Layer, batch: int, dtype: DTypeLike, meets_spikes: bool) -> None:
        self._layer = layer
        self._scale = common_scale(layer, meets_spikes)
        ring_dtype = dtype if self._scale is None else np.int32
        self._synapses = [_Synapses(weight, delay, ring_dtype) for weight, delay in layer.connections]
        n_slots = 1 + max(int(each.delays.max()) for each in self._synapses)
        self._ring = np.zeros((n_slots, layer.weight.shape[0], batch), ring_dtype)
        self._synaptic = np.zeros(self._ring.shape[1:], dtype)
        self._spikes = np.zeros((batch, layer.weight.shape[0]), dtype)
        self._now = 0  # slot of the next step

    def current(self, x: Array) -> Array:
        """Current `[batch, n]` of the next step, in which `x [batch, n_in]` leaves the layer before."""
        for synapses, values, elapsed in zip(self._synapses, (x, self._spikes), (0, 1)):
            synapses.scatter(values, self._ring, self._now - elapsed)
        arrived = self._ring[self._now]
        if self._scale is not None:
            dtype = self._synaptic.dtype
            arrived = self._scale.astype(dtype)[:, np.newaxis] * arrived.astype(dtype)
        self._synaptic = arrived.dtype.type(self._layer.synapse) * self._synaptic + arrived
        self._ring[self._now] = 0
        self._now = (self._now + 1) % len(self._ring)
        current, bias = self._synaptic.T, self._layer.bias
        return current if bias is None else current + bias.astype(arrived.dtype)

    def spike(self, spikes: Array) -> None:
        """Keep the spikes `[batch, n]` of the step for the recurrent synapses."""
        self._spikes = spikes


class _Synapses:
    """Weights and delays of a connection: `weights [n_in, n_out]`; `delays` likewise, or `[n_in, 1]` of one for all."""

    def __init__(self, weight: WeightOperator, delay: Delay, dtype: DTypeLike) -> None:
        matrix = weight.stored_matrix() if dtype == np.int32 else weight.to_dense()
        self.weights = np.ascontiguousarray(matrix.T.astype(dtype))
        self.delays = np.ascontiguousarray(delay.steps(weight.shape).T)
        self.is_axonal = bool((self.delays == self.delays[:, :1]).all())

    def scatter(self, x: Array, ring: Array, slot: int) -> None:
        """Add the contributions of `x [batch, n_in]`, of the step of a slot, to `ring [slots, n_out, batch]`."""
        n_slots, n_out, batch = ring.shape
        x = np.ascontiguousarray(((x != 0).astype(ring.dtype) if ring.dtype == np.int32 else x).T)
        lines, targets = ring.reshape(n_slots * n_out, batch), np.arange(n_out)
        product, sums = np.empty((2, n_out, batch), ring.dtype)
        for i in np.flatnonzero(x.any(axis=1)):
            np.multiply(self.weights[i, :, np.newaxis], x[i], out=product)
            if self.is_axonal:
                ring[(slot + self.delays[i, 0]) % n_slots] += product
                continue
            rows = (slot + self.delays[i]) % n_slots * n_out + targets
            np.take(lines, rows, axis=0, out=sums, mode="clip")  # other modes copy
            sums += product
            lines[rows] = sums
