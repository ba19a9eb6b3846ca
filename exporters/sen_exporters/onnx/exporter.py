"""ONNX: builds the graph directly, with readable names."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from onnx import ModelProto, helper

from sen_exporters.base import (
    Artifact,
    Exporter,
    ExportError,
    NoFormError,
    check_float_activations,
    check_unrolled,
    describe,
)
from sen_exporters.onnx.forms import FORMS
from sen_exporters.onnx.graph import GraphBuilder, value_info
from sen_exporters.onnx.instrument import show_activations
from sen_exporters.onnx.options import OnnxOptions
from sen_runtime.errors import EngineError
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Sparse, leaves

#: A protobuf message ends at 2 GiB; beyond it ONNX needs files for its arrays, and one export is one file.
MAX_BYTES = 2**31 - 1


class OnnxExporter(Exporter):
    """`.onnx` files for onnxruntime and other readers of ONNX.

    Inputs and outputs are float32. Layer N of a multilayer perceptron has the value `layerN/activation`; a spiking
    network has `layerN/t{t}/spikes` and from t = 1 on `layerN/t{t}/membrane` (unrolled), or `layerN/membrane` and
    `layerN/spikes` (scan: in the body of the Scan; step). The last layer has `output`.
    """

    name = "onnx"
    suffixes = (".onnx",)
    Options = OnnxOptions

    def check(self, network: Network, options: OnnxOptions) -> None:
        """Refuse options without a form in ONNX, and networks larger than one file.

        Raises:
            ExportError: states found and expected values, and the next step.
        """
        check_unrolled(network, options, "scan or --snn step")
        if options.sparse_format == "block":
            raise NoFormError(
                "onnxruntime has no kernel for block-sparse weights", hint="take --sparse-format densify or dense"
            )
        _check_size(_array_bytes(network, options.sparse_format))
        check_float_activations(network, "the ONNX export")

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
        """Add `properties` to the metadata_props, sorted by key."""
        model = _parse(artifact.main)
        _set_properties(model, {**_properties(model), **properties})
        return artifact.with_main(_serialize(model))

    def properties(self, model: bytes) -> Mapping[str, str]:
        """Read the metadata_props of a file."""
        return _properties(_parse(model))

    def engines(self, model: bytes) -> tuple[str, ...]:
        """Onnxruntime."""
        del model
        return ("onnxruntime",)

    def instrument(self, model: bytes) -> bytes:
        """Add `layerN/activation [batch, n]` of every layer but the last as an output.

        Activations of a multilayer perceptron; spike counts over the steps that the graph holds.
        """
        loaded = _parse(model)
        show_activations(loaded, _properties(loaded))
        return _serialize(loaded)


def _array_bytes(network: Network, sparse_format: str) -> int:
    """Approximate bytes of the arrays in the file."""
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
    graph = GraphBuilder(options)
    input_shape = [graph.batch, network.n_in]
    inputs, outputs = FORMS[options.snn if network.is_spiking else "perceptron"](graph, network)
    if network.input_coding == "spikes" and options.snn != "step":
        input_shape.insert(1, network.timesteps)
    inputs.insert(0, value_info("input", input_shape))
    outputs.insert(0, value_info("output", [graph.batch, network.n_out]))
    opsets = [helper.make_opsetid("", options.opset)]
    model = helper.make_model(
        graph.to_proto(options.name, inputs, outputs),
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),  # so that older engines read it
        producer_name="sen-edge",
        producer_version=version("sen-edge"),
    )
    _set_properties(model, describe(network, options.snn))
    return model


def _check_model(model: ModelProto) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the graph is not valid ONNX: {error}",
            hint="this is a defect of sen-edge: please report it",
        ) from error


def _parse(model: bytes) -> ModelProto:
    try:
        return onnx.load_from_string(model)
    except DecodeError as error:
        raise EngineError(f"not an ONNX file: {error}", hint="it may be truncated: export the model again") from error


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
