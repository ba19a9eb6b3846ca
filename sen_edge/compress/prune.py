"""Pruning, Network -> Network: which synapses a layer can do without, and what the others make up for."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sen_edge.compress.layerwise import layerwise, second_order_problems, with_means_kept
from sen_edge.compress.moments import CompressionWarning, Inputs, check_calibration, sensitivities
from sen_edge.compress.patterns import UNSTRUCTURED, Mask, Pattern, greatest
from sen_edge.compress.quadratic import Quadratic, best_under_pattern
from sen_edge.compress.structured import remove_neurons
from sen_edge.errors import UsageError
from sen_edge.model.statistics import MAX_WRITTEN_OUT
from sen_edge.passes.materialize import precompute, weights
from sen_edge.passes.sparse_layout import stored
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Coordinates, WeightOperator

FloatArray = NDArray[np.float64]

CRITERIA = ("second-order", "magnitude", "distance")
SCOPES = ("global", "layer")
#: Share of the synapses by which a radius may miss the sparsity before that is worth a warning.
TIES = 0.01
#: Steps of the search for the sparsity that a relative error allows.
BISECTIONS = 7


@dataclass(frozen=True)
class PruneRequest:
    """What to cut, checked.

    Attributes:
        sparsity: share of all weights of the chosen layers that become 0, in [0, 1); None if `threshold` decides.
        threshold: what is cut instead: weights below it (magnitude); synapses longer than it (distance); as many as
            raise the relative error of a layer's output to it (second-order).
        criterion: "second-order", "magnitude" or "distance".
        pattern: synapses that are cut together.
        scope: "global" shares the zeros out among the layers by what they cost, "layer" gives all the same sparsity;
            None for global with second-order, whose costs compare between layers, and layer with other criteria.
        layers: numbers of the layers to prune; None for all.
    """

    sparsity: float | None = None
    threshold: float | None = None
    criterion: str = "second-order"
    pattern: Pattern = UNSTRUCTURED
    scope: str | None = None
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.scope is None:
            object.__setattr__(self, "scope", "global" if self.criterion == "second-order" else "layer")
        for name, value, choices in (("criterion", self.criterion, CRITERIA), ("scope", self.scope, SCOPES)):
            if value not in choices:
                raise UsageError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
        if self.pattern.group is None and (self.sparsity is None) == (self.threshold is None):
            raise UsageError("pruning needs either a sparsity or a threshold, and not both")
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise UsageError(f"sparsity is {self.sparsity:g}; expected a number >= 0 and < 1, the share of zeros")
        if self.threshold is not None and not 0 < self.threshold < math.inf:
            raise UsageError(f"threshold is {self.threshold:g}; expected a finite number > 0")
        if self.pattern.group is not None:
            self._check_group(*self.pattern.group)
        if self.pattern.neurons and self.threshold is not None:
            raise UsageError("whole neurons go by sparsity, the share of them; a threshold has no use with them")
        if self.criterion == "distance" and self.pattern != UNSTRUCTURED:
            raise UsageError(f"a radius has no {self.pattern} form", hint="leave the pattern out, or take magnitude")

    def _check_group(self, n: int, m: int) -> None:
        if self.threshold is not None:
            raise UsageError(f"a threshold has no use with the pattern {n}:{m}, which says how many are kept")
        if self.sparsity is not None and not math.isclose(self.sparsity, 1 - n / m, abs_tol=1e-3):
            raise UsageError(
                f"the pattern {n}:{m} has a sparsity of {1 - n / m:g}, not {self.sparsity:g}", hint="leave one out"
            )

    def chosen(self, network: Network) -> list[int]:
        """Numbers of the layers to prune.

        Raises:
            UsageError: the network has no such layer.
        """
        n_layers = len(network.layers)
        layers = range(n_layers) if self.layers is None else sorted(set(self.layers))
        for index in layers:
            if not 0 <= index < n_layers:
                raise UsageError(f"there is no layer {index}; expected 0 to {n_layers - 1}")
        if not layers:
            raise UsageError("no layer was named; expected one or more")
        return list(layers)


def prune(
    network: Network,
    *,
    sparsity: float | None = None,
    threshold: float | None = None,
    criterion: str = "second-order",
    pattern: str = "unstructured",
    scope: str | None = None,
    layers: Sequence[int] | None = None,
    calibration: Inputs | None = None,
    seed: int = 0,
) -> Network:
    """The network with zeros in its weights; arguments as at `PruneRequest`.

    With calibration inputs (`[n, n_in]`, or `[n, T, n_in]` for input coding "spikes"; no labels) biases make up for
    the mean of what was cut; criterion "second-order" also chooses by their second moments, and changes the weights
    that stay. Criterion "distance" keeps coordinates: their radius says which synapses are left.

    Raises:
        UsageError: the request is wrong, or contradicts itself.
        DataError: calibration inputs are missing, of the wrong shape or not finite.
        NetworkError: weights that cannot be computed; criterion "distance" without coordinates.
    """
    request = PruneRequest(
        sparsity, threshold, criterion, Pattern.parse(pattern), scope, None if layers is None else tuple(layers)
    )
    return pruned(network, request, calibration, seed)


def pruned(network: Network, request: PruneRequest, calibration: Inputs | None = None, seed: int = 0) -> Network:
    """`prune` for a request that is checked already."""
    criterion = request.criterion
    if calibration is not None or criterion == "second-order":
        calibration = check_calibration(network, calibration)
    if request.pattern.neurons:
        assert request.sparsity is not None  # PruneRequest has seen to it; this is for mypy
        return remove_neurons(
            network, request.chosen(network), sparsity=request.sparsity, calibration=calibration, seed=seed
        )
    if criterion == "distance":
        result = _within_radius(network, request)
    elif criterion == "magnitude":
        result = _by_magnitude(network, request)
    else:
        assert calibration is not None  # checked above; this is for mypy
        result = _second_order(network, request, calibration, seed)
    if calibration is not None and criterion != "second-order":
        result = with_means_kept(network, result, calibration)
    warn_of_disconnected(result)
    return result


def choose_masks(network: Network, request: PruneRequest, calibration: Inputs | None, seed: int = 0) -> dict[int, Mask]:
    """Which synapses `[n_out, n_in]` of each chosen layer stay, weights unchanged: for training under the masks.

    Args:
        network: as it is now.
        request: criterion "second-order" or "magnitude", with a sparsity or the pattern N:M.
        calibration: checked inputs, which second-order needs.
        seed: of random mixtures of many outputs.
    """
    dense = precompute(network)
    chosen = request.chosen(network)
    if request.criterion == "magnitude":
        values = [dense.layers[index].weight.to_dense() for index in chosen]
        return dict(zip(chosen, masks_of([np.square(w, dtype=np.float64) for w in values], request), strict=True))
    calibration = check_calibration(network, calibration)
    problems = second_order_problems(dense, chosen, calibration, sensitivities(dense, calibration, seed))
    kept = kept_per_layer([problem.saliency() for problem in problems], request)
    return {
        index: best_under_pattern(problem, partial(request.pattern.select, kept=n))[1]
        for index, problem, n in zip(chosen, problems, kept, strict=True)
    }


def masks_of(energies: Sequence[FloatArray], request: PruneRequest) -> list[Mask]:
    """A mask `[n_out, n_in]` for each layer's energies `[n_out, n_in]`, greatest kept."""
    return [
        request.pattern.select(energy, kept)
        for energy, kept in zip(energies, kept_per_layer(energies, request), strict=True)
    ]


