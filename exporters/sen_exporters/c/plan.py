"""What becomes of a network in C: which function multiplies which weights, what lies in flash and what in the arena.

The structures and functions named here are those of `sen_runtime/c/src/network.h`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sen_exporters.c import streams
from sen_runtime.ir.network import Layer, LeakyIntegrator, Lif, Network, readout_factors
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, WeightOperator, leaves

Array: TypeAlias = NDArray[Any]

#: numpy type -> `dtype` of sen_weights.
DTYPES = {"float32": "SEN_FLOAT32", "float16": "SEN_FLOAT16", "int8": "SEN_INT8"}
#: Block columns that a uint16 tells apart.
MAX_UINT16 = 1 << 16
#: Words that `nonzero` may write behind the last index.
EVENT_SLACK = 15


@dataclass(frozen=True, eq=False)
class Constant:
    """An array in flash.

    Attributes:
        name: C identifier.
        array: the values, in the type that they are stored in.
        meaning: a comment: what it is, and its shape.
    """

    name: str
    array: Array
    meaning: str

    @property
    def nbytes(self) -> int:
        """Bytes in flash."""
        return int(self.array.nbytes)


Field: TypeAlias = Constant | str | int | float


@dataclass(frozen=True, eq=False)
class Matrix:
    """A `sen_weights`.

    Attributes:
        name: C identifier.
        multiply: the function that reads this storage.
        fields: the other members; a constant stands for its address.
    """

    name: str
    multiply: str
    fields: Mapping[str, Field]

    @property
    def shape(self) -> tuple[int, int]:
        """`(rows, columns)`."""
        return int(self.fields["rows"]), int(self.fields["columns"])  # type: ignore[arg-type]

    @property
    def is_positions(self) -> bool:
        """Whether weights are computed from positions."""
        return self.multiply == "sen_coordinates"

    @property
    def constants(self) -> list[Constant]:
        """The arrays that it points to."""
        return [value for value in self.fields.values() if isinstance(value, Constant)]

    def uses(self, what: str) -> bool:
        """Whether the product needs its input as `SEN_USES_INT8` or `SEN_USES_EVENTS` as well."""
        return self.fields.get("uses") == what


@dataclass(frozen=True)
class Vector:
    """A vector in the arena: `size` floats from float `start` on."""

    meaning: str
    start: int
    size: int

    @property
    def nbytes(self) -> int:
        """Bytes in RAM."""
        return 4 * self.size


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """A `sen_layer`.

    Attributes:
        layer: what it was made from.
        terms: a matrix, or the left and the right factor of one, for each term.
        bias: None where there is none.
        vectors: members `out`, `current`, `membrane`, `total`, those that this layer has.
    """

    layer: Layer
    terms: tuple[tuple[Matrix, ...], ...]
    bias: Constant | None
    vectors: Mapping[str, Vector]

    @property
    def matrices(self) -> list[Matrix]:
        """All matrices, in the order in which they are multiplied."""
        return [matrix for term in self.terms for matrix in reversed(term)]

    @property
    def constants(self) -> list[Constant]:
        """All arrays in flash."""
        found = [constant for matrix in self.matrices for constant in matrix.constants]
        return found if self.bias is None else [*found, self.bias]


@dataclass(frozen=True, eq=False)
class Plan:
    """A `sen_network`.

    Attributes:
        prefix: what every public name starts with.
        network: what is exported.
        layers: from input to readout.
        scratch: members `inner`, `quantized`, `events`, those that a product needs.
        factors: of a spiking network's readout; else None.
        kernels: members of `sen_kernels` and their functions, those that are needed.
    """

    prefix: str
    network: Network
    layers: tuple[LayerPlan, ...]
    scratch: Mapping[str, Vector]
    factors: Constant | None
    kernels: Mapping[str, str]

    @property
    def matrices(self) -> list[Matrix]:
        """All matrices."""
        return [matrix for layer in self.layers for matrix in layer.matrices]

    @property
    def constants(self) -> list[Constant]:
        """All arrays in flash."""
        found = [constant for layer in self.layers for constant in layer.constants]
        return found if self.factors is None else [*found, self.factors]

    @property
    def vectors(self) -> list[Vector]:
        """All vectors in the arena."""
        return [*(vector for layer in self.layers for vector in layer.vectors.values()), *self.scratch.values()]

    @property
    def arena_bytes(self) -> int:
        """Bytes of the arena: whole pairs of floats, and at least one, for there is no empty array in C."""
        return 4 * max(2, max((_even(vector.start + vector.size) for vector in self.vectors), default=0))

    @property
    def has_positions(self) -> bool:
        """Whether weights are computed from positions."""
        return any(matrix.is_positions for matrix in self.matrices)

    @property
    def expanded_bytes(self) -> int:
        """Bytes that weights written out from positions take in RAM."""
        return sum(4 * matrix.shape[0] * matrix.shape[1] for matrix in self.matrices if matrix.is_positions)

    @property
    def input_size(self) -> int:
        """Floats of one input."""
        return self.network.n_in * (self.network.timesteps if self.network.input_coding == "spikes" else 1)

    @property
    def functions(self) -> set[str]:
        """Library functions that the generated code names."""
        run = {"run_perceptron"}
        if self.network.is_spiking:
            run = {"run_spiking"}
        return {"sen_is_finite", *run, *self.kernels.values(), *(matrix.multiply for matrix in self.matrices)}

    @property
    def expanded_functions(self) -> set[str]:
        """The same where weights are written out from positions."""
        return self.functions - {"sen_coordinates"} | {"sen_weight", "sen_dense_f32"}


def plan(network: Network, prefix: str) -> Plan:
    """Decide storage, functions and places for a network of floating-point activations."""
    layers = []
    layout = _Layout()
    for index, layer in enumerate(network.layers):
        is_spiked = index > 0 and isinstance(network.layers[index - 1].neuron, Lif)
        meets_spikes = network.is_spiking and (is_spiked or network.input_coding == "spikes")
        if isinstance(layer.neuron, LeakyIntegrator):  # what it multiplies once is the weighted sum over all steps
            meets_spikes = False
        layers.append(_plan_layer(network, index, layout, meets_spikes=meets_spikes))
    matrices = [matrix for each in layers for matrix in each.matrices]
    scratch = _scratch(layers, layout)
    return Plan(prefix, network, tuple(layers), scratch, _factors(network), _kernels(network, matrices))


@dataclass
class _Layout:
    """Hands out places in the arena, one behind the other, at even floats."""

    used: int = 0

    def place(self, meaning: str, size: int) -> Vector:
        vector = Vector(meaning, self.used, size)
        self.used = _even(self.used + size)
        return vector


def _even(n: int) -> int:
    return n + n % 2


def _plan_layer(network: Network, index: int, layout: _Layout, *, meets_spikes: bool) -> LayerPlan:
    layer = network.layers[index]
    n_out, n_in = layer.weight.shape
    operators = list(leaves(layer.weight))
    terms = tuple(
        _Lowering(f"layer{index}" + (f"_term{t}" if len(operators) > 1 else ""), f"layer {index}").matrices(
            operator, meets_spikes=meets_spikes
        )
        for t, operator in enumerate(operators)
    )
    bias = None if layer.bias is None else Constant(f"layer{index}_bias", layer.bias, f"layer {index}: bias [{n_out}]")
    vectors: dict[str, Vector] = {}
    is_output = index == len(network.layers) - 1
    if isinstance(layer.neuron, Lif):
        vectors["out"] = layout.place(f"layer {index}: spikes", n_out)
        vectors["current"] = layout.place(f"layer {index}: currents", n_out)
        vectors["membrane"] = layout.place(f"layer {index}: membranes", n_out)
    elif isinstance(layer.neuron, LeakyIntegrator):
        vectors["out"] = layout.place(f"layer {index}: membranes", n_out)
        vectors["current"] = layout.place(f"layer {index}: currents", n_out)
        vectors["total"] = layout.place(f"layer {index}: weighted inputs", n_in)
    elif not is_output:  # the last layer of a perceptron writes to the caller's y
        vectors["out"] = layout.place(f"layer {index}: activations", n_out)
    return LayerPlan(layer, terms, bias, vectors)


def _scratch(layers: list[LayerPlan], layout: _Layout) -> dict[str, Vector]:
    """What products need besides their input and output, for the widest of them."""
    matrices = [matrix for layer in layers for matrix in layer.matrices]
    inner = max((term[1].shape[0] for layer in layers for term in layer.terms if len(term) == 2), default=0)
    quantized = max((_quantized_bytes(matrix) for matrix in matrices if matrix.uses("SEN_USES_INT8")), default=0)
    events = max((matrix.shape[1] for matrix in matrices if matrix.uses("SEN_USES_EVENTS")), default=0)
    scratch = {}
    if inner:
        scratch["inner"] = layout.place("scratch: between two factors", inner)
    if quantized:
        scratch["quantized"] = layout.place("scratch: input in eight bits", quantized // 4)
    if events:
        scratch["events"] = layout.place("scratch: indices of spikes", events + EVENT_SLACK)
    return scratch


def _quantized_bytes(matrix: Matrix) -> int:
    """Bytes that the input of a product takes in eight bits, for whole vectors of 64.

    Where there are instructions for pairs of int16, two for each value, and as many as a second form takes.
    """
    second = {"sen_stream_int8": 1, "sen_stream4_int8": 2}
    return (matrix.shape[1] + 63) // 64 * 64 * (2 + second.get(matrix.multiply, 0))


def _factors(network: Network) -> Constant | None:
    if not network.is_spiking:
        return None
    factors = readout_factors(network).astype(np.float32)
    return Constant("factors", factors, f"readout: what a current of 1 in each step adds to it [{network.timesteps}]")


def _kernels(network: Network, matrices: list[Matrix]) -> dict[str, str]:
    kernels = {}
    if any(matrix.uses("SEN_USES_INT8") for matrix in matrices):
        kernels["quantize"] = "sen_quantize"
    if any(matrix.uses("SEN_USES_EVENTS") for matrix in matrices):
        kernels["nonzero"] = "sen_nonzero"
    n_lif = sum(isinstance(layer.neuron, Lif) for layer in network.layers)
    if n_lif:
        kernels["integrate"] = "sen_integrate"
    if n_lif == 1 and network.input_coding == "direct":
        kernels["integrate_constant"] = "sen_integrate_constant"
    return kernels


@dataclass(frozen=True)
class _Lowering:
    """Matrices of one term: names start with `name`, comments with `where`."""

    name: str
    where: str

    def matrices(self, operator: WeightOperator, *, meets_spikes: bool) -> tuple[Matrix, ...]:
        if isinstance(operator, Dense):
            return (self._dense(operator.w, operator.scale, "weights", meets_spikes=meets_spikes),)
        if isinstance(operator, Sparse):
            return (self._sparse(operator, meets_spikes=meets_spikes),)
        if isinstance(operator, Coordinates):
            return (self._coordinates(operator),)
        assert isinstance(operator, LowRank)
        left = self._dense(operator.left, operator.left_scale, "left", meets_spikes=False)
        right = self._dense(operator.right, operator.right_scale, "right", meets_spikes=meets_spikes)
        return left, right

    def _constant(self, name: str, array: Array, meaning: str) -> Constant:
        return Constant(f"{self.name}_{name}", np.ascontiguousarray(array), f"{self.where}: {meaning} {_shape(array)}")

    def _head(
        self, array: Array, scale: Array | None, shape: tuple[int, int], what: str, uses: str, order: str = ""
    ) -> dict[str, Field]:
        """The members that every storage has."""
        fields: dict[str, Field] = {"uses": uses} if uses else {}
        fields |= {"rows": shape[0], "columns": shape[1], "dtype": DTYPES[array.dtype.name]}
        fields["values"] = self._constant(f"{what}_values", array, f"{what}{order}")
        if scale is not None:
            fields["scale"] = self._constant(f"{what}_scale", scale, f"scale of {what}")
            fields["scale_step"] = int(len(scale) > 1)
        return fields

    def _dense(self, w: Array, scale: Array | None, what: str, *, meets_spikes: bool) -> Matrix:
        shape = (w.shape[0], w.shape[1])
        if meets_spikes:
            fields = self._head(w.T, scale, shape, what, "SEN_USES_EVENTS", " by input neuron")
            return Matrix(f"{self.name}_{what}", "sen_columns", fields)
        multiply = {"float32": "sen_dense_f32", "float16": "sen_dense_reference", "int8": "sen_dense_int8"}
        uses = "SEN_USES_INT8" if w.dtype == np.int8 else ""
        return Matrix(f"{self.name}_{what}", multiply[w.dtype.name], self._head(w, scale, shape, what, uses))

    def _sparse(self, operator: Sparse, *, meets_spikes: bool) -> Matrix:
        name, shape, is_int8 = f"{self.name}_weights", operator.shape, operator.scale is not None
        if meets_spikes and operator.block == (1, 1) and shape[0] <= MAX_UINT16:
            return self._by_source(operator)
        if is_int8 and operator.block == (1, 1):
            return self._stream(operator, "sen_stream_int8", *streams.single(operator))
        if is_int8 and operator.block == (1, 4) and streams.takes_blocks(operator):
            return self._stream(operator, "sen_stream4_int8", *streams.blocks(operator))
        fields = self._head(operator.values, operator.scale, shape, "weights", "SEN_USES_INT8" if is_int8 else "")
        is_short = operator.block_grid[1] <= MAX_UINT16
        columns = operator.columns.astype(np.uint16) if is_short else operator.columns
        fields["indices"] = self._constant("columns", columns, "block column of each block")
        fields["starts"] = self._constant("starts", operator.row_starts, "first block of each block row")
        fields["index_dtype"] = "SEN_UINT16" if is_short else "SEN_INT32"
        fields["block_rows"], fields["block_columns"] = operator.block
        if is_short and operator.block == (1, 1) and operator.values.dtype == np.float32:
            return Matrix(name, "sen_sparse_f32", fields)
        if is_short and operator.block == (1, 4) and is_int8 and shape[1] % 4 == 0:
            return Matrix(name, "sen_sparse_1x4_int8", fields)
        return Matrix(name, "sen_sparse_int8_reference" if is_int8 else "sen_sparse_reference", fields)

    def _stream(self, operator: Sparse, multiply: str, words: Array, starts: Array) -> Matrix:
        fields = self._head(operator.values, operator.scale, operator.shape, "weights", "SEN_USES_INT8")
        fields["values"] = self._constant("weights_values", words, "weights and where they are, groups of three words")
        fields["starts"] = self._constant("starts", starts, "first word of each row")
        return Matrix(f"{self.name}_weights", multiply, fields)

    def _by_source(self, operator: Sparse) -> Matrix:
        """Single weights, those from one neuron together: only the rows of neurons that spike are read."""
        order = np.lexsort((operator.block_rows(), operator.columns))
        per_column = np.bincount(operator.columns, minlength=operator.shape[1])
        starts = np.concatenate([[0], np.cumsum(per_column)]).astype(np.int32)
        fields = self._head(
            operator.values[order], operator.scale, operator.shape, "weights", "SEN_USES_EVENTS", " by input neuron"
        )
        rows = operator.block_rows()[order].astype(np.uint16)
        fields["indices"] = self._constant("rows", rows, "row of each weight")
        fields["starts"] = self._constant("starts", starts, "first weight of each input neuron")
        fields["index_dtype"] = "SEN_UINT16"
        fields["block_rows"] = fields["block_columns"] = 1
        return Matrix(f"{self.name}_weights", "sen_sparse_events", fields)

    def _coordinates(self, operator: Coordinates) -> Matrix:
        fields: dict[str, Field] = {"rows": operator.shape[0], "columns": operator.shape[1]}
        fields["dtype"] = DTYPES[operator.source.dtype.name]
        fields["values"] = self._constant("source", operator.source, "positions of the input neurons")
        fields["target"] = self._constant("target", operator.target, "positions of the neurons")
        fields["mask"] = self._constant("mask", operator.mask, "inhibition mask of the input neurons")
        fields["target_dtype"] = DTYPES[operator.target.dtype.name]
        fields["mask_dtype"] = DTYPES[operator.mask.dtype.name]
        fields["dimensions"] = operator.dimensions
        fields |= {"gain": operator.gain, "exponent": operator.exponent, "min_distance": operator.min_distance}
        if operator.has_max_distance:
            fields["max_distance"] = operator.max_distance
        return Matrix(f"{self.name}_weights", "sen_coordinates", fields)


def _shape(array: Array) -> str:
    return f"[{', '.join(map(str, array.shape))}]"
