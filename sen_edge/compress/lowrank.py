"""Low rank, Network -> Network: each layer as two thin dense products, fast in every engine; or with a sparse rest.

Weights are not approximated for their own sake, but the network's outputs: the singular value decomposition is that of
`A^(1/2) W C^(1/2)`, see `sen_edge.compress.quadratic`. Far neurons act smoothly, so their part has a low rank; near
ones are single, so what is left is sparse (L. Greengard and V. Rokhlin, "A fast algorithm for particle simulations",
1987).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sen_edge.compress.layerwise import layerwise, second_order_problems
from sen_edge.compress.moments import CompressionWarning, Inputs, check_calibration, sensitivities
from sen_edge.compress.patterns import UNSTRUCTURED, Mask, Pattern
from sen_edge.compress.quadratic import Quadratic, best_under_pattern, best_weights
from sen_edge.errors import UsageError
from sen_edge.passes.materialize import precompute
from sen_edge.passes.sparse_layout import stored
from sen_runtime.ir.network import Identity, Layer, Network
from sen_runtime.ir.operators import Dense, LowRank, Sum, WeightOperator

FloatArray = NDArray[np.float64]

#: Times that low rank and sparse part are fitted to the residual of the other, and the share of iterations in each.
ALTERNATIONS, NEAR_EFFORT = 6, 0.25
#: Halvings of the price of a multiply-accumulate when ranks are shared out among layers.
PRICE_STEPS = 60


@dataclass(frozen=True)
class RankRequest:
    """How far to factorize, checked; exactly one of `rank`, `macs` and `error`.

    Attributes:
        rank: of every layer, at least 1; a layer for which that saves nothing stays as it is.
        macs: share of the network's multiply-accumulates that are left, in (0, 1); ranks follow.
        error: relative error of each layer's output in the second-order sense, in (0, 1); ranks follow.
        near: share of a layer's weights that are kept in a sparse part beside the factors, in [0, 1).
        pattern: of the sparse part.
        layers: numbers of the layers to factorize; None for all.
    """

    rank: int | None = None
    macs: float | None = None
    error: float | None = None
    near: float = 0.0
    pattern: Pattern = UNSTRUCTURED
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.rank, self.macs, self.error)) != 1:
            raise UsageError("factorizing needs one of a rank, a share of the MACs, and an error")
        if self.rank is not None and self.rank < 1:
            raise UsageError(f"rank is {self.rank}; expected 1 or more")
        for name, share in (("share of the MACs", self.macs), ("error", self.error)):
            if share is not None and not 0 < share < 1:
                raise UsageError(f"{name} is {share:g}; expected a number > 0 and < 1")
        if not 0 <= self.near < 1:
            raise UsageError(f"near-field share is {self.near:g}; expected a number >= 0 and < 1")
        if self.pattern.neurons or self.pattern.group is not None:
            raise UsageError(f"the near field has no {self.pattern} form; expected unstructured or blocks")

    def chosen(self, network: Network) -> list[int]:
        """Numbers of the layers to factorize.

        Raises:
            UsageError: there is no such layer, or the rank is above that of every layer.
        """
        n_layers = len(network.layers)
        layers = list(range(n_layers)) if self.layers is None else sorted(set(self.layers))
        if any(not 0 <= index < n_layers for index in layers) or not layers:
            raise UsageError(f"layers are {self.layers}; expected numbers from 0 to {n_layers - 1}")
        full = max(min(network.layers[index].weight.shape) for index in layers)
        if self.rank is not None and self.rank > full:
            raise UsageError(f"rank is {self.rank}; the layers have at most {full}")
        return layers


def factorize(
    network: Network,
    *,
    rank: int | None = None,
    macs: float | None = None,
    error: float | None = None,
    near: float = 0.0,
    pattern: str = "unstructured",
    layers: Sequence[int] | None = None,
    calibration: Inputs | None = None,
    seed: int = 0,
) -> Network:
    """The network with low-rank weights, or low rank plus sparse; arguments as at `RankRequest`.

    Layers for which that would take more multiply-accumulates than they have stay as they are, but make up for what
    those before them lost. Factors next to linear layers are multiplied into them, see `fold_linear`. `calibration` are
    inputs `[n, n_in]` (`[n, T, n_in]` for input coding "spikes"), no labels.

    Raises:
        UsageError: the request is wrong.
        DataError: calibration inputs are missing, of the wrong shape or not finite.
        NetworkError: weights that cannot be computed.
    """
    request = RankRequest(rank, macs, error, near, Pattern.parse(pattern), None if layers is None else tuple(layers))
    return low_rank(network, request, calibration, seed)


def low_rank(network: Network, request: RankRequest, calibration: Inputs | None, seed: int = 0) -> Network:
    """`factorize` for a request that is checked already."""
    calibration = check_calibration(network, calibration)
    chosen = request.chosen(network)
    dense = precompute(network)
    outputs = sensitivities(dense, calibration, seed)
    problems = dict(zip(chosen, second_order_problems(dense, chosen, calibration, outputs), strict=True))
    ranks = _ranks(dense, problems, request)
    if not ranks:
        warnings.warn("no layer takes fewer MACs as factors: all stay as they are", CompressionWarning, stacklevel=2)

    def method(index: int, problem: Quadratic) -> WeightOperator | None:
        if index not in ranks:
            return None
        n_near = round(request.near * problem.weight.size)
        return low_rank_plus_sparse(problem, ranks[index], request.pattern, n_near)

    return fold_linear(layerwise(dense, calibration, method, outputs))


def low_rank_plus_sparse(
    problem: Quadratic, rank: int, pattern: Pattern = UNSTRUCTURED, n_near: int = 0, effort: float = 1.0
) -> WeightOperator:
    """Factors of a rank and, for `n_near` > 0, a sparse part of that many weights, with nearly the smallest error.

    `effort` is the share of the usual iterations.
    """
    if not n_near:
        return _low_rank(problem, problem.weight, rank)
    sparse, mask = np.zeros_like(problem.weight), np.zeros(problem.weight.shape, bool)
    for _ in range(ALTERNATIONS):
        far = problem.truncated(problem.weight - sparse, rank)
        rest = replace(problem, weight=problem.weight - far)
        sparse, mask = best_under_pattern(rest, lambda energy: pattern.select(energy, n_near), effort * NEAR_EFFORT)
    far = problem.truncated(problem.weight - sparse, rank)
    sparse = best_weights(replace(problem, weight=problem.weight - far), mask, sparse)
    return Sum(_low_rank(problem, far, rank), _near_field(problem, sparse, mask))


def _near_field(problem: Quadratic, sparse: FloatArray, mask: Mask) -> WeightOperator:
    return stored(problem.to_weights(sparse).astype(np.float32), mask)


def _low_rank(problem: Quadratic, scaled: FloatArray, rank: int) -> LowRank:
    left, right = problem.factors(scaled, rank)
    return LowRank(
        np.ascontiguousarray(left / problem.output_unit[:, np.newaxis], np.float32),
        np.ascontiguousarray(right / problem.input_unit, np.float32),
    )


def _ranks(network: Network, problems: dict[int, Quadratic], request: RankRequest) -> dict[int, int]:
    """The rank of each layer that is factorized."""
    most = {index: _worthwhile(network.layers[index], request) for index in problems}
    if request.rank is not None:
        return {index: request.rank for index in problems if request.rank <= most[index]}
    tails = {index: problem.tail_energies for index, problem in problems.items()}
    if request.error is not None:
        wanted = {index: max(1, int(np.argmax(tail <= request.error**2 * tail[0]))) for index, tail in tails.items()}
        return {index: rank for index, rank in wanted.items() if rank <= most[index]}
    assert request.macs is not None  # RankRequest has seen to it; this is for mypy
    return _ranks_for_macs(network, problems, tails, most, request)


def _worthwhile(layer: Layer, request: RankRequest) -> int:
    """The greatest rank that takes fewer multiply-accumulates than the layer does now; 0 where there is none."""
    n_out, n_in = layer.weight.shape
    left = layer.weight.macs - request.near * n_out * n_in
    return max(0, min(int((left - 1) // (n_out + n_in)), n_out, n_in))


def _ranks_for_macs(
    network: Network,
    problems: dict[int, Quadratic],
    tails: dict[int, FloatArray],
    most: dict[int, int],
    request: RankRequest,
) -> dict[int, int]:
    """Ranks such that no multiply-accumulate is worth more in one layer than in another."""
    assert request.macs is not None  # as above
    target = request.macs * network.macs
    fixed = sum(layer.weight.macs for index, layer in enumerate(network.layers) if index not in problems)

    def at(price: float) -> tuple[dict[int, int], float]:
        ranks, total = {}, float(fixed)
        for index, problem in problems.items():
            n_out, n_in = problem.weight.shape
            costs = np.arange(most[index] + 1) * (n_out + n_in) + request.near * problem.weight.size
            values = tails[index][: most[index] + 1] + price * costs
            rank = int(np.argmin(values[1:])) + 1 if most[index] else 0
            now = network.layers[index].weight.macs
            if rank and values[rank] < price * now:
                ranks[index], total = rank, total + costs[rank]
            else:
                total += now
        return ranks, total

    low, high = 0.0, max(float(tail[0]) for tail in tails.values()) or 1.0
    if at(high)[1] > target:
        raise UsageError(
            f"{request.macs:.1%} of the MACs cannot be reached: rank 1 takes {at(high)[1] / target * request.macs:.1%}"
        )
    for _ in range(PRICE_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if at(middle)[1] <= target else (middle, high)
    return at(high)[0]


def fold_linear(network: Network) -> Network:
    """The network with products of neighbouring layers multiplied out where that is exact and saves operations.

    That is so where nothing but `Identity` neurons lies between them and no weights are int8:
    `W2 (W1 x + b1) + b2 = (W2 W1) x + W2 b1 + b2`.
    """
    layers: list[Layer] = []
    for layer in network.layers:
        before = layers[-1] if layers else None
        if before is not None and isinstance(before.neuron, Identity) and not _is_int8(before) and not _is_int8(layer):
            folded = _folded(before, layer)
            if folded.weight.macs <= before.weight.macs + layer.weight.macs:
                layers[-1] = folded
                continue
        layers.append(layer)
    return replace(network, layers=tuple(layers))


def _is_int8(layer: Layer) -> bool:
    """Whether products with these weights would have to be rounded anew."""
    return layer.grid is not None or any(array.dtype == np.int8 for array in layer.weight.weight_arrays())


def _folded(before: Layer, after: Layer) -> Layer:
    """Two layers as one; a low-rank one keeps its inner size."""
    if isinstance(before.weight, LowRank):
        left = after.weight.to_dense().astype(np.float64) @ before.weight.left
        weight: WeightOperator = replace(before.weight, left=left.astype(np.float32))
    elif isinstance(after.weight, LowRank):
        right = after.weight.right.astype(np.float64) @ before.weight.to_dense()
        weight = replace(after.weight, right=right.astype(np.float32))
    else:
        w = after.weight.to_dense().astype(np.float64) @ before.weight.to_dense()
        weight = Dense(w.astype(np.float32))
    bias = after.bias
    if before.bias is not None:
        carried = after.weight.to_dense().astype(np.float64) @ before.bias
        bias = (carried + (0.0 if after.bias is None else after.bias)).astype(np.float32)
    return replace(after, weight=weight, bias=bias)
