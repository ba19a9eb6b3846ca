"""The numpy interpreter of a network: the plain reference for every other engine."""

from __future__ import annotations

from functools import reduce
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sen_runtime.errors import NetworkError
from sen_runtime.ir.int8 import Grid, Scale, on_grid, round_rows
from sen_runtime.ir.network import Network, is_constant_readout, map_weights, readout_factors, readout_grid
from sen_runtime.ir.operators import Dense, WeightOperator, leaves
from sen_runtime.memory_limits import require_network

Array = NDArray[Any]


def run(network: Network, x: Array, dtype: DTypeLike = np.float64) -> Array:
    """Outputs of the network.

    Args:
        network: to run.
        x: `[batch, n_in]`, or `[batch, T, n_in]` for input coding "spikes".
        dtype: of all arithmetic; float64 for the exact result, float32 for that of a device.

    Returns:
        `[batch, n_out]`: logits, mean or last membrane, or spike counts.

    Raises:
        NetworkError: the input has the wrong shape.
    """
    return trace(network, x, dtype)[-1]


def trace(network: Network, x: Array, dtype: DTypeLike = np.float64) -> list[Array]:
    """Outputs of every layer, first layer first; arguments as for `run`.

    Returns:
        One `[batch, n]` array per layer: activations of a multilayer perceptron; of a spiking network the
        spike counts over T of its hidden layers, then the readout.
    """
    x = np.asarray(x, dtype)
    check_input(network, x.shape)
    network = expand(network)
    with np.errstate(over="ignore", invalid="ignore"):
        return _trace_spiking(network, x) if network.is_spiking else _trace_mlp(network, x)


def check_input(network: Network, shape: tuple[int, ...]) -> None:
    """Refuse an input of another shape than that of the network.

    Raises:
        NetworkError: names both shapes.
    """
    tail = network.input_shape
    if len(shape) != len(tail) + 1 or tuple(shape[1:]) != tail:
        raise NetworkError(f"input has shape {list(shape)}; expected [batch, {', '.join(map(str, tail))}]")


def expand(network: Network) -> Network:
    """Materialize every matrix in float32, so that each is expanded only once.

    Raises:
        MemoryLimitError: the matrices need more memory than is available.
    """
    require_network(network, 4)
    return map_weights(network, _expand_leaf)


def _expand_leaf(operator: WeightOperator) -> WeightOperator:
    return operator if len(operator.factors) > 1 else Dense(operator.to_dense())


def _trace_mlp(network: Network, x: Array) -> list[Array]:
    activations = []
    x = on_grid(x, network.input_grid)
    for layer in network.layers:
        x = on_grid(layer.neuron.activate(layer.weight.affine(x, layer.bias)), layer.grid)
        activations.append(x)
    return activations


def trace_int8(network: Network, x: Array) -> list[Array]:
    """Outputs of every layer of a perceptron whose int8 weights are multiplied in integers, as in the C library.

    The input of such weights is rounded to -127..127, symmetric, with its own scale; sums of integers are exact and
    the rest is float32, so results are those of the C library to the bit. Exceptions are float weights, and int8 rows
    of more than 65,536 weights, which the C library multiplies in float32.

    Args:
        network: a perceptron without grids.
        x: `[batch, n_in]`.

    Returns:
        One `[batch, n]` array per layer.

    Raises:
        NetworkError: the input has the wrong shape.
    """
    x = np.asarray(x, np.float32)
    check_input(network, x.shape)
    activations = []
    for layer in network.layers:
        terms = [] if layer.bias is None else [np.broadcast_to(layer.bias, (len(x), len(layer.bias)))]
        terms += [_leaf_int8(leaf, x) for leaf in leaves(layer.weight)]
        y: Array = reduce(np.add, terms)
        x = layer.neuron.activate(y)
        activations.append(x)
    return activations


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


def initial_membranes(network: Network, batch: int, dtype: DTypeLike = np.float64) -> list[Array]:
    """State before the first step: one `[batch, n]` array of zeros per layer."""
    return [np.zeros((batch, layer.weight.shape[0]), dtype) for layer in network.layers]


