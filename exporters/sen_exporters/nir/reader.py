"""NIR graphs as networks: chains of delays, affine maps and neurons, integrated by the forward Euler method, step dt.

    Delay:      y(t) = x(t - delay)        y[t] = x[t - k]    delay = k dt, x[t] = 0 for t < 0
    LIF, LI:   tau dv/dt = v_leak - v + r I    v[t] = (1 - dt/tau) v[t-1] + (r dt/tau) I[t]    for v_leak = 0
    IF, I:         dv/dt = r I                 v[t] = v[t-1] + r dt I[t]
    CubaLIF, CubaLI:  tau_syn di/dt = -i + w_in I    i[t] = (1 - dt/tau_syn) i[t-1] + (w_in dt/tau_syn) I[t]
                      and i[t] is the current I[t] of a LIF or LI with tau = tau_mem

A neuron that spikes where v > v_threshold is set to v_reset = 0. `u = v / gain`, with the product of the factors of
I[t] as gain, has the equations of `sen_runtime.ir.neurons`: beta = 1 - dt/tau or 1, threshold = v_threshold / gain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from sen_exporters.nir.hdf5 import Graph, Node
from sen_exporters.nir.strings import NirError
from sen_runtime.engines.steps import timesteps_of
from sen_runtime.errors import EngineError, NetworkError
from sen_runtime.ir.checks import Array, Parameter
from sen_runtime.ir.delays import MAX_DELAY, ConstantDelay, Delay, StoredDelay
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Neuron
from sen_runtime.ir.operators import Dense
from sen_runtime.untrusted import listing

Doubles = NDArray[np.float64]

#: Relative error of what is computed from several float32 numbers of a file.
ROUNDING = 2.0**-21
#: Properties that are fields of a `Simulation`, or follow from a network.
TIMING = ("dt", "timesteps", "input_coding", "readout")
DERIVED = ("architecture", "dtype", "macs", "nnz", "weights")


@dataclass(frozen=True)
class Simulation:
    """Parameters of a simulation that a NIR graph does not have.

    Attributes:
        dt: time step in the unit of the time constants, seconds by convention.
        timesteps: steps T.
        input_coding: "direct", "spikes" or "current".
        readout: of `Network`; None for spike counts of neurons that spike.
    """

    dt: float
    timesteps: int
    input_coding: str = "direct"
    readout: str | None = None


@dataclass(frozen=True)
class Dynamics:
    """Neurons of a node: the model of `u = v / gain`; `gain` `[n]` only where the output is v, else None.

    `synapse` is the decay of their synaptic current per step, as of a `Layer`.
    """

    neuron: Neuron
    gain: Doubles | None = None
    synapse: float = 0.0


def stated_simulation(graph: Graph) -> Simulation | None:
    """The simulation in the properties of a file of sen-edge; None in other files and for perceptrons."""
    values = graph.properties
    try:
        if (timesteps := timesteps_of(values)) == 0:
            return None
        return Simulation(float(values["dt"]), timesteps, values["input_coding"], values.get("readout"))
    except (EngineError, KeyError, ValueError) as error:
        raise NirError(f"its metadata state no valid {listing(TIMING)}: {error}") from None


def to_network(graph: Graph, simulation: Simulation | None = None) -> Network:
    """The network of a graph; one that spikes needs the simulation.

    Raises:
        NirError: the graph is no chain of supported nodes; the message names the node.
    """
    source, *chain, sink = order(graph)
    timed = [node for node in chain if node.kind in ("Delay", *NEURONS)]
    if timed and simulation is None:
        raise NirError(
            f"{timed[0]} needs a time step, which NIR files do not have",
            "state dt and timesteps in a map: --map FILE",
        )
    if simulation is not None and not timed:
        raise NirError("has no neurons and no delays, so dt and timesteps have no effect", "leave out --map")
    layers = tuple(_layers(chain, simulation))
    metadata = {key: value for key, value in graph.properties.items() if key not in (*TIMING, *DERIVED)}
    try:
        if simulation is None:
            network = Network(layers, metadata=metadata)
        else:
            readout = simulation.readout or ("spike_count" if layers[-1].neuron.role == "spiking" else "")
            if not readout:
                raise NirError(f"{chain[-1]} is a membrane; expected a readout", "mean_membrane or last_membrane")
            network = Network(layers, simulation.timesteps, simulation.input_coding, readout, metadata)
    except NetworkError as error:
        raise NirError(error.message, error.hint) from error
    for node, size in ((source, network.n_in), (sink, network.n_out)):
        shape = node.arrays["shape"].ravel().tolist()
        if prod(map(int, shape)) != size:
            raise NirError(f"{node} has the shape {shape[:8]}; expected {size:,} values, as the node next to it has")
    return network


def order(graph: Graph) -> list[Node]:
    """Nodes from the input to the output of a chain; branches and recurrence are refused by name."""
    after, before = dict[str, list[str]](), dict[str, list[str]]()
    for start, end in graph.edges:
        if start not in graph.nodes or end not in graph.nodes:
            raise NirError(f"an edge goes from {listing([start])} to {listing([end])}; expected names of nodes")
        after.setdefault(start, []).append(end)
        before.setdefault(end, []).append(start)
    for name, node in graph.nodes.items():
        for what, found, none in (("input", before, "Input"), ("output", after, "Output")):
            ends = found.get(name, [])
            if len(ends) != (node.kind != none):
                problem = f"{node} has {len(ends)} {what}s ({listing(ends)}); expected {int(node.kind != none)}"
                raise NirError(problem, "networks are chains, without branches or recurrent connections")
    chain = [node for node in graph.nodes.values() if node.kind == "Input"]
    if len(chain) != 1:
        raise NirError(f"has {len(chain)} Input nodes; expected 1")
    while chain[-1].kind != "Output":
        chain.append(graph.nodes[after[chain[-1].name][0]])
    if len(chain) != len(graph.nodes):
        rest = set(graph.nodes) - {node.name for node in chain}
        raise NirError(f"the nodes {listing(sorted(rest))} form a loop", "networks have no recurrent connections")
    return chain


@dataclass(frozen=True)
class LayerNodes:
    """Nodes of a layer, in the order of the chain; an affine map without neurons is a layer of its own."""

    delay: Node | None
    affine: Node
    neurons: Node | None


def _layers(chain: Sequence[Node], simulation: Simulation | None) -> Iterator[Layer]:
    """Layers of the nodes between input and output."""
    groups = list(_group(chain))
    for group in groups:
        yield _layer(group, simulation, is_last=group is groups[-1])


def _group(chain: Sequence[Node]) -> Iterator[LayerNodes]:
    """Split a chain into layers; a node without an affine map is refused by name."""
    rest = deque(chain)
    if rest and rest[0].kind == "Flatten":
        rest.popleft()
    while rest:
        delay = rest.popleft() if rest[0].kind == "Delay" else None
        if not rest or rest[0].kind not in ("Affine", "Linear"):
            where = f"{rest[0]} follows" if delay is None else f"{delay} precedes"
            raise NirError(f"{where} no Affine or Linear node", "expected a delay, a map and neurons, in this order")
        affine = rest.popleft()
        yield LayerNodes(delay, affine, rest.popleft() if rest and rest[0].kind in NEURONS else None)


def _layer(nodes: LayerNodes, simulation: Simulation | None, *, is_last: bool) -> Layer:
    affine, neurons = nodes.affine, nodes.neurons
    with _name_node(affine):
        weight, bias = _to_storage(affine.arrays["weight"]), affine.arrays.get("bias")
        bias = None if bias is None else _to_storage(bias)
        layer = Layer(Dense(weight), bias, Identity())
    if simulation is None:
        return layer
    delay = None if nodes.delay is None else _delay(nodes.delay, layer.weight.shape, simulation.dt)
    with _name_node(neurons or affine):
        if neurons is None:  # an integrator with beta = 0 returns its input
            found = Dynamics(LeakyIntegrator(0.0))
        else:
            found = NEURONS[neurons.kind](neurons.arrays, len(weight), simulation.dt)
        if found.neuron.role == "readout" and not is_last:
            raise NetworkError("does not spike; expected such neurons as the last node only")
        if found.synapse != 0 and bias is not None and np.any(bias):
            raise NetworkError(
                f"the synapses filter the bias of {affine}; expected 0, because a layer adds its bias after them"
            )
        if found.gain is not None:
            gain = found.gain
            weight = (weight * gain[:, np.newaxis]).astype(np.float32)
            bias = None if bias is None else (bias * gain).astype(np.float32)
        return Layer(Dense(weight), bias, found.neuron, delay=delay, synapse=found.synapse)


def _delay(node: Node, shape: tuple[int, int], dt: float) -> Delay:
    """Delays of a node before weights `[n_out, n_in]`, whole steps within the rounding of float32 numbers."""
    with _name_node(node):
        seconds = _values(node.arrays, "delay", shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            steps = seconds / dt
            is_whole = np.abs(steps - np.rint(steps)) <= ROUNDING * np.maximum(steps, 1)
        if (wrong := np.flatnonzero(~(is_whole & (steps >= 0) & (np.rint(steps) <= MAX_DELAY)))).size:
            raise NetworkError(
                f"delay of neuron {wrong[0]} is {seconds[wrong[0]]:g}; expected 0 to {MAX_DELAY} times dt, {dt:g}",
                "state the dt of the program that wrote the file",
            )
        whole = np.rint(steps).astype(np.uint8 if np.rint(steps).max() < 256 else np.uint16)
        is_constant = bool((whole == whole[0]).all())
        return ConstantDelay(int(whole[0])) if is_constant else StoredDelay(np.tile(whole, (shape[0], 1)))


@contextmanager
def _name_node(node: Node) -> Iterator[None]:
    """Add the node to errors of its values."""
    try:
        yield
    except NetworkError as error:
        raise NirError(f"{node}: {error.message}", error.hint) from error


def _to_storage(array: Array) -> Array:
    """Weights in a type of `sen_runtime.ir`: float16 as it is, others in float32."""
    with np.errstate(over="ignore"):  # values beyond float32 are refused by the operator
        return array if array.dtype == np.float16 else array.astype(np.float32)


# --- neurons -------------------------------------------------------------------------------------


def _lif(arrays: Mapping[str, Array], size: int, dt: float) -> Dynamics:
    return _spiking(arrays, size, *_leak(arrays, size, dt))


def _li(arrays: Mapping[str, Array], size: int, dt: float) -> Dynamics:
    return _integrating(*_leak(arrays, size, dt))


def _cuba_lif(arrays: Mapping[str, Array], size: int, dt: float) -> Dynamics:
    synapse, factor = _synapse(arrays, size, dt)
    beta, gain = _leak(arrays, size, dt, "tau_mem")
    return replace(_spiking(arrays, size, beta, factor * gain), synapse=synapse)


def _cuba_li(arrays: Mapping[str, Array], size: int, dt: float) -> Dynamics:
    synapse, factor = _synapse(arrays, size, dt)
    beta, gain = _leak(arrays, size, dt, "tau_mem")
    return replace(_integrating(beta, factor * gain), synapse=synapse)


def _if(arrays: Mapping[str, Array], size: int, dt: float) -> Dynamics:
    return _spiking(arrays, size, np.ones(size), _snap(_values(arrays, "r", size) * dt))


def _i(arrays: Mapping[str, Array], size: int, dt: float) -> Dynamics:
    return _integrating(np.ones(size), _snap(_values(arrays, "r", size) * dt))


def _threshold(arrays: Mapping[str, Array], size: int, dt: float) -> Dynamics:
    """With beta = 0, a neuron spikes where its current is above the threshold."""
    del dt
    return Dynamics(Lif(0.0, _parameter(_values(arrays, "threshold", size)), "zero"))


#: Neurons by type of node, from its fields, the number of neurons and dt.
NEURONS: Mapping[str, Callable[[Mapping[str, Array], int, float], Dynamics]] = {
    "LIF": _lif,
    "LI": _li,
    "CubaLIF": _cuba_lif,
    "CubaLI": _cuba_li,
    "IF": _if,
    "I": _i,
    "Threshold": _threshold,
}


def _spiking(arrays: Mapping[str, Array], size: int, beta: Doubles, gain: Doubles) -> Dynamics:
    _require_zero(arrays, "v_reset")
    if not (gain > 0).all():
        expected = " and ".join(f"{name} > 0" for name in ("r", "w_in") if name in arrays)
        raise NetworkError(f"the gain of the input is {gain.min():g}; expected {expected}")
    threshold = _values(arrays, "v_threshold", size) / gain
    return Dynamics(Lif(_parameter(beta), _parameter(threshold), "zero"))


def _integrating(beta: Doubles, gain: Doubles) -> Dynamics:
    return Dynamics(LeakyIntegrator(_parameter(beta)), None if (gain == 1).all() else gain)


def _leak(arrays: Mapping[str, Array], size: int, dt: float, name: str = "tau") -> tuple[Doubles, Doubles]:
    """Decay and gain per step, `[n]` each, of membranes with the time constants of a field."""
    _require_zero(arrays, "v_leak")
    return _decay(arrays, name, size, dt), _gain(arrays, "r", name, size, dt)


def _synapse(arrays: Mapping[str, Array], size: int, dt: float) -> tuple[float, Doubles]:
    """Decay of the synaptic current per step, one for all neurons, and its gain `[n]`."""
    decay = _parameter(_decay(arrays, "tau_syn", size, dt))
    if not isinstance(decay, float):
        tau = _values(arrays, "tau_syn", size)
        raise NetworkError(f"tau_syn goes from {tau.min():g} to {tau.max():g}; expected the same for all neurons")
    return decay, _gain(arrays, "w_in", "tau_syn", size, dt)


def _decay(arrays: Mapping[str, Array], name: str, size: int, dt: float) -> Doubles:
    """Factors `[n]` per step of a time constant."""
    tau = _values(arrays, name, size)
    if (tau <= 0).any() or (dt / tau > 1 + ROUNDING).any():
        raise NetworkError(
            f"{name} is {tau.min():g} and dt {dt:g}; expected {name} >= dt, for a decay of 1 - dt/{name} per step",
            "state the dt of the program that wrote the file",
        )
    return np.maximum(1 - dt / tau, 0)


def _gain(arrays: Mapping[str, Array], factor: str, name: str, size: int, dt: float) -> Doubles:
    """What an input is multiplied by, `[n]`: factor dt / tau."""
    return _snap(_values(arrays, factor, size) * dt / _values(arrays, name, size))


def _snap(gain: Doubles) -> Doubles:
    """Gains, 1 where the rounding of float32 numbers in the file makes the difference."""
    return np.where(np.abs(gain - 1) < ROUNDING, 1.0, gain)


def _values(arrays: Mapping[str, Array], name: str, size: int) -> Doubles:
    """A field in float64 `[n]`; one number stands for all neurons."""
    values = arrays[name].astype(np.float64).ravel()
    if values.size not in (1, size):
        raise NetworkError(f"{name} has the shape {list(arrays[name].shape)}; expected [{size}], one per neuron")
    if not np.isfinite(values).all():
        raise NetworkError(f"{name} holds {values[~np.isfinite(values)][0]}; expected finite numbers")
    return np.broadcast_to(values, (size,))


def _require_zero(arrays: Mapping[str, Array], name: str) -> None:
    """Refuse a rest or reset potential other than 0, which membranes here start from and return to."""
    if (wrong := np.flatnonzero(arrays.get(name, np.zeros(1)))).size:
        raise NetworkError(f"{name} is {arrays[name].ravel()[wrong[0]]:g}; expected 0")


def _parameter(values: Doubles) -> Parameter:
    """One number where all neurons have the same."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return float(single[0]) if (single == single[0]).all() else single
