"""Structures of the format, as in docs/reference/sen-image.md, and the fields of operators and neurons in them.

The reader packs each record again and compares, so that a rule about unused fields, shapes or order is written once.
A new operator or neuron model is one row of a table; its kind is its index, so rows are only ever appended.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sen_runtime.errors import ImageError
from sen_runtime.ir.checks import Array
from sen_runtime.ir.codings import CODINGS
from sen_runtime.ir.delays import OVERFLOWS, ConstantDelay, Delay, SpatialDelay, StoredDelay
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import OUTPUT_ACTIVATIONS, READOUTS, Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, RefractoryLif, Relu
from sen_runtime.ir.operators import Coordinates, Dense, Int4, LowRank, Sparse, Sum, WeightOperator, leaves
from sen_runtime.ir.operators.sparse import ORDERS

MAGIC = b"\x89SEN\r\n\x1a\n"
#: Of networks with float activations; with int8 activations, whose records hold grids; with sparse weights by source;
#: with scalings, an output activation, parameters of single neurons or a later input coding; with int4 weights; with
#: delays, recurrent synapses, synaptic currents, refractory neurons or a weighted mean of membranes.
VERSION, VERSION_WITH_GRIDS, VERSION_WITH_SOURCES, VERSION_WITH_SCALINGS, VERSION_WITH_INT4 = 1, 2, 3, 4, 5
VERSION_WITH_DELAYS = LATEST = 6
ALIGNMENT = 64
NONE = 0xFFFFFFFF

HEADER = struct.Struct("<8sHHIQII32x")  # magic, version, header bytes, sections, file bytes, crc32, flags
CRC_OFFSET = 24
SECTION = struct.Struct("<IIQQI3IQ")  # kind, dtype, offset, nbytes, rank, shape[3], reserved
PROGRAM = struct.Struct("<8I")  # layers, operators, timesteps, input coding, readout, n_in, n_out, output activation
LAYER = struct.Struct("<IIIffIfi")  # operator, bias, neuron, beta, threshold, reset, scale and zero point of the grid
OPERATOR = struct.Struct("<3I4I2I2I4fI")  # kind, n_out, n_in, tensors, operands, block, scalars, order
GRID = struct.Struct("<fi")  # scale, zero point: of the input, after the operators of a network with grids
SCALING = struct.Struct("<4I")  # mean and std of the input, of the output
NEURON = struct.Struct("<2I")  # beta and threshold of each neuron of a layer; `NONE` for the number in the layer
WIRING = struct.Struct("<fI")  # decay of the synaptic current, recurrent operator of a layer
DELAY = struct.Struct("<IIIIffIII")  # kind, value, tensors, scale, softening, limit, overflow, shift
READOUT = struct.Struct("<f")  # decay of the weights of a mean of membranes, after the wiring
DELTA = struct.Struct("<f")  # min change that spikes, at the end of a program of input coding "delta"

KIND_PROGRAM, KIND_METADATA, KIND_TENSOR = 1, 2, 3
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f2"),
    3: np.dtype("i1"),
    4: np.dtype("<i4"),
    5: np.dtype("<u2"),
    6: np.dtype("u1"),
}
#: Levels of sums within sums: deep enough for any compression, shallow enough for any stack.
MAX_DEPTH = 32
#: Block columns that uint16 can name; the indices of a matrix with more are int32.
UINT16_COLUMNS = 1 << 16
INPUT_CODINGS = tuple(CODINGS)
#: Those of versions before 4.
FIRST_CODINGS = INPUT_CODINGS[:2]
#: `reset` and `reset_delay`.
RESETS = (("subtract", True), ("zero", True), ("subtract", False), ("zero", False))


@dataclass(frozen=True)
class Fields:
    """Attributes of an operator or a neuron model, by the place in the record that holds them.

    The block and the order of a `Sparse` and the reset of a `Lif` are not among them.

    Attributes:
        type: class of the attributes.
        tensors: arrays.
        scales: arrays after those; None is `NONE`.
        operands: operators.
        scalars: numbers.
        grids: grids of int8 activations inside; scale and zero point of each follow the scalars, 0 without a grid.
    """

    type: type[Any]
    tensors: tuple[str, ...] = ()
    scales: tuple[str, ...] = ()
    operands: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()
    grids: tuple[str, ...] = ()


OPERATORS = (
    Fields(Coordinates, ("source", "target", "mask"), scalars=("gain", "exponent", "min_distance", "max_distance")),
    Fields(Dense, ("w",), ("scale",)),
    Fields(Sparse, ("values", "columns", "row_starts"), ("scale",)),
    Fields(LowRank, ("left", "right"), ("left_scale", "right_scale"), grids=("inner",)),
    Fields(Sum, operands=("a", "b"), grids=("a_grid", "b_grid")),
    Fields(Int4, ("packed", "packed_steps", "scale")),
)
NEURONS = (
    Fields(Identity),
    Fields(Relu),
    Fields(Lif, scalars=("beta", "threshold")),
    Fields(LeakyIntegrator, scalars=("beta",)),
    Fields(RefractoryLif, scalars=("beta", "threshold")),
)
#: Delays by kind; 0 is no delay.
DELAYS = (type(None), ConstantDelay, StoredDelay, SpatialDelay)


def find(table: Sequence[Fields], owner: object) -> tuple[int, Fields]:
    """Kind and fields of an operator or a neuron model; raises `ImageError` if the format has none."""
    for kind, fields in enumerate(table):
        if fields.type is type(owner):
            return kind, fields
    raise ImageError(f"version {LATEST} of the image has no {type(owner).__name__}")


def version_of(network: Network) -> int:
    """Version of the image of a network; raises `ImageError` for int8 activations with weights by source."""
    if not network.is_instant:
        return VERSION_WITH_DELAYS
    operators = [leaf for layer in network.layers for leaf in leaves(layer.weight)]
    has_sources = any(isinstance(operator, Sparse) and operator.order == "sources" for operator in operators)
    if has_sources and network.input_grid is not None:
        raise ImageError("an image has no sparse weights by source with int8 activations", "store them by row")
    if any(isinstance(operator, Int4) for operator in operators):
        return VERSION_WITH_INT4
    is_scaled = network.input_scaling or network.output_scaling or network.output_activation != "none"
    is_varied = any(layer.neuron.arrays for layer in network.layers)
    if is_scaled or is_varied or network.input_coding not in FIRST_CODINGS:
        return VERSION_WITH_SCALINGS
    if has_sources:
        return VERSION_WITH_SOURCES
    return VERSION if network.input_grid is None else VERSION_WITH_GRIDS


def tail_of(version: int) -> tuple[bool, bool]:
    """Whether the program of a version has the grid of the input, and scalings and neurons, after the operators."""
    has_scalings = version >= VERSION_WITH_SCALINGS
    return has_scalings or version == VERSION_WITH_GRIDS, has_scalings


def pack_section(kind: int, dtype: int, offset: int, nbytes: int, shape: tuple[int, ...]) -> bytes:
    """Row of the section table."""
    return SECTION.pack(kind, dtype, offset, nbytes, len(shape), *_fill(shape, 3, 0), 0)


def pack_head(network: Network, n_operators: int) -> bytes:
    """Start of the program."""
    coding, readout = INPUT_CODINGS.index(network.input_coding), READOUTS.index(network.readout)
    sizes, activation = (network.n_in, network.n_out), OUTPUT_ACTIVATIONS.index(network.output_activation)
    return PROGRAM.pack(len(network.layers), n_operators, network.timesteps, coding, readout, *sizes, activation)


def pack_layer(layer: Layer, operator: int, bias: int) -> bytes:
    """Record of a layer, for the index of its operator and the section of its bias."""
    kind, fields = find(NEURONS, layer.neuron)
    scalars = [0.0 if name in layer.neuron.arrays else getattr(layer.neuron, name) for name in fields.scalars]
    reset = 0
    if isinstance(layer.neuron, Lif):
        reset = RESETS.index((layer.neuron.reset, layer.neuron.reset_delay))
    return LAYER.pack(operator, bias, kind, *_fill(scalars, 2, 0.0), reset, *encode_grid(layer.grid))


def pack_operator(operator: WeightOperator, tensors: Sequence[int], operands: Sequence[int]) -> bytes:
    """Record of an operator, for the sections of its tensors and the indices of its operands."""
    kind, fields = find(OPERATORS, operator)
    block, order = (operator.block, ORDERS.index(operator.order)) if isinstance(operator, Sparse) else ((0, 0), 0)
    scalars = [encode(name, getattr(operator, name)) for name in fields.scalars]
    scalars += [value for name in fields.grids for value in encode_grid(getattr(operator, name))]
    places = *_fill(tensors, 4, NONE), *_fill(operands, 2, NONE)
    return OPERATOR.pack(kind, *operator.shape, *places, *block, *_fill(scalars, 4, 0.0), order)


def tensors_of(operator: WeightOperator) -> list[Array | None]:
    """Tensors of a record: block indices in 16 bits where they fit; a missing scale is None."""
    _, fields = find(OPERATORS, operator)
    if not isinstance(operator, Sparse):
        return [getattr(operator, name) for name in (*fields.tensors, *fields.scales)]
    if operator.order == "sources":
        values, rows, starts = operator.by_source()
        return [values, rows.astype(np.uint16), starts, operator.scale]
    return [operator.values, block_columns(operator), operator.row_starts, operator.scale]


def sparse_of(
    values: Array,
    columns: Array,
    row_starts: Array,
    scale: Array | None,
    shape: tuple[int, int],
    block: tuple[int, int],
    order: str,
) -> Sparse:
    """Inverse of `tensors_of` for sparse weights."""
    if order == "sources":
        if columns.dtype != np.uint16:
            raise ImageError(f"sparse rows: got {columns.dtype}; expected uint16")
        return Sparse.from_sources(values, columns.astype(np.int32), row_starts, shape, block, scale)
    indices = columns.astype(np.int32) if columns.dtype == np.uint16 else columns
    return Sparse(values, indices, row_starts, shape, block, scale)


def tensors_of_delay(delay: Delay | None) -> list[Array | None]:
    """Both tensors of the record of a delay; None for `NONE`."""
    if isinstance(delay, StoredDelay):
        return [delay.values, None]
    return [delay.source, delay.target] if isinstance(delay, SpatialDelay) else [None, None]


def pack_delay(delay: Delay | None, tensors: Sequence[int]) -> bytes:
    """Record of a delay, for the sections of its tensors."""
    value = delay.value if isinstance(delay, ConstantDelay) else 0
    rest: tuple[Any, ...] = (0.0, 0.0, 0, 0, 0)
    if isinstance(delay, SpatialDelay):
        rest = (delay.scale, delay.softening, delay.limit, OVERFLOWS.index(delay.overflow), delay.shift)
    used = sum(each is not None for each in tensors_of_delay(delay))
    return DELAY.pack(DELAYS.index(type(delay)), value, *_fill(tensors[:used], 2, NONE), *rest)


def _fill(values: Sequence[Any], size: int, rest: float) -> list[Any]:
    return [*values, *[rest] * (size - len(values))]


def encode(name: str, value: float) -> float:
    """Stored scalar of an attribute: 0 for no limit."""
    return 0.0 if name == "max_distance" and value == math.inf else value


def decode(name: str, stored: float) -> float:
    """Inverse of `encode`."""
    return math.inf if name == "max_distance" and stored == 0 else stored


def encode_grid(grid: Grid | None) -> tuple[float, int]:
    """Scale and zero point; zeros for no grid."""
    return (0.0, 0) if grid is None else (grid.scale, grid.zero_point)


def decode_grid(scale: float, zero_point: float) -> Grid | None:
    """Inverse of `encode_grid`; raises `ImageError` for a fraction as zero point, `NetworkError` as `Grid`."""
    if scale == 0 and zero_point == 0:
        return None
    if not float(zero_point).is_integer():
        raise ImageError(f"the zero point of a grid is {zero_point}; expected an integer")
    return Grid(scale, int(zero_point))


def block_columns(operator: Sparse) -> Array:
    """Block columns of sparse weights as images and exported C store them: in 16 bits where they fit."""
    return operator.columns.astype(np.uint16) if operator.block_grid[1] <= UINT16_COLUMNS else operator.columns
