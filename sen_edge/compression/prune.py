"""Pruning: zeros in the weights of a network, and other weights and biases that compensate for them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.compression.moments import (
    CompressionWarning,
    Inputs,
    SecondOrder,
    check_calibration,
    compensate_means,
    moments,
)
from sen_edge.compression.patterns import Pattern, select_largest
from sen_edge.compression.quadratic import FloatArray, Quadratic, best_under_pattern
from sen_edge.compression.request import CompressRequest, select_layers
from sen_edge.errors import UsageError
from sen_edge.model.statistics import MAX_WRITTEN_OUT
from sen_edge.passes.materialize import Mask, materialize, to_sparse_layout, weights
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sum, WeightOperator

Indices = NDArray[np.intp]

#: Max difference from the requested sparsity of a radius without a warning.
TIES = 0.01
#: Steps of the search for the sparsity that a relative error allows.
BISECTIONS = 7
#: Neurons below this share of the mean energy of their layer are dead and always removed.
DEAD = 1e-9


def prune(
    network: Network, request: CompressRequest | None = None, *, calibration: Inputs | None = None, **fields: Any
) -> Network:
    """Set weights of a network to zero, as a request or its fields say.

    Biases compensate the mean of removed weights if there are calibration inputs `[n, n_in]`, or `[n, T, n_in]` for
    input coding "spikes". Criterion "second-order" also selects by their second moments, and changes the remaining
    weights. Criterion "distance" keeps coordinates, whose radius determines the remaining synapses.
    """
    request = request or CompressRequest(**fields)
    request.expect("prune")
    layers = select_layers(request.layers, network)
    if calibration is not None or request.criterion == "second-order":
        calibration = check_calibration(network, calibration)
    if request.pattern == "neurons":
        return remove_neurons(network, layers, request, calibration)
    if request.criterion == "second-order":
        result = _prune_second_order(SecondOrder.of(network, calibration, request.seed), request, layers)
    elif request.criterion == "distance":
        result = _cut_distant(network, request, layers)
    else:
        dense = materialize(network)
        masks = choose_masks(dense, request)
        cut = {index: to_sparse_layout(dense.layers[index].weight.to_dense(), mask) for index, mask in masks.items()}
        result = _replace_weights(dense, cut)
    if calibration is not None and request.criterion != "second-order":
        result = compensate_means(network, result, calibration)
    _warn_of_disconnected(result)
    return result


def choose_masks(network: Network, request: CompressRequest, calibration: Inputs | None = None) -> dict[int, Mask]:
    """Synapses `[n_out, n_in]` of each requested layer that stay, by magnitude, or second-order without a threshold."""
    layers, pattern = select_layers(request.layers, network), request.parsed_pattern
    if request.criterion == "magnitude":
        dense = materialize(network)
        energies = {index: np.square(dense.layers[index].weight.to_dense(), dtype=np.float64) for index in layers}
        if request.threshold is not None:
            return {index: pattern.select_above(each, request.threshold**2) for index, each in energies.items()}
        counts = weights_per_layer(energies, request)
        return {index: pattern.select(energy, counts[index]) for index, energy in energies.items()}
    problems = SecondOrder.of(network, calibration, request.seed).problems(layers)
    counts = weights_per_layer({index: problem.saliency() for index, problem in problems.items()}, request)
    return {
        index: best_under_pattern(problem, partial(pattern.select, count=counts[index]))[1]
        for index, problem in problems.items()
    }


def weights_per_layer(energies: Mapping[int, FloatArray], request: CompressRequest) -> dict[int, int]:
    """Return the number of remaining weights per layer for the requested total sparsity."""
    if request.sparsity is None:  # N:M
        return {index: energy.size for index, energy in energies.items()}
    density, pattern = 1 - request.sparsity, request.parsed_pattern
    if not request.is_global:
        return {index: round(density * energy.size) for index, energy in energies.items()}
    blocks = [pattern.block_sums(energy).ravel() for energy in energies.values()]
    sizes = [pattern.block_sizes(energy.shape).ravel() for energy in energies.values()]
    total = sum(energy.size for energy in energies.values())
    mask = select_largest(np.concatenate(blocks), round(density * total), np.concatenate(sizes))
    parts = np.split(mask, np.cumsum([len(each) for each in blocks])[:-1])
    return {index: int(size @ part) for index, part, size in zip(energies, parts, sizes, strict=True)}


def best_sparse(problem: Quadratic, pattern: Pattern, count: int, effort: float = 1.0) -> WeightOperator:
    """Return weights with `count` nonzeros and nearly minimal error; `effort` scales the number of iterations."""
    scaled, mask = best_under_pattern(problem, partial(pattern.select, count=count), effort)
    return to_sparse_layout(problem.to_weights(scaled).astype(np.float32), mask)


def find_radius(operators: Sequence[Coordinates], sparsity: float) -> float:
    """Radius that this share of all distances exceeds, half way between two of them; inf for none.

    Neurons nearer than `min_distance` count as that far, and stay connected. A warning names layers in which many more
    synapses than requested remain, because a radius cannot separate synapses of equal length.
    """
    distances = np.concatenate([_distances(operator) for operator in operators])
    kept = max(round((1 - sparsity) * distances.size), 1)
    if kept == distances.size:
        return math.inf
    inside, outside = np.partition(distances, (kept - 1, kept))[[kept - 1, kept]]
    smallest = np.nextafter(np.float32(max(operator.min_distance for operator in operators)), np.float32(np.inf))
    radius = max(float(np.float32((float(inside) + float(outside)) / 2)), float(smallest))
    reached = float(np.mean(distances > radius))
    if reached < sparsity - TIES:
        warnings.warn(
            f"synapses of equal length stay together: a radius cuts {reached:.1%} of them, not {sparsity:.1%}",
            CompressionWarning,
            stacklevel=3,
        )
    return radius


def _distances(operator: Coordinates) -> NDArray[np.float32]:
    """Distances between all sources and targets, flat."""
    plain = replace(operator, mask=np.ones_like(operator.mask), gain=1.0, exponent=1.0, max_distance=math.inf)
    return np.float32(1) / weights(plain).ravel()


def _cut_distant(network: Network, request: CompressRequest, layers: Sequence[int]) -> Network:
    """Return coordinates with a radius, which defines the pattern by one number."""
    operators: dict[int, Coordinates] = {}
    for index in layers:
        operator = network.layers[index].weight
        if not isinstance(operator, Coordinates):
            raise UsageError(f"layer {index} has no coordinates", "prune the checkpoint, or by magnitude")
        if request.threshold is not None and request.threshold <= operator.min_distance:
            raise UsageError(
                f"layer {index}: the radius is {request.threshold:g}; expected more than the min_distance "
                f"{operator.min_distance:g}"
            )
        operators[index] = operator
    if request.threshold is not None:
        radii = dict.fromkeys(layers, request.threshold)
    elif request.is_global:
        radii = dict.fromkeys(layers, find_radius([*operators.values()], request.sparsity or 0.0))
    else:
        radii = {index: find_radius([operator], request.sparsity or 0.0) for index, operator in operators.items()}
    cut = {i: replace(each, max_distance=min(radii[i], each.max_distance)) for i, each in operators.items()}
    return _replace_weights(network, cut)


def _prune_second_order(fit: SecondOrder, request: CompressRequest, layers: Sequence[int]) -> Network:
    pattern, problems = request.parsed_pattern, fit.problems(layers)
    if request.threshold is not None:
        sparsest = partial(_sparsest, pattern=pattern, error=request.threshold)
        return fit.compress(dict.fromkeys(layers, sparsest))
    counts = weights_per_layer({index: each.saliency() for index, each in problems.items()}, request)
    return fit.compress({i: partial(best_sparse, pattern=pattern, count=count) for i, count in counts.items()})


def _sparsest(problem: Quadratic, pattern: Pattern, error: float) -> WeightOperator:
    """The fewest weights with at most this relative error, by bisection."""
    low, high = 0, problem.weight.size
    best, best_mask = problem.weight, np.ones(problem.weight.shape, bool)
    for _ in range(BISECTIONS):
        count = (low + high) // 2
        scaled, mask = best_under_pattern(problem, partial(pattern.select, count=count))
        if problem.relative_error(scaled) <= error:
            high, best, best_mask = count, scaled, mask
        else:
            low = count
    return to_sparse_layout(problem.to_weights(best).astype(np.float32), best_mask)


def _replace_weights(network: Network, operators: Mapping[int, WeightOperator]) -> Network:
    layers = [replace(layer, weight=operators.get(index, layer.weight)) for index, layer in enumerate(network.layers)]
    return replace(network, layers=tuple(layers))


def _warn_of_disconnected(network: Network) -> None:
    """Name the neurons without synapses, except in layers that are too large to be materialized."""
    for index, layer in enumerate(network.layers):
        if layer.weight.shape[0] * layer.weight.shape[1] > MAX_WRITTEN_OUT:
            continue
        silent = np.flatnonzero(~np.any(layer.weight.to_dense() != 0, axis=1))
        if len(silent):
            names = ", ".join(map(str, silent[:8])) + (f" and {len(silent) - 8} more" if len(silent) > 8 else "")
            warnings.warn(
                f"layer {index}: no synapse reaches output neuron {names}; only the bias is left there",
                CompressionWarning,
                stacklevel=3,
            )


# --- whole neurons -------------------------------------------------------------------------------


def remove_neurons(
    network: Network, layers: Sequence[int], request: CompressRequest, calibration: Inputs | None
) -> Network:
    """Remove a share of the hidden neurons, the least important; at sparsity 0 only those that never change.

    A neuron is a column of the next layer and a row of its own. The biases of the next layer compensate for its mean,
    and the remaining columns for the rest. Without calibration neurons with the smallest weights are removed, and a
    network of coordinates stays one.
    """
    hidden = [index for index in layers if index < len(network.layers) - 1]
    if not hidden:
        raise UsageError("there are no hidden neurons to remove", hint="the last layer's neurons are the outputs")
    sparsity = request.sparsity or 0.0
    if calibration is None:
        return keep_neurons(network, _strongest(network, hidden, sparsity))
    fit = SecondOrder.of(network, calibration, request.seed)
    found = moments(fit.network, fit.network, calibration)
    variances = {index: found[index + 1].variance for index in hidden}
    kept: dict[int, Indices] = {}

    def remove(index: int, problem: Quadratic) -> WeightOperator:
        variance, n_out = variances[index], problem.weight.shape[0]
        columns, count, alive = Pattern(block=(n_out, 1)), n_out * _count(variance, sparsity), _alive(variance)
        # damping gives dead neurons with large weights some energy, which must not count
        scaled, mask = best_under_pattern(problem, lambda energy: columns.select(np.where(alive, energy, -1.0), count))
        kept[index] = np.flatnonzero(mask[0])
        return Dense(problem.to_weights(scaled).astype(np.float32))

    return keep_neurons(fit.compress({index + 1: partial(remove, index) for index in hidden}), kept)


def keep_neurons(network: Network, kept: Mapping[int, Indices]) -> Network:
    """The network with only these output neurons `[n]`, ascending, in the layers that `kept` names."""
    layers = []
    for index, layer in enumerate(network.layers):
        n_out, n_in = layer.weight.shape
        rows, columns = kept.get(index, np.arange(n_out)), kept.get(index - 1, np.arange(n_in))
        bias = None if layer.bias is None else layer.bias[rows]
        neuron = replace(layer.neuron, **{name: values[rows] for name, values in layer.neuron.arrays.items()})
        layers.append(replace(layer, weight=take(layer.weight, rows, columns), bias=bias, neuron=neuron))
    positions = tuple(at[kept.get(index, slice(None))] for index, at in enumerate(network.positions, start=-1))
    return replace(network, layers=tuple(layers), positions=positions)


def take(operator: WeightOperator, rows: Indices, columns: Indices) -> WeightOperator:
    """The operator with these outputs and inputs, in this order; floating-point weights."""
    if isinstance(operator, Sum):
        return Sum(take(operator.a, rows, columns), take(operator.b, rows, columns))
    if isinstance(operator, Coordinates):
        return replace(
            operator, source=operator.source[columns], target=operator.target[rows], mask=operator.mask[columns]
        )
    if isinstance(operator, LowRank):
        return LowRank(operator.left[rows], np.ascontiguousarray(operator.right[:, columns]))
    w = operator.to_dense()[np.ix_(rows, columns)]
    return Dense(w) if isinstance(operator, Dense) else to_sparse_layout(w, w != 0)


def _strongest(network: Network, hidden: Sequence[int], sparsity: float) -> dict[int, Indices]:
    """Neurons that stay, by the product of the norms of the weights into and out of each."""
    values = [layer.weight.to_dense().astype(np.float64) for layer in materialize(network).layers]
    energies = {i: (values[i] ** 2).sum(axis=1) * (values[i + 1] ** 2).sum(axis=0) for i in hidden}
    return {i: np.flatnonzero(select_largest(energy, _count(energy, sparsity))) for i, energy in energies.items()}


def _alive(energy: FloatArray) -> Mask:
    return np.greater(energy, DEAD * energy.mean())


def _count(energy: FloatArray, sparsity: float) -> int:
    """Neurons of a layer that stay: never the dead, at least one."""
    return max(1, min(int(_alive(energy).sum()), round((1 - sparsity) * len(energy))))
