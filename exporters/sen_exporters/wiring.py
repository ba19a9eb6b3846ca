"""Delays, recurrent synapses and synaptic currents of a layer as operators of a graph, step by step.

The equations are those of `sen_runtime.ir.layer`. A line is what left neurons in one step after the other, the last
step first, `[rows, steps * n]`; a history is the part of it that the next step needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic

import numpy as np

from sen_exporters.operators import Operators, V
from sen_runtime.ir.layer import Layer

#: Values that a layer passes to its next step, besides its membrane.
HISTORY, OWN_HISTORY, SYNAPTIC = "history", "recurrent/history", "synaptic_current"


@dataclass(frozen=True)
class _Synapses(Generic[V]):
    """Stored values of the synapses of a connection whose weights are one matrix.

    Attributes:
        matrix: of `Operators.matrix`.
        offsets: of `Operators.offsets`; None for one delay of all.
        depth: longest delay.
        shape: `[n_out, n_in]`.
    """

    matrix: V
    offsets: V | None
    depth: int
    shape: tuple[int, int]

    def arriving(self, graph: Operators[V], line: V, name: str) -> V:
        """What arrives of a line that ends with the longest delay."""
        if self.offsets is not None:
            return graph.gather(line, self.offsets, self.matrix, self.shape, name)
        return graph.multiply(_last(graph, line, self.depth - 1, self.shape[1], f"{name}_source"), self.matrix, name)


class Wiring(Generic[V]):
    """Synapses of layer `index`. Values of a step are called `prefix/..`, those that the next one needs `..suffix`.

    Attributes:
        depth: longest delay from the layer before.
        sizes: columns of the values that a step passes to the next one, by name.
    """

    def __init__(self, graph: Operators[V], layer: Layer, index: int, like: V) -> None:
        """Add stored values; steps have the rows of `like`."""
        self._graph, self._layer, self._index, name = graph, layer, index, f"layer{index}"
        weight, delay = layer.connections[0]
        (n_out, self._n_in), own = weight.shape, layer.recurrent
        self.depth = delay.bounds[1]
        self._varied: _Synapses[V] | None = None
        self._own: _Synapses[V] | None = None
        if delay.is_varied:
            steps = delay.steps(weight.shape)
            self.depth = int(steps.max())
            if self.depth:
                offsets = graph.offsets(steps, name, like)
                self._varied = _Synapses(graph.matrix(weight, index, name), offsets, self.depth, weight.shape)
        if own is not None:
            prefix, steps = f"{name}/recurrent", own.delay.steps(own.weight.shape)
            own_offsets = graph.offsets(steps - 1, prefix, like) if own.delay.is_varied else None
            self._own = _Synapses(
                graph.matrix(own.weight, index, prefix), own_offsets, int(steps.max()), own.weight.shape
            )
        self.sizes = {
            **({HISTORY: self.depth * self._n_in} if self.depth else {}),
            **({} if self._own is None else {OWN_HISTORY: self._own.depth * n_out}),
            **({SYNAPTIC: n_out} if layer.synapse else {}),
        }

    @property
    def is_varied(self) -> bool:
        """Whether synapses from the layer before have delays of their own."""
        return self._varied is not None

    def current(self, x: V, before: Mapping[str, V], prefix: str, suffix: str = "") -> tuple[V, dict[str, V]]:
        """Add the current of a step, in which `x [rows, n_in]` leaves the layer before.

        `before` has the values that the step before passed on, by the names of `sizes`; those that are missing are 0.

        Returns:
            The current `[rows, n_out]`, and values for the next step.
        """
        if self._layer.is_instant:
            return self._graph.affine(self._layer, self._index, x, f"{prefix}/current"), {}
        arrived, history = self.arrive(x, before, prefix, suffix)
        current, synaptic = self.integrate(arrived, before, prefix, suffix)
        return current, history | synaptic

    def arrive(self, x: V, before: Mapping[str, V], prefix: str, suffix: str = "") -> tuple[V, dict[str, V]]:
        """Add what arrives from the layer before, without the bias, and its history; arguments as for `current`."""
        graph, name, unbiased = self._graph, f"{prefix}/arrival", replace(self._layer, bias=None)
        if not self.depth:
            return graph.affine(unbiased, self._index, x, name), {}
        line = self._extend(x, before.get(HISTORY), self.depth, f"{prefix}/line")
        after = {HISTORY: graph.columns(line, 0, self.depth * self._n_in, f"{prefix}/{HISTORY}{suffix}")}
        if self._varied is not None:
            return self._varied.arriving(graph, line, name), after
        delayed = _last(graph, line, self.depth, self._n_in, f"{prefix}/delayed")
        return graph.affine(unbiased, self._index, delayed, name), after

    def integrate(self, arrived: V, before: Mapping[str, V], prefix: str, suffix: str = "") -> tuple[V, dict[str, V]]:
        """Add the current from what arrives from the layer before; arguments as for `current`.

        Where the layer is instant, this is the current already, with its bias.
        """
        if self._layer.is_instant:
            return arrived, {}
        graph, layer, own_history = self._graph, self._layer, before.get(OWN_HISTORY)
        if self._own is not None and own_history is not None:
            own = self._own.arriving(graph, own_history, f"{prefix}/recurrent/arrival")
            arrived = graph.binary("Add", arrived, own, f"{prefix}/total_arrival")
        after: dict[str, V] = {}
        if layer.synapse:
            if (earlier := before.get(SYNAPTIC)) is not None:
                stored, name = f"layer{self._index}/synapse", f"{prefix}/{SYNAPTIC}"
                decayed = graph.scale(earlier, layer.synapse, stored, f"{name}_decayed", earlier)
                arrived = graph.binary("Add", decayed, arrived, f"{name}{suffix}")
            after[SYNAPTIC] = arrived
        if layer.bias is not None:
            bias = graph.vector(f"layer{self._index}/bias", layer.bias.astype(np.float32))
            arrived = graph.binary("Add", arrived, bias, f"{prefix}/current")
        return arrived, after

    def remember(self, spikes: V, before: Mapping[str, V], prefix: str, suffix: str = "") -> dict[str, V]:
        """Add the history of the layer's own spikes after a step; arguments as for `current`."""
        if self._own is None:
            return {}
        depth, size = self._own.depth, self._own.shape[1]
        line = self._extend(spikes, before.get(OWN_HISTORY), depth, f"{prefix}/recurrent/line")
        return {OWN_HISTORY: self._graph.columns(line, 0, depth * size, f"{prefix}/{OWN_HISTORY}{suffix}")}

    def _extend(self, x: V, history: V | None, depth: int, name: str) -> V:
        """Add the line of `x` and a history of `depth` steps, in the first step of zeros."""
        earlier = [history]
        if history is None:
            earlier = [self._graph.scale(x, 0.0, "zero", f"{name}_zero", x)] * depth
        return self._graph.join_columns([x, *(each for each in earlier if each is not None)], name)


def _last(graph: Operators[V], line: V, before: int, size: int, name: str) -> V:
    """What left `size` neurons in the last step of a line with `before` other steps."""
    return graph.columns(line, before * size, (before + 1) * size, name) if before else line
