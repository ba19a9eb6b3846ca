"""Neuron models as TFLite operators; the equations are those of `sen_runtime.ir.neurons`.

A spike is computed without a comparison, which XNNPACK would not run: `u - threshold`, cut off below 0, is 0 or at
least the distance from the threshold to the next float32, so times the inverse of that distance, cut off at 1, it is
exactly 0 or 1. In int8 the same holds for the distance of two values of the membrane's grid, on which the threshold
lies.
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

import numpy as np

from sen_exporters.base import ExportError, NoFormError
from sen_exporters.tflite.graph import Graph, Signal
from sen_exporters.tflite.weights import affine
from sen_runtime.ir.int8 import INT8_MAX, INT8_MIN, SPIKES, Grid
from sen_runtime.ir.network import Layer
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Neuron, Relu

#: Below, the inverse distance of two float32 around the threshold would overflow.
MIN_THRESHOLD = 2.0**-100


@singledispatch
def activate(neuron: Neuron, graph: Graph, layer: Layer, index: int, x: Signal, output: str) -> Signal:
    """Add a layer of neurons without state; one function for each model."""
    raise NoFormError(f"TFLite export has no form of {type(neuron).__name__} neurons")


@activate.register
def _identity(neuron: Identity, graph: Graph, layer: Layer, index: int, x: Signal, output: str) -> Signal:
    return affine(graph, layer, index, x, output)


@activate.register
def _relu(neuron: Relu, graph: Graph, layer: Layer, index: int, x: Signal, output: str) -> Signal:
    return affine(graph, layer, index, x, output, activation="RELU")


@singledispatch
def check_neuron(neuron: Neuron) -> None:
    """Refuse constants that the operators cannot compute with; by default none.

    Raises:
        ExportError: with the reason and an alternative.
    """


@check_neuron.register
def _check_lif(neuron: Lif) -> None:
    if neuron.threshold < MIN_THRESHOLD:
        raise ExportError(
            f"the threshold {neuron.threshold:g} is below {MIN_THRESHOLD:.1g}, the min that TFLite's float32 products "
            "can compare with",
            hint="scale the layer's weights, bias and threshold up together: the spikes stay the same",
        )


@singledispatch
def integrate(
    neuron: Neuron, graph: Graph, layer: str, before: Signal, spikes: Signal, current: Signal, after: str
) -> Signal:
    """Add the membrane of the next step; one function for each model.

    Args:
        neuron: the model.
        graph: gets the operators.
        layer: prefix of the names of constants.
        before: membrane of the step before.
        spikes: of the step before; not used by models that do not spike.
        current: input of this step.
        after: name of the result.
    """
    raise NoFormError(f"TFLite export has no form of {type(neuron).__name__} neurons")


@integrate.register
def _leaky_integrator(
    neuron: LeakyIntegrator, graph: Graph, layer: str, before: Signal, spikes: Signal, current: Signal, after: str
) -> Signal:
    del spikes
    size = graph.shape(before.name)[-1]
    return graph.binary("ADD", _decay(graph, neuron, layer, before, after), current, replace(before, name=after), size)


@integrate.register
def _lif(neuron: Lif, graph: Graph, layer: str, before: Signal, spikes: Signal, current: Signal, after: str) -> Signal:
    size, membrane = graph.shape(before.name)[-1], replace(before, name=after)
    kept = replace(before, name=f"{after}_kept")
    if neuron.reset == "zero":
        one = graph.scalar("one", 1.0, spikes.grid)
        silent = graph.binary("SUB", one, spikes, replace(spikes, name=f"{after}_silent"), size)
        graph.binary("MUL", _decay(graph, neuron, layer, before, after), silent, kept, size)
        return graph.binary("ADD", kept, current, membrane, size)
    if neuron.threshold != 1 or before.grid is not None:
        threshold = factor(graph, f"{layer}/threshold_factor", neuron.threshold, before)
        spikes = graph.binary("MUL", spikes, threshold, replace(before, name=f"{after}_reset"), size)
    if neuron.subtracts_before_decay:
        graph.binary("SUB", before, spikes, kept, size)
        return graph.binary("ADD", _decay(graph, neuron, layer, kept, after), current, membrane, size)
    charged = replace(before, name=f"{after}_charged")
    graph.binary("ADD", _decay(graph, neuron, layer, before, after), current, charged, size)
    return graph.binary("SUB", charged, spikes, membrane, size)


def _decay(graph: Graph, neuron: Lif | LeakyIntegrator, layer: str, membrane: Signal, after: str) -> Signal:
    beta = factor(graph, f"{layer}/beta", neuron.beta, membrane)
    size = graph.shape(membrane.name)[-1]
    return graph.binary("MUL", membrane, beta, replace(membrane, name=f"{after}_decayed"), size)


@singledispatch
def fire(neuron: Neuron, graph: Graph, layer: str, membrane: Signal, prefix: str) -> Signal:
    """Add `prefix/spikes`, 0 or 1, of a spiking model; one function for each."""
    raise NoFormError(f"TFLite export has no form of {type(neuron).__name__} neurons")


@fire.register
def _lif_spikes(neuron: Lif, graph: Graph, layer: str, membrane: Signal, prefix: str) -> Signal:
    size, grid, rows = graph.shape(membrane.name)[-1], membrane.grid, membrane.rows
    threshold = graph.scalar(f"{layer}/threshold", neuron.threshold, grid)
    spacing = float(np.spacing(np.float32(neuron.threshold))) if grid is None else grid.scale
    excess = Signal(f"{prefix}/excess", rows, None if grid is None else Grid(grid.scale / INT8_MAX, INT8_MIN))
    graph.binary("SUB", membrane, threshold, excess, size, "RELU")
    inverse = factor(graph, f"{layer}/inverse_spacing", 1 / spacing, membrane)
    spikes = Signal(f"{prefix}/spikes", rows, None if grid is None else SPIKES)
    return graph.binary("MUL", excess, inverse, spikes, size, "RELU_N1_TO_1")


def factor(graph: Graph, name: str, value: float, x: Signal) -> Signal:
    """A stored number that a signal `x` is multiplied by; in int8 the greatest value of its own grid."""
    if x.grid is None:
        return graph.scalar(name, value)
    return graph.scalar(name, value, SPIKES if value == 0 else Grid(value / INT8_MAX, 0))
