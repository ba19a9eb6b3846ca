"""ONNX: the graph built directly, with names a person can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Annotated

import onnx
from annotated_types import Interval, doc
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from onnx import ModelProto, helper

from sen_exporters.base import (
    SPARSE_FORMAT_HELP,
    Artifact,
    ExportError,
    ExportOptions,
    NoFormError,
    SparseFormat,
    check_unrolled,
)
from sen_exporters.onnx.graph import GraphBuilder, value_info
from sen_exporters.onnx.instrument import show_activations
from sen_exporters.onnx.spiking import FORMS
from sen_exporters.onnx.weights import affine
from sen_runtime.errors import EngineError
from sen_runtime.ir.network import Network, Relu
from sen_runtime.ir.operators import Sparse, leaves

OLDEST_OPSET = 13
#: Newest operator set with which onnxruntime 1.32.0 was seen to load and run every form of graph.
NEWEST_OPSET = min(28, onnx.defs.onnx_opset_version())
#: A protobuf message ends at 2 GiB; beyond it ONNX needs files for its arrays, and one export is one file.
MAX_BYTES = 2**31 - 1


@dataclass(frozen=True)
class OnnxOptions(ExportOptions):
    """Options of the ONNX exporter.

    Attributes:
        opset: ONNX operator set.
        sparse_format: "densify" (stored sparse, multiplied dense) or "dense" (zeros stored).
    """

    opset: Annotated[int, Interval(ge=OLDEST_OPSET, le=NEWEST_OPSET), doc("ONNX operator set.")] = 17
    sparse_format: Annotated[SparseFormat, doc(SPARSE_FORMAT_HELP)] = "densify"


class OnnxExporter:
    """`.onnx` files for onnxruntime and whatever else reads ONNX.

    Every input and output is float32. Layer N of a multilayer perceptron gives `layerN/activation`; a spiking
    network holds `layerN/t{t}/membrane` and `layerN/t{t}/spikes` (unrolled), or `layerN/membrane` and
    `layerN/spikes` (scan: in the body of the Scan; step). The last layer gives `output`.
    """

    name = "onnx"
    suffixes = (".onnx",)
    Options = OnnxOptions

    def main_file(self, options: OnnxOptions) -> str:
        """`NAME.onnx`."""
        return f"{options.name}.onnx"

    def check(self, network: Network, options: OnnxOptions) -> None:
        """Refuse options this target does not have, and networks beyond one file.

        Raises:
            ExportError: with what was found, what was expected, and the next step.
        """
        check_unrolled(network, options, "scan or --snn step")
        if options.sparse_format == "block":
            raise NoFormError(
                "onnxruntime has no kernel for block-sparse weights", hint="take --sparse-format densify or dense"
            )
        _check_size(_array_bytes(network, options.sparse_format))
        if network.input_grid is not None:
            raise NoFormError(
                "the ONNX export has no int8 activations",
                hint="--dtype int8-dynamic stores int8 weights here; --to tflite takes int8 activations",
            )

    def export(self, network: Network, options: OnnxOptions) -> Artifact:
        """Build the file `name.onnx`.

        Raises:
            ExportError: see `check`; or the graph is not valid ONNX, which is a defect of sen-edge.
            NetworkError: coordinates whose weights are not finite.
        """
        self.check(network, options)
        model = _model(network, options)
        _check_size(model.ByteSize())
        _check_model(model)
        return Artifact(self.name, {self.main_file(options): _serialize(model)})

    def stamp(self, artifact: Artifact, properties: Mapping[str, str]) -> Artifact:
        """The artifact with `properties` added to its metadata_props, sorted by key."""
        model = _parse(artifact.main)
        _set_properties(model, {**_properties(model), **properties})
        main = next(iter(artifact.files))
        return replace(artifact, files={**artifact.files, main: _serialize(model)})

    def properties(self, model: bytes) -> Mapping[str, str]:
        """The metadata_props of a file."""
        return _properties(_parse(model))

    def engines(self, model: bytes) -> tuple[str, ...]:
        """Onnxruntime."""
        del model
        return ("onnxruntime",)

    def instrument(self, model: bytes) -> bytes:
        """The model with `layerN/activation [batch, n]` of every layer but the last as a further output.

        Activations of a multilayer perceptron; spike counts over the steps that the graph holds.
        """
        loaded = _parse(model)
        show_activations(loaded)
        return _serialize(loaded)


def _array_bytes(network: Network, sparse_format: str) -> int:
    """About what the arrays take in the file."""
    total = network.nbytes
    for layer in network.layers:
        for operator in leaves(layer.weight):
            if isinstance(operator, Sparse):
                n_out, n_in = operator.shape
                width = operator.values.itemsize
                stored = operator.values.size * (width + 8) if sparse_format == "densify" else n_out * n_in * width
                total += stored - operator.nbytes
    return total


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise ExportError(
            f"the model takes {size / 1e9:.1f} GB; one ONNX file holds less than 2 GB",
            hint="prune or factorize the network, or export with --weights coordinates or --dtype float16",
        )


def _model(network: Network, options: OnnxOptions) -> ModelProto:
    batch = options.batch_size or "batch"
    sparse_format = options.sparse_format
    graph = GraphBuilder(batch, options.opset)
    input_shape = [batch, network.n_in]
    properties = {**network.metadata, "architecture": "-".join(map(str, network.layer_sizes))}
    if network.is_spiking:
        properties |= {
            "snn": options.snn,
            "timesteps": str(network.timesteps),
            "input_coding": network.input_coding,
            "readout": network.readout,
        }
        inputs, outputs = FORMS[options.snn](graph, network, sparse_format)
        if network.input_coding == "spikes" and options.snn != "step":
            input_shape.insert(1, network.timesteps)
    else:
        inputs, outputs = [], []
        _perceptron(graph, network, sparse_format)
    inputs.insert(0, value_info("input", input_shape))
    outputs.insert(0, value_info("output", [batch, network.n_out]))
    opsets = [helper.make_opsetid("", options.opset)]
    model = helper.make_model(
        graph.to_proto(options.name, inputs, outputs),
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),  # so that older engines read it
        producer_name="sen-edge",
        producer_version=version("sen-edge"),
    )
    _set_properties(model, properties)
    return model


def _perceptron(graph: GraphBuilder, network: Network, sparse_format: str) -> None:
    x = "input"
    for index, layer in enumerate(network.layers):
        output = "output" if index == len(network.layers) - 1 else f"layer{index}/activation"
        if isinstance(layer.neuron, Relu):
            y = affine(graph, layer, index, x, f"layer{index}/preactivation", sparse_format)
            x = graph.node("Relu", [y], output)
        else:
            x = affine(graph, layer, index, x, output, sparse_format)


def _check_model(model: ModelProto) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the graph that was built is not valid ONNX: {error}",
            hint="this is a defect of sen-edge: please report it",
        ) from error


def _parse(model: bytes) -> ModelProto:
    try:
        return onnx.load_from_string(model)
    except DecodeError as error:
        raise EngineError(
            f"this is no ONNX file: {error}", hint="was it cut off on the way? Export the model again"
        ) from error


def _properties(model: ModelProto) -> dict[str, str]:
    try:
        return {entry.key: entry.value for entry in model.metadata_props}
    except UnicodeDecodeError as error:
        raise EngineError(f"the metadata of this ONNX file is not UTF-8 text: {error.reason}") from None


def _set_properties(model: ModelProto, properties: Mapping[str, str]) -> None:
    del model.metadata_props[:]
    helper.set_model_props(model, dict(sorted(properties.items())))


def _serialize(model: ModelProto) -> bytes:
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized
