"""Materialize: `Coordinates` -> `Dense` or `Sparse`, in tiles of bounded memory; sparse layout of weights with zeros.

The plain reference is `sen_runtime.ir.operators.Coordinates.to_dense`. Distances use the expanded form
|p|^2 + |q|^2 - 2 p.q in float64, one BLAS product per tile; tiles run in threads. The expanded form cancels for near
points, which are recomputed from differences, so that every weight is within 1 ulp of the float64 result rounded to
float32. Pairs near `max_distance` are recomputed too, so that the same weights are 0 as in the reference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.network import Network, map_weights, positions_of
from sen_runtime.ir.operators import Coordinates, Dense, Sparse, WeightOperator, leaves
from sen_runtime.ir.operators.coordinates import check_distances, check_range, squared_distances
from sen_runtime.memory_limits import require_network

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Entries of one tile: five float64 temporaries of a tile per thread stay within 256 MiB for up to 12 threads,
#: and a tile fits the last-level cache of a desktop processor.
TILE_ENTRIES = 1 << 18
MAX_THREADS = 12
#: Numbers in one side of a tile: neurons times coordinates.
TILE_SIDE_NUMBERS = 1 << 17
#: Max relative error of a weight from the expanded form: a sixteenth of a float32 ulp.
EXPANDED_ERROR = 2.0**-28
#: Blocks of masks: along outputs for vectors of outputs, along inputs for TFLite and microcontrollers.
BLOCKS = ((1, 1), (4, 1), (8, 1), (16, 1), (1, 4))


def materialize(network: Network) -> Network:
    """Replace every `Coordinates` by its weights: `Dense`, or `Sparse` in 1x1 blocks if it has a `max_distance`.

    Positions of a network of coordinates are kept in `Network.positions`.

    Coincident neurons and weights beyond float32 are errors that name the layer and both neurons.
    """
    if any(isinstance(leaf, Coordinates) for layer in network.layers for leaf in leaves(layer.weight)):
        require_network(network, 4)
    return replace(map_weights(network, materialize_leaf), positions=positions_of(network))


def materialize_leaf(operator: WeightOperator) -> WeightOperator:
    """Materialize an operator of coordinates; return any other leaf unchanged."""
    if not isinstance(operator, Coordinates):
        return operator
    w = weights(operator)
    return Sparse.from_dense(w) if operator.has_max_distance else Dense(w)


def weights(operator: Coordinates) -> NDArray[np.float32]:
    """Weights `[n_out, n_in]` of an operator; peak memory is the result + 256 MiB."""
    tiles = list(_tiles(operator))
    if len(tiles) == 1:
        return _tile(operator, *tiles[0]).astype(np.float32)
    result = np.empty(operator.shape, np.float32)

    def fill(tile: tuple[slice, slice]) -> None:
        result[tile] = _tile(operator, *tile)

    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        for _ in pool.map(fill, tiles):
            pass
    return result


def _tiles(operator: Coordinates) -> Iterator[tuple[slice, slice]]:
    """Tiles `(targets, sources)` that cover the matrix, whole rows where they fit."""
    n_out, n_in = operator.shape
    side = max(1, TILE_SIDE_NUMBERS // operator.dimensions)
    columns = min(n_in, side, TILE_ENTRIES)
    rows = min(n_out, side, TILE_ENTRIES // columns)
    for top in range(0, n_out, rows):
        for left in range(0, n_in, columns):
            yield slice(top, min(top + rows, n_out)), slice(left, min(left + columns, n_in))


def _tile(operator: Coordinates, rows: slice, columns: slice) -> FloatArray:
    """Weights of the target neurons `rows` from the source neurons `columns`, in float64."""
    target = operator.target[rows].astype(np.float64)
    source = operator.source[columns].astype(np.float64)
    squared = _squared_distance(source, target, operator)
    np.maximum(squared, operator.min_distance**2, out=squared)
    check_distances(squared, columns.start, rows.start)
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):  # check_range reports it
        # sqrt and one division where the power allows it: several times faster than pow.
        divisor = np.sqrt(squared, out=squared)
        is_beyond = divisor > operator.max_distance  # the floor lies below max_distance and so moves none across it
        if operator.exponent != 1:
            divisor **= operator.exponent
        result: FloatArray = np.divide(operator.gain * operator.mask[columns].astype(np.float64), divisor, out=divisor)
    result[is_beyond] = 0
    check_range(result, columns.start, rows.start)
    return result


def _squared_distance(source: FloatArray, target: FloatArray, operator: Coordinates) -> FloatArray:
    """Squared distances `[n_out, n_in]`.

    The expanded form is off by at most (d + 4) 2^-52 (|p|^2 + |q|^2); a weight inherits exponent / 2 times the
    relative error. Pairs for which that could exceed EXPANDED_ERROR are computed from differences, and so are those
    that it could put on the other side of max_distance; differences and their root err by as much again.
    """
    centre = (source.mean(0) + target.mean(0)) / 2
    p, q = source - centre, target - centre
    norms = np.add.outer(np.einsum("jd,jd->j", q, q), np.einsum("id,id->i", p, p))
    squared: FloatArray = q @ p.T
    squared *= -2
    squared += norms
    error_share = (source.shape[1] + 4) * 2.0**-52
    is_doubtful = squared <= norms * (error_share * max(operator.exponent, 1) / 2 / EXPANDED_ERROR)
    if operator.has_max_distance:
        is_doubtful |= np.abs(squared - operator.max_distance**2) <= norms * (2 * error_share)
    doubtful = np.argwhere(is_doubtful)
    for start in range(0, len(doubtful), chunk := max(1, TILE_ENTRIES // source.shape[1])):
        j, i = doubtful[start : start + chunk].T
        squared[j, i] = squared_distances(source[i], target[j])
    return squared


def to_sparse_layout(w: NDArray[np.float32], mask: Mask) -> Dense | Sparse:
    """Store weights `[n_out, n_in]` under a mask `[n_out, n_in]` in the smallest layout.

    Only blocks without zeros are considered: they store one column index for all their weights.
    """
    masked = np.where(mask, w, np.float32(0))
    smallest: Dense | Sparse = Dense(masked)
    if mask.all():
        return smallest
    marks = mask.astype(np.float32)
    for block in BLOCKS:  # one pattern in memory at a time: for half of the weights it is as large as they are
        pattern = Sparse.from_dense(marks, block)
        n_filled = np.count_nonzero(pattern.with_values_of(np.ones_like(marks)).values)
        if n_filled == mask.sum() and pattern.nbytes < smallest.nbytes:
            smallest = pattern
    return smallest.with_values_of(masked) if isinstance(smallest, Sparse) else smallest
