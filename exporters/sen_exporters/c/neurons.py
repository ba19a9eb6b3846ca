"""Neuron models of exported C: members of `sen_layer`."""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from sen_exporters.base import NoFormError
from sen_exporters.c.memory import Arena, Constant
from sen_exporters.c.weights import Members
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Neuron, RefractoryLif, Relu


@singledispatch
def lower_neuron(neuron: Neuron, where: str, size: int, arena: Arena) -> Members:
    """Members of `sen_layer` for a neuron type, with its state in the arena; one function for each.

    `where` names the layer in comments; `size` is the number of its neurons.
    """
    raise NoFormError(f"{where}: the C export has no form for neurons of type {type(neuron).__name__}")


@lower_neuron.register(Identity)
@lower_neuron.register(Relu)
def _without_state(neuron: Identity | Relu, where: str, size: int, arena: Arena) -> Members:
    return {"neuron": f"SEN_{type(neuron).__name__.upper()}"}


@lower_neuron.register
def _lif(neuron: Lif, where: str, size: int, arena: Arena) -> Members:
    reset = "SEN_RESET_ZERO" if neuron.reset == "zero" else "SEN_RESET_SUBTRACT"
    if neuron.subtracts_before_decay:
        reset = "SEN_RESET_BEFORE_DECAY"
    return _spiking(neuron, where, size, arena, reset)


@lower_neuron.register
def _refractory_lif(neuron: RefractoryLif, where: str, size: int, arena: Arena) -> Members:
    return _spiking(neuron, where, size, arena, "SEN_RESET_REFRACTORY")


def _spiking(neuron: Lif | RefractoryLif, where: str, size: int, arena: Arena, reset: str) -> Members:
    return {
        "neuron": "SEN_LIF",
        **_parameters(neuron, where, size, reset),
        "current": arena.take(f"{where}: currents", size),
        "membrane": arena.take(f"{where}: membranes", size),
    }


@lower_neuron.register
def _leaky_integrator(neuron: LeakyIntegrator, where: str, size: int, arena: Arena) -> Members:
    return {
        "neuron": "SEN_LEAKY_INTEGRATOR",
        **_parameters(neuron, where, size, "0"),
        "current": arena.take(f"{where}: currents", size),
    }


def _parameters(neuron: Lif | RefractoryLif | LeakyIntegrator, where: str, size: int, reset: str) -> Members:
    """Members of `sen_lif`: numbers, or arrays `[size]` where a parameter differs between the neurons."""
    values = {"beta": neuron.beta, **({} if isinstance(neuron, LeakyIntegrator) else {"threshold": neuron.threshold})}
    members: Members = {"lif.reset": reset}
    if not neuron.arrays:
        return {**members, **{f"lif.{name}": float(value) for name, value in values.items()}}
    for name, value in values.items():
        array = np.broadcast_to(np.asarray(value, np.float32), size)
        members[f"lif.{name}s"] = Constant(f"{where.replace(' ', '')}_{name}", array, f"{where}: {name} [{size}]")
    return members
