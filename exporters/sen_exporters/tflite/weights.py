"""Weight operators as TFLite operators: `y = f(x W^T + b)` for `x [rows, n_in]`.

The versions of operators make both interpreters compute the same, or one refuse to load:

- FULLY_CONNECTED 1 for float32 weights (from 8 on XNNPACK leaves it alone), 4 for int8 activations, 7 for int16, 8 for
  sparse weights (below, XNNPACK reads the compressed values as a dense matrix), 9 for int8 weights under
  float activations, whose inputs are quantized around their own zero point.
- float16 weights are never stored sparse: XNNPACK in ai-edge-litert 2.1 reads other memory instead of them, and
  tflite-runtime 2.14 crashes at a resize.
- One scale per row with float activations: tflite-runtime 2.14 silently ignores all but the first. So either the
  product has one scale, and a MUL by the scales of the rows follows; or it has version 12, which 2.14 refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from sen_exporters.base import ExportError, NoFormError
from sen_exporters.tflite.graph import WIDE_VERSIONS, Affine, Graph, Signal, TfliteOptions
from sen_runtime.ir.int8 import Grid, Scale
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum, WeightOperator

Array = NDArray[Any]

#: The block with a sparse kernel in both interpreters.
BLOCK = (1, 4)
#: An int8 product accumulates in 32 bits; activations minus their zero point reach 255.
ACCUMULATOR_LIMIT = 2**31
ACTIVATION_LIMIT = 255


@dataclass(frozen=True)
class Weights:
    """A weight matrix in the graph.

    Attributes:
        name: of the tensor.
        version: of FULLY_CONNECTED with these weights.
        row_scale: factors of its rows after the product; None for none.
    """

    name: str
    version: int
    row_scale: Scale | None = None


def affine(graph: Graph, layer: Layer, index: int, x: Signal, y: Signal, *, bias_factor: float = 1.0) -> Signal:
    """Add `y = f(W x + bias_factor b)` of a layer, from `x [rows, n_in]` to `y [rows, n_out]` on the layer's grid.

    Raises:
        ExportError: an int8 product does not fit its accumulator; the message names the layer.
    """
    bias = None if layer.bias is None else (layer.bias.astype(np.float64) * bias_factor).astype(np.float32)
    try:
        return product(layer.weight, graph, f"layer{index}", x, bias, y)
    except ExportError as error:
        raise type(error)(f"layer {index}: {error.message}", error.hint) from error


@singledispatch
def product(operator: WeightOperator, graph: Graph, prefix: str, x: Signal, bias: Array | None, y: Signal) -> Signal:
    """Add `y = f(W x + b)`, and return y; one function for each operator, by default of one matrix."""
    return _fully_connected(operator, graph, f"{prefix}/weight", x, bias, y)


@product.register
def _low_rank(operator: LowRank, graph: Graph, prefix: str, x: Signal, bias: Array | None, y: Signal) -> Signal:
    right, left = operator.factors
    grid = _as_wide(operator.inner, x, graph)
    inner = _fully_connected(right, graph, f"{prefix}/right", x, None, Signal(f"{prefix}/inner", x.rows, grid))
    return _fully_connected(left, graph, f"{prefix}/left", inner, bias, y)


@product.register
def _sum(operator: Sum, graph: Graph, prefix: str, x: Signal, bias: Array | None, y: Signal) -> Signal:
    grids = (_as_wide(grid, x, graph) for grid in (operator.a_grid, operator.b_grid))
    a, b = (Signal(f"{prefix}/{side}/product", x.rows, grid) for side, grid in zip("ab", grids, strict=True))
    product(operator.a, graph, f"{prefix}/a", x, None, a)
    product(operator.b, graph, f"{prefix}/b", x, bias, b)
    return graph.arithmetic("ADD", a, b, y)


def _as_wide(grid: Grid | None, x: Signal, graph: Graph) -> Grid | None:
    """The grid of a value inside an operator, in 16 bits if those of its input `x` are."""
    return grid if grid is None or x.grid is None or x.grid.bits == 8 else grid.widen(graph.reach)


def _fully_connected(
    operator: WeightOperator, graph: Graph, name: str, x: Signal, bias: Array | None, y: Signal
) -> Signal:
    if x.grid is not None:
        return _int8(operator, graph, name, x, bias, y)
    weights = store_matrix(operator, graph, name)
    row_scale, scaled = weights.row_scale, y
    if row_scale is not None:
        bias = None if bias is None else _unscaled_bias(bias, row_scale)
        scaled = Signal(f"{name}_unscaled_product", y.rows)
    bias_name = None if bias is None else graph.constant(_bias_name(name), bias)
    graph.declare(scaled, operator.shape[0])
    options = schema.FullyConnectedOptionsT(
        fusedActivationFunction=scaled.activation_code, asymmetricQuantizeInputs=weights.version >= 9
    )
    graph.operator("FULLY_CONNECTED", weights.version, [x.name, weights.name, bias_name], [scaled.name], options)
    if row_scale is not None:
        graph.arithmetic("MUL", scaled, Signal(graph.constant(f"{name}_scale", row_scale), 1), y)
    return y


def _int8(operator: WeightOperator, graph: Graph, name: str, x: Signal, bias: Array | None, y: Signal) -> Signal:
    """A product of int8 or int16 with int8 in 32 or 64 bits, with the bias, then on the grid of `y`."""
    stored, scale = operator.stored_matrix(), operator.scale
    assert x.grid is not None and scale is not None  # int8 activations have int8 weights
    bias_scale = scale.astype(np.float64) * x.grid.scale
    whole = None if bias is None else np.rint(bias.astype(np.float64) / bias_scale)
    is_wide = x.grid.bits == 16
    if not is_wide:
        _check_accumulator(stored, whole)
    weight = graph.constant(name, stored, Affine(scale))
    bias_name = None
    if whole is not None:
        quantization = Affine(bias_scale.astype(np.float32))
        bias_name = graph.constant(_bias_name(name), whole.astype(np.int64 if is_wide else np.int32), quantization)
    graph.declare(y, len(stored))
    options = schema.FullyConnectedOptionsT(fusedActivationFunction=y.activation_code)
    version = WIDE_VERSIONS["FULLY_CONNECTED"] if is_wide else 4
    graph.operator("FULLY_CONNECTED", version, [x.name, weight, bias_name], [y.name], options)
    return y


def matrix(graph: Graph, operator: WeightOperator, prefix: str) -> Signal:
    """Add all weights `[n_out, n_in]` as one value in float32, stored dense."""
    w = operator.stored_matrix() if operator.scale is None else operator.to_dense()
    name = f"{prefix}/weight"
    return Signal(_widened(graph, graph.constant(name, w), w), len(w))


def multiply(graph: Graph, x: Signal, weights: Signal, y: Signal) -> Signal:
    """Add `y = W x` with weights of `matrix`, and return y."""
    graph.declare(y, graph.shape(weights.name)[0])
    graph.operator("FULLY_CONNECTED", 1, [x.name, weights.name, None], [y.name], schema.FullyConnectedOptionsT())
    return y


def gather(graph: Graph, line: Signal, offsets: Signal, weights: Signal, y: Signal) -> Signal:
    """Add what arrives through synapses of different delays, and return y.

    The products of weights of `matrix` with what each synapse reads of a line, at `offsets [n_out, n_in]`, are summed.
    """
    n_out, n_in = graph.shape(weights.name)
    read = graph.declare(Signal(f"{y.name}_read", y.rows), n_out, n_in)
    graph.operator("GATHER", 1, [line.name, offsets.name], [read.name], schema.GatherOptionsT(axis=1))
    products = graph.arithmetic("MUL", read, weights, Signal(f"{y.name}_products", y.rows))
    graph.declare(y, n_out)
    axis = graph.constant("sources_axis", np.array([2], np.int32))
    graph.operator("SUM", 1, [products.name, axis], [y.name], schema.ReducerOptionsT())
    return y


@singledispatch
def store_matrix(operator: WeightOperator, graph: Graph, name: str) -> Weights:
    """Weights for float activations; one function for each storage that TFLite has, by default dense."""
    w, scale = operator.stored_matrix(), operator.scale
    if scale is None:
        return Weights(_widened(graph, graph.constant(name, w), w), 1)
    if len(scale) == 1 or graph.options.tflite_target == "litert":
        return Weights(graph.constant(name, w, Affine(scale)), 9 if len(scale) == 1 else 12)
    return Weights(graph.constant(name, w, Affine(np.ones(1, np.float32))), 9, scale)


@store_matrix.register
def _sparse(operator: Sparse, graph: Graph, name: str) -> Weights:
    sparse_format = storage(operator, graph.options)
    if sparse_format == "dense":
        return store_matrix(Dense(operator.stored_matrix(), operator.scale), graph, name)
    if not np.any(operator.values):  # neither DENSIFY nor a sparse kernel accepts an empty tensor
        return Weights(graph.constant(name, np.zeros(operator.shape, np.float32)), 1)
    if sparse_format == "block":
        return Weights(graph.sparse_constant(name, in_blocks(operator)), 8)
    rows = operator if operator.block == (1, 1) else Sparse.from_dense(operator.stored_matrix())
    sparse = graph.sparse_constant(f"{name}_sparse", rows)
    dense = graph.declare(Signal(f"{name}_dense", operator.shape[0]), operator.shape[1])
    graph.operator("DENSIFY", 1, [sparse], [dense.name], schema.DensifyOptionsT())
    return Weights(dense.name, 1)


def _widened(graph: Graph, stored: str, array: Array) -> str:
    """Weights in float32, from float16 if they are stored so; once for every use."""
    if array.dtype == np.float32:
        return stored
    wide = f"{stored}_f32"
    if wide not in graph.index:
        graph.declare(Signal(wide, len(array)), array.shape[1])
        graph.operator("DEQUANTIZE", 3, [stored], [wide], schema.DequantizeOptionsT())
    return wide


def _bias_name(weights: str) -> str:
    """Of the bias that goes with weights: a layer's operands have one at most."""
    return f"{weights.rpartition('/')[0]}/bias"


