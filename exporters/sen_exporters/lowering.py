"""Networks as operators of a graph: layers and neurons, all time steps or one. ONNX and TFLite provide the operators.

Equations of neurons are those of `sen_runtime.ir.neurons`. A membrane readout is linear in its inputs, so it is
multiplied once, with the weighted sum of its inputs over time:

    readout = sum_t c[t] (W x[t] + b) = W (sum_t c[t] x[t]) + b sum_t c[t]

Where its neurons differ, each has factors of its own, and the currents `W x[t] + b` are weighted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import singledispatch
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sen_exporters.base import ExportError, NoFormError
from sen_runtime.ir.checks import Parameter
from sen_runtime.ir.codings import RATE_LEVELS
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, is_constant_readout, readout_factors
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Neuron, Relu

#: Below, the inverse distance of two float32 around a threshold would overflow.
MIN_THRESHOLD = 2.0**-100
#: A phase of input coding "rate" is a multiple of 1 / RATE_LEVELS: above this it is at least 1.
RATE_THRESHOLD = 1 - 0.5 / RATE_LEVELS

V = TypeVar("V")
Activation = Literal["", "Relu"]
#: Functions of neurons without state; the identity is empty.
ACTIVATIONS: Mapping[type[Neuron], Activation] = {Identity: "", Relu: "Relu"}


class Operators(Protocol[V]):
    """Operators of a target; each adds a value `[rows, n]` called `name`, and returns it."""

    def affine(self, layer: Layer, index: int, x: V, name: str, activation: Activation = "") -> V:
        """`f(W x + b)` of layer `index`, f the identity or an activation."""

    def binary(self, operator: Literal["Add", "Sub", "Mul"], a: V, b: V, name: str) -> V:
        """`a + b`, `a - b` or `a * b` in each neuron, in the type of `a`."""

    def vector(self, name: str, values: NDArray[np.float32]) -> V:
        """A stored vector `[n]`."""

    def activate(self, activation: str, x: V, name: str) -> V:
        """`x` after a "softmax" over its neurons, or a "sigmoid" of each."""

    def scale(self, x: V, factor: Parameter, constant: str, name: str, like: V) -> V:
        """`x` times the stored number or row `constant`, in the type of `like`; `x` itself where that is the same."""

    def silence(self, x: V, spikes: V, name: str) -> V:
        """`x`, 0 for neurons that spike."""

    def spikes(self, membrane: V, threshold: Parameter, layer: str, prefix: str) -> V:
        """`prefix/spikes`: 1 where the membrane is above the threshold, else 0."""

    def membrane(self, name: str, size: int, x: V) -> V:
        """Membrane `[rows, size]` that a caller provides, with the rows of `x`."""

    def time_first(self, x: V, network: Network, name: str) -> V:
        """Sequences `[batch, T, n]` in the layout of `join`."""

    def floor(self, x: V, name: str) -> V:
        """The largest integers up to `x`."""

    def join_columns(self, parts: Sequence[V], name: str) -> V:
        """Columns of `parts`, one part after the other."""

    def join(self, parts: Sequence[V], name: str) -> V:
        """Values of all steps as one, by a layout of the format: `[T * batch, n]` or `[batch, T, n]`."""

    def split(self, joined: V, names: Sequence[str]) -> list[V]:
        """The inverse of `join`."""

    def total(self, network: Network, train: Sequence[V]) -> V:
        """Sum over time: the output of a spike count, or of a readout from weighted currents."""

    def read_out(self, network: Network, x: V, train: Sequence[V]) -> V:
        """Output of the last layer from its inputs in each step, or where `train` is empty from the network's."""


def check_thresholds(network: Network) -> None:
    """Refuse thresholds that float32 products cannot compare with.

    Raises:
        ExportError: with the layer and an alternative.
    """
    found = {
        f"layer {index}: the threshold": float(np.min(layer.neuron.threshold))
        for index, layer in enumerate(network.layers)
        if isinstance(layer.neuron, Lif)
    }
    if network.input_coding == "delta":
        found["the delta of the input coding"] = network.delta
    for name, lowest in found.items():
        if lowest < MIN_THRESHOLD:
            raise ExportError(
                f"{name} {lowest:g} is below {MIN_THRESHOLD:.1g}, the min that float32 products can compare with",
                hint="scale it up together with the weights and bias, or inputs, that it is compared with: the spikes "
                "stay the same",
            )


