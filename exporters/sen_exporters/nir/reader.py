"""NIR graphs as networks: chains of affine maps and neurons, integrated by the forward Euler method with a step dt.

    LIF, LI:   tau dv/dt = v_leak - v + r I    v[t] = (1 - dt/tau) v[t-1] + (r dt/tau) I[t]    for v_leak = 0
    IF, I:         dv/dt = r I                 v[t] = v[t-1] + r dt I[t]

A neuron that spikes where v > v_threshold is set to v_reset = 0. `u = v / gain`, gain = r dt/tau or r dt, has the
equations of `sen_runtime.ir.neurons`: beta = 1 - dt/tau or 1, and threshold = v_threshold / gain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from sen_exporters.nir.hdf5 import Graph, Node
from sen_exporters.nir.strings import NirError
from sen_runtime.engines.steps import timesteps_of
from sen_runtime.errors import EngineError, NetworkError
from sen_runtime.ir.checks import Array, Parameter
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
    """Neurons of a node: the model of `u = v / gain`; `gain` `[n]` only where the output is v, else None."""

    neuron: Neuron
    gain: Doubles | None = None


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
    neurons = [node for node in chain if node.kind in NEURONS]
    if neurons and simulation is None:
        raise NirError(
            f"{neurons[0]} needs a time step, which NIR files do not have",
            "state dt and timesteps in a map: --map FILE",
        )
    if simulation is not None and not neurons:
        raise NirError("has no neurons, so dt and timesteps have no effect", "leave out --map")
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


def _layers(chain: Sequence[Node], simulation: Simulation | None) -> Iterator[Layer]:
    """Layers of the nodes between input and output; an affine map without neurons is a layer of its own."""
    open_map: Node | None = None
    for index, node in enumerate(chain):
        if node.kind == "Flatten" and index == 0:
            continue
        if node.kind in ("Affine", "Linear"):
            if open_map is not None:
                yield _layer(open_map, None, simulation, is_last=False)
            open_map = node
        elif node.kind in NEURONS and open_map is not None:
            yield _layer(open_map, node, simulation, is_last=index == len(chain) - 1)
            open_map = None
        else:
            raise NirError(f"{node} follows no Affine or Linear node", "expected one before each neuron")
    if open_map is not None:
        yield _layer(open_map, None, simulation, is_last=True)


def _layer(affine: Node, neurons: Node | None, simulation: Simulation | None, *, is_last: bool) -> Layer:
    with _name_node(affine):
        weight, bias = _to_storage(affine.arrays["weight"]), affine.arrays.get("bias")
        bias = None if bias is None else _to_storage(bias)
        layer = Layer(Dense(weight), bias, Identity())
    if simulation is None:
        return layer
    with _name_node(neurons or affine):
        if neurons is None:  # an integrator with beta = 0 returns its input
            found = Dynamics(LeakyIntegrator(0.0))
        else:
            found = NEURONS[neurons.kind](neurons.arrays, len(weight), simulation.dt)
        if found.neuron.role == "readout" and not is_last:
            raise NetworkError("does not spike; expected such neurons as the last node only")
        if found.gain is not None:
            gain = found.gain
            weight = (weight * gain[:, np.newaxis]).astype(np.float32)
            bias = None if bias is None else (bias * gain).astype(np.float32)
        return Layer(Dense(weight), bias, found.neuron)


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
    beta, gain = _leak(arrays, size, dt)
    return _spiking(arrays, size, beta, gain)


def _li(arrays: Mapping[str, Array], size: int, dt: float) -> Dynamics:
    beta, gain = _leak(arrays, size, dt)
    return Dynamics(LeakyIntegrator(_parameter(beta)), None if (gain == 1).all() else gain)


def _if(arrays: Mapping[str, Array], size: int, dt: float) -> Dynamics:
    return _spiking(arrays, size, np.ones(size), _snap(_values(arrays, "r", size) * dt))


def _i(arrays: Mapping[str, Array], size: int, dt: float) -> Dynamics:
    gain = _snap(_values(arrays, "r", size) * dt)
    return Dynamics(LeakyIntegrator(1.0), None if (gain == 1).all() else gain)


def _threshold(arrays: Mapping[str, Array], size: int, dt: float) -> Dynamics:
    """With beta = 0, a neuron spikes where its current is above the threshold."""
    del dt
    return Dynamics(Lif(0.0, _parameter(_values(arrays, "threshold", size)), "zero"))


#: Neurons by type of node, from its fields, the number of neurons and dt.
NEURONS: Mapping[str, Callable[[Mapping[str, Array], int, float], Dynamics]] = {
    "LIF": _lif,
    "LI": _li,
    "IF": _if,
    "I": _i,
    "Threshold": _threshold,
}


def _spiking(arrays: Mapping[str, Array], size: int, beta: Doubles, gain: Doubles) -> Dynamics:
    _require_zero(arrays, "v_reset")
    if not (gain > 0).all():
        raise NetworkError(f"r is {_values(arrays, 'r', size).min():g}; expected numbers > 0")
    threshold = _values(arrays, "v_threshold", size) / gain
    return Dynamics(Lif(_parameter(beta), _parameter(threshold), "zero"))


def _leak(arrays: Mapping[str, Array], size: int, dt: float) -> tuple[Doubles, Doubles]:
    """Decay and gain per step, `[n]` each."""
    _require_zero(arrays, "v_leak")
    tau, r = _values(arrays, "tau", size), _values(arrays, "r", size)
    if (tau <= 0).any() or (dt / tau > 1 + ROUNDING).any():
        raise NetworkError(
            f"tau is {tau.min():g} and dt {dt:g}; expected tau >= dt, for a decay of 1 - dt/tau per step",
            "state the dt of the program that wrote the file",
        )
    return np.maximum(1 - dt / tau, 0), _snap(r * dt / tau)


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