def in_blocks(operator: Sparse) -> Sparse:
    """The same weights in the blocks of sparse kernels.

    Raises:
        ExportError: the pattern does not consist of whole blocks.
    """
    n_in = operator.shape[1]
    if n_in % BLOCK[1] == 0 and operator.block == BLOCK:
        return operator
    stored = operator.stored_matrix()
    blocked, kept = Sparse.from_dense(stored, BLOCK), int(np.count_nonzero(stored))
    if n_in % BLOCK[1] or blocked.values.size != kept:
        other = "" if n_in % BLOCK[1] else ", or prune in 1x4 blocks along the inputs"
        raise ExportError(
            f"its pattern is not made of whole 1x4 blocks: {kept} weights other than 0 touch {len(blocked.values)} "
            f"blocks of 4 among {n_in} inputs",
            hint=f"take --sparse-format densify or dense{other}",
        )
    return blocked


def storage(operator: Sparse, options: TfliteOptions) -> str:
    """Form of sparse weights: that of the options, else densify where every engine computes it correctly.

    Raises:
        ExportError: an engine would compute the requested form wrongly; with the reason and an alternative.
    """
    asked, dtype = options.sparse_format, operator.values.dtype
    correct = ("densify", "block", "dense") if dtype == np.float32 else ("dense",)
    if asked and asked not in correct:
        raise ExportError(
            f"--sparse-format {asked} with {dtype} weights: interpreters refuse them, crash, or compute wrong numbers",
            hint="leave --sparse-format out, or take --dtype float32",
        )
    if asked == "block":
        in_blocks(operator)
    return asked or correct[0]


