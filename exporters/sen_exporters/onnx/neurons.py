"""Neuron models as ONNX nodes; the equations are those of `sen_runtime.ir.neurons`."""

from __future__ import annotations

from functools import singledispatch

from sen_exporters.base import NoFormError
from sen_exporters.onnx.graph import FLOAT, GraphBuilder
from sen_exporters.onnx.weights import affine
from sen_runtime.ir.network import Layer
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Neuron, Relu


@singledispatch
def activate(neuron: Neuron, graph: GraphBuilder, layer: Layer, index: int, x: str, output: str) -> str:
    """Add a layer of neurons without state, and return the name `output`; one function for each model."""
    raise NoFormError(f"ONNX export has no form of {type(neuron).__name__} neurons")


@activate.register
def _identity(neuron: Identity, graph: GraphBuilder, layer: Layer, index: int, x: str, output: str) -> str:
    return affine(graph, layer, index, x, output)


@activate.register
def _relu(neuron: Relu, graph: GraphBuilder, layer: Layer, index: int, x: str, output: str) -> str:
    return graph.node("Relu", [affine(graph, layer, index, x, f"layer{index}/preactivation")], output)


@singledispatch
def integrate(
    neuron: Neuron, graph: GraphBuilder, layer: str, before: str, signal: str, current: str, after: str
) -> str:
    """Add the membrane of the next step, and return the name `after`; one function for each model.

    Args:
        neuron: the model.
        graph: gets the nodes.
        layer: prefix of the names of constants.
        before: membrane of the step before.
        signal: value of `reset_signal` in the step before; not used by models that do not spike.
        current: input of this step.
        after: name of the result.
    """
    raise NoFormError(f"ONNX export has no form of {type(neuron).__name__} neurons")


@integrate.register
def _leaky_integrator(
    neuron: LeakyIntegrator, graph: GraphBuilder, layer: str, before: str, signal: str, current: str, after: str
) -> str:
    del signal
    return graph.node("Add", [_decay(graph, neuron, layer, before, after), current], after)


@integrate.register
def _lif(neuron: Lif, graph: GraphBuilder, layer: str, before: str, signal: str, current: str, after: str) -> str:
    if neuron.reset == "zero":
        zero, decayed = graph.scalar("zero", 0.0), _decay(graph, neuron, layer, before, after)
        kept = graph.node("Where", [signal, zero, decayed], f"{after}_kept")
        return graph.node("Add", [kept, current], after)
    if neuron.threshold != 1:
        threshold = graph.scalar(f"{layer}/threshold", neuron.threshold)
        signal = graph.node("Mul", [signal, threshold], f"{after}_reset")
    if neuron.subtracts_before_decay:
        kept = graph.node("Sub", [before, signal], f"{after}_kept")
        return graph.node("Add", [_decay(graph, neuron, layer, kept, after), current], after)
    charged = graph.node("Add", [_decay(graph, neuron, layer, before, after), current], f"{after}_charged")
    return graph.node("Sub", [charged, signal], after)


def _decay(graph: GraphBuilder, neuron: Lif | LeakyIntegrator, layer: str, membrane: str, after: str) -> str:
    return graph.node("Mul", [membrane, graph.scalar(f"{layer}/beta", neuron.beta)], f"{after}_decayed")


@singledispatch
def fired(neuron: Neuron, graph: GraphBuilder, layer: str, membrane: str, prefix: str) -> str:
    """Add `prefix/fired`, whether a spiking model spikes, as bool; one function for each model."""
    raise NoFormError(f"ONNX export has no form of {type(neuron).__name__} neurons")


@fired.register
def _lif_fired(neuron: Lif, graph: GraphBuilder, layer: str, membrane: str, prefix: str) -> str:
    threshold = graph.scalar(f"{layer}/threshold", neuron.threshold)
    return graph.node("Greater", [membrane, threshold], f"{prefix}/fired")


@singledispatch
def reset_signal(neuron: Neuron) -> str:
    """Which value of a step the reset of the next step takes, of a spiking model: "fired" or "spikes"."""
    raise NoFormError(f"ONNX export has no form of {type(neuron).__name__} neurons")


@reset_signal.register
def _lif_reset_signal(neuron: Lif) -> str:
    return "fired" if neuron.reset == "zero" else "spikes"


def fire(neuron: Neuron, graph: GraphBuilder, layer: str, membrane: str, prefix: str) -> str:
    """Add `prefix/fired`, bool, and `prefix/spikes`, 0 or 1; return the latter name."""
    return to_spikes(graph, fired(neuron, graph, layer, membrane, prefix), prefix)


def to_spikes(graph: GraphBuilder, signal: str, prefix: str) -> str:
    """Add `prefix/spikes`, a bool as 0 or 1."""
    return graph.node("Cast", [signal], f"{prefix}/spikes", to=FLOAT)
