"""A layer: a weight operator, an optional bias and a neuron model; of a spiking network also delays and recurrence.

Shapes: weights `[n_out, n_in]`, vectors `[n]`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sen_runtime.errors import NetworkError
from sen_runtime.ir.checks import Array, check_array, require, store_float32
from sen_runtime.ir.delays import ConstantDelay, Delay
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.neurons import Neuron
from sen_runtime.ir.operators import WeightOperator


@dataclass(frozen=True, eq=False)
class Recurrence:
    """Synapses of a spiking layer from its own neurons: weights `[n, n]`, and delays of at least one step."""

    weight: WeightOperator
    delay: Delay


@dataclass(frozen=True, eq=False)
class Layer:
    """A weight operator, an optional bias `[n_out]`, and neurons.

    A layer of a spiking network may have delays, recurrent synapses and exponential synapses:

        a[t] = sum_k W_k x[t - k] + sum_k R_k s[t - k]     W_k, R_k: the weights of delay k
        i[t] = synapse * i[t-1] + a[t]
        y[t] = i[t] + bias                                 the current of the neurons

    Attributes:
        weight: the operator.
        bias: `[n_out]` or None.
        neuron: model of all n_out neurons.
        grid: int8 grid of the output, in a network whose activations are int8; else None. For spiking neurons the
            grid of the current `W x + b` and the membrane.
        delay: delays of the weights; None for 0 steps.
        recurrent: synapses from the layer's own spikes, or None.
        synapse: decay of the synaptic current per step, exp(-dt / tau), in [0, 1).
    """

    weight: WeightOperator
    bias: Array | None
    neuron: Neuron
    grid: Grid | None = None
    delay: Delay | None = None
    recurrent: Recurrence | None = None
    synapse: float = 0.0

    def __post_init__(self) -> None:
        self.neuron.check_size(self.weight.shape[0])
        store_float32(self, "synapse", "in [0, 1)", lambda decay: 0 <= decay < 1)
        if self.delay is not None:
            self.delay.check_shape(self.weight.shape)
        if self.recurrent is not None:
            self._check_recurrent(self.recurrent)
        if self.bias is None:
            return
        check_array(self.bias, "bias", 1)
        found, expected = len(self.bias), self.weight.shape[0]
        require(found == expected, f"bias has {found} values; expected {expected}, one per neuron")

    def _check_recurrent(self, recurrent: Recurrence) -> None:
        n_out, shape = self.weight.shape[0], recurrent.weight.shape
        require(
            shape == (n_out, n_out), f"recurrent weights are {list(shape)}; expected {[n_out, n_out]}, of its neurons"
        )
        require(self.neuron.role == "spiking", "a layer with recurrent synapses needs neurons that spike, such as Lif")
        try:
            recurrent.delay.check_shape(shape)
        except NetworkError as error:
            raise NetworkError(f"recurrent synapses: {error.message}", error.hint) from error
        shortest = recurrent.delay.bounds[0]
        require(shortest >= 1, f"recurrent synapses may have a delay of {shortest} steps; expected at least 1")

    @property
    def is_instant(self) -> bool:
        """Whether the current depends on the inputs of the same step alone."""
        return self.delay is None and self.recurrent is None and self.synapse == 0

    @property
    def connections(self) -> tuple[tuple[WeightOperator, Delay], ...]:
        """Weights with their delays: from the layer before, then the recurrent ones."""
        own = (self.weight, ConstantDelay(0) if self.delay is None else self.delay)
        return (own,) if self.recurrent is None else (own, (self.recurrent.weight, self.recurrent.delay))

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        arrays = [*self.neuron.arrays.values(), *([] if self.bias is None else [self.bias])]
        return sum(int(each.nbytes) for each in arrays) + sum(each.nbytes for pair in self.connections for each in pair)
