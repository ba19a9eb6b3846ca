"""Weight operators as matrices in the storage of the C kernels: `sen_weights` of network.h."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import singledispatch
from typing import TypeAlias

import numpy as np

from sen_exporters.base import NoFormError
from sen_exporters.c import streams
from sen_exporters.c.library import dense_kernel, sparse_kernel
from sen_exporters.c.memory import Array, Constant, dtype
from sen_runtime.format.records import UINT16_COLUMNS, block_columns
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, WeightOperator

Member: TypeAlias = Constant | str | int | float
Members: TypeAlias = dict[str, Member]


@dataclass(frozen=True, eq=False)
class Weights:
    """A `sen_weights`.

    Attributes:
        symbol: C identifier.
        kernel: function that multiplies these weights.
        members: the other members; a constant is written as its address.
    """

    symbol: str
    kernel: str
    members: Members

    @property
    def shape(self) -> tuple[int, int]:
        """`(rows, columns)`."""
        return int(self.members["rows"]), int(self.members["columns"])  # type: ignore[arg-type]

    @property
    def is_positions(self) -> bool:
        """Whether weights are computed from positions."""
        return self.kernel == "sen_coordinates"

    @property
    def constants(self) -> list[Constant]:
        """Arrays in flash."""
        return [value for value in self.members.values() if isinstance(value, Constant)]

    def uses(self, form: str) -> bool:
        """Whether the kernel reads its input in the form `SEN_USES_INT8` or `SEN_USES_EVENTS`."""
        return self.members.get("uses") == form


@dataclass(frozen=True)
class Place:
    """Place of a term.

    Attributes:
        name: prefix of its symbols.
        where: name of the layer, for comments.
        meets_spikes: whether its inputs are spikes.
    """

    name: str
    where: str
    meets_spikes: bool = False

    def constant(self, name: str, array: Array, comment: str) -> Constant:
        """An array of the term."""
        shape = ", ".join(map(str, array.shape))
        return Constant(f"{self.name}_{name}", np.ascontiguousarray(array), f"{self.where}: {comment} [{shape}]")


@singledispatch
def lower(operator: WeightOperator, place: Place) -> tuple[Weights, ...]:
    """A weight operator as one or two matrices in the order of multiplication; one function for each operator."""
    raise NoFormError(f"{place.where}: the C export has no form for weights of type {type(operator).__name__}")


@lower.register
def _dense(operator: Dense, place: Place) -> tuple[Weights, ...]:
    return (_matrix(operator, place, "weights"),)


@lower.register
def _low_rank(operator: LowRank, place: Place) -> tuple[Weights, ...]:
    right, left = operator.factors
    return _matrix(right, place, "right"), _matrix(left, replace(place, meets_spikes=False), "left")


@lower.register
def _sparse(operator: Sparse, place: Place) -> tuple[Weights, ...]:
    columns, shape = block_columns(operator), operator.shape
    if place.meets_spikes and operator.block == (1, 1) and columns.dtype == np.uint16 and shape[0] <= UINT16_COLUMNS:
        return (_by_source(operator, place),)
    kernel = sparse_kernel(operator.values.dtype.name, operator.block, shape[1], columns.dtype.name)
    if kernel == "sen_sparse_int8":
        return (_stream(operator, place, "sen_stream_int8", *streams.single(operator)),)
    if kernel == "sen_sparse_1x4_int8" and streams.takes_blocks(operator):
        return (_stream(operator, place, "sen_stream4_int8", *streams.blocks(operator)),)
    blocks: Members = {
        "indices": place.constant("columns", columns, "block column of each block"),
        "starts": place.constant("starts", operator.row_starts, "first block of each block row"),
        "index_dtype": dtype(columns),
        "block_rows": operator.block[0],
        "block_columns": operator.block[1],
    }
    values = place.constant("weights_values", operator.values, "weights")
    return (_weights(place, "weights", kernel, shape, values, operator.scale, blocks),)


@lower.register
def _coordinates(operator: Coordinates, place: Place) -> tuple[Weights, ...]:
    members: Members = {
        "rows": operator.shape[0],
        "columns": operator.shape[1],
        "dtype": dtype(operator.source),
        "values": place.constant("source", operator.source, "positions of the input neurons"),
        "target": place.constant("target", operator.target, "positions of the neurons"),
        "mask": place.constant("mask", operator.mask, "inhibition mask of the input neurons"),
        "target_dtype": dtype(operator.target),
        "mask_dtype": dtype(operator.mask),
        "dimensions": operator.dimensions,
        "gain": operator.gain,
        "exponent": operator.exponent,
        "min_distance": operator.min_distance,
    }
    if operator.has_max_distance:
        members["max_distance"] = operator.max_distance
    return (Weights(f"{place.name}_weights", "sen_coordinates", members),)


def _matrix(operator: Dense, place: Place, part: str) -> Weights:
    """A dense matrix; where it meets spikes, only the columns of neurons that spike are read."""
    w, shape = operator.w, operator.shape
    if place.meets_spikes:
        values = place.constant(f"{part}_values", w.T, f"{part} by input neuron")
        return _weights(place, part, "sen_columns", shape, values, operator.scale)
    kernel = dense_kernel(w.dtype.name, shape[1])
    return _weights(place, part, kernel, shape, place.constant(f"{part}_values", w, part), operator.scale)


def _by_source(operator: Sparse, place: Place) -> Weights:
    """Single weights ordered by input neuron: only those of neurons that spike are read."""
    weights, rows, starts = operator.by_source()
    members: Members = {
        "indices": place.constant("rows", rows.astype(np.uint16), "row of each weight"),
        "starts": place.constant("starts", starts, "first weight of each input neuron"),
        "index_dtype": "SEN_UINT16",
        "block_rows": 1,
        "block_columns": 1,
    }
    values = place.constant("weights_values", weights, "weights by input neuron")
    return _weights(place, "weights", "sen_source_reference", operator.shape, values, operator.scale, members)


def _stream(operator: Sparse, place: Place, kernel: str, words: Array, starts: Array) -> Weights:
    values = place.constant("weights_values", words, "weights and where they are, groups of three words")
    members: Members = {"starts": place.constant("starts", starts, "first word of each row")}
    return _weights(place, "weights", kernel, operator.shape, values, operator.scale, members)


def _weights(
    place: Place,
    part: str,
    kernel: str,
    shape: tuple[int, int],
    values: Constant,
    scale: Array | None,
    more: Members | None = None,
) -> Weights:
    """A `sen_weights` called `part`, with the members that every storage has and `more`."""
    members: Members = {
        "rows": shape[0],
        "columns": shape[1],
        "dtype": dtype(values.array),
        "values": values,
    }
    if kernel in ("sen_columns", "sen_source_reference"):
        members["uses"] = "SEN_USES_EVENTS"
    elif "int8" in kernel:
        members["uses"] = "SEN_USES_INT8"
    if scale is not None:
        members["scale"] = place.constant(f"{part}_scale", scale, f"scale of {part}")
        members["scale_step"] = int(len(scale) > 1)
    return Weights(f"{place.name}_{part}", kernel, {**members, **(more or {})})
