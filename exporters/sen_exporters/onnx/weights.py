"""Every weight operator as ONNX nodes: `y = x W^T + b` for `x [rows, n_in]`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_exporters.onnx.graph import DOUBLE, FLOAT, GraphBuilder
from sen_runtime.errors import NetworkError
from sen_runtime.ir.coordinates import check_distances, check_range
from sen_runtime.ir.int8 import Scale
from sen_runtime.ir.network import Layer
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum, WeightOperator

Array = NDArray[Any]

#: Squared distances may be off by this much, relatively, before a weight's last float32 digit could feel it.
DISTANCE_ERROR = 2.0**-30
TILE_VALUES = 1 << 20


def affine(graph: GraphBuilder, layer: Layer, index: int, x: str, output: str, sparse_format: str) -> str:
    """Add `W x + b` of a layer, `x [rows, n_in]` to `output [rows, n_out]`; the name `output`.

    Raises:
        NetworkError: coordinates whose weights are not finite; the layer and both neurons are named.
    """
    bias = None if layer.bias is None else graph.cast_constant(f"layer{index}/bias", layer.bias)
    try:
        return _product(graph, layer.weight, f"layer{index}", x, bias, output, sparse_format)
    except NetworkError as error:
        raise NetworkError(f"layer {index}: {error.message}", error.hint) from error


def _product(
    graph: GraphBuilder,
    operator: WeightOperator,
    prefix: str,
    x: str,
    bias: str | None,
    output: str,
    sparse_format: str,
) -> str:
    if isinstance(operator, Sum):
        # the bias goes with an operand, whose product takes it up for nothing
        a = _product(graph, operator.a, f"{prefix}/a", x, None, f"{prefix}/a/product", sparse_format)
        b = _product(graph, operator.b, f"{prefix}/b", x, bias, f"{prefix}/b/product", sparse_format)
        return graph.node("Add", [a, b], output)
    if isinstance(operator, LowRank):
        return _low_rank(graph, operator, prefix, x, bias, output)
    weight = _matrix(graph, operator, f"{prefix}/weight", sparse_format)
    return graph.node("Gemm", [x, weight] if bias is None else [x, weight, bias], output, transB=1)


def _matrix(graph: GraphBuilder, operator: Coordinates | Dense | Sparse, name: str, sparse_format: str) -> str:
    """The weights `[n_out, n_in]` as a value of the graph."""
    if isinstance(operator, Coordinates):
        return coordinate_weights(graph.root, operator, name)
    if isinstance(operator, Dense):
        return _scaled(graph, name, operator.w, operator.scale)
    return _scaled(graph, name, operator.written_out(), operator.scale, is_sparse=sparse_format == "densify")


def _low_rank(graph: GraphBuilder, operator: LowRank, prefix: str, x: str, bias: str | None, output: str) -> str:
    """Two products; the factors are stored transposed, `right [n_in, r]` and `left [r, n_out]`."""
    right = _scaled(graph, f"{prefix}/right", operator.right, operator.right_scale, transpose=True)
    left = _scaled(graph, f"{prefix}/left", operator.left, operator.left_scale, transpose=True)
    inner = graph.node("MatMul", [x, right], f"{prefix}/inner")
    if bias is None:
        return graph.node("MatMul", [inner, left], output)
    product = graph.node("MatMul", [inner, left], f"{prefix}/product")
    return graph.node("Add", [product, bias], output)


def _scaled(
    graph: GraphBuilder,
    name: str,
    w: Array,
    scale: Scale | None,
    *,
    is_sparse: bool = False,
    transpose: bool = False,
) -> str:
    """Stored weights as float32 `[rows, columns]`, or transposed; int8 ones times their scale, folded at load."""
    stored_name = name if scale is None else f"{name}_unscaled"
    w = np.ascontiguousarray(w.T) if transpose else w
    stored = graph.sparse_constant(stored_name, w) if is_sparse else graph.cast_constant(stored_name, w)
    if scale is None:
        return stored
    shape = (1, -1) if transpose else (-1, 1)
    return graph.root.node("Mul", [stored, graph.constant(f"{name}_scale", scale.reshape(shape))], name)


def coordinate_weights(graph: GraphBuilder, operator: Coordinates, name: str) -> str:
    """Weights `[n_out, n_in]` computed in the graph from stored positions; onnxruntime folds them at load.

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
    """|q|^2 - 2 q.p + |p|^2 as one product: no [n_out, n_in, d] array, but cancellation where q is close to p."""
    norms = []
    for kind, positions, keepdims in (("target", target, 1), ("source", source, 0)):
        squares = graph.node("Mul", [positions, positions], f"{prefix}/{kind}_squares")
        axis = graph.constant("axes/coordinates", np.array([1], np.int64))
        norms.append(graph.node("ReduceSum", [squares, axis], f"{prefix}/{kind}_norms", keepdims=keepdims))
    half = graph.node("Gemm", [target, source, norms[0]], f"{prefix}/half_expanded", alpha=-2.0, transB=1)
    return graph.node("Add", [half, norms[1]], f"{prefix}/squared_distance")


