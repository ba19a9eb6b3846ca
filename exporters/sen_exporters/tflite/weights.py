"""Every weight operator as TFLite operators: `y = f(x W^T + b)` for `x [rows, n_in]`.

Versions of operators are chosen so that both interpreters compute the same, or one refuses to load:

- FULLY_CONNECTED 1 for float32 weights (from 8 on XNNPACK leaves it alone), 4 for int8 activations, 8 for
  sparse weights (below, XNNPACK reads the compressed values as a dense matrix), 9 for int8 weights under
  float activations, whose inputs are quantized around their own zero point.
- float16 weights are never stored sparse: in XNNPACK, ai-edge-litert 2.1 computes with memory that is not theirs, and
  tflite-runtime 2.14 dies of a resize.
- One scale per row under float activations: tflite-runtime 2.14 ignores all but the first, silently. So either
  the product has one scale, and a MUL by the rows' scales follows; or it has version 12, which 2.14 refuses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from sen_exporters.base import ExportError, NoFormError
from sen_exporters.tflite.graph import Graph, Signal, activation_code
from sen_exporters.tflite.options import TfliteOptions
from sen_exporters.tflite.schema import Affine
from sen_runtime.ir.int8 import Grid, Scale
from sen_runtime.ir.network import Layer
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum, WeightOperator, leaves

Array = NDArray[Any]

#: The block whose sparse kernel both interpreters have.
BLOCK = (1, 4)
#: An int8 product adds up in 32 bits; activations less their zero point reach 255.
ACCUMULATOR_LIMIT = 2**31
ACTIVATION_LIMIT = 255


@dataclass(frozen=True)
class Weights:
    """A weight matrix in the graph.

    Attributes:
        name: of the tensor.
        version: of the FULLY_CONNECTED that takes it.
        row_scale: what its rows are multiplied with after the product, or None.
    """

    name: str
    version: int
    row_scale: Scale | None = None


class WeightLowering:
    """Adds products to a graph, in the forms that the options ask for and that are right in their engines."""

    def __init__(self, graph: Graph, options: TfliteOptions) -> None:
        self.graph = graph
        self.options = options

    def affine(
        self, layer: Layer, index: int, x: Signal, output: str, *, relu: bool = False, bias_factor: float = 1.0
    ) -> Signal:
        """Add `f(W x + b)` of a layer, on its grid if it has one.

        Args:
            layer: whose weights and bias.
            index: its number, which the names of its arrays begin with.
            x: `[rows, n_in]`.
            output: name of the result.
            relu: whether f is max(y, 0), else nothing.
            bias_factor: what the bias is multiplied with.

        Raises:
            ExportError: an int8 product does not fit its accumulator; the layer is named.
        """
        bias = None if layer.bias is None else (layer.bias.astype(np.float64) * bias_factor).astype(np.float32)
        y = Signal(output, x.rows, layer.grid)
        try:
            return self._product(layer.weight, f"layer{index}", x, bias, y, relu=relu)
        except ExportError as error:
            raise type(error)(f"layer {index}: {error.message}", error.hint) from error

    def _product(
        self, operator: WeightOperator, prefix: str, x: Signal, bias: Array | None, y: Signal, *, relu: bool
    ) -> Signal:
        if isinstance(operator, Sum):
            a = Signal(f"{prefix}/a/product", x.rows, operator.a_grid)
            b = Signal(f"{prefix}/b/product", x.rows, operator.b_grid)
            self._product(operator.a, f"{prefix}/a", x, None, a, relu=False)
            self._product(operator.b, f"{prefix}/b", x, bias, b, relu=False)
            return self.graph.binary("ADD", a, b, y, operator.shape[0], _activation(relu))
        if isinstance(operator, LowRank):
            inner = Signal(f"{prefix}/inner", x.rows, operator.inner)
            right = Dense(operator.right, operator.right_scale)
            self._fully_connected(right, f"{prefix}/right", x, None, inner, relu=False)
            left = Dense(operator.left, operator.left_scale)
            return self._fully_connected(left, f"{prefix}/left", inner, bias, y, relu=relu)
        assert not isinstance(operator, Coordinates)  # check has refused them; this is for mypy
        return self._fully_connected(operator, f"{prefix}/weight", x, bias, y, relu=relu)

    def _fully_connected(
        self, operator: Dense | Sparse, name: str, x: Signal, bias: Array | None, y: Signal, *, relu: bool
    ) -> Signal:
        n_out = operator.shape[0]
        if x.grid is not None:
            return self._int8(operator, name, x, x.grid, bias, y, relu=relu)
        weights = self._weights(operator, name)
        scaled = y
        if weights.row_scale is not None:
            bias = None if bias is None else _unscaled_bias(bias, weights.row_scale)
            scaled = replace(y, name=f"{name}_unscaled_product")
        bias_name = None if bias is None else self.graph.constant(_bias_name(name), bias)
        self.graph.declare(scaled, n_out)
        options = schema.FullyConnectedOptionsT(
            fusedActivationFunction=activation_code(_activation(relu and weights.row_scale is None)),
            asymmetricQuantizeInputs=weights.version >= 9,
        )
        self.graph.operator(
            "FULLY_CONNECTED", weights.version, [x.name, weights.name, bias_name], [scaled.name], options
        )
        if weights.row_scale is not None:
            scale = Signal(self.graph.constant(f"{name}_scale", weights.row_scale), 1)
            self.graph.binary("MUL", scaled, scale, y, n_out, _activation(relu))
        return y

    def _int8(
        self,
        operator: Dense | Sparse,
        name: str,
        x: Signal,
        x_grid: Grid,
        bias: Array | None,
        y: Signal,
        *,
        relu: bool,
    ) -> Signal:
        """A product of int8 with int8, in 32 bits, bias included, then on the grid of `y`."""
        stored, scale = int8_matrix(operator)
        n_out = len(stored)
        bias_scale = scale.astype(np.float64) * x_grid.scale
        whole = None if bias is None else np.rint(bias.astype(np.float64) / bias_scale)
        _check_accumulator(stored, whole)
        weight = self.graph.constant(name, stored, Affine(scale))
        bias_name = None
        if whole is not None:
            affine = Affine(bias_scale.astype(np.float32))
            bias_name = self.graph.constant(_bias_name(name), whole.astype(np.int32), affine)
        self.graph.declare(y, n_out)
        options = schema.FullyConnectedOptionsT(fusedActivationFunction=activation_code(_activation(relu)))
        self.graph.operator("FULLY_CONNECTED", 4, [x.name, weight, bias_name], [y.name], options)
        return y

    def _weights(self, operator: Dense | Sparse, name: str) -> Weights:
        if operator.scale is not None:
            return self._int8_weights(operator, name)
        sparse_format = "dense" if isinstance(operator, Dense) else storage(operator, self.options)
        if isinstance(operator, Dense) or sparse_format == "dense":
            w = operator.w if isinstance(operator, Dense) else operator.written_out()
            return Weights(self._widened(self.graph.constant(name, w), w), 1)
        if not np.any(operator.values):  # neither DENSIFY nor a sparse kernel takes an empty tensor
            return Weights(self.graph.constant(name, np.zeros(operator.shape, np.float32)), 1)
        if sparse_format == "block":
            return Weights(self.graph.sparse_constant(name, in_blocks(operator)), 8)
        rows = operator if operator.block == (1, 1) else Sparse.from_dense(operator.written_out())
        sparse = self.graph.sparse_constant(f"{name}_sparse", rows)
        dense = self.graph.value(f"{name}_dense", operator.shape)
        self.graph.operator("DENSIFY", 1, [sparse], [dense], schema.DensifyOptionsT())
        return Weights(dense, 1)

    def _int8_weights(self, operator: Dense | Sparse, name: str) -> Weights:
        """Weights that meet float activations."""
        stored, scale = int8_matrix(operator)
        if len(scale) == 1 or self.options.tflite_target == "litert":
            return Weights(self.graph.constant(name, stored, Affine(scale)), 9 if len(scale) == 1 else 12)
        return Weights(self.graph.constant(name, stored, Affine(np.ones(1, np.float32))), 9, scale)

    def _widened(self, stored: str, array: Array) -> str:
        """Weights in float32, from float16 if they are stored so; once for every use."""
        if array.dtype == np.float32:
            return stored
        wide = f"{stored}_f32"
        if not self.graph.has(wide):
            self.graph.value(wide, self.graph.shape(stored))
            self.graph.operator("DEQUANTIZE", 3, [stored], [wide], schema.DequantizeOptionsT())
        return wide


def _bias_name(weights: str) -> str:
    """Of the bias that goes with weights: a layer's operands have one at most."""
    return f"{weights.rpartition('/')[0]}/bias"


