"""A builder of TFLite graphs: values and operators by name, equal arrays stored once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from annotated_types import doc
from numpy.typing import ArrayLike, NDArray

from sen_exporters.base import SPARSE_FORMAT_HELP, ExportError, ExportOptions, SparseFormat
from sen_exporters.tflite.schema import little_endian
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.operators import Sparse

Array = NDArray[Any]


@dataclass(frozen=True)
class TfliteOptions(ExportOptions):
    """Options of the TFLite exporter.

    Attributes:
        tflite_target: "any" (right in every interpreter), "litert" or "tflite-runtime" (right in that one), or "micro"
            (int8 for TFLite Micro and NPUs, with int8 input and output and one row).
        sparse_format: "densify" (stored sparse, multiplied dense), "block" (kernels that skip zero blocks) or "dense"
            (zeros stored); None for densify where it is right in every engine.
        int8_io: input and output are int8 too, in a network whose activations are.
    """

    tflite_target: Annotated[
        Literal["any", "litert", "tflite-runtime", "micro"],
        doc("Interpreters: any (litert and tflite-runtime), one of these, or micro (TFLite Micro and NPUs, int8)."),
    ] = "any"
    sparse_format: Annotated[SparseFormat | None, doc(SPARSE_FORMAT_HELP)] = None
    int8_io: Annotated[bool, doc("int8 input and output of an int8 model.")] = False

    @property
    def granularity(self) -> Literal["channel", "tensor"]:
        """See `ExportOptions`: releases of TFLite Micro until October 2024 lack one scale per row."""
        return "tensor" if self.tflite_target == "micro" else "channel"

    @property
    def interpreters(self) -> str:
        """Property `tflite_target` of the file; empty for any."""
        if self.tflite_target == "any" and self.sparse_format == "block":
            return "litert, tflite-runtime"  # TFLite Micro reads the compressed values as a dense matrix
        return "" if self.tflite_target == "any" else self.tflite_target

    @property
    def rows(self) -> int | None:
        """Fixed batch; None where a caller may change the one of 1 that the file has."""
        return 1 if self.tflite_target == "micro" else self.batch_size

    @property
    def has_int8_io(self) -> bool:
        """Whether input and output are int8."""
        return self.int8_io or self.tflite_target == "micro"


#: Versions of operators on int16.
WIDE_VERSIONS = {"ADD": 3, "MUL": 4, "DEQUANTIZE": 3, "FULLY_CONNECTED": 7}


@dataclass(frozen=True)
class Affine:
    """real = scale * (stored - zero_point), per tensor, or per row of a matrix where `scale` has several values.

    Attributes:
        scale: `[1]` or `[n_out]` float32.
        zero_point: of all rows.
    """

    scale: NDArray[np.float32]
    zero_point: int = 0


@dataclass(frozen=True)
class Signal:
    """A value of the graph, `[rows, n]`.

    Attributes:
        name: of the tensor.
        rows: those of a batch of 1 where a caller may change the batch; TFLite Micro allocates these.
        grid: integer grid; None for float32.
        activation: function that its operator applies, as the schema calls it.
    """

    name: str
    rows: int
    grid: Grid | None = None
    activation: str = "NONE"

    @property
    def activation_code(self) -> int:
        """The schema's number of the activation."""
        code: int = getattr(schema.ActivationFunctionType, self.activation)
        return code

    @property
    def version(self) -> int:
        """Version of operators on such values; `WIDE_VERSIONS` has others for int16."""
        return 1 if self.grid is None else 2

    def named(self, name: str) -> Signal:
        """Another signal of the same rows and grid, without an activation."""
        return Signal(name, self.rows, self.grid)


