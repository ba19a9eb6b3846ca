"""A uniform hierarchical matrix as the weights of three layers.

    W = L S R      R [k_in, n_in]      vectors of the source clusters, and the inputs in the order of their clusters
                   S [k_out, k_in]     couplings of far clusters, and those inputs unchanged
                   L [n_out, k_out]    vectors of the target clusters, and the weights of near blocks

Both vectors between them hold the inputs of the leaves with near blocks, then the coefficients of all clusters. Each
leaf and each source cluster takes a multiple of HEIGHT places and each target cluster a multiple of WIDTH, so that
blocks fit; R has blocks of HEIGHT x 1, S and L of 1 x WIDTH, for which kernels exist.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sen_edge.compression.clusters import Clusters, Index
from sen_edge.compression.randomized_svd import Float32, FloatArray, entries
from sen_runtime.ir.operators import Coordinates, Sparse

#: A multiple of WIDTH.
HEIGHT = 8
WIDTH = 4

Products = tuple[Sparse, Sparse, Sparse]
#: Block columns `[blocks]` of one block row, ascending, and the values `[blocks, rows * columns]` of its blocks.
Piece = tuple[Index, Float32]

_NONE: Index = np.empty(0, np.int64)
_EMPTY: Piece = _NONE, np.empty((0, WIDTH), np.float32)


@dataclass(frozen=True, eq=False)
class UniformMatrix:
    """A matrix in far blocks `left.T @ coupling @ right`, and near blocks.

    Attributes:
        operator: the layer.
        target: clusters of its target neurons.
        source: clusters of its source neurons, without silent ones.
        left: vectors `[k, size]` of each target cluster; k may be 0.
        right: vectors `[k, size]` of each source cluster.
        partners: source clusters coupled to each target cluster, ascending.
        coupling: `[k, widths of the partners]` of each target cluster: the k of a partner, padded to a multiple of
            HEIGHT.
        near: source leaves of the near blocks of each target cluster, ascending.
    """

    operator: Coordinates
    target: Clusters
    source: Clusters
    left: list[Float32]
    right: list[Float32]
    partners: list[Index]
    coupling: list[Float32]
    near: list[Index]

    def products(self) -> Products:
        """R, S and L."""
        is_near = np.zeros(len(self.source.size), bool)
        is_near[np.concatenate(self.near)] = True
        inputs = _places(np.where(is_near, self.source.size, 0), HEIGHT)
        before = _places(np.array([len(vectors) for vectors in self.right]), HEIGHT) + inputs[-1]
        after = _places(np.array([len(vectors) for vectors in self.left]), WIDTH) + inputs[-1]
        return self._gather(inputs, before), self._couple(inputs, before, after), self._spread(inputs, after)

    def _gather(self, inputs: Index, before: Index) -> Sparse:
        """R: block rows of HEIGHT neurons of a leaf, or HEIGHT vectors of a cluster."""
        pieces, one = [], np.eye(HEIGHT, dtype=np.float32)
        for leaf in np.flatnonzero(np.diff(inputs)):
            points = self.source.points(leaf)
            pieces += [_sort(part, one[: len(part)]) for part in np.split(points, range(HEIGHT, len(points), HEIGHT))]
        for cluster in np.flatnonzero(np.diff(before)):
            vectors, points = pad_columns(self.right[cluster].T, HEIGHT), self.source.points(cluster)
            pieces += [_sort(points, vectors[:, k : k + HEIGHT]) for k in range(0, vectors.shape[1], HEIGHT)]
        return _sparse(pieces, (int(before[-1]), self.operator.shape[1]), (HEIGHT, 1))

    def _couple(self, inputs: Index, before: Index, after: Index) -> Sparse:
        """S: the inputs, then the couplings of each target cluster."""
        one = np.eye(WIDTH, dtype=np.float32)
        pieces = [(np.array([place // WIDTH]), one[[place % WIDTH]]) for place in range(inputs[-1])]
        for cluster in np.flatnonzero(np.diff(after)):
            columns = _block_columns(before, self.partners[cluster])
            pieces += [(columns, row.reshape(-1, WIDTH)) for row in self.coupling[cluster]]
            pieces += [_EMPTY] * (-len(self.coupling[cluster]) % WIDTH)
        return _sparse(pieces, (int(after[-1]), int(before[-1])), (1, WIDTH))

    def _spread(self, inputs: Index, after: Index) -> Sparse:
        """L: near blocks, then the vectors of the clusters of each neuron."""
        pieces = [_EMPTY] * self.operator.shape[0]
        for leaf in self.target.leaves:
            points, path = self.target.points(leaf), self.target.path(leaf)
            columns = np.concatenate([_block_columns(inputs, self.near[leaf]), _block_columns(after, path)])
            rows = np.concatenate([self._near_weights(leaf), *(self._vectors_over(leaf, c) for c in path)], axis=1)
            for point, row in zip(points, rows, strict=True):
                pieces[point] = columns, row.reshape(-1, WIDTH)
        return _sparse(pieces, (self.operator.shape[0], int(after[-1])), (1, WIDTH))

    def _near_weights(self, leaf: int) -> Float32:
        """Weights `[size, widths of the source leaves]` of the near blocks of a target leaf."""
        points = self.target.points(leaf)
        sources = [self.source.points(other) for other in self.near[leaf]]
        if not sources:
            return np.empty((len(points), 0), np.float32)
        weights = entries(self.operator, points, np.concatenate(sources))
        ends = np.cumsum([len(part) for part in sources])[:-1]
        return np.concatenate([pad_columns(part, HEIGHT) for part in np.split(weights, ends, axis=1)], axis=1)

    def _vectors_over(self, leaf: int, cluster: int) -> Float32:
        """Return values `[size, width]` of the vectors of a cluster at the neurons of one of its leaves."""
        start = self.target.start[leaf] - self.target.start[cluster]
        return pad_columns(self.left[cluster][:, start : start + self.target.size[leaf]].T, WIDTH)


def rows_of(products: Products, rows: Index) -> FloatArray:
    """Rows `[rows, n_in]` of the product of three layers in float64."""
    gather, couple, spread = products
    result = np.zeros((len(rows), gather.shape[1]))
    for at, row in enumerate(rows):
        unit = np.zeros(spread.shape[0])
        unit[row] = 1
        result[at] = _times(_times(_times(unit, spread), couple), gather)
    return result


def _times(y: FloatArray, matrix: Sparse) -> FloatArray:
    """Compute `y^T matrix` from the rows with nonzero `y [rows]`."""
    height, width = matrix.block
    tiles = np.pad(y, (0, -len(y) % height)).reshape(-1, height)
    kept = np.flatnonzero(np.any(tiles != 0, axis=1))
    starts, lengths = matrix.row_starts[kept].astype(np.int64), np.diff(matrix.row_starts)[kept]
    blocks = np.arange(lengths.sum()) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
    values = matrix.values[blocks].reshape(-1, height, width).astype(np.float64)
    terms = np.einsum("bh,bhw->bw", np.repeat(tiles[kept], lengths, axis=0), values)
    columns = matrix.columns[blocks].astype(np.int64)[:, np.newaxis] * width + np.arange(width)
    sums: FloatArray = np.bincount(columns.ravel(), terms.ravel(), matrix.block_grid[1] * width).astype(np.float64)
    return sums[: matrix.shape[1]]


def _places(counts: Index, step: int) -> Index:
    """Starts of the places of each cluster, and the end of the last: `[clusters + 1]`."""
    return np.concatenate([[0], np.cumsum(-(-counts // step) * step)])


def _block_columns(places: Index, clusters: Index) -> Index:
    """Block columns of WIDTH places of some clusters."""
    return np.concatenate([_NONE, *(np.arange(places[c] // WIDTH, places[c + 1] // WIDTH) for c in clusters)])


def pad_columns(values: Float32, step: int) -> Float32:
    """Pad `[rows, k]` with zeros to a multiple of `step` columns."""
    missing = -values.shape[1] % step
    return np.pad(values, ((0, 0), (0, missing))) if missing else values


def _sort(columns: Index, values: Float32) -> Piece:
    order = np.argsort(columns)
    return columns[order], values[order]


def _sparse(pieces: list[Piece], shape: tuple[int, int], block: tuple[int, int]) -> Sparse:
    lengths = [len(columns) for columns, _ in pieces]
    return Sparse(
        values=np.concatenate([values for _, values in pieces], dtype=np.float32),
        columns=np.concatenate([columns for columns, _ in pieces]).astype(np.int32),
        row_starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        shape=shape,
        block=block,
    )