@singledispatch
def integrate(neuron: Neuron, graph: Operators[V], layer: str, before: V, spikes: V, current: V, after: str) -> V:
    """Add the membrane of the next step, called `after`; one function for each model.

    `before` and `spikes` are of the step before, `current` is the input of this one; `layer` prefixes constants.
    """
    raise _no_form(neuron)


@integrate.register
def _leaky_integrator(
    neuron: LeakyIntegrator, graph: Operators[V], layer: str, before: V, spikes: V, current: V, after: str
) -> V:
    return graph.binary("Add", _decay(neuron, graph, layer, before, after), current, after)


@integrate.register
def _lif(neuron: Lif, graph: Operators[V], layer: str, before: V, spikes: V, current: V, after: str) -> V:
    if neuron.reset == "zero":
        kept = graph.silence(_decay(neuron, graph, layer, before, after), spikes, f"{after}_kept")
        return graph.binary("Add", kept, current, after)
    reset = graph.scale(spikes, neuron.threshold, f"{layer}/reset", f"{after}_reset", before)
    if neuron.subtracts_before_decay:
        kept = graph.binary("Sub", before, reset, f"{after}_kept")
        return graph.binary("Add", _decay(neuron, graph, layer, kept, after), current, after)
    charged = graph.binary("Add", _decay(neuron, graph, layer, before, after), current, f"{after}_charged")
    return graph.binary("Sub", charged, reset, after)


def _decay(neuron: Lif | LeakyIntegrator, graph: Operators[V], layer: str, membrane: V, after: str) -> V:
    return graph.scale(membrane, neuron.beta, f"{layer}/beta", f"{after}_decayed", membrane)


def fire(neuron: Neuron, graph: Operators[V], layer: str, membrane: V, prefix: str) -> V:
    """Add `prefix/spikes`, 0 or 1, of a spiking model."""
    if not isinstance(neuron, Lif):
        raise _no_form(neuron)
    return graph.spikes(membrane, neuron.threshold, layer, prefix)


def _no_form(neuron: Neuron) -> NoFormError:
    return NoFormError(f"this target has no form of {type(neuron).__name__} neurons")


def standardize(graph: Operators[V], network: Network, x: V) -> V:
    """Add the standardization of the input `x`; return the input of the first layer."""
    scaling = network.input_scaling
    if scaling is None:
        return x
    centred = graph.binary("Sub", x, graph.vector("input/mean", scaling.mean), "input/centred")
    return graph.binary("Mul", centred, graph.vector("input/inverse_std", scaling.inverse), "input/standardized")


def readout_name(network: Network) -> str:
    """Name of the output of the last layer or readout: "output" if nothing follows it."""
    if network.output_scaling is not None:
        return "output/standardized"
    return "output" if network.output_activation == "none" else "output/logits"


def finish(graph: Operators[V], network: Network, y: V) -> V:
    """Add the restoration and the activation of `y`, called `readout_name`; return the value `output`."""
    scaling, activation = network.output_scaling, network.output_activation
    if scaling is not None:
        scaled = graph.binary("Mul", y, graph.vector("output/std", scaling.std), "output/scaled")
        name = "output" if activation == "none" else "output/logits"
        y = graph.binary("Add", scaled, graph.vector("output/mean", scaling.mean), name)
    return y if activation == "none" else graph.activate(activation, y, "output")


def perceptron(graph: Operators[V], network: Network, x: V, output: str) -> V:
    """Add all layers; return the last one's value, called `output`."""
    for index, layer in enumerate(network.layers):
        if type(layer.neuron) not in ACTIVATIONS:
            raise _no_form(layer.neuron)
        name = output if index == len(network.layers) - 1 else f"layer{index}/activation"
        x = graph.affine(layer, index, x, name, ACTIVATIONS[type(layer.neuron)])
    return x


