"""Coordinates -> three Sparse layers: a layer too wide for one low rank, as a uniform hierarchical matrix.

Every cluster of neurons has one orthonormal basis for all far neurons, so that a far block is only the small matrix
that couples two bases; near blocks are stored as they are. The vectors of all clusters with the smallest energy are
dropped until the tolerance is used up.

Source: W. Hackbusch, "Hierarchical Matrices", 2015, section 8 (uniform hierarchical matrices);
`sen_edge.compression.randomized_svd` for bases and couplings from samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sen_edge.compression.clusters import STEP, Clusters, Index, grow, partition
from sen_edge.compression.randomized_svd import (
    Check,
    Estimate,
    Float32,
    FloatArray,
    draw,
    entries,
    interpolate,
    row_basis,
)
from sen_edge.compression.three_layers import HEIGHT, WIDTH, UniformMatrix, pad_columns, rows_of
from sen_edge.errors import UsageError
from sen_runtime.ir.network import Layer
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Coordinates

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


@dataclass(frozen=True, eq=False)
class _Blocks:
    """A layer partitioned into blocks of clusters.

    Attributes:
        operator: the layer.
        target: clusters of its target neurons.
        source: clusters of its source neurons with a mask other than 0.
        far: `[blocks, 2]` target and source cluster.
        near: `[blocks, 2]` target and source leaf.
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

    @property
    def near_bytes(self) -> int:
        """Bytes that the near blocks will take."""
        return int(NEAR_BYTES * np.sum(self.target.size[self.near[:, 0]] * self.source.size[self.near[:, 1]]))

    def bases(self, samples: int, rng: np.random.Generator, share: float) -> tuple[list[Basis], list[Basis]]:
        """Bases of the target and of the source clusters for the far neurons.

        Args:
            samples: far neurons to sample for each cluster.
            rng: of the draw.
            share: of the norm that a basis may leave out.
        """
        sent = self.operator.mask.astype(np.float64) ** 2
        importance = sent + sent.mean()
        left = []
        for cluster, others in enumerate(_grouped(self.far, len(self.target.size))):
            drawn, factor = _draw(self.source, others, importance, samples, rng)
            left.append(self._basis(self.target.points(cluster), drawn, factor, share, of_sources=False))
        importance = np.ones(self.operator.shape[0])
        right = []
        for cluster, others in enumerate(_grouped(self.far[:, ::-1], len(self.source.size))):
            drawn, factor = _draw(self.target, others, importance, samples, rng)
            right.append(self._basis(self.source.points(cluster), drawn, factor, share, of_sources=True))
        return left, right

    def _basis(self, points: Index, drawn: Index, factor: FloatArray, share: float, *, of_sources: bool) -> Basis:
        """Basis over `points` from the neurons drawn on the other side."""
        if not len(drawn):
            return np.empty(0), np.empty((0, len(points)), np.float32)
        rows, columns = (drawn, points) if of_sources else (points, drawn)
        weights = entries(self.operator, rows, columns)
        return row_basis(weights if of_sources else weights.T, factor, share)

    def couple(self, left: list[Float32], right: list[Float32], rng: np.random.Generator) -> UniformMatrix:
        """The matrix with these vectors `[k, size]` of each target and each source cluster."""
        has_vectors = np.array([len(vectors) > 0 for vectors in right])
        partners = [others[has_vectors[others]] for others in _grouped(self.far, len(left))]
        from_left = [_interpolation(self.target, cluster, vectors, rng) for cluster, vectors in enumerate(left)]
        from_right = [_interpolation(self.source, cluster, vectors, rng) for cluster, vectors in enumerate(right)]
        coupling = [
            self._couple_one(mine, [from_right[other] for other in others])
            for mine, others in zip(from_left, partners, strict=True)
        ]
        near = _grouped(self.near, len(left))
        return UniformMatrix(self.operator, self.target, self.source, left, right, partners, coupling, near)

    def _couple_one(self, mine: Interpolation, others: list[Interpolation]) -> Float32:
        """Coupling of a target cluster to its partners: `[k, widths of the partners]`."""
        rows, inverse = mine
        if not len(rows) or not others:
            return np.empty((len(inverse), 0), np.float32)
        weights = entries(self.operator, rows, np.concatenate([columns for columns, _ in others]))
        ends = np.cumsum([len(columns) for columns, _ in others])[:-1]
        parts = np.split(inverse @ weights, ends, axis=1)
        coupled = [(part @ other.T).astype(np.float32) for part, (_, other) in zip(parts, others, strict=True)]
        return np.concatenate([pad_columns(part, HEIGHT) for part in coupled], axis=1)


