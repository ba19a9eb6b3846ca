"""Figures of the delays, recurrent synapses and synaptic currents of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sen_runtime.errors import NetworkError
from sen_runtime.ir.checks import Array
from sen_runtime.ir.delays import Delay, SpatialDelay
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Sparse, WeightOperator

#: Max synapses of a connection whose delays are computed for its figures.
MAX_SYNAPSES = 1 << 26
#: Names of the connections of a layer, in the order of `Layer.connections`.
SOURCES = ("layer before", "own spikes")


@dataclass(frozen=True)
class SpatialFigures:
    """Constants of delays from positions, see `sen_runtime.ir.delays.SpatialDelay`.

    Attributes:
        beyond: share of the synapses whose distance exceeds the limit; None if unknown.
    """

    dimensions: int
    scale: float
    softening: float
    limit: int
    overflow: str
    shift: int
    beyond: float | None


@dataclass(frozen=True)
class DelayFigures:
    """Delays of one connection.

    Attributes:
        source: "layer before", or "own spikes" of recurrent synapses.
        synapses: number of synapses, without pruned ones, which do not count in the other figures either.
        kind: "none", "constant", "stored" or "positions".
        dtype: of the stored numbers; empty for a constant.
        bytes: of the stored numbers; positions that two layers share count twice.
        min: shortest delay in steps; None, as the mean and the max, for distances beyond a limit that is an error.
        mean: None for a connection of more than 2^26 synapses, too, whose min and max are bounds.
        max: longest delay in steps.
        positions: constants of delays from positions.
        problem: reason why the delays cannot be computed, or empty.
    """

    source: str
    synapses: int
    kind: str
    dtype: str
    bytes: int
    min: int | None
    mean: float | None
    max: int | None
    positions: SpatialFigures | None
    problem: str


@dataclass(frozen=True)
class WiringFigures:
    """Delays, ring of currents and synapses of a layer.

    Attributes:
        slots: of the ring of future currents, longest delay + 1; None where a delay cannot be computed.
        synapse: decay of the synaptic current per step; 0 for none.
        delays: of the weights, then of the recurrent ones.
    """

    slots: int | None
    synapse: float
    delays: tuple[DelayFigures, ...]


def wiring_figures(layer: Layer) -> WiringFigures | None:
    """Return the figures of a layer; None without delays, recurrent synapses and synaptic currents."""
    if layer.is_instant:
        return None
    delays = tuple(
        _figures(source, weight, delay) for source, (weight, delay) in zip(SOURCES, layer.connections, strict=False)
    )
    longest = [each.max for each in delays if each.max is not None]
    return WiringFigures(1 + max(longest) if len(longest) == len(delays) else None, layer.synapse, delays)


def late_warning(network: Network) -> str | None:
    """Return a line about spikes that arrive after the last step; None where all can arrive."""
    late, count = [], 0
    for index, layer in enumerate(network.layers):
        if layer.is_instant:
            continue
        for weight, delay in layer.connections:
            if delay.bounds[1] < network.timesteps or math.prod(weight.shape) > MAX_SYNAPSES:
                continue
            found = _count_late(weight, delay, network.timesteps)
            count += found
            late += [str(index)] * (found > 0)
    if not count:
        return None
    where = f"layer{'s' * (len(set(late)) > 1)} {', '.join(dict.fromkeys(late))}"
    return (
        f"{count:,} synapses of {where} have delays of {network.timesteps} steps or more; an input has "
        f"{network.timesteps}, so their spikes never arrive"
    )


def of_synapses(weight: WeightOperator, values: Array) -> Array:
    """Return the values `[n_out, n_in]` of the synapses, flat: without those that sparse weights lack."""
    found: Array = values[weight.to_dense() != 0] if isinstance(weight, Sparse) else values.ravel()
    return found


def _positions(weight: WeightOperator, delay: Delay, is_small: bool) -> SpatialFigures | None:
    if not isinstance(delay, SpatialDelay):
        return None
    beyond = None
    if is_small:
        found = of_synapses(weight, delay.unlimited() > delay.limit)
        beyond = float(found.mean()) if found.size else 0.0
    return SpatialFigures(
        delay.source.shape[1], delay.scale, delay.softening, delay.limit, delay.overflow, delay.shift, beyond
    )


def _count_late(weight: WeightOperator, delay: Delay, timesteps: int) -> int:
    try:
        return int(np.count_nonzero(of_synapses(weight, delay.steps(weight.shape)) >= timesteps))
    except NetworkError:  # reported in the figures
        return 0


def _figures(source: str, weight: WeightOperator, delay: Delay) -> DelayFigures:
    shape, mean, problem = weight.shape, None, ""
    shortest, longest = delay.bounds
    is_small = math.prod(shape) <= MAX_SYNAPSES
    n_synapses = math.prod(shape)
    if is_small:
        try:
            steps = of_synapses(weight, delay.steps(shape))
        except NetworkError as error:
            problem = error.message
        else:
            n_synapses = steps.size
            if n_synapses:
                shortest, mean, longest = int(steps.min()), float(steps.mean()), int(steps.max())
    return DelayFigures(
        source, n_synapses, *_kind(delay), delay.nbytes,
        None if problem else shortest, mean, None if problem else longest,
        _positions(weight, delay, is_small), problem,
    )  # fmt: skip


def _kind(delay: Delay) -> tuple[str, str]:
    """Return the kind of delays and the type of the stored numbers."""
    kind = delay.kind if delay.is_varied or delay.bounds[1] else "none"
    return kind, str(delay.arrays[0].dtype) if delay.arrays else ""
