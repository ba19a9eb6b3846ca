"""Clusters of positions: a binary tree of boxes, and pairs of boxes that are far from each other.

Source: L. Greengard and V. Rokhlin, "A fast algorithm for particle simulations", 1987, and W. Hackbusch, "Hierarchical
Matrices", 2015, sections 5 and 7: cluster trees and admissible blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Index = NDArray[np.int64]

#: Number of points of all clusters but the last of a level is a multiple of this, so sparse blocks fit.
STEP = 8


@dataclass(frozen=True, eq=False)
class Clusters:
    """A binary tree of boxes over positions; the root is cluster 0, and parents precede their children.

    Cluster c has the points `order[start[c] : stop[c]]` with coordinates from `low[c]` to `high[c]`, and the children
    `child[c]` and `child[c] + 1`; 0 for a leaf.
    """

    order: Index
    start: Index
    stop: Index
    child: Index
    low: FloatArray
    high: FloatArray

    def points(self, cluster: int) -> Index:
        """Points of a cluster."""
        return self.order[self.start[cluster] : self.stop[cluster]]

    @cached_property
    def size(self) -> Index:
        """Points per cluster, `[clusters]`."""
        return self.stop - self.start

    @cached_property
    def leaves(self) -> Index:
        """Return clusters without children, which partition the points."""
        return np.flatnonzero(self.child == 0)

    @cached_property
    def diameter(self) -> FloatArray:
        """Diagonals `[clusters]` of the boxes."""
        lengths: FloatArray = np.linalg.norm(self.high - self.low, axis=-1)
        return lengths

    def path(self, cluster: int) -> Index:
        """Return the clusters from the root to this one."""
        return np.flatnonzero((self.start <= self.start[cluster]) & (self.stop >= self.stop[cluster]))


def grow(positions: NDArray[Any], leaf_size: int) -> Clusters:
    """Split `positions [n, d]` at the median of the widest axis, down to `leaf_size` >= STEP points."""
    points = positions.astype(np.float64)
    order = np.arange(len(points))
    spans, child, low, high = [(0, len(points))], [], [], []
    for start, stop in spans:  # grows during the loop
        part = points[order[start:stop]]
        low.append(part.min(axis=0))
        high.append(part.max(axis=0))
        size = stop - start
        if size <= leaf_size:
            child.append(0)
            continue
        axis = int(np.argmax(high[-1] - low[-1]))
        middle = -(-size // (2 * STEP)) * STEP
        order[start:stop] = order[start:stop][np.argpartition(part[:, axis], middle)]
        child.append(len(spans))
        spans += [(start, start + middle), (start + middle, stop)]
    start, stop = np.array(spans).T
    return Clusters(order, start, stop, np.array(child), np.array(low), np.array(high))


def partition(
    target: Clusters, source: Clusters, ratio: float, min_distance: float, max_distance: float
) -> tuple[Index, Index]:
    """Partition the matrix `[targets, sources]` within `max_distance` into far and near blocks.

    In a far block neither cluster is wider than `ratio` times their distance, which is at least `min_distance`, so that
    weights vary little. Of other pairs the wider cluster is split; pairs of leaves are near blocks. Both results are
    `[blocks, 2]`: target and source cluster.
    """
    far, near = [], []
    pairs = np.zeros((1, 2), np.int64)
    while len(pairs):
        t, s = pairs.T
        gaps = np.maximum(target.low[t] - source.high[s], source.low[s] - target.high[t])
        nearest = np.linalg.norm(np.maximum(0, gaps), axis=-1)
        ends = np.maximum(target.high[t] - source.low[s], source.high[s] - target.low[t])
        farthest = np.linalg.norm(ends, axis=-1)
        width = np.maximum(target.diameter[t], source.diameter[s])
        distance = np.maximum(nearest, min_distance)
        is_within = nearest <= max_distance * (1 + 1e-12)
        is_far = (width <= ratio * distance) & (distance > 0) & (farthest <= max_distance)
        is_near = ~is_far & (target.child[t] == 0) & (source.child[s] == 0)
        far.append(pairs[is_within & is_far])
        near.append(pairs[is_within & is_near])
        pairs = _split(target, source, pairs[is_within & ~is_far & ~is_near])
    return np.concatenate(far), np.concatenate(near)


def _split(target: Clusters, source: Clusters, pairs: Index) -> Index:
    """Halve the wider cluster of each pair unless it is a leaf."""
    t, s = pairs.T
    is_wider = target.diameter[t] >= source.diameter[s]
    halves_target = (source.child[s] == 0) | (is_wider & (target.child[t] != 0))
    first = np.where(halves_target[:, np.newaxis], np.c_[target.child[t], s], np.c_[t, source.child[s]])
    second = first + np.where(halves_target[:, np.newaxis], [1, 0], [0, 1])
    return np.concatenate([first, second])
