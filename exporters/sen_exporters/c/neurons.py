"""Neuron types as members of `sen_layer` of network.h, with their state in the arena."""

from __future__ import annotations

from functools import singledispatch

from sen_exporters.base import NoFormError
from sen_exporters.c.memory import Arena, number
from sen_exporters.c.weights import Members
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Neuron, Relu


@singledispatch
def lower_neuron(neuron: Neuron, where: str, shape: tuple[int, int], arena: Arena) -> Members:
    """Members of `sen_layer` for a neuron type; one function for each.

    Args:
        neuron: of all neurons of the layer.
        where: name of the layer, for comments.
        shape: of its weights, `(n_out, n_in)`.
        arena: allocates the state.
    """
    raise NoFormError(f"{where}: the C export has no form for neurons of type {type(neuron).__name__}")


@lower_neuron.register
def _identity(neuron: Identity, where: str, shape: tuple[int, int], arena: Arena) -> Members:
    return {"neuron": "SEN_IDENTITY"}


@lower_neuron.register
def _relu(neuron: Relu, where: str, shape: tuple[int, int], arena: Arena) -> Members:
    return {"neuron": "SEN_RELU"}


@lower_neuron.register
def _lif(neuron: Lif, where: str, shape: tuple[int, int], arena: Arena) -> Members:
    reset = "SEN_RESET_ZERO" if neuron.reset == "zero" else "SEN_RESET_SUBTRACT"
    if neuron.subtracts_before_decay:
        reset = "SEN_RESET_BEFORE_DECAY"
    return {
        "neuron": "SEN_LIF",
        "lif": f"{{{number(neuron.beta)}, {number(neuron.threshold)}, {reset}}}",
        "current": arena.take(f"{where}: currents", shape[0]),
        "membrane": arena.take(f"{where}: membranes", shape[0]),
    }


@lower_neuron.register
def _leaky_integrator(neuron: LeakyIntegrator, where: str, shape: tuple[int, int], arena: Arena) -> Members:
    return {
        "neuron": "SEN_LEAKY_INTEGRATOR",
        "lif": f"{{{number(neuron.beta)}, 0.0f, 0}}",
        "current": arena.take(f"{where}: currents", shape[0]),
        "total": arena.take(f"{where}: weighted inputs", shape[1]),
    }