def round_rates(graph: Operators[V], x: V) -> V:
    """Add the rates of input coding "rate"."""
    half = graph.vector("input/half", np.array([0.5], np.float32))
    levels = graph.scale(x, float(RATE_LEVELS), "input/levels", "input/scaled", x)
    rounded = graph.floor(graph.binary("Add", levels, half, "input/shifted"), "input/rounded")
    return graph.scale(rounded, 1 / RATE_LEVELS, "input/level", "input/rate", x)


def code_rate(graph: Operators[V], rate: V, phase: V, prefix: str, after: str) -> tuple[V, V]:
    """Add the spikes of input coding "rate" in one step, and `after`, the next phase."""
    charged = graph.binary("Add", phase, rate, f"{prefix}/charged")
    spikes = graph.spikes(charged, RATE_THRESHOLD, "input", prefix)
    return spikes, graph.binary("Sub", charged, spikes, after)


def code_delta(graph: Operators[V], network: Network, changes: tuple[V, V], prefix: str) -> V:
    """Add the spikes of input coding "delta" from the changes up and down."""
    below = float(np.nextafter(np.float32(network.delta), np.float32(0)))  # above it: delta or more
    spikes = [
        graph.spikes(change, below, "input", f"{prefix}/{way}")
        for change, way in zip(changes, ("up", "down"), strict=True)
    ]
    return graph.join_columns(spikes, f"{prefix}/spikes")


def _code(graph: Operators[V], network: Network, x: V) -> list[V]:
    """Add the spikes of each step for a computed input coding; none for others."""
    steps = range(network.timesteps)
    if network.input_coding == "rate":
        phase = rate = round_rates(graph, x)
        train = [graph.spikes(rate, RATE_THRESHOLD, "input", "input/t0")]
        for t in steps[1:]:
            phase = graph.binary("Sub", phase, train[-1], f"input/t{t}/phase")
            phase = graph.binary("Add", phase, rate, f"input/t{t}/charged")
            train.append(graph.spikes(phase, RATE_THRESHOLD, "input", f"input/t{t}"))
        return train
    if network.input_coding == "delta":
        joined = graph.time_first(x, network, "input/samples")
        samples = graph.split(joined, [f"input/t{t}/sample" for t in steps])
        train = []
        for t, (before, after) in enumerate(zip([samples[0], *samples], samples, strict=False)):
            rise = graph.binary("Sub", after, before, f"input/t{t}/rise")
            fall = graph.binary("Sub", before, after, f"input/t{t}/fall")
            train.append(code_delta(graph, network, (rise, fall), f"input/t{t}"))
        return train
    return []


def code_step(graph: Operators[V], network: Network, x: V) -> tuple[V, list[tuple[V, V]]]:
    """Add the input of the first layer in one step; return it, and the state of the coding before and after.

    State of "rate": the phase; of "delta": the previous sample, and a flag that is 0 in the first step, then 1.
    """
    if network.input_coding == "rate":
        phase = graph.membrane("input/phase", network.n_in, x)
        spikes, after = code_rate(graph, round_rates(graph, x), phase, "input", "input/phase_next")
        return spikes, [(phase, after)]
    if network.input_coding == "delta":
        previous = graph.membrane("input/previous", network.n_features, x)
        started = graph.membrane("input/started", network.n_features, x)
        rise = graph.binary("Mul", graph.binary("Sub", x, previous, "input/change"), started, "input/rise")
        fall = graph.binary("Mul", graph.binary("Sub", previous, x, "input/reverse"), started, "input/fall")
        zero, one = (graph.vector(f"input/{name}", np.array([n], np.float32)) for name, n in (("zero", 0), ("one", 1)))
        kept = graph.binary("Add", x, zero, "input/previous_next")
        none = graph.binary("Mul", started, zero, "input/none")
        states = [(previous, kept), (started, graph.binary("Add", none, one, "input/started_next"))]
        return code_delta(graph, network, (rise, fall), "input"), states
    return x, []