def int8_matrix(operator: Dense | Sparse) -> tuple[NDArray[np.int8], Scale]:
    """Stored values `[n_out, n_in]` with zeros written out, and their scale `[1]` or `[n_out]`."""
    assert operator.scale is not None
    if isinstance(operator, Dense):
        return operator.w, operator.scale
    return operator.written_out(), operator.scale


def in_blocks(operator: Sparse) -> Sparse:
    """The same weights in the blocks that sparse kernels take.

    Raises:
        ExportError: the pattern is not made of whole such blocks.
    """
    n_in = operator.shape[1]
    if n_in % BLOCK[1]:
        raise ExportError(
            f"{n_in} inputs are no multiple of {BLOCK[1]}, so its weights have no whole 1x4 blocks",
            hint="leave --sparse-format out, or take densify or dense",
        )
    if operator.block == BLOCK:
        return operator
    stored = operator.written_out()
    blocked, kept = Sparse.from_dense(stored, BLOCK), int(np.count_nonzero(stored))
    if blocked.values.size != kept:
        raise ExportError(
            f"its pattern is not made of 1x4 blocks: {kept} weights other than 0 touch {len(blocked.values)} blocks, "
            f"which hold {blocked.values.size}",
            hint="prune in 1x4 blocks along the inputs, or take --sparse-format densify or dense",
        )
    return blocked


