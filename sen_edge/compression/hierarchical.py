"""Coordinates -> three Sparse layers: a layer too wide for one low rank, as a uniform hierarchical matrix.

Every cluster of neurons has one orthonormal basis for all far neurons, so that a far block is only the small matrix
that couples two bases; near blocks are stored as they are. The vectors of all clusters with the smallest energy are
dropped until the tolerance is used up.

    W = L S R      R [k_in, n_in]      vectors of the source clusters, and the inputs in the order of their clusters
                   S [k_out, k_in]     couplings of far clusters, and those inputs unchanged
                   L [n_out, k_out]    vectors of the target clusters, and the weights of near blocks

Both vectors between them hold the inputs of the leaves with near blocks, then the coefficients of all clusters. Each
leaf and each source cluster takes a multiple of HEIGHT places and each target cluster a multiple of WIDTH, so that
blocks fit; R has blocks of HEIGHT x 1, S and L of 1 x WIDTH, for which kernels exist.

Source: W. Hackbusch, "Hierarchical Matrices", 2015, section 8 (uniform hierarchical matrices);
`sen_edge.compression.far_field` for bases and couplings from samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from sen_edge.compression.clusters import STEP, Clusters, FloatArray, Index, grow, partition
from sen_edge.compression.far_field import Check, Estimate, Float32, draw, entries, interpolate, row_basis
from sen_edge.errors import UsageError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Coordinates, Sparse

#: Sides of blocks; HEIGHT is a multiple of WIDTH.
HEIGHT, WIDTH = 8, 4
#: Max width of two far clusters over their distance; from 3 to 6 the bytes are nearly the same.
RATIO = 4.0
#: Far neurons per basis: at first, at most, and per vector.
FIRST_SAMPLES, MAX_SAMPLES, SAMPLES_PER_VECTOR = 192, 1536, 8
ATTEMPTS = 6
#: Share of the squared tolerance that the bases of one side may leave out; the rest is for the couplings.
SIDE_SHARE = 0.33
#: Safety factor of the next attempt.
RETRY_SHARE = 0.8
#: Share of the tolerance that each basis leaves out at first, to save memory.
MIN_SHARE = 0.05
#: Stored bytes per weight in a near block: the weight, and a block's column.
NEAR_BYTES = 4 + 4 / WIDTH

#: Singular values `[k]`, falling, and vectors `[k, size]` of a cluster.
Basis = tuple[FloatArray, Float32]
#: Neurons `[s]` of a cluster, and the matrix `[k, s]` from values at them to coefficients.
Interpolation = tuple[Index, FloatArray]
#: Block rows and block columns `[blocks]`, and values `[blocks, rows * columns]`.
Piece = tuple[Index, Index, Float32]


def hierarchical(
    layer: Layer, *, tolerance: float, leaf_size: int = 16, seed: int = 0
) -> tuple[tuple[Layer, Layer, Layer], Estimate]:
    """Split a layer of `Coordinates` into three sparse ones, the last with its bias and neurons.

    The tolerance is a relative Frobenius error of the product, including mask, gain and two standard errors of the
    estimate. The smallest clusters have at most `leaf_size` neurons. A result that would not be smaller than the matrix
    is refused.
    """
    operator = _check_request(layer, tolerance, leaf_size)
    rng = np.random.default_rng(seed)
    blocks = _Blocks.of(operator, leaf_size)
    near_weights = np.sum(blocks.target.size[blocks.near[:, 0]] * blocks.source.size[blocks.near[:, 1]])
    _check_size(operator, int(NEAR_BYTES * near_weights))
    check = Check.of(operator, np.empty(0, np.int64), np.arange(operator.shape[1]), rng)
    if not check.total:
        raise UsageError("all sampled weights of the layer are 0")
    samples, left_out, found = FIRST_SAMPLES, SIDE_SHARE * tolerance**2 * check.total, Estimate(1.0, 0.0, 0)
    bases = blocks.bases(samples, rng, MIN_SHARE * tolerance)
    for _ in range(ATTEMPTS):
        left, right = _truncate(bases[0], left_out, WIDTH), _truncate(bases[1], left_out, HEIGHT)
        if SAMPLES_PER_VECTOR * max(map(len, left + right)) > samples and samples < MAX_SAMPLES:
            samples *= 2
            bases = blocks.bases(samples, rng, MIN_SHARE * tolerance)
            continue
        products = blocks.products(left, right, rng)
        rows = np.array([_row(products, row) for row in check.rows])
        found = check.estimate(np.sum((check.weights - rows) ** 2, axis=1))
        excess = found.upper / tolerance
        if excess <= 1:
            _check_size(operator, sum(product.nbytes for product in products))
            first, second = (Layer(product, None, Identity()) for product in products[:2])
            return (first, second, replace(layer, weight=products[2])), found
        left_out *= RETRY_SHARE / excess**2
    raise UsageError(
        f"the relative error is {found} with bases from {samples} far neurons each; expected at most {tolerance:g}",
        hint="allow a larger tolerance, or a larger leaf_size for more near blocks",
    )


def _check_request(layer: Layer, tolerance: float, leaf_size: int) -> Coordinates:
    """Operator of a layer that can be split; a spiking network cannot have the Identity neurons between the parts."""
    operator = layer.weight
    if (
        not isinstance(operator, Coordinates)
        or not isinstance(layer.neuron, (Identity, Relu))
        or layer.grid is not None
    ):
        grid = "" if layer.grid is None else " on an int8 grid"
        raise UsageError(
            f"the layer has {type(operator).__name__} weights and {type(layer.neuron).__name__} neurons{grid}; "
            "expected Coordinates with Identity or Relu neurons in floating point",
            hint="compress the checkpoint, not an image; factorize the layers of a spiking network",
        )
    if not 0 < tolerance < 1:
        raise UsageError(f"tolerance is {tolerance:g}; expected a relative error between 0 and 1")
    if leaf_size < STEP:
        raise UsageError(f"leaf_size is {leaf_size}; expected at least {STEP} neurons")
    if not np.any(operator.mask):
        raise UsageError("the mask of the layer is 0 everywhere")
    return operator


def _check_size(operator: Coordinates, nbytes: int) -> None:
    dense = 4 * operator.macs
    if nbytes >= dense:
        raise UsageError(
            f"the hierarchical form of this layer takes at least {nbytes} bytes, the matrix {dense}: there are too few "
            "neurons, or too many neighbours of each",
            hint="allow a larger tolerance or a smaller leaf_size, or use the low-rank form or the matrix",
        )


@dataclass(frozen=True, eq=False)
class _Blocks:
    """A layer partitioned into far and near blocks `[blocks, 2]`: target and source cluster, which are leaves if near.

    Source neurons with the mask 0 are left out.
    """

    operator: Coordinates
    target: Clusters
    source: Clusters
    far: Index
    near: Index

    @classmethod
    def of(cls, operator: Coordinates, leaf_size: int) -> _Blocks:
        active = np.flatnonzero(operator.mask)
        target, source = grow(operator.target, leaf_size), grow(operator.source[active], leaf_size)
        far, near = partition(target, source, RATIO, operator.min_distance, operator.max_distance)
        return cls(operator, target, replace(source, order=active[source.order]), far, near)

    def bases(self, samples: int, rng: np.random.Generator, share: float) -> tuple[list[Basis], list[Basis]]:
        """Bases of the target and of the source clusters, from `samples` far neurons each, up to a share of the norm.

        The far neurons of a cluster are drawn by importance, about as many from each far cluster.
        """

        def of_side(mine: Clusters, others: Clusters, pairs: Index, importance: FloatArray) -> list[Basis]:
            found: list[Basis] = []
            for cluster, far in enumerate(_grouped(pairs, len(mine.size))):
                points = mine.points(cluster)
                if not len(far):
                    found.append((np.empty(0), np.empty((0, len(points)), np.float32)))
                    continue
                candidates = np.concatenate([others.points(other) for other in far])
                size = np.repeat(others.size[far], others.size[far])
                drawn, factor = draw(importance[candidates] / size, samples, rng)
                if mine is self.target:
                    weights = entries(self.operator, points, candidates[drawn]).T
                else:
                    weights = entries(self.operator, candidates[drawn], points)
                found.append(row_basis(weights, factor, share))
            return found

        sent = self.operator.mask.astype(np.float64) ** 2
        left = of_side(self.target, self.source, self.far, sent + sent.mean())
        return left, of_side(self.source, self.target, self.far[:, ::-1], np.ones(self.operator.shape[0]))

    def products(
        self, left: list[Float32], right: list[Float32], rng: np.random.Generator
    ) -> tuple[Sparse, Sparse, Sparse]:
        """R, S and L, with these vectors `[k, size]` of each target and each source cluster; k may be 0."""
        n_out, n_in = self.operator.shape
        is_near = np.zeros(len(right), bool)
        is_near[self.near[:, 1]] = True
        inputs = _places(np.where(is_near, self.source.size, 0), HEIGHT)
        before = _places(np.array([len(vectors) for vectors in right]), HEIGHT) + inputs[-1]
        after = _places(np.array([len(vectors) for vectors in left]), WIDTH) + inputs[-1]
        return (
            _sparse(self._gather(right, inputs, before), (int(before[-1]), n_in), (HEIGHT, 1)),
            _sparse(self._couple(left, right, before, after, rng), (int(after[-1]), int(before[-1])), (1, WIDTH)),
            _sparse(self._spread(left, inputs, after), (n_out, int(after[-1])), (1, WIDTH)),
        )

    def _gather(self, right: list[Float32], inputs: Index, before: Index) -> list[Piece]:
        """R: block rows of HEIGHT neurons of a leaf, or HEIGHT vectors of a cluster."""
        pieces, one = [], np.eye(HEIGHT, dtype=np.float32)
        for leaf in np.flatnonzero(np.diff(inputs)):
            place = inputs[leaf] + np.arange(self.source.size[leaf])
            pieces.append((place // HEIGHT, self.source.points(leaf), one[place % HEIGHT]))
        for cluster in np.flatnonzero(np.diff(before)):
            vectors = _pad(right[cluster].T, HEIGHT)
            block_rows = np.arange(before[cluster] // HEIGHT, before[cluster + 1] // HEIGHT)
            tiles = vectors.reshape(len(vectors), -1, HEIGHT).transpose(1, 0, 2)
            pieces.append(_cross(block_rows, self.source.points(cluster), tiles.reshape(-1, HEIGHT)))
        return pieces

    def _couple(
        self, left: list[Float32], right: list[Float32], before: Index, after: Index, rng: np.random.Generator
    ) -> list[Piece]:
        """S: the inputs, then the coupling of each target cluster to its far source clusters."""
        place = np.arange(before[0])
        pieces = [(place, place // WIDTH, np.eye(WIDTH, dtype=np.float32)[place % WIDTH])]
        from_left = [_interpolation(self.target, cluster, vectors, rng) for cluster, vectors in enumerate(left)]
        from_right = [_interpolation(self.source, cluster, vectors, rng) for cluster, vectors in enumerate(right)]
        for cluster, far in enumerate(_grouped(self.far, len(left))):
            others = far[np.diff(before)[far] > 0]
            if not len(left[cluster]) or not len(others):
                continue
            (rows, inverse), partners = from_left[cluster], [from_right[other] for other in others]
            weights = entries(self.operator, rows, np.concatenate([columns for columns, _ in partners]))
            parts = np.split(inverse @ weights, np.cumsum([len(columns) for columns, _ in partners])[:-1], axis=1)
            coupled = [(part @ other.T).astype(np.float32) for part, (_, other) in zip(parts, partners, strict=True)]
            tiles = np.concatenate([_pad(part, HEIGHT) for part in coupled], axis=1).reshape(-1, WIDTH)
            pieces.append(_cross(after[cluster] + np.arange(len(inverse)), _block_columns(before, others), tiles))
        return pieces

    def _spread(self, left: list[Float32], inputs: Index, after: Index) -> list[Piece]:
        """L: near blocks, then the vectors of the clusters of each neuron."""
        near, pieces = _grouped(self.near, len(left)), []
        for leaf in self.target.leaves:
            points, sources = self.target.points(leaf), [self.source.points(other) for other in near[leaf]]
            if sources:
                weights = entries(self.operator, points, np.concatenate(sources))
                parts = np.split(weights, np.cumsum([len(part) for part in sources])[:-1], axis=1)
                padded = [_pad(part, HEIGHT) for part in parts]
                tiles = np.concatenate(padded, axis=1).reshape(-1, WIDTH)
                pieces.append(_cross(points, _block_columns(inputs, near[leaf]), tiles))
            for cluster in self.target.path(leaf):
                start = self.target.start[leaf] - self.target.start[cluster]
                vectors = _pad(left[cluster][:, start : start + len(points)].T, WIDTH)
                pieces.append(_cross(points, _block_columns(after, [cluster]), vectors.reshape(-1, WIDTH)))
        return pieces


def _grouped(pairs: Index, count: int) -> list[Index]:
    """Return the ascending second elements of the pairs for each of `count` first elements."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return np.split(pairs[:, 1], np.searchsorted(pairs[:, 0], np.arange(1, count)))