@singledispatch
def check_operator(operator: WeightOperator, options: TfliteOptions) -> None:
    """Refuse a leaf that no TFLite kernel multiplies correctly in the requested storage.

    Raises:
        ExportError: with the reason and an alternative.
    """


@check_operator.register
def _check_coordinates(operator: Coordinates, options: TfliteOptions) -> None:
    raise NoFormError(
        "TFLite does not fold constants: weights computed from coordinates in the graph are computed again "
        "at every inference, about 400 times slower",
        hint="leave --weights out for dense, or take --to onnx, which computes them once, at load",
    )


@check_operator.register
def _check_sparse(operator: Sparse, options: TfliteOptions) -> None:
    storage(operator, options)


def _unscaled_bias(bias: Array, scale: Scale) -> Array:
    with np.errstate(over="ignore"):
        unscaled: Array = (bias.astype(np.float64) / scale).astype(np.float32)
    if not np.all(np.isfinite(unscaled)):
        row = int(np.flatnonzero(~np.isfinite(unscaled))[0])
        raise ExportError(
            f"the bias {bias[row]:g} of neuron {row} is too large for its weights, whose step is {scale[row]:g}",
            hint="take --granularity tensor, or --tflite-target litert",
        )
    return unscaled


def _check_accumulator(stored: NDArray[np.int8], bias: Array | None) -> None:
    reach = np.abs(stored.astype(np.float64)).sum(axis=1) * ACTIVATION_LIMIT
    if bias is not None:
        reach = reach + np.abs(bias)
    if reach.max() >= ACCUMULATOR_LIMIT:
        row = int(reach.argmax())
        raise ExportError(
            f"neuron {row} can add up to {reach[row]:.3g}, beyond the 32 bits of an int8 product",
            hint="take --dtype int8-dynamic or float16",
        )
