"""Weights of coordinates, computed in the graph from stored positions, in float32.

Squared distances are sums of squared differences: in trained networks some neurons are 250 times nearer to each other
than to the centre, so that the expanded form |p|^2 - 2 p.q + |q|^2 would lose five digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sen_exporters.base import ExportError
from sen_exporters.onnx.graph import GraphBuilder
from sen_runtime.ir.operators import Coordinates
from sen_runtime.ir.operators.coordinates import check_distances, check_range
from sen_runtime.memory_limits import require

FloatArray = NDArray[np.float64]

#: Max relative error of a weight.
WEIGHT_ERROR = 1e-5
#: Unit round-off of float32: half the spacing of numbers at 1.
UNIT = 2.0**-24
#: Max bytes that onnxruntime takes to compute the weights of a layer at load: three matrices per coordinate.
MAX_LOAD_BYTES = 2**31
TILE_VALUES = 1 << 20
HINT = "omit --weights coordinates: dense weights are computed in float64, at export"


def coordinate_weights(graph: GraphBuilder, operator: Coordinates, name: str) -> str:
    """Weights `[n_in, n_out]` as a value of the graph, which most engines compute at load.

        w = gain * mask / max(|q - p|, min_distance) ** exponent, or 0 where |q - p| > max_distance

    Raises:
        NetworkError: two neurons at the same point while `min_distance` is 0, or a weight beyond float32.
        ExportError: float32 does not give every weight within `WEIGHT_ERROR`.
    """
    prefix, limit = name.rpartition("/")[0], check_float32(operator)
    squared = lengths = _squared_distance(graph, prefix, operator)
    if operator.min_distance > 0:
        floor = graph.scalar(f"{prefix}/min_squared_distance", operator.min_distance**2)
        squared = graph.node("Max", [squared, floor], f"{prefix}/floored_squared_distance")
    power = _power(graph, prefix, squared, operator.exponent)
    numerator = (operator.gain * operator.mask.astype(np.float64)).astype(np.float32)
    stored = graph.constant(f"{prefix}/numerator", numerator[:, np.newaxis])
    if limit == np.inf:
        return graph.node("Div", [stored, power], name)
    every = graph.node("Div", [stored, power], f"{name}_of_any_length")
    bound = graph.scalar(f"{prefix}/max_squared_distance", limit)
    is_within = graph.is_above(bound, lengths, limit, f"{prefix}/is_within_max_distance")
    return graph.node("Mul", [every, is_within], name)


def check_float32(operator: Coordinates) -> float:
    """Check that float32 gives every weight, because the graph cannot refuse any.

    Returns:
        Limit of a squared distance, midway between those of the longest synapse within `max_distance` and of the
        shortest beyond; inf where none is beyond.

    Raises:
        NetworkError, ExportError: see `coordinate_weights`.
        MemoryLimitError: an engine on this machine could not compute the weights.
    """
    n_out, n_in = operator.shape
    n_bytes = 3 * operator.dimensions * n_out * n_in * 4
    if n_bytes > MAX_LOAD_BYTES:
        raise ExportError(
            f"coordinates: {n_out} x {n_in} weights in {operator.dimensions} dimensions take {n_bytes / 1e9:.1f} GB "
            f"of memory at load; expected at most {MAX_LOAD_BYTES / 1e9:.1f}",
            HINT,
        )
    require(n_bytes, f"{n_out} x {n_in} weights from coordinates in {operator.dimensions} dimensions, at load")
    length_error, error = rounding_errors(operator)
    if error > WEIGHT_ERROR:
        raise ExportError(
            f"coordinates: float32 distances give weights within {error:.1e}; expected {WEIGHT_ERROR:.0e}", HINT
        )
    found = _measure(operator)
    if found.shortest_beyond == np.inf:
        return np.inf
    limit = float(np.float32((found.longest + found.shortest_beyond) / 2))
    if min(limit - found.longest, found.shortest_beyond - limit) <= length_error * limit:
        raise ExportError(
            f"coordinates: the distance of two neurons is max_distance ({operator.max_distance:g}) but for rounding to "
            "float32",
            HINT,
        )
    return limit


def rounding_errors(operator: Coordinates) -> tuple[float, float]:
    """Bounds of the relative errors of a squared distance and of a weight.

    A sum of d rounded squares of rounded differences: the error exceeds 2 sqrt(d + 3) u with a vanishing probability
    (N. Higham and T. Mary, SIAM J. Sci. Comput. 41(5), 2019).
    """
    squared = 2 * np.sqrt(operator.dimensions + 3) * UNIT
    products = 2 + len(_binary_digits(operator.exponent / 2))
    return squared, operator.exponent / 2 * squared + products * UNIT


def _squared_distance(graph: GraphBuilder, prefix: str, operator: Coordinates) -> str:
    """sum_k (q_k - p_k)^2 `[n_in, n_out]`, without an `[n_in, n_out, d]` array."""
    source = graph.cast_constant(f"{prefix}/source_positions", operator.source)
    target = graph.cast_constant(f"{prefix}/target_positions", operator.target)
    turned = graph.node("Transpose", [target], f"{prefix}/target_coordinates", perm=[1, 0])
    columns = graph.split(source, [f"{prefix}/source_{k}" for k in range(operator.dimensions)], axis=1)
    rows = graph.split(turned, [f"{prefix}/target_{k}" for k in range(operator.dimensions)], axis=0)
    total = ""
    for k, (p, q) in enumerate(zip(columns, rows, strict=True)):
        difference = graph.node("Sub", [q, p], f"{prefix}/difference_{k}")
        square = graph.node("Mul", [difference, difference], f"{prefix}/square_{k}")
        total = graph.node("Add", [total, square], f"{prefix}/squared_distance_{k}") if total else square
    return total


def _power(graph: GraphBuilder, prefix: str, squared: str, exponent: float) -> str:
    """`squared ** (exponent / 2)`, from products and square roots, which engines round alike."""
    digits = _binary_digits(exponent / 2)
    values = {0: squared}
    for k in range(1, max(digits) + 1):
        values[k] = graph.node("Mul", [values[k - 1]] * 2, f"{prefix}/distance_power_{2 ** (k + 1)}")
    for k in range(-1, min(digits) - 1, -1):
        values[k] = graph.node("Sqrt", [values[k + 1]], f"{prefix}/distance_root_{2 ** (-k - 1)}")
    power = values[digits[0]]
    for n, k in enumerate(digits[1:]):
        power = graph.node("Mul", [power, values[k]], f"{prefix}/distance_product_{n}")
    return power


def _binary_digits(x: float) -> list[int]:
    """Exponents k of the powers of two 2^k whose sum is x, in descending order."""
    numerator, denominator = x.as_integer_ratio()
    shift = denominator.bit_length() - 1
    return [k - shift for k in reversed(range(numerator.bit_length())) if numerator >> k & 1]


@dataclass(frozen=True)
class _Lengths:
    """Squared lengths of the longest synapse within `max_distance`, and of the shortest beyond; inf where none is."""

    longest: float
    shortest_beyond: float


def _measure(operator: Coordinates) -> _Lengths:
    """Measure distances in float64, and check weights and powers of distances.

    Raises:
        NetworkError: two neurons at the same point while `min_distance` is 0, or a weight beyond float32.
        ExportError: a power of a distance beyond float32.
    """
    numerator = operator.gain * operator.mask.astype(np.float64)
    longest, shortest_beyond = 0.0, np.inf
    for first, squared in _tiles(operator):
        distance = np.sqrt(np.maximum(squared, operator.min_distance**2))
        check_distances(distance, first_target=first)
        is_beyond = np.sqrt(squared) > operator.max_distance
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # check_range reports it
            weights = np.where(is_beyond, 0, numerator / distance**operator.exponent)
        check_range(weights, first_target=first)
        for extreme in (distance.min(), distance.max()):
            _check_power(extreme, 2.0)
            _check_power(extreme, operator.exponent)
        longest = max(longest, float(np.max(squared, initial=0, where=~is_beyond)))
        shortest_beyond = min(shortest_beyond, float(np.min(squared, initial=np.inf, where=is_beyond)))
    return _Lengths(longest, shortest_beyond)


def _check_power(distance: np.float64, exponent: float) -> None:
    """Refuse a power of a distance beyond normal float32 numbers."""
    limits = np.finfo(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        is_normal = limits.tiny <= distance**exponent <= limits.max
    if not is_normal:
        raise ExportError(f"coordinates: {distance:.3g} to the power {exponent:g} is beyond float32", HINT)


def _tiles(operator: Coordinates) -> Iterator[tuple[int, FloatArray]]:
    """For some targets at a time: the first one, then |q - p|^2 `[targets, sources]`.

    Coordinate by coordinate, without an array of `[targets, sources, d]`.
    """
    source, target = operator.source.astype(np.float64), operator.target.astype(np.float64)
    rows = max(1, TILE_VALUES // len(source))
    for first in range(0, len(target), rows):
        tile = target[first : first + rows]
        squared = np.zeros((len(tile), len(source)))
        for k in range(operator.dimensions):
            squared += (tile[:, k, np.newaxis] - source[:, k]) ** 2
        yield first, squared
