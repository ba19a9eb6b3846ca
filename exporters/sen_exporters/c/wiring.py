"""Delays, recurrent synapses and synaptic currents of a layer: `sen_wiring` of network.h.

Delays from positions have two forms: "table", a byte or two for each synapse, and "coordinates", from which they are
computed when a spike leaves. Sparse weights that connect at most half of the pairs of neurons are lists of synapses,
with their places in the ring instead of delays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np

from sen_exporters.c.memory import Arena, Array, Constant, dtype
from sen_exporters.c.weights import Members, Place
from sen_runtime.ir.delays import ConstantDelay, Delay, SpatialDelay
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Coordinates, Sparse, WeightOperator
from sen_runtime.wiring import common_scale

#: Returns an equal constant, if there is one.
Share: TypeAlias = Callable[[Constant], Constant]

FORMS = ("table", "coordinates")
#: Bytes of an element of the ring, by type.
SUM_BYTES = {"f32": 4, "i32": 4, "i16": 2}
#: Delays of one byte, and places in a ring of two.
BYTE_SLOTS, SHORT_PLACES = 256, 1 << 16


@dataclass(frozen=True, eq=False)
class LoweredWiring:
    """A `sen_wiring` and the structures that it points to.

    Attributes:
        symbol: C identifier.
        members: of `sen_wiring`.
        structures: type and members of the others by symbol, in an order that compiles.
        n_sources: neurons of the connection with the most.
        functions: regions of the library.
    """

    symbol: str
    members: Members
    structures: dict[str, tuple[str, Members]]
    n_sources: int
    functions: frozenset[str]


def has_forms(network: Network) -> bool:
    """Whether delays have both forms."""
    return any(
        isinstance(delay, SpatialDelay) and not _is_listed(weight) and not _has_positions_of(weight, delay)
        for layer in network.layers
        for weight, delay in layer.connections
    )


@dataclass(frozen=True, eq=False)
class _Connection:
    """Weights and delays; `late` steps of these have elapsed when the spikes of a step reach the ring."""

    name: str
    weight: WeightOperator
    delay: Delay
    late: int

    @cached_property
    def steps(self) -> Array:
        """Steps `[n_in, n_out]` from the one in which the ring is read next."""
        return self.delay.steps(self.weight.shape).T - self.late

    @cached_property
    def listed(self) -> tuple[Array, Array] | None:
        """Sources and targets of the synapses by source, if they are in lists."""
        if not _is_listed(self.weight):
            return None
        source, target = np.nonzero(self.weight.to_dense().T)
        return source, target

    @property
    def longest(self) -> int:
        """Longest of the steps, of the synapses in lists if they are."""
        return int((self.steps if self.listed is None else self.steps[self.listed]).max())


def lower_wiring(layer: Layer, place: Place, form: str, arena: Arena, share: Share) -> LoweredWiring:
    """Lower the synapses of a layer, with delays from positions in `form`."""
    scale = common_scale(layer, place.meets_spikes)
    kind = "f32" if scale is None else _integer(layer)
    connections = [
        _Connection(name, weight, delay, late)
        for late, (name, (weight, delay)) in enumerate(zip(("input", "recurrent"), layer.connections, strict=False))
    ]
    n_out, n_slots = layer.weight.shape[0], 1 + max(each.longest for each in connections)
    ring = f"{place.where}: currents under way, {n_slots} steps"
    lines = np.tile(np.arange(n_slots, dtype=np.uint32) * np.uint32(n_out), 2)
    members: Members = {
        "slots": n_slots,
        "sum_bytes": SUM_BYTES[kind],
        "lines": share(place.constant("lines", lines, "first element of each slot of the ring, twice over")),
        "arrive": f"sen_arrive_{kind}",
        "ring": arena.take(ring, -(-n_slots * n_out * SUM_BYTES[kind] // 4)),
        "now": arena.take(f"{place.where}: slot of the step", 1),
    }
    if scale is not None:
        members["scale"] = share(place.constant("sum_scale", scale, "scale of the sums"))
        members["scale_step"] = int(len(scale) > 1)
    if layer.synapse:
        members |= {"synapse": layer.synapse, "synaptic": arena.take(f"{place.where}: synaptic currents", n_out)}
    structures: dict[str, tuple[str, Members]] = {}
    functions = {"sen_deliver", f"sen_arrive_{kind}"}
    for each in connections:
        own = replace(place, name=f"{place.name}_{each.name}", where=f"{place.where}, {each.name}")
        lowered = _lower_connection(each, own, kind, form, n_slots, share)
        structures |= lowered
        members[each.name] = f"&{own.name}"
        functions.add(str(lowered[own.name][1]["propagate"]))
    n_sources = max(weight.shape[1] for weight, _ in layer.connections)
    return LoweredWiring(f"{place.name}_wiring", members, structures, n_sources, frozenset(functions))


def _lower_connection(
    connection: _Connection, place: Place, kind: str, form: str, n_slots: int, share: Share
) -> dict[str, tuple[str, Members]]:
    """Structures of a connection, itself last."""
    weight, delay = connection.weight, connection.delay
    structures: dict[str, tuple[str, Members]] = {}
    members: Members = {"n_in": weight.shape[1], "n_out": weight.shape[0]}
    if connection.listed is not None:
        members |= _lists(connection, *connection.listed, place, n_slots, share)
    elif isinstance(delay, SpatialDelay) and _is_computed(weight, delay, form):
        positions = f"{place.name}_positions"
        structures[positions] = ("sen_spatial", _spatial(weight, delay, place, share))
        members |= {"spatial": f"&{positions}", "delay": delay.shift - connection.late}
    elif isinstance(delay, ConstantDelay):
        members["delay"] = delay.value - connection.late
    else:
        table = connection.steps.astype(np.uint8 if n_slots <= BYTE_SLOTS else np.uint16)
        members["delays"] = share(place.constant("delays", table, "delays by source"))
    if "weights" not in members and not _has_positions_of(weight, delay):
        dense = weight.to_dense() if kind == "f32" else weight.stored_matrix()
        members["weights"] = share(place.constant("weights", dense.T, "weights by source"))
    members["propagate"] = _propagator(kind, members)
    return {**structures, place.name: ("sen_connection", members)}


def _is_listed(weight: WeightOperator) -> bool:
    """Whether the synapses are in lists."""
    return isinstance(weight, Sparse) and 0 < 2 * np.count_nonzero(weight.values) <= math.prod(weight.shape)


def _lists(connection: _Connection, source: Array, target: Array, place: Place, n_slots: int, share: Share) -> Members:
    """Members of a connection whose synapses are in lists."""
    n_out, n_in = connection.weight.shape
    places = connection.steps[source, target].astype(np.uint32) * np.uint32(n_out) + target.astype(np.uint32)
    starts = np.searchsorted(source, np.arange(n_in + 1)).astype(np.uint32)
    weights = connection.weight.to_dense().T[source, target]
    is_short = n_slots * n_out <= SHORT_PLACES
    places = places.astype(np.uint16 if is_short else np.uint32)
    return {
        "starts": share(place.constant("starts", starts, "first synapse of each source")),
        "weights": share(place.constant("weights", weights, "weights of synapses")),
        "delays": share(place.constant("places", places, "their places in the ring: delay times neurons + target")),
        "slots": n_slots,
    }


def _integer(layer: Layer) -> str:
    """Type of the sums of integers: 16 bits where no sum of the weights of one sign needs more."""
    stored = np.concatenate([weight.stored_matrix() for weight, _ in layer.connections], axis=1).astype(np.int64)
    low, high = np.minimum(stored, 0).sum(axis=1).min(), np.maximum(stored, 0).sum(axis=1).max()
    bounds = np.iinfo(np.int16)
    return "i16" if bounds.min <= low and high <= bounds.max else "i32"


def _propagator(kind: str, connection: Members) -> str:
    """Function that adds the spikes of a source."""
    if "spatial" in connection:
        return f"sen_propagate_{kind}_positions" if "weights" in connection else "sen_propagate_coordinates"
    delays = connection.get("delays")
    kind = "list" if "starts" in connection else kind
    bits = f"_u{8 * delays.array.itemsize}" if isinstance(delays, Constant) else ""
    return f"sen_propagate_{kind}{bits}"


def _has_positions_of(weight: WeightOperator, delay: Delay) -> bool:
    """Whether weights and delays follow from the same positions."""
    return (
        isinstance(weight, Coordinates)
        and isinstance(delay, SpatialDelay)
        and np.array_equal(weight.source, delay.source)
        and np.array_equal(weight.target, delay.target)
    )


def _is_computed(weight: WeightOperator, delay: SpatialDelay, form: str) -> bool:
    """Whether delays are computed when a spike leaves: in that form, and with weights from the same positions."""
    return form == "coordinates" or _has_positions_of(weight, delay)


def _spatial(weight: WeightOperator, delay: SpatialDelay, place: Place, share: Share) -> Members:
    """Members of `sen_spatial`."""

    def positions(name: str, array: Array) -> Constant:
        return share(place.constant(name, array.astype(np.float32), f"positions of the {name} neurons"))

    longest = float(delay.unlimited().max())
    members: Members = {
        "source": positions("source", delay.source),
        "target": positions("target", delay.target),
        "dimensions": delay.source.shape[1],
        "scale": delay.scale,
        "softening": delay.softening,
        "limit": "UINT32_MAX" if longest <= delay.limit else delay.limit,
        "modulus": delay.limit + 1 if delay.overflow == "wrap" else 0,
    }
    if isinstance(weight, Coordinates) and _has_positions_of(weight, delay):
        members |= {
            "mask": share(place.constant("mask", weight.mask, "inhibition mask of the source neurons")),
            "mask_dtype": dtype(weight.mask),
            "gain": weight.gain,
            "exponent": weight.exponent,
            "min_distance": weight.min_distance,
        }
        if weight.has_max_distance:
            members["max_distance"] = weight.max_distance
    return members