def kept_per_layer(energies: Sequence[FloatArray], request: PruneRequest) -> list[int]:
    """How many weights each layer keeps, so that all together have the sparsity that was asked for."""
    if request.sparsity is None:  # N:M
        return [energy.size for energy in energies]
    density = 1 - request.sparsity
    if request.scope == "layer":
        return [round(density * energy.size) for energy in energies]
    blocks = [request.pattern.energies(energy).ravel() for energy in energies]
    sizes = [request.pattern.sizes(energy.shape).ravel() for energy in energies]
    total = sum(energy.size for energy in energies)
    kept = greatest(np.concatenate(blocks), round(density * total), np.concatenate(sizes))
    ends = np.cumsum([len(each) for each in blocks])[:-1]
    return [int(size @ part) for part, size in zip(np.split(kept, ends), sizes, strict=True)]


def warn_of_disconnected(network: Network) -> None:
    """Name the neurons that no input reaches any more; not of layers that are too large to be written out."""
    for index, layer in enumerate(network.layers):
        if layer.weight.shape[0] * layer.weight.shape[1] > MAX_WRITTEN_OUT:
            continue
        silent = np.flatnonzero(~np.any(layer.weight.to_dense() != 0, axis=1))
        if len(silent):
            names = ", ".join(map(str, silent[:8])) + (f" and {len(silent) - 8} more" if len(silent) > 8 else "")
            warnings.warn(
                f"layer {index}: no synapse reaches output neuron {names}; only the bias is left there",
                CompressionWarning,
                stacklevel=3,
            )


def _by_magnitude(network: Network, request: PruneRequest) -> Network:
    dense = precompute(network)
    chosen = request.chosen(network)
    values = [dense.layers[index].weight.to_dense() for index in chosen]
    energies = [np.square(w, dtype=np.float64) for w in values]
    if request.threshold is None:
        masks = masks_of(energies, request)
    else:
        masks = [request.pattern.above(energy, request.threshold**2) for energy in energies]
    new = {index: stored(w, mask) for index, w, mask in zip(chosen, values, masks, strict=True)}
    return _with_weights(dense, new)


