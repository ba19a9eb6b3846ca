"""Weights of coordinates, computed in the graph from stored positions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sen_exporters.onnx.graph import DOUBLE, FLOAT, GraphBuilder
from sen_runtime.ir.operators import Coordinates
from sen_runtime.ir.operators.coordinates import check_distances, check_range

FloatArray = NDArray[np.float64]

#: Relative error of a squared distance below which every weight keeps its last float32 digit.
DISTANCE_ERROR = 2.0**-30
TILE_VALUES = 1 << 20


def coordinate_weights(graph: GraphBuilder, operator: Coordinates, name: str) -> str:
    """Weights `[n_out, n_in]` as a value of the graph; onnxruntime folds it at load.

        w = gain * mask / max(|q - p|, min_distance) ** exponent, or 0 where |q - p| > max_distance

    In float64, rounded once.

    Raises:
        NetworkError: two neurons at the same point while `min_distance` is 0, or a weight beyond float32.
    """
    prefix = name.rpartition("/")[0]
    source = graph.cast_constant(f"{prefix}/source_positions", operator.source, DOUBLE)
    target = graph.cast_constant(f"{prefix}/target_positions", operator.target, DOUBLE)
    bound, is_clear = squared_bound(operator)
    if expansion_error(operator) > DISTANCE_ERROR or not is_clear:
        distances = squared = _squared_distance_by_difference(graph, prefix, source, target)
    else:
        distances = squared = _squared_distance_by_expansion(graph, prefix, source, target)
    if operator.min_distance > 0:
        floor = graph.scalar(f"{prefix}/min_squared_distance", operator.min_distance**2, np.float64)
        squared = graph.node("Max", [squared, floor], f"{prefix}/floored_squared_distance")
    if operator.exponent == 1:
        power = graph.node("Sqrt", [squared], f"{prefix}/distance")
    elif operator.exponent == 2:
        power = squared
    else:
        half = graph.scalar(f"{prefix}/half_exponent", operator.exponent / 2, np.float64)
        power = graph.node("Pow", [squared, half], f"{prefix}/distance_power")
    mask = graph.cast_constant(f"{prefix}/mask", operator.mask, DOUBLE)
    gain = graph.scalar(f"{prefix}/gain", operator.gain, np.float64)
    numerator = graph.node("Mul", [mask, gain], f"{prefix}/numerator")
    quotient = graph.node("Div", [numerator, power], f"{name}_f64")
    if bound == np.inf:
        return graph.node("Cast", [quotient], name, to=FLOAT)
    every = graph.node("Cast", [quotient], f"{name}_of_any_length", to=FLOAT)
    longest = graph.scalar(f"{prefix}/max_squared_distance", bound, np.float64)
    is_beyond = graph.node("Greater", [distances, longest], f"{prefix}/is_beyond_max_distance")
    return graph.node("Where", [is_beyond, graph.scalar(f"{prefix}/no_weight", 0.0), every], name)


def _squared_distance_by_expansion(graph: GraphBuilder, prefix: str, source: str, target: str) -> str:
    """|q|^2 - 2 q.p + |p|^2 as one product: without an [n_out, n_in, d] array, but it cancels for near points."""
    norms = []
    for kind, positions, keepdims in (("target", target, 1), ("source", source, 0)):
        squares = graph.node("Mul", [positions, positions], f"{prefix}/{kind}_squares")
        axis = graph.constant("axes/coordinates", np.array([1], np.int64))
        norms.append(graph.node("ReduceSum", [squares, axis], f"{prefix}/{kind}_norms", keepdims=keepdims))
    half = graph.node("Gemm", [target, source, norms[0]], f"{prefix}/half_expanded", alpha=-2.0, transB=1)
    return graph.node("Add", [half, norms[1]], f"{prefix}/squared_distance")


def _squared_distance_by_difference(graph: GraphBuilder, prefix: str, source: str, target: str) -> str:
    """sum_k (q_k - p_k)^2 through an [n_out, n_in, d] array: exact for near points too."""
    column = graph.node(
        "Unsqueeze", [target, graph.constant("axes/coordinates", np.array([1], np.int64))], f"{prefix}/target_column"
    )
    difference = graph.node("Sub", [column, source], f"{prefix}/difference")
    squares = graph.node("Mul", [difference, difference], f"{prefix}/difference_squares")
    last = graph.constant("axes/last", np.array([2], np.int64))
    return graph.node("ReduceSum", [squares, last], f"{prefix}/squared_distance", keepdims=0)


def expansion_error(operator: Coordinates) -> float:
    """Max relative error of a squared distance in expanded form, over all pairs of neurons.

    At most d + 4 roundings of 2^-53 each, of terms whose sum is at most 2 (|p|^2 + |q|^2). Also checks the weights,
    because the graph cannot refuse them.

    Raises:
        NetworkError: two neurons at the same point while `min_distance` is 0, or a weight beyond float32.
    """
    numerator = operator.gain * operator.mask.astype(np.float64)
    worst = 0.0
    for first, squared, norms in _tiles(operator):
        floored = np.maximum(squared, operator.min_distance**2)
        distance = np.sqrt(floored)
        check_distances(distance, first_target=first)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # check_range reports it
            weights = numerator / distance**operator.exponent
        weights[distance > operator.max_distance] = 0
        check_range(weights, first_target=first)
        worst = max(worst, float(np.max(norms / floored)))
    return _rounding(operator) * worst


def squared_bound(operator: Coordinates) -> tuple[float, bool]:
    """Limit of a squared distance, such that rounding does not decide which synapses are beyond `max_distance`.

    Returns:
        Middle between the squared lengths of the longest synapse within and the shortest beyond; inf where none is
        beyond. Whether the gap between them is wider than the error of the expanded form.
    """
    if not operator.has_max_distance:
        return np.inf, True
    longest, shortest_beyond, largest = 0.0, np.inf, 0.0
    for _, squared, norms in _tiles(operator):
        is_beyond = np.sqrt(squared) > operator.max_distance
        longest = max(longest, float(np.max(squared, initial=0, where=~is_beyond)))
        shortest_beyond = min(shortest_beyond, float(np.min(squared, initial=np.inf, where=is_beyond)))
        largest = max(largest, float(np.max(norms)))
    return (longest + shortest_beyond) / 2, shortest_beyond - longest > 4 * _rounding(operator) * largest


def _rounding(operator: Coordinates) -> float:
    return (operator.dimensions + 4) * 2.0**-52


def _tiles(operator: Coordinates) -> Iterator[tuple[int, FloatArray, FloatArray]]:
    """For some targets at a time: the first one, then |q - p|^2 and |q|^2 + |p|^2, `[targets, sources]`.

    Coordinate by coordinate, without an array of `[targets, sources, d]`.
    """
    source, target = operator.source.astype(np.float64), operator.target.astype(np.float64)
    rows = max(1, TILE_VALUES // len(source))
    for first in range(0, len(target), rows):
        tile = target[first : first + rows]
        squared = np.zeros((len(tile), len(source)))
        for k in range(operator.dimensions):
            squared += (tile[:, k, np.newaxis] - source[:, k]) ** 2
        yield first, squared, np.sum(tile**2, axis=1, keepdims=True) + np.sum(source**2, axis=1)
