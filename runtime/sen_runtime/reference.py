"""The numpy interpreter of a network: the plain reference for every other engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import DTypeLike

from sen_runtime import encoding
from sen_runtime.errors import NetworkError
from sen_runtime.ir.checks import Array
from sen_runtime.ir.int8 import Grid, Scale, on_grid, round_rows
from sen_runtime.ir.network import (
    Network,
    is_constant_readout,
    map_weights,
    readout_factors,
    readout_grid,
    readout_weights,
)
from sen_runtime.ir.operators import Dense, WeightOperator, leaves
from sen_runtime.memory_limits import require_network
from sen_runtime.wiring import Wiring


def run(network: Network, x: Array, dtype: DTypeLike = np.float64) -> Array:
    """Outputs `[batch, n_out]` of the network: logits or values, mean or last membrane, or spike counts.

    The input is `[batch, ...]` of `input_shape`; a `NetworkError` for another shape.
    All arithmetic is in `dtype`: float64 for the exact result, float32 for that of a device.
    """
    return trace(network, x, dtype)[-1]


def trace(network: Network, x: Array, dtype: DTypeLike = np.float64) -> list[Array]:
    """Outputs of every layer, first layer first, `[batch, n]` each; arguments and errors as for `run`.

    Those of a multilayer perceptron are activations; those of a spiking network the spike counts over T of its hidden
    layers, then the readout.
    """
    x = np.asarray(x, dtype)
    check_input(network, x.shape)
    network = expand(network)
    with np.errstate(over="ignore", invalid="ignore"):
        x = standardize(network, x)
        *hidden, last = _trace_spiking(network, x) if network.is_spiking else _trace_mlp(network, x)
        return [*hidden, finish(network, last)]


def standardize(network: Network, x: Array) -> Array:
    """Inputs `[..., n_in]` as the first layer takes them."""
    return x if network.input_scaling is None else network.input_scaling.standardize(x)


def finish(network: Network, y: Array) -> Array:
    """Outputs `[..., n_out]` of the network from those of its last layer or readout: restored, then activated."""
    if network.output_scaling is not None:
        y = network.output_scaling.restore(y)
    return activate(y, network.output_activation)


def activate(y: Array, activation: str) -> Array:
    """Values `[..., n_out]` after an output activation of `OUTPUT_ACTIVATIONS`."""
    if activation == "softmax":
        powers = np.exp(y - y.max(axis=-1, keepdims=True))
        y = powers / powers.sum(axis=-1, keepdims=True)
    elif activation == "sigmoid":
        with np.errstate(over="ignore"):  # the result is 0
            y = 1 / (1 + np.exp(-y))
    return y


def check_input(network: Network, shape: tuple[int, ...]) -> None:
    """Refuse an input of another shape than that of the network: a `NetworkError` that names both."""
    tail = network.input_shape
    if len(shape) != len(tail) + 1 or tuple(shape[1:]) != tail:
        raise NetworkError(f"input has shape {list(shape)}; expected [batch, {', '.join(map(str, tail))}]")


def expand(network: Network) -> Network:
    """Materialize every matrix in float32, so that each is expanded only once; delays are computed at every start.

    Int8 matrices of networks with delays are multiplied as integers.
    """
    require_network(network, 4)

    def is_kept(leaf: WeightOperator) -> bool:
        return len(leaf.factors) > 1 or (not network.is_instant and leaf.scale is not None)

    return map_weights(network, lambda leaf: leaf if is_kept(leaf) else Dense(leaf.to_dense()))


def _trace_mlp(network: Network, x: Array) -> list[Array]:
    activations = []
    x = on_grid(x, network.input_grid)
    for layer in network.layers:
        x = on_grid(layer.neuron.activate(layer.weight.affine(x, layer.bias)), layer.grid)
        activations.append(x)
    return activations


def trace_one_step_off(network: Network, x: Array) -> list[Array]:
    """As `trace`, of a perceptron with int8 activations, each hidden one at random a step lower, the same, or higher.

    Engines may round halves and multipliers differently, by one step; the outputs show how much that is amplified.
    """
    rng = np.random.default_rng(0)
    activations, x = [], on_grid(standardize(network, np.asarray(x, np.float32)), network.input_grid)
    for layer in network.layers:
        x = on_grid(layer.neuron.activate(layer.weight.affine(x, layer.bias)), layer.grid)
        activations.append(x)
        if layer.grid is not None:
            x = on_grid(x + rng.integers(-1, 2, x.shape).astype(x.dtype) * x.dtype.type(layer.grid.scale), layer.grid)
    return [*activations[:-1], finish(network, activations[-1])]


def trace_int8(network: Network, x: Array) -> list[Array]:
    """Outputs `[batch, n]` of every layer of a perceptron whose int8 weights are multiplied in integers, as in C.

    The input of such weights is rounded to -127..127, symmetric, with its own scale; sums of integers are exact and
    the rest is float32, so results are those of the C library to the bit. Exceptions are float weights, and int8 rows
    of more than 65,536 weights, which the C library multiplies in float32. The network has no grids.
    """
    x = np.asarray(x, np.float32)
    check_input(network, x.shape)
    x, activations = standardize(network, x), []
    for layer in network.layers:
        terms = [] if layer.bias is None else [np.broadcast_to(layer.bias, (len(x), len(layer.bias)))]
        terms += [_leaf_int8(leaf, x) for leaf in leaves(layer.weight)]
        y: Array = reduce(np.add, terms)
        x = layer.neuron.activate(y)
        activations.append(x)
    return [*activations[:-1], finish(network, x)]


def _leaf_int8(leaf: WeightOperator, x: Array) -> Array:
    for factor in leaf.factors:
        x = factor.affine(x) if factor.scale is None else _product_int8(x, factor.stored_matrix(), factor.scale)
    return x


def _product_int8(x: Array, w: Array, scale: Scale) -> Array:
    """`x w^T`, operation by operation as in the C library; float64 holds every sum of integers exactly."""
    steps, x_scale = round_rows(x)
    sums = steps.astype(np.float64) @ w.astype(np.float64).T
    product: Array = (scale * x_scale) * sums.astype(np.float32)
    return product


@dataclass(frozen=True, eq=False)
class LayerState:
    """State of a layer of a spiking network between two steps.

    Attributes:
        membrane: `[batch, n]`.
        wiring: delays and recurrent synapses, whose rings are updated in place; None without them.
    """

    membrane: Array
    wiring: Wiring | None


def initial_state(network: Network, batch: int, dtype: DTypeLike = np.float64) -> list[LayerState]:
    """State of each layer before the first step."""
    return [
        LayerState(
            np.zeros((batch, layer.weight.shape[0]), dtype),
            None if layer.is_instant else Wiring(layer, batch, dtype, network.gives_spikes(index)),
        )
        for index, layer in enumerate(network.layers)
    ]


def step(network: Network, states: list[LayerState], x: Array) -> tuple[list[LayerState], list[Array]]:
    """One time step of a spiking network, for the state of each layer and the standardized input `[batch, n_in]`.

    Returns the new states, and the spikes (0 or 1) of the layers that spike.
    """
    after, spikes = [], []
    for layer, state in zip(network.layers, states):
        current = layer.weight.affine(x, layer.bias) if state.wiring is None else state.wiring.current(x)
        if layer.neuron.role == "spiking":
            current = on_grid(current, layer.grid)
        membrane, x = layer.neuron.advance(state.membrane, current, layer.grid)
        if state.wiring is not None:
            state.wiring.spike(x)
        after.append(replace(state, membrane=membrane))
        if layer.neuron.role == "spiking":
            spikes.append(x)
    return after, spikes


def arriving(network: Network, x: Array) -> Iterable[Array]:
    """What arrives at the first layer in each step, `[batch, n_in]`, of standardized inputs."""
    return encoding.arriving(network.input_coding, x, network.timesteps, network.delta)


def _steps(network: Network, x: Array) -> Iterator[tuple[list[Array], list[Array]]]:
    """Inputs and membranes of the layers in each time step; inputs end with the spikes of the last layer, if any."""
    states = initial_state(network, x.shape[0], x.dtype)
    for x_t in arriving(network, x):
        states, spikes = step(network, states, x_t)
        yield [x_t, *spikes], [state.membrane for state in states]


def _trace_spiking(network: Network, x: Array) -> list[Array]:
    x = on_grid(x, network.input_grid)
    counts = [np.zeros((x.shape[0], n), x.dtype) for n in network.layer_sizes[1:]]
    total = np.zeros_like(counts[-1])
    train, weights = [], readout_weights(network.readout_decay, network.timesteps).astype(x.dtype)
    for weight, (arrived, membranes) in zip(weights, _steps(network, x)):
        for index, spikes in enumerate(arrived[1:]):
            counts[index] += spikes
        total += weight * membranes[-1]
        train.append(arrived[-1])
    if network.readout == "spike_count":
        return counts
    if network.input_grid is not None:
        counts[-1] = _read_out_int8(network, network.input_grid, train)
    elif network.readout == "mean_membrane":
        counts[-1] = total / network.timesteps
    else:
        counts[-1] = membranes[-1]
    return counts


def _read_out_int8(network: Network, input_grid: Grid, train: list[Array]) -> Array:
    """Readout from the inputs of each step, `[batch, n_in]` each.

    With int8 activations it is one product with the weighted sum, because rounding the membrane in each step drifts.
    """
    grid = readout_grid(network, input_grid)
    factors = readout_factors(network, grid)
    if is_constant_readout(network):
        train, factors = train[:1], readout_factors(network).sum(keepdims=True)
    terms = [on_grid(x.dtype.type(factor) * x, grid) for factor, x in zip(factors, train)]
    return on_grid(_read_out(network, on_grid(np.sum(terms, axis=0), grid)), network.layers[-1].grid)


def _read_out(network: Network, weighted: Array) -> Array:
    """Membrane readout from `sum_t c[t] x[t]`, with `c` from `readout_factors`."""
    layer = network.layers[-1]
    bias = None if layer.bias is None else layer.bias.astype(np.float64) * readout_factors(network).sum()
    return layer.weight.affine(weighted, bias)


def layer_inputs(network: Network, x: Array, dtype: DTypeLike = np.float32) -> tuple[list[Array], list[Array]]:
    """Inputs `[rows, n_in]` of every layer, and values `[rows, n_out]` that an int8 grid covers, in floating point.

    A row is an example, for spiking neurons an example in one time step. Values are the activations of a multilayer
    perceptron, the membranes of spiking neurons, or the membrane readout, whose input is `sum_t c[t] x[t]` with `c`
    from `readout_factors`; where its neurons differ, inputs and membranes of each step. Arguments as for `run`.
    """
    x = np.asarray(x, dtype)
    check_input(network, x.shape)
    network, x = expand(network), standardize(network, x)
    if not network.is_spiking:
        activations = _trace_mlp(network, x)
        return [x, *activations[:-1]], activations
    arrived, membranes = zip(*_steps(network, x))
    values = [list(steps) for steps in zip(*membranes)]
    inputs = [list(steps) for steps in zip(*arrived)][: len(values)]
    if network.coding.is_constant and len(network.layers) > 1:
        inputs[0] = inputs[0][:1]
    if network.has_summed_readout:
        weighted = np.einsum("t,tbi->bi", readout_factors(network).astype(x.dtype), np.stack(inputs[-1]))
        inputs[-1], values[-1] = [weighted], [_read_out(network, weighted)]
    return [np.concatenate(rows) for rows in inputs], [np.concatenate(rows) for rows in values]