def step(graph: Operators[V], network: Network, x: V) -> tuple[V, list[tuple[V, V]]]:
    """Add one step of all layers.

    Returns:
        The last layer's membrane, or its spikes for a spike count; the state before and after: for each layer
        `layerN/membrane` and `layerN/membrane_next`, after that of the input coding.
    """
    x, states = code_step(graph, network, x)
    for index, layer in enumerate(network.layers):
        name, neuron, is_readout = f"layer{index}", layer.neuron, layer.neuron.role == "readout"
        before = graph.membrane(f"{name}/membrane", layer.weight.shape[0], x)
        current = graph.affine(layer, index, x, f"{name}/current")
        spikes = before if is_readout else fire(neuron, graph, name, before, f"{name}/before")
        after = integrate(neuron, graph, name, before, spikes, current, f"{name}/membrane_next")
        x = after if is_readout else fire(neuron, graph, name, after, name)
        states.append((before, after))
    return x, states


def unrolled(graph: Operators[V], network: Network, x: V) -> V:
    """Add all steps, and return the output.

    Layers are feed-forward, so all steps of a layer come before the next layer, and its weights are multiplied once:
    `[T * batch, n_in]` spikes, time first, times W^T, split into T currents `[batch, n_out]`.
    """
    train = _code(graph, network, x)
    for index, layer in enumerate(network.layers):
        if layer.neuron.role == "readout" and network.has_summed_readout:
            return graph.read_out(network, x, train)
        currents = _currents(graph, network, index, x, train)
        if layer.neuron.role == "readout":
            train = _weighted(graph, network, currents)
        else:
            train = _spikes(graph, layer.neuron, f"layer{index}", currents)
    return graph.total(network, train)


def _weighted(graph: Operators[V], network: Network, currents: list[V]) -> list[V]:
    """Currents of a readout whose neurons differ, times the factors `[n]` of each step."""
    factors = readout_factors(network).astype(np.float32)
    if is_constant_readout(network):
        currents, factors = currents[:1], factors.sum(axis=0, keepdims=True)
    return [
        graph.scale(current, factor, f"readout/t{t}/factor", f"readout/t{t}/weighted", current)
        for t, (current, factor) in enumerate(zip(currents, factors, strict=True))
    ]


def _currents(graph: Operators[V], network: Network, index: int, x: V, train: list[V]) -> list[V]:
    """Current `[batch, n]` of a layer in each step, from the spikes of the layer before or the input."""
    layer, name, steps = network.layers[index], f"layer{index}", range(network.timesteps)
    if not train and network.coding.is_constant:
        return [graph.affine(layer, index, x, f"{name}/current")] * len(steps)
    joined = graph.join(train, f"{name}/inputs") if train else graph.time_first(x, network, f"{name}/inputs")
    currents = graph.affine(layer, index, joined, f"{name}/currents")
    return graph.split(currents, [f"{name}/t{t}/current" for t in steps])


def _spikes(graph: Operators[V], neuron: Neuron, layer: str, currents: list[V]) -> list[V]:
    """Spikes `[batch, n]` of each step. The first membrane is the first current."""
    membrane = currents[0]
    spikes = [fire(neuron, graph, layer, membrane, f"{layer}/t0")]
    for t, current in enumerate(currents[1:], start=1):
        membrane = integrate(neuron, graph, layer, membrane, spikes[-1], current, f"{layer}/t{t}/membrane")
        spikes.append(fire(neuron, graph, layer, membrane, f"{layer}/t{t}"))
    return spikes


def hidden_values(names: Iterable[str], properties: Mapping[str, str]) -> dict[str, list[str]]:
    """Find hidden layers by the names of the values in a file and by its properties.

    Returns:
        For each `layerN/activation` the values whose sum it is: itself, or the spikes of each step.
    """
    hidden = properties.get("architecture", "").count("-") - 1
    found: dict[str, list[str]] = {}
    for name in names:
        match = re.fullmatch(r"layer(\d+)/(activation|(t\d+/)?spikes)", name)
        if match and int(match[1]) < hidden:
            found.setdefault(f"layer{match[1]}/activation", []).append(name)
    return found