class Graph:
    """Builds a model with one subgraph, or adds to one; values have the names of the file.

    Attributes:
        options: of the export.
        model: the `ModelT`.
        reach: of the 16-bit grids in an int8 step model, relative to the grids of its network.
    """

    def __init__(self, options: TfliteOptions, model: Any = None) -> None:
        self.options, self.reach = options, 1.0
        self.model = model or schema.ModelT(
            version=3,
            operatorCodes=[],
            subgraphs=[schema.SubGraphT(tensors=[], operators=[])],
            buffers=[schema.BufferT()],  # the first is empty by convention
            metadata=[],
        )
        self.subgraph = self.model.subgraphs[0]
        self.index = {tensor.name.decode(): index for index, tensor in enumerate(self.subgraph.tensors)}
        self._stored: dict[tuple[object, ...], str] = {}

    def constant(self, name: str, array: Array, affine: Affine | None = None) -> str:
        """Store `array`, and return its name; equal arrays share the first one's."""
        quantization = () if affine is None else (affine.scale.tobytes(), affine.zero_point)
        key = (array.dtype.str, array.shape, array.tobytes(), quantization)
        if key not in self._stored:
            self._add(name, array.shape, array.dtype, affine).buffer = self._buffer(array)
            self._stored[key] = name
        return self._stored[key]

    def sparse_constant(self, name: str, operator: Sparse) -> str:
        """Store weights `[n_out, n_in]` as compressed rows of blocks, whose columns divide `n_in`."""
        width = operator.block[1]
        tensor = self._add(name, operator.shape, operator.values.dtype)
        tensor.buffer = self._buffer(operator.values)
        dimensions = [
            schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=operator.shape[0]),
            schema.DimensionMetadataT(
                format=schema.DimensionType.SPARSE_CSR,
                arraySegmentsType=schema.SparseIndexVector.Int32Vector,
                arraySegments=schema.Int32VectorT(values=operator.row_starts.astype(np.int32)),
                **_index_vector(operator.columns),
            ),
        ]
        if width > 1:
            dimensions.append(schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=width))
        tensor.sparsity = schema.SparsityParametersT(
            traversalOrder=list(range(len(dimensions))), blockMap=[1] if width > 1 else [], dimMetadata=dimensions
        )
        return name

    def shape(self, name: str) -> list[int]:
        """Shape of a known value."""
        shape: list[int] = self.subgraph.tensors[self.index[name]].shape
        return shape

    def operator(
        self, name: str, version: int, inputs: Sequence[str | None], outputs: Sequence[str], options: Any
    ) -> None:
        """Add the builtin operator `name` (as `BuiltinOperator` calls it); None is an absent input."""
        code = getattr(schema.BuiltinOperator, name)
        codes = [(each.builtinCode, each.version) for each in self.model.operatorCodes]
        if (code, version) not in codes:
            codes.append((code, version))
            # interpreters before 2.4 read codes below 127 from the deprecated field
            self.model.operatorCodes.append(
                schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version)
            )
        self.subgraph.operators.append(
            schema.OperatorT(
                opcodeIndex=codes.index((code, version)),
                inputs=[-1 if value is None else self.index[value] for value in inputs],
                outputs=[self.index[value] for value in outputs],
                builtinOptionsType=0
                if options is None
                else getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T")),
                builtinOptions=options,
            )
        )

    def rename(self, name: str, new: str) -> str:
        """Rename a value, and return its new name."""
        self.index[new] = self.index.pop(name)
        self.subgraph.tensors[self.index[new]].name = new
        return new

    def declare(self, signal: Signal, *size: int) -> Signal:
        """Declare the tensor `[rows, *size]` of a signal."""
        grid = signal.grid
        dtype = np.dtype(np.float32) if grid is None else grid.dtype
        self._add(signal.name, [signal.rows, *size], dtype, None if grid is None else affine_of(grid))
        return signal

    def scalar(self, name: str, value: ArrayLike, grid: Grid | None = None) -> Signal:
        """Store a number, or a row of numbers, on `grid` if there is one."""
        array = np.atleast_1d(np.asarray(value, np.float32))
        if grid is None:
            return Signal(self.constant(name, array), 1)
        return Signal(self.constant(name, grid.quantize(array), affine_of(grid)), 1, grid)

    def map(self, operator: str, x: Signal, name: str, options: Any = None) -> Signal:
        """Add an operator of one float32 input, whose result has the shape of the input."""
        y = self.declare(x.named(name), *self.shape(x.name)[1:])
        self.operator(operator, 1, [x.name], [name], options)
        return y

    def arithmetic(self, operator: str, a: Signal, b: Signal, y: Signal) -> Signal:
        """Add ADD, SUB or MUL with the result `y`; all signals are float32, all int8, or all int16."""
        self.declare(y, *self.shape(a.name)[1:-1], max(self.shape(a.name)[-1], self.shape(b.name)[-1]))
        kind = {"ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT}[operator]
        options = kind(fusedActivationFunction=y.activation_code)
        version = y.version
        if y.grid is not None and y.grid.bits == 16:
            options.potScaleInt16, version = False, WIDE_VERSIONS[operator]
        self.operator(operator, version, [a.name, b.name], [y.name], options)
        return y

    def convert(self, x: Signal, y: Signal, *size: int) -> Signal:
        """Add the conversion of `x` to `y [rows, *size]`: onto the grid of `y`, or to float32."""
        self.declare(y, *size)
        if y.grid is not None:
            self.operator("QUANTIZE", x.version, [x.name], [y.name], schema.QuantizeOptionsT())
        else:
            version = 2 if x.grid is None or x.grid.bits == 8 else WIDE_VERSIONS["DEQUANTIZE"]
            self.operator("DEQUANTIZE", version, [x.name], [y.name], schema.DequantizeOptionsT())
        return y

    def finish(self, signature: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        """Set inputs and outputs: names in the signature, and of the values."""
        if self.options.rows is None:  # an interpreter derives inner sizes from those of the inputs
            for value in {*inputs.values(), *outputs.values()}:
                tensor = self.subgraph.tensors[self.index[value]]
                tensor.shapeSignature = [-1, *tensor.shape[1:]]
        self.subgraph.inputs = [self.index[value] for value in inputs.values()]
        self.subgraph.outputs = [self.index[value] for value in outputs.values()]
        self.model.signatureDefs = [
            schema.SignatureDefT(
                inputs=[schema.TensorMapT(name=key, tensorIndex=self.index[value]) for key, value in inputs.items()],
                outputs=[schema.TensorMapT(name=key, tensorIndex=self.index[value]) for key, value in outputs.items()],
                signatureKey=signature,
            )
        ]

    def _add(self, name: str, shape: Sequence[int], dtype: np.dtype[Any], affine: Affine | None = None) -> Any:
        if name in self.index:
            raise ExportError(f"two values are called {name!r}", hint="this is a defect of sen-edge: please report it")
        self.index[name] = len(self.subgraph.tensors)
        tensor = schema.TensorT(shape=list(shape), type=getattr(schema.TensorType, dtype.name.upper()), name=name)
        if affine is not None:
            tensor.quantization = schema.QuantizationParametersT(
                scale=affine.scale.astype(np.float32),
                zeroPoint=np.full(len(affine.scale), affine.zero_point, np.int64),
            )
        self.subgraph.tensors.append(tensor)
        return tensor

    def _buffer(self, array: Array) -> int:
        self.model.buffers.append(schema.BufferT(data=little_endian(array)))
        return len(self.model.buffers) - 1


def affine_of(grid: Grid) -> Affine:
    """Quantization of a tensor on a grid."""
    return Affine(np.array([grid.scale], np.float32), grid.zero_point)


def _index_vector(indices: NDArray[np.int32]) -> dict[str, Any]:
    """Column indices in the narrowest type that holds them."""
    largest = int(indices.max(initial=0))
    kind = "Uint8" if largest < 1 << 8 else "Uint16" if largest < 1 << 16 else "Int32"
    return {
        "arrayIndicesType": getattr(schema.SparseIndexVector, f"{kind}Vector"),
        "arrayIndices": getattr(schema, f"{kind}VectorT")(values=indices.astype(kind.lower())),
    }