def _truncate(bases: list[Basis], left_out: float, step: int) -> list[Float32]:
    """Vectors of each cluster, a multiple of `step`, such that all dropped ones have at most this energy."""
    energy = [np.pad(values**2, (0, -len(values) % step)).reshape(-1, step).sum(axis=1) for values, _ in bases]
    rising = np.sort(np.concatenate(energy))
    dropped = min(int(np.searchsorted(np.cumsum(rising), left_out)), len(rising) - 1)
    smallest = rising[dropped] if len(rising) else 0.0
    return [vectors[: step * int(np.sum(e >= smallest))] for e, (_, vectors) in zip(energy, bases, strict=True)]


def _interpolation(clusters: Clusters, cluster: int, vectors: Float32, rng: np.random.Generator) -> Interpolation:
    if not len(vectors):
        return np.empty(0, np.int64), np.empty((0, 0))
    chosen, inverse = interpolate(vectors, rng)
    return clusters.points(cluster)[chosen], inverse


def _pad(values: Float32, step: int) -> Float32:
    """Pad `[rows, k]` with zeros to a multiple of `step` columns."""
    return np.pad(values, ((0, 0), (0, -values.shape[1] % step)))


def _places(counts: Index, step: int) -> Index:
    """Starts of the places of each cluster, and the end of the last: `[clusters + 1]`."""
    return np.concatenate([[0], np.cumsum(-(-counts // step) * step)])


def _block_columns(places: Index, clusters: Iterable[int]) -> Index:
    """Block columns of WIDTH places of some clusters."""
    spans = [np.arange(places[c] // WIDTH, places[c + 1] // WIDTH) for c in clusters]
    return np.concatenate([np.empty(0, np.int64), *spans])


def _cross(rows: Index, columns: Index, values: Float32) -> Piece:
    """Blocks at each pair of these block rows and block columns, with their values in that order."""
    return np.repeat(rows, len(columns)), np.tile(columns, len(rows)), values


def _sparse(pieces: list[Piece], shape: tuple[int, int], block: tuple[int, int]) -> Sparse:
    rows, columns, values = (np.concatenate(part) for part in zip(*pieces, strict=True))
    order = np.lexsort((columns, rows))
    starts = np.searchsorted(rows[order], np.arange(-(-shape[0] // block[0]) + 1))
    return Sparse(values[order], columns[order].astype(np.int32), starts.astype(np.int32), shape, block)


def _row(products: tuple[Sparse, Sparse, Sparse], row: int) -> FloatArray:
    """Row `[n_in]` of the product of three layers in float64."""
    gather, couple, spread = products
    unit = np.zeros(spread.shape[0])
    unit[row] = 1
    return _times(_times(_times(unit, spread), couple), gather)


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
