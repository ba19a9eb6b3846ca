"""ONNX: builds the graph directly, with readable names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from sen_exporters.base import (
    Artifact,
    Exporter,
    ExportError,
    NoFormError,
    check_float_activations,
    check_step,
    check_unrolled,
)
from sen_exporters.lowering import check_thresholds, hidden_values
from sen_exporters.onnx.delays import DELAY_BYTES
from sen_exporters.onnx.forms import build
from sen_exporters.onnx.graph import OnnxOptions, set_properties, value_info
from sen_runtime.errors import EngineError
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Sparse, leaves

#: A protobuf message ends at 2 GiB; beyond it ONNX needs files for its arrays, and one export is one file.
MAX_BYTES = 2**31 - 1


class OnnxExporter(Exporter):
    """`.onnx` files for onnxruntime and other readers of ONNX.

    Inputs and outputs are float32. Layer N of a multilayer perceptron has the value `layerN/activation`; a spiking
    network has `layerN/t{t}/spikes` and from t = 1 on `layerN/t{t}/membrane` (unrolled), or `layerN/membrane` and
    `layerN/spikes` (scan: in the body of the Scan; step). The last layer has `output`. A layer with delays
    has `layerN/history`, one with recurrent synapses `layerN/recurrent/history`, one with synaptic currents
    `layerN/synaptic_current`.

    Standardized inputs are `input/standardized`; outputs before they are restored `output/standardized`, and before an
    activation `output/logits`.
    """

    name = "onnx"
    suffixes = (".onnx",)
    Options = OnnxOptions

    def check(self, network: Network, options: OnnxOptions) -> None:
        """Refuse options without a form in ONNX, and networks larger than one file."""
        check_unrolled(network, options, "scan or --snn step")
        check_step(network, options)
        if options.sparse_format == "block":
            raise NoFormError(
                "onnxruntime has no kernel for block-sparse weights", hint="take --sparse-format densify or dense"
            )
        _check_size(_array_bytes(network, options.sparse_format))
        check_float_activations(network, "the ONNX export")
        check_thresholds(network)

    def export(self, network: Network, options: OnnxOptions) -> Artifact:
        """Build the file `name.onnx`.

        Raises:
            ExportError: see `check`; or the graph is not valid ONNX, which is a defect of sen-edge.
            NetworkError: coordinates whose weights are not finite.
        """
        self.check(network, options)
        model = build(network, options)
        _check_size(model.ByteSize())
        inferred = _check_model(model)
        # shapes in a file of dynamic batch would keep a reader from choosing a batch
        kept = model if options.batch_size is None else inferred
        return Artifact(self.name, {self.main_file(options): _serialize(kept)})

    def stamp(self, artifact: Artifact, properties: Mapping[str, str]) -> Artifact:
        """Add `properties` to the metadata_props, sorted by key."""
        model = _parse(artifact.main)
        set_properties(model, {**_properties(model), **properties})
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
        graph, properties = loaded.graph, _properties(loaded)
        for name, parts in hidden_values(_values(graph), properties).items():
            if parts != [name]:
                _sum_steps(graph, parts, name)
            _add_output(graph, name)
        for scan_node in [node for node in graph.node if node.op_type == "Scan"]:
            _show_spikes(graph, scan_node, properties)
        return _serialize(loaded)


def _array_bytes(network: Network, sparse_format: str) -> int:
    """Approximate bytes of the arrays in the file."""
    total = network.nbytes
    connections = [connection for layer in network.layers for connection in layer.connections]
    for weight, delay in connections:
        if delay.is_varied:
            total += DELAY_BYTES * weight.shape[0] * weight.shape[1]
        for operator in leaves(weight):
            if isinstance(operator, Sparse):
                n_out, n_in = operator.shape
                width = operator.values.itemsize
                stored = operator.values.size * (width + 4) if sparse_format == "densify" else n_out * n_in * width
                total += stored - operator.nbytes
    return total


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise ExportError(
            f"the model takes {size / 1e9:.1f} GB; one ONNX file holds less than 2 GB",
            hint="prune or factorize the network, or export with --weights coordinates or --dtype float16",
        )


def _check_model(model: ModelProto) -> ModelProto:
    """The checked model, with the shapes of all values, which some readers of ONNX do not infer."""
    try:
        onnx.checker.check_model(model, full_check=True)
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
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


def _serialize(model: ModelProto) -> bytes:
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _sum_steps(graph: GraphProto, parts: Sequence[str], name: str) -> None:
    """Add the spike counts `[batch, n]` of an unrolled layer, whose spikes are `[batch, 1, n]` in each step."""
    total, shape = f"{name}_total", f"{name}_shape"
    graph.node.append(helper.make_node("Sum", parts, [total], name=total))
    graph.initializer.append(numpy_helper.from_array(np.array([0, -1]), shape))
    graph.node.append(helper.make_node("Reshape", [total, shape], [name], name=name))


def _show_spikes(graph: GraphProto, scan_node: NodeProto, properties: Mapping[str, str]) -> None:
    """Add the spike counts of the layers in the body of a Scan to the outputs of the graph."""
    body: GraphProto = next(attribute.g for attribute in scan_node.attribute if attribute.name == "body")
    for name, spikes in hidden_values(_values(body), properties).items():
        train, axis = f"{name}_train", f"{name}_time_axis"
        # with its own name: the spikes may be an output already, the state for the next step
        body.node.append(helper.make_node("Identity", spikes, [f"{train}_step"], name=f"{train}_step"))
        body.output.append(value_info(f"{train}_step", [None, None]))
        scan_node.output.append(train)
        graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), axis))
        graph.node.append(helper.make_node("ReduceSum", [train, axis], [name], name=name, keepdims=0))
        _add_output(graph, name)


def _values(graph: GraphProto) -> list[str]:
    return [name for node in graph.node for name in node.output]


def _add_output(graph: GraphProto, name: str) -> None:
    """Add an output `[batch, n]`, with the batch of the graph's own output and any n."""
    output = value_info(name, [None, None])
    output.type.tensor_type.shape.dim[0].CopyFrom(graph.output[0].type.tensor_type.shape.dim[0])
    graph.output.append(output)