def _within_radius(network: Network, request: PruneRequest) -> Network:
    """Coordinates with a greatest distance: nothing but one number is stored for the pattern."""
    chosen = request.chosen(network)
    operators: dict[int, Coordinates] = {}
    for index in chosen:
        operator = network.layers[index].weight
        if not isinstance(operator, Coordinates):
            raise UsageError(
                f"layer {index} has no coordinates to take distances from", hint="prune the checkpoint, or by magnitude"
            )
        operators[index] = operator
    for index, operator in operators.items():
        if request.threshold is not None and request.threshold <= operator.min_distance:
            raise UsageError(
                f"a radius of {request.threshold:g} leaves layer {index} no synapse: its min_distance is "
                f"{operator.min_distance:g}"
            )
    if request.threshold is not None:
        radii = dict.fromkeys(chosen, request.threshold)
    elif request.scope == "global":
        radii = dict.fromkeys(chosen, radius_for([*operators.values()], request))
    else:
        radii = {index: radius_for([operator], request) for index, operator in operators.items()}
    new = {
        index: replace(operator, max_distance=min(radii[index], operator.max_distance))
        for index, operator in operators.items()
    }
    return _with_weights(network, new)


def radius_for(operators: Sequence[Coordinates], request: PruneRequest) -> float:
    """A radius that the asked-for share of all distances exceeds: half way between two of them; inf for none.

    Neurons nearer than `min_distance` act as if that far, and so stay connected. Synapses of equal length stay or go
    together; a warning says so where that leaves many more of them than were asked for.
    """
    assert request.sparsity is not None  # whoever asks has looked; this is for mypy
    distances = np.concatenate([_distances(operator) for operator in operators])
    kept = max(round((1 - request.sparsity) * distances.size), 1)
    if kept == distances.size:
        return math.inf
    inside, outside = np.partition(distances, (kept - 1, kept))[[kept - 1, kept]]
    least = np.nextafter(np.float32(max(operator.min_distance for operator in operators)), np.float32(np.inf))
    radius = max(float(np.float32((float(inside) + float(outside)) / 2)), float(least))
    sparsity = float(np.mean(distances > radius))
    if sparsity < request.sparsity - TIES:
        warnings.warn(
            f"synapses of equal length stay together: a radius cuts {sparsity:.1%} of them, not {request.sparsity:.1%}",
            CompressionWarning,
            stacklevel=3,
        )
    return radius


def _distances(operator: Coordinates) -> NDArray[np.float32]:
    """Distances between all sources and targets, flat."""
    plain = replace(operator, mask=np.ones_like(operator.mask), gain=1.0, exponent=1.0, max_distance=math.inf)
    return np.float32(1) / weights(plain).ravel()


def _second_order(network: Network, request: PruneRequest, calibration: Inputs, seed: int) -> Network:
    dense = precompute(network)
    chosen = request.chosen(network)
    outputs = sensitivities(dense, calibration, seed)
    problems = second_order_problems(dense, chosen, calibration, outputs)
    kept: dict[int, int] = {}
    if request.threshold is None:
        kept = dict(zip(chosen, kept_per_layer([problem.saliency() for problem in problems], request), strict=True))

    def method(index: int, problem: Quadratic) -> WeightOperator | None:
        if index not in chosen:
            return None
        if request.threshold is not None:
            return _within_error(problem, request)
        return best_sparse(problem, request.pattern, kept[index])

    return layerwise(dense, calibration, method, outputs)


def best_sparse(problem: Quadratic, pattern: Pattern, kept: int, effort: float = 1.0) -> WeightOperator:
    """Weights of which `kept` are not 0, with nearly the smallest error; `effort` is the share of usual iterations."""
    scaled, mask = best_under_pattern(problem, partial(pattern.select, kept=kept), effort)
    return stored(problem.to_weights(scaled).astype(np.float32), mask)


def _within_error(problem: Quadratic, request: PruneRequest) -> WeightOperator:
    """The fewest weights whose relative error is at most the threshold, by bisection."""
    assert request.threshold is not None  # whoever asks has looked; this is for mypy
    least, most = 0, problem.weight.size
    best, best_mask = problem.weight, np.ones(problem.weight.shape, bool)
    for _ in range(BISECTIONS):
        kept = (least + most) // 2
        scaled, mask = best_under_pattern(problem, partial(request.pattern.select, kept=kept))
        if problem.relative_error(scaled) <= request.threshold:
            most, best, best_mask = kept, scaled, mask
        else:
            least = kept
    return stored(problem.to_weights(best).astype(np.float32), best_mask)


def _with_weights(network: Network, new: Mapping[int, WeightOperator]) -> Network:
    layers = [
        replace(layer, weight=new[index]) if index in new else layer for index, layer in enumerate(network.layers)
    ]
    return replace(network, layers=tuple(layers))