def _squared_distance_by_difference(graph: GraphBuilder, prefix: str, source: str, target: str) -> str:
    """sum_k (q_k - p_k)^2 through an [n_out, n_in, d] array: exact for neurons however close."""
    column = graph.node(
        "Unsqueeze", [target, graph.constant("axes/coordinates", np.array([1], np.int64))], f"{prefix}/target_column"
    )
    difference = graph.node("Sub", [column, source], f"{prefix}/difference")
    squares = graph.node("Mul", [difference, difference], f"{prefix}/difference_squares")
    last = graph.constant("axes/last", np.array([2], np.int64))
    return graph.node("ReduceSum", [squares, last], f"{prefix}/squared_distance", keepdims=0)


def expansion_error(operator: Coordinates) -> float:
    """Worst relative error of a squared distance in expanded form, over all pairs of neurons.

    At most d + 4 roundings of 2^-53 each, of terms that together reach 2 (|p|^2 + |q|^2). Checks the
    weights on the way, because the graph itself cannot refuse them.

    Raises:
        NetworkError: two neurons at the same point while `min_distance` is 0, or a weight beyond float32.
    """
    source, target = operator.source.astype(np.float64), operator.target.astype(np.float64)
    norms = np.sum(source**2, axis=1)
    numerator = operator.gain * operator.mask.astype(np.float64)
    rows = max(1, TILE_VALUES // len(source))
    worst = 0.0
    for first in range(0, len(target), rows):
        tile = target[first : first + rows]
        squared = np.maximum(_squared_distances(source, tile), operator.min_distance**2)
        distance = np.sqrt(squared)
        check_distances(distance, first_target=first)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # check_range reports it
            weights = numerator / distance**operator.exponent
        weights[distance > operator.max_distance] = 0
        check_range(weights, first_target=first)
        magnitude = norms + np.sum(tile**2, axis=1, keepdims=True)
        worst = max(worst, float(np.max(magnitude / squared)))
    return (operator.dimensions + 4) * 2.0**-52 * worst


def squared_bound(operator: Coordinates) -> tuple[float, bool]:
    """What a squared distance is compared with, so that no rounding decides which synapses are beyond `max_distance`.

    Returns:
        The middle between the longest synapse that counts and the shortest beyond, squared; inf where none is beyond.
        Whether the gap between them is wider than what the expanded form may be off.
    """
    if not operator.has_max_distance:
        return np.inf, True
    source, target = operator.source.astype(np.float64), operator.target.astype(np.float64)
    rows = max(1, TILE_VALUES // len(source))
    longest, shortest_beyond = 0.0, np.inf
    for first in range(0, len(target), rows):
        squared = _squared_distances(source, target[first : first + rows])
        is_beyond = np.sqrt(squared) > operator.max_distance
        longest = max(longest, float(np.max(squared, initial=0, where=~is_beyond)))
        shortest_beyond = min(shortest_beyond, float(np.min(squared, initial=np.inf, where=is_beyond)))
    magnitude = float(np.max(np.sum(source**2, axis=1)) + np.max(np.sum(target**2, axis=1)))
    error = (operator.dimensions + 4) * 2.0**-52 * magnitude
    return (longest + shortest_beyond) / 2, shortest_beyond - longest > 4 * error


def _squared_distances(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """`[targets, sources]`, coordinate by coordinate, so that no array of `[targets, sources, d]` is made."""
    total = np.zeros((len(target), len(source)))
    for k in range(source.shape[1]):
        total += (target[:, k, np.newaxis] - source[np.newaxis, :, k]) ** 2
    return total