def storage(operator: Sparse, options: TfliteOptions) -> str:
    """The form of sparse weights: what was asked for, else densify where it is right in every engine.

    Raises:
        ExportError: what was asked for would be wrong; with the reason and an alternative.
    """
    asked, dtype = options.sparse_format, operator.values.dtype
    if operator.scale is not None:
        if asked in ("densify", "block"):
            raise ExportError(
                f"--sparse-format {asked} with int8 weights: interpreters refuse them, or compute wrong numbers",
                hint="leave --sparse-format out, or take --dtype float32 or float16",
            )
        return "dense"
    if asked == "block":
        if dtype != np.float32:
            raise ExportError(
                f"--sparse-format block with {dtype} weights: there is no such kernel",
                hint="take --dtype float32, or --sparse-format densify",
            )
        in_blocks(operator)
    if dtype == np.float16:
        if asked == "densify":
            raise ExportError(
                "--sparse-format densify with float16 weights: interpreters compute wrong numbers, or die of a resize",
                hint="leave --sparse-format out, or take --dtype float32",
            )
        return "dense"
    return asked or "densify"


def check_products(operator: WeightOperator, options: TfliteOptions) -> None:
    """Refuse weights that no TFLite kernel multiplies rightly in the storage that was asked for.

    Raises:
        ExportError: with the reason and an alternative.
    """
    for leaf in leaves(operator):
        if isinstance(leaf, Coordinates):
            raise NoFormError(
                "TFLite does not fold constants: weights computed from coordinates in the graph are computed again "
                "at every inference, about 400 times slower",
                hint="leave --weights out for dense, or take --to onnx, which computes them once, at load",
            )
        if isinstance(leaf, Sparse):
            storage(leaf, options)


def _unscaled_bias(bias: Array, scale: Scale) -> Array:
    with np.errstate(over="ignore"):
        unscaled: Array = (bias.astype(np.float64) / scale).astype(np.float32)
    if not np.all(np.isfinite(unscaled)):
        row = int(np.flatnonzero(~np.isfinite(unscaled))[0])
        raise ExportError(
            f"the bias {bias[row]:g} of neuron {row} is too large beside its weights, whose step is {scale[row]:g}",
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


def _activation(relu: bool) -> str:
    return "RELU" if relu else "NONE"
