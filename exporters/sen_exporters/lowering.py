"""Networks as operators of a graph: layers and neurons, all time steps or one. ONNX and TFLite provide the operators.

Equations of neurons are those of `sen_runtime.ir.neurons`. A membrane readout is linear in its inputs, so it is
multiplied once, with the weighted sum of its inputs over time:

    readout = sum_t c[t] (W x[t] + b) = W (sum_t c[t] x[t]) + b sum_t c[t]

Where its neurons differ, each has factors of its own, and the currents `W x[t] + b` are weighted; so are those of
delayed synapses and of synaptic currents.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import singledispatch

import numpy as np

from sen_exporters.base import ExportError, NoFormError
from sen_exporters.operators import ACTIVATIONS, Operators, State, V
from sen_exporters.wiring import Wiring
from sen_runtime.ir.codings import RATE_LEVELS
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, is_constant_readout, readout_factors
from sen_runtime.ir.neurons import LeakyIntegrator, Lif, Neuron, RefractoryLif

#: Below, the inverse distance of two float32 around a threshold would overflow.
MIN_THRESHOLD = 2.0**-100
#: A phase of input coding "rate" is a multiple of 1 / RATE_LEVELS: above this it is at least 1.
RATE_THRESHOLD = 1 - 0.5 / RATE_LEVELS
#: Neurons that spike.
SPIKING = (Lif, RefractoryLif)


def check_thresholds(network: Network) -> None:
    """Refuse thresholds that float32 products cannot compare with.

    Raises:
        ExportError: with the layer and an alternative.
    """
    found = {
        f"layer {index}: the threshold": float(np.min(layer.neuron.threshold))
        for index, layer in enumerate(network.layers)
        if isinstance(layer.neuron, SPIKING)
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


@integrate.register
def _refractory_lif(
    neuron: RefractoryLif, graph: Operators[V], layer: str, before: V, spikes: V, current: V, after: str
) -> V:
    charged = graph.binary("Add", _decay(neuron, graph, layer, before, after), current, f"{after}_charged")
    return graph.silence(charged, spikes, after)


def _decay(
    neuron: Lif | RefractoryLif | LeakyIntegrator, graph: Operators[V], layer: str, membrane: V, after: str
) -> V:
    return graph.scale(membrane, neuron.beta, f"{layer}/beta", f"{after}_decayed", membrane)


def fire(neuron: Neuron, graph: Operators[V], layer: str, membrane: V, prefix: str) -> V:
    """Add `prefix/spikes`, 0 or 1, of a spiking model."""
    if not isinstance(neuron, SPIKING):
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


def code_step(graph: Operators[V], network: Network, x: V) -> tuple[V, list[State[V]]]:
    """Add the input of the first layer in one step; return it, and the state of the coding.

    State of "rate": the phase; of "delta": the previous sample, and a flag that is 0 in the first step, then 1.
    """
    if network.input_coding == "rate":
        phase = graph.membrane("input/phase", network.n_in, x)
        spikes, after = code_rate(graph, round_rates(graph, x), phase, "input", "input/phase_next")
        return spikes, [State(phase, after, network.n_in)]
    if network.input_coding == "delta":
        previous = graph.membrane("input/previous", network.n_features, x)
        started = graph.membrane("input/started", network.n_features, x)
        rise = graph.binary("Mul", graph.binary("Sub", x, previous, "input/change"), started, "input/rise")
        fall = graph.binary("Mul", graph.binary("Sub", previous, x, "input/reverse"), started, "input/fall")
        zero, one = (graph.vector(f"input/{name}", np.array([n], np.float32)) for name, n in (("zero", 0), ("one", 1)))
        kept = graph.binary("Add", x, zero, "input/previous_next")
        none = graph.binary("Mul", started, zero, "input/none")
        flag = graph.binary("Add", none, one, "input/started_next")
        states = [State(previous, kept, network.n_features), State(started, flag, network.n_features)]
        return code_delta(graph, network, (rise, fall), "input"), states
    return x, []


def step(graph: Operators[V], network: Network, x: V) -> tuple[V, list[State[V]]]:
    """Add one step of all layers.

    Returns:
        The last layer's membrane, or its spikes for a spike count; the state: for each layer `layerN/membrane`, and
        what its delays and synapses keep, see `sen_exporters.wiring`; after that of the input coding. The value after
        the step is called `.._next`.
    """
    x, coded = code_step(graph, network, x)
    states: list[State[V]] = []
    for index, layer in enumerate(network.layers):
        name, neuron, is_readout = f"layer{index}", layer.neuron, layer.neuron.role == "readout"
        n_out, wiring = layer.weight.shape[0], Wiring(graph, layer, index, x)
        before = graph.membrane(f"{name}/membrane", n_out, x)
        kept = {key: graph.membrane(f"{name}/{key}", size, x) for key, size in wiring.sizes.items()}
        current, kept_next = wiring.current(x, kept, name, "_next")
        spikes = before if is_readout else fire(neuron, graph, name, before, f"{name}/before")
        after = integrate(neuron, graph, name, before, spikes, current, f"{name}/membrane_next")
        x = after if is_readout else fire(neuron, graph, name, after, name)
        kept_next |= wiring.remember(x, kept, name, "_next")
        states.append(State(before, after, n_out))
        states += [State(kept[key], kept_next[key], size) for key, size in wiring.sizes.items()]
    return x, [*states, *coded]


def unrolled(graph: Operators[V], network: Network, x: V) -> V:
    """Add all steps, and return the output.

    Layers are feed-forward, so all steps of a layer come before the next layer, and its weights are multiplied once:
    `[T * batch, n_in]` spikes, time first, times W^T, split into T currents `[batch, n_out]`.
    """
    train = _code(graph, network, x)
    for index, layer in enumerate(network.layers):
        if layer.neuron.role == "readout" and network.has_summed_readout:
            return graph.read_out(network, x, train)
        train = _layer(graph, network, index, x, train)
    if network.layers[-1].neuron.role == "readout":
        train = _weighted(graph, network, train)
    return graph.total(network, train)


def _layer(graph: Operators[V], network: Network, index: int, x: V, train: list[V]) -> list[V]:
    """Spikes `[batch, n]` of a layer in each step, or the currents of a readout. The first membrane is a current."""
    layer, name = network.layers[index], f"layer{index}"
    wiring = Wiring(graph, layer, index, x)
    outputs: list[V] = []
    kept: dict[str, V] = {}
    membrane: V | None = None
    for t, arrived in enumerate(_arriving(graph, network, index, x, train, wiring)):
        step_name = f"{name}/t{t}"
        current, synaptic = wiring.integrate(arrived, kept, step_name)
        kept |= synaptic
        if layer.neuron.role == "readout":
            outputs.append(current)
            continue
        if membrane is None:
            membrane = current
        else:
            membrane = integrate(layer.neuron, graph, name, membrane, outputs[-1], current, f"{step_name}/membrane")
        outputs.append(fire(layer.neuron, graph, name, membrane, step_name))
        if t + 1 < network.timesteps:
            kept |= wiring.remember(outputs[-1], kept, step_name)
    return outputs


def _arriving(graph: Operators[V], network: Network, index: int, x: V, train: list[V], wiring: Wiring[V]) -> list[V]:
    """Current of a layer in each step; without bias, recurrent and synaptic currents where it has any of these."""
    layer, steps = network.layers[index], range(network.timesteps)
    if layer.is_instant:
        return _currents(graph, network, layer, index, x, train, "current")
    if not wiring.is_varied:
        arrived = _currents(graph, network, replace(layer, bias=None), index, x, train, "arrival")
        silent = [graph.scale(arrived[0], 0.0, "zero", f"layer{index}/silent", arrived[0])] if wiring.depth else []
        return [*silent * wiring.depth, *arrived][: len(steps)]
    if not train and network.coding.is_constant:
        train = [x] * len(steps)
    elif not train:
        train = graph.split(graph.time_first(x, network, "input/train"), [f"input/t{t}" for t in steps])
    arrived, history = [], dict[str, V]()
    for t, spikes in enumerate(train):
        current, history = wiring.arrive(spikes, history, f"layer{index}/t{t}")
        arrived.append(current)
    return arrived


def _weighted(graph: Operators[V], network: Network, currents: list[V]) -> list[V]:
    """Currents of a readout whose neurons differ, times the factors `[n]` of each step."""
    factors = readout_factors(network).astype(np.float32)
    if is_constant_readout(network):
        currents, factors = currents[:1], factors.sum(axis=0, keepdims=True)
    return [
        graph.scale(current, factor, f"readout/t{t}/factor", f"readout/t{t}/weighted", current)
        for t, (current, factor) in enumerate(zip(currents, factors, strict=True))
    ]


def _currents(
    graph: Operators[V], network: Network, layer: Layer, index: int, x: V, train: list[V], name: str
) -> list[V]:
    """Current `[batch, n]` of a layer in each step, from the spikes of the layer before or the input."""
    steps, prefix = range(network.timesteps), f"layer{index}"
    if not train and network.coding.is_constant:
        return [graph.affine(layer, index, x, f"{prefix}/{name}")] * len(steps)
    joined = graph.join(train, f"{prefix}/inputs") if train else graph.time_first(x, network, f"{prefix}/inputs")
    currents = graph.affine(layer, index, joined, f"{prefix}/{name}s")
    return graph.split(currents, [f"{prefix}/t{t}/{name}" for t in steps])


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