def hierarchical(
    layer: Layer,
    *,
    tolerance: float,
    leaf_size: int = 16,
    seed: int = 0,
) -> tuple[tuple[Layer, Layer, Layer], Estimate]:
    """Split a layer into three sparse ones, directly from its positions.

    Args:
        layer: of `Coordinates`, with `Identity` or `Relu` neurons.
        tolerance: relative Frobenius error, including two standard errors of the estimate.
        leaf_size: max neurons of the smallest clusters.
        seed: of all draws.

    Returns:
        Layers with `Identity` neurons between, the last one with bias and neurons of the layer; and the relative
        Frobenius error of the product of their weights, including mask and gain.

    Raises:
        UsageError: a layer of another kind or in a spiking network; an option out of range; a result that is not
            smaller than the matrix; a tolerance that is not reached.
        NetworkError: coincident neurons, or a weight beyond float32, among the sampled pairs.
    """
    operator = _check_request(layer, tolerance, leaf_size)
    rng = np.random.default_rng(seed)
    blocks = _Blocks.of(operator, leaf_size)
    _check_size(operator, blocks.near_bytes)
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
        products = blocks.couple(left, right, rng).products()
        found = check.estimate(np.sum((check.weights - rows_of(products, check.rows)) ** 2, axis=1))
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
    """Operator of a layer that can be split."""
    operator = layer.weight
    if not isinstance(operator, Coordinates):
        raise UsageError(
            f"the layer has {type(operator).__name__} weights; expected Coordinates",
            hint="compress the checkpoint, not an image",
        )
    if not isinstance(layer.neuron, (Identity, Relu)):
        raise UsageError(
            f"the layer has {type(layer.neuron).__name__} neurons; expected Identity or Relu: a spiking network cannot "
            "have the Identity neurons of the hierarchical form",
            hint="factorize the layer instead",
        )
    if layer.grid is not None:
        raise UsageError("the layer has int8 activations; expected floating point", hint="quantize it afterwards")
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


def _grouped(pairs: Index, count: int) -> list[Index]:
    """Return the ascending second elements of the pairs for each of `count` first elements."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return np.split(pairs[:, 1], np.searchsorted(pairs[:, 0], np.arange(1, count)))


def _draw(
    clusters: Clusters, chosen: Index, importance: FloatArray, samples: int, rng: np.random.Generator
) -> tuple[Index, FloatArray]:
    """Draw about as many neurons of each chosen cluster; see `randomized_svd.draw`."""
    if not len(chosen):
        return np.empty(0, np.int64), np.empty(0)
    points = np.concatenate([clusters.points(cluster) for cluster in chosen])
    size = np.repeat(clusters.size[chosen], clusters.size[chosen])
    drawn, factor = draw(importance[points] / size, samples, rng)
    return points[drawn], factor


def _truncate(bases: list[Basis], left_out: float, step: int) -> list[Float32]:
    """Vectors of each cluster, a multiple of `step`, such that all dropped ones have at most this energy."""
    energy = [np.pad(values**2, (0, -len(values) % step)).reshape(-1, step).sum(axis=1) for values, _ in bases]
    rising = np.sort(np.concatenate(energy))
    dropped = min(int(np.searchsorted(np.cumsum(rising), left_out)), len(rising) - 1)
    smallest = rising[dropped] if len(rising) else 0.0
    return [vectors[: step * int(np.sum(e >= smallest))] for e, (_, vectors) in zip(energy, bases, strict=True)]


def _interpolation(clusters: Clusters, cluster: int, vectors: Float32, rng: np.random.Generator) -> Interpolation:
    """Return neurons of a cluster, and the matrix from values at them to coefficients of its vectors."""
    if not len(vectors):
        return np.empty(0, np.int64), np.empty((0, 0))
    chosen, inverse = interpolate(vectors, rng)
    return clusters.points(cluster)[chosen], inverse
