"""Low rank: each layer as two thin dense products, fast in every engine; or with a sparse part.

The network's outputs are approximated, not the weights: the singular value decomposition is that of
`A^(1/2) W C^(1/2)`, see `sen_edge.compression.quadratic`. Far neurons act smoothly, so their part has a low rank; near
neurons act one by one, so the rest is sparse (L. Greengard and V. Rokhlin, "A fast algorithm for particle
simulations", 1987).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from sen_edge.compression.moments import CompressionWarning, Inputs, SecondOrder
from sen_edge.compression.patterns import UNSTRUCTURED, Pattern
from sen_edge.compression.quadratic import FloatArray, Quadratic, best_under_pattern, best_weights
from sen_edge.compression.request import CompressRequest, select_layers
from sen_edge.errors import UsageError
from sen_edge.passes.materialize import to_sparse_layout
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Dense, LowRank, Sum, WeightOperator

#: Times that low rank and sparse part are fitted to the residual of the other, and the share of iterations in each.
ALTERNATIONS, NEAR_EFFORT = 6, 0.25
#: Halvings of the price of a multiply-accumulate.
PRICE_STEPS = 60


def factorize(
    network: Network, request: CompressRequest | None = None, *, calibration: Inputs | None, **fields: Any
) -> Network:
    """Replace weights by products of two factors, with or without a sparse part, as a request or its fields say.

    Layers that would take more multiply-accumulates stay as they are, but compensate for the error of the layers before
    them. Factors next to linear layers are multiplied into these, see `fold_linear`. Calibration inputs are
    `[n, n_in]`, or `[n, T, n_in]` for input coding "spikes".
    """
    request = request or CompressRequest(**fields)
    request.expect("factorize")
    layers, pattern = rank_layers(request, network), request.parsed_pattern
    fit = SecondOrder.of(network, calibration, request.seed)
    ranks = _ranks(fit.network, fit.problems(layers), request)
    if not ranks:
        warnings.warn("no layer takes fewer MACs as factors: all stay as they are", CompressionWarning, stacklevel=2)
    method = partial(low_rank_plus_sparse, pattern=pattern, near=request.near)
    return fold_linear(fit.compress({index: partial(method, rank=rank) for index, rank in ranks.items()}))


def rank_layers(request: CompressRequest, network: Network) -> list[int]:
    """Numbers of the layers to factorize; refuses a rank above that of every layer."""
    layers = select_layers(request.layers, network)
    full = max(min(network.layers[index].weight.shape) for index in layers)
    if request.rank is not None and request.rank > full:
        raise UsageError(f"rank is {request.rank}; the layers have at most {full}")
    return layers


def low_rank_plus_sparse(
    problem: Quadratic, rank: int, pattern: Pattern = UNSTRUCTURED, near: float = 0.0, effort: float = 1.0
) -> WeightOperator:
    """Factors and a sparse part with a share of the weights, with nearly minimal error; see `best_under_pattern`."""
    n_near = round(near * problem.weight.size)
    if not n_near:
        return _factors(problem, problem.weight, rank)
    sparse, mask = np.zeros_like(problem.weight), np.zeros(problem.weight.shape, bool)
    select = partial(pattern.select, count=n_near)
    for _ in range(ALTERNATIONS):
        far = problem.truncated(problem.weight - sparse, rank)
        sparse, mask = best_under_pattern(replace(problem, weight=problem.weight - far), select, effort * NEAR_EFFORT)
    far = problem.truncated(problem.weight - sparse, rank)
    sparse = best_weights(replace(problem, weight=problem.weight - far), mask, sparse, effort)
    rest = to_sparse_layout(problem.to_weights(sparse).astype(np.float32), mask)
    return Sum(_factors(problem, far, rank), rest)


def _factors(problem: Quadratic, scaled: FloatArray, rank: int) -> LowRank:
    left, right = problem.factors(scaled, rank)
    return LowRank(
        np.ascontiguousarray(left / problem.output_unit[:, np.newaxis], np.float32),
        np.ascontiguousarray(right / problem.input_unit, np.float32),
    )


def _ranks(network: Network, problems: Mapping[int, Quadratic], request: CompressRequest) -> dict[int, int]:
    """Return the rank of each factorized layer."""
    limits = {}  # max ranks with fewer MACs than the layers; 0 for none
    for index, problem in problems.items():
        left = network.layers[index].weight.macs - request.near * problem.weight.size
        limits[index] = max(0, min(int((left - 1) // sum(problem.weight.shape)), *problem.weight.shape))
    if request.macs is not None:
        return _ranks_for_macs(network, problems, limits, request.macs, request.near)
    if request.rank is not None:
        ranks = dict.fromkeys(problems, request.rank)
    else:
        error = (request.error or 0.0) ** 2
        tails = {index: problem.tail_energies for index, problem in problems.items()}
        ranks = {index: max(1, int(np.argmax(tail <= error * tail[0]))) for index, tail in tails.items()}
    return {index: rank for index, rank in ranks.items() if rank <= limits[index]}


def _ranks_for_macs(
    network: Network, problems: Mapping[int, Quadratic], limits: Mapping[int, int], share: float, near: float
) -> dict[int, int]:
    """Return ranks with equal marginal error per MAC in all layers, for a share of the MACs of the network."""
    target = share * network.macs

    def at(price: float) -> tuple[dict[int, int], float]:
        ranks, total = {}, float(network.macs)
        for index, problem in problems.items():
            costs = np.arange(1, limits[index] + 1) * sum(problem.weight.shape) + near * problem.weight.size
            values = problem.tail_energies[1 : limits[index] + 1] + price * costs
            now = network.layers[index].weight.macs
            if len(values) and values.min() < price * now:
                ranks[index] = int(np.argmin(values)) + 1
                total += costs[ranks[index] - 1] - now
        return ranks, total

    low, high = 0.0, max(float(problem.tail_energies[0]) for problem in problems.values()) or 1.0
    if at(high)[1] > target:
        raise UsageError(f"{share:.1%} of the MACs cannot be reached: rank 1 takes {at(high)[1] / target * share:.1%}")
    for _ in range(PRICE_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if at(middle)[1] <= target else (middle, high)
    return at(high)[0]


def fold_linear(network: Network) -> Network:
    """Merge adjacent layers if the result is exact and has fewer operations.

    That is so with `Identity` neurons between them and without int8 weights:
    `W2 (W1 x + b1) + b2 = (W2 W1) x + W2 b1 + b2`.
    """
    layers: list[Layer] = []
    for layer in network.layers:
        before = layers[-1] if layers else None
        if before is not None and isinstance(before.neuron, Identity) and not _is_int8(before) and not _is_int8(layer):
            folded = _fold(before, layer)
            if folded.weight.macs <= before.weight.macs + layer.weight.macs:
                layers[-1] = folded
                continue
        layers.append(layer)
    return replace(network, layers=tuple(layers))


def _is_int8(layer: Layer) -> bool:
    """Whether products of these weights would be rounded again."""
    return layer.grid is not None or any(array.dtype == np.int8 for array in layer.weight.weight_arrays())


def _fold(before: Layer, after: Layer) -> Layer:
    """Merge two layers; a low-rank layer keeps its rank."""
    w = after.weight.to_dense().astype(np.float64)
    if isinstance(before.weight, LowRank):
        left = w @ before.weight.left
        weight: WeightOperator = replace(before.weight, left=left.astype(np.float32))
    elif isinstance(after.weight, LowRank):
        right = after.weight.right.astype(np.float64) @ before.weight.to_dense()
        weight = replace(after.weight, right=right.astype(np.float32))
    else:
        weight = Dense((w @ before.weight.to_dense()).astype(np.float32))
    bias = after.bias
    if before.bias is not None:
        bias = (w @ before.bias + (0.0 if after.bias is None else after.bias)).astype(np.float32)
    return replace(after, weight=weight, bias=bias)