def step(network: Network, membranes: list[Array], x: Array) -> tuple[list[Array], list[Array]]:
    """One time step of a spiking network.

    Args:
        network: with timesteps > 0.
        membranes: one `[batch, n]` array per layer, from the step before.
        x: `[batch, n_in]` input of this step.

    Returns:
        The new membranes, and the spikes (0 or 1) of the layers that spike.
    """
    after, spikes = [], []
    for layer, membrane in zip(network.layers, membranes):
        current = layer.weight.affine(x, layer.bias)
        if layer.neuron.role == "spiking":
            current = on_grid(current, layer.grid)
        membrane_next, x = layer.neuron.advance(membrane, current, layer.grid)
        after.append(membrane_next)
        if layer.neuron.role == "spiking":
            spikes.append(x)
    return after, spikes


def _trace_spiking(network: Network, x: Array) -> list[Array]:
    x = on_grid(x, network.input_grid)
    inputs = x.transpose(1, 0, 2) if network.input_coding == "spikes" else repeat(x, network.timesteps)
    membranes = initial_membranes(network, x.shape[0], x.dtype)
    counts = [np.zeros_like(membrane) for membrane in membranes]
    total = np.zeros_like(membranes[-1])
    train = []
    for x_t in inputs:
        membranes, spikes = step(network, membranes, x_t)
        for index, spike in enumerate(spikes):
            counts[index] += spike
        total += membranes[-1]
        train.append(spikes[-1] if spikes else x_t)
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
    layer, grid = network.layers[-1], readout_grid(network, input_grid)
    factors = readout_factors(network, grid)
    if is_constant_readout(network):
        train, factors = train[:1], readout_factors(network).sum(keepdims=True)
    terms = [on_grid(x.dtype.type(factor) * x, grid) for factor, x in zip(factors, train)]
    weighted: Array = np.sum(terms, axis=0)
    bias = None if layer.bias is None else layer.bias.astype(np.float64) * readout_factors(network).sum()
    return on_grid(layer.weight.affine(on_grid(weighted, grid), bias), layer.grid)


def layer_inputs(network: Network, x: Array, dtype: DTypeLike = np.float32) -> tuple[list[Array], list[Array]]:
    """Inputs of every layer and values of its neurons, in floating point; arguments as for `run`.

    Returns:
        For each layer the inputs `[rows, n_in]` and the values `[rows, n_out]` that an int8 grid covers. A row is an
        example, for spiking neurons an example in one time step. Values are the activations of a multilayer
        perceptron, the membranes of spiking neurons, or the membrane readout, whose input is `sum_t c[t] x[t]` with `c`
        from `readout_factors`.
    """
    x = np.asarray(x, dtype)
    check_input(network, x.shape)
    network = expand(network)
    if not network.is_spiking:
        activations = _trace_mlp(network, x)
        return [x, *activations[:-1]], activations
    steps = list(x.transpose(1, 0, 2)) if network.input_coding == "spikes" else [x] * network.timesteps
    membranes = initial_membranes(network, x.shape[0], x.dtype)
    inputs: list[list[Array]] = [[] for _ in network.layers]
    values: list[list[Array]] = [[] for _ in network.layers]
    for x_t in steps:
        membranes, spikes = step(network, membranes, x_t)
        for index, (arrived, membrane) in enumerate(zip([x_t, *spikes], membranes)):
            inputs[index].append(arrived)
            values[index].append(membrane)
    if network.input_coding == "direct" and len(network.layers) > 1:
        inputs[0] = inputs[0][:1]
    if network.readout != "spike_count":
        layer, factors = network.layers[-1], readout_factors(network)
        arrived = np.einsum("t,tbi->bi", factors.astype(x.dtype), np.stack(inputs[-1]))
        bias = None if layer.bias is None else layer.bias.astype(np.float64) * factors.sum()
        inputs[-1], values[-1] = [arrived], [layer.weight.affine(arrived, bias)]
    return [np.concatenate(rows) for rows in inputs], [np.concatenate(rows) for rows in values]
