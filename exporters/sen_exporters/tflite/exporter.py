"""TFLite: writes the flatbuffer directly, for ai-edge-litert, tflite-runtime 2.14 and TFLite Micro.

Some combinations of operator, version and element type compute wrong numbers in one of the interpreters without
an error; `sen_exporters.tflite.weights` lists them and the alternatives in use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ai_edge_litert import schema_py_generated as schema

from sen_exporters.base import Artifact, Exporter, ExportError, NoFormError, check_step, check_unrolled, name_memory
from sen_exporters.lowering import check_thresholds, hidden_values
from sen_exporters.tflite.forms import build
from sen_exporters.tflite.graph import Graph, Signal, TfliteOptions
from sen_exporters.tflite.schema import parse, serialize, set_properties
from sen_exporters.tflite.weights import check_operator
from sen_runtime.engines.tflite_file import read_properties
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Sparse, WeightOperator, leaves

#: Engines by the property `tflite_target`; others are for litert and tflite-runtime.
ENGINES_OF = {
    "litert": ("litert",),
    "tflite-runtime": ("tflite-runtime",),
    "micro": ("tflite-micro", "litert", "tflite-runtime"),
}


#: Bytes per delayed synapse and time step of an unrolled graph: measured 6 to 10 in tflite-runtime 2.14, 3 in litert.
GATHERED = 8
#: Max bytes of all of them.
MAX_GATHERED = 1 << 30


class TfliteExporter(Exporter):
    """`.tflite` files.

    One signature, `serving_default` (`step` for a step model), with `input`, `output`, and the state of a step model:
    membranes, histories of delayed spikes, synaptic currents. Hidden layer N of a multilayer perceptron has the value
    `layerN/activation`; a spiking network has `layerN/t{t}/membrane` and `layerN/t{t}/spikes` (unrolled), or
    `layerN/membrane_next` and `layerN/spikes` (step). Inputs and outputs are float32 without `int8_io` and
    for targets other than "micro".
    """

    name = "tflite"
    suffixes = (".tflite",)
    Options = TfliteOptions

    def check(self, network: Network, options: TfliteOptions) -> None:
        """Refuse networks and options that an interpreter cannot compute, or computes wrongly."""
        if options.snn == "scan":
            raise NoFormError(
                "--snn scan has no form in TFLite that stays fast", hint="take --snn unrolled or --snn step"
            )
        check_unrolled(network, options, "step")
        _check_arena(network, options)
        check_step(network, options)
        if _has_wide_membrane(network, options) and options.tflite_target not in ("litert", "micro"):
            raise ExportError(
                "--snn step with int8 activations: tflite-runtime cannot convert spikes for the int16 membrane of the "
                "readout",
                hint="add --tflite-target micro or litert, or take --snn unrolled or --dtype int8-dynamic",
            )
        weights = [leaf for layer in network.layers for leaf in leaves(layer.weight)]
        if options.tflite_target == "micro":
            _check_micro(network, options, weights)
        if options.has_int8_io and network.input_grid is None:
            raise ExportError("int8 inputs and outputs need int8 activations", hint="add --dtype int8")
        if options.has_int8_io:
            _check_int8_io(network)
        if options.sparse_format == "block" and not any(isinstance(leaf, Sparse) for leaf in weights):
            raise ExportError(
                "--sparse-format block, and no layer has sparse weights", hint="leave --sparse-format out"
            )
        check_thresholds(network)
        for index, layer in enumerate(network.layers):
            try:
                for leaf in leaves(layer.weight):
                    check_operator(leaf, options)
            except ExportError as error:
                raise type(error)(f"layer {index}: {error.message}", error.hint) from error

    def export(self, network: Network, options: TfliteOptions) -> Artifact:
        """Build the file `name.tflite`.

        Raises:
            ExportError: see `check`; or an int8 product that does not fit 32 bits; or a file beyond 2 GB.
        """
        self.check(network, options)
        return Artifact(self.name, {self.main_file(options): serialize(build(network, options))})

    def stamp(self, artifact: Artifact, properties: Mapping[str, str]) -> Artifact:
        """Add `properties` to those of the file, sorted by key."""
        model = parse(artifact.main)
        set_properties(model, {**self.properties(artifact.main), **properties})
        return artifact.with_main(serialize(model))

    def properties(self, model: bytes) -> Mapping[str, str]:
        """Read the properties of a file: those of the network, of the form, and of `stamp`."""
        return read_properties(model)

    def engines(self, model: bytes) -> tuple[str, ...]:
        """Interpreters that the file is for."""
        properties = read_properties(model)
        target = properties.get("tflite_target", "any")
        if target == "micro" and properties.get("snn") == "step" and "membrane" in properties.get("readout", ""):
            return ("tflite-micro", "litert")  # tflite-runtime lacks int16 membranes, see `check`
        return ENGINES_OF.get(target, ("litert", "tflite-runtime"))

    def instrument(self, model: bytes) -> bytes:
        """Add `layerN/activation [batch, n]` of every layer but the last as an output.

        Activations of a multilayer perceptron; spike counts over the steps that the graph holds.
        """
        graph = Graph(TfliteOptions(), parse(model))
        signature = graph.model.signatureDefs[0]
        for name, parts in hidden_values(list(graph.index), read_properties(model)).items():
            index = graph.index[parts[0] if len(parts) == 1 else _add_up(graph, name, parts)]
            graph.subgraph.outputs = [*graph.subgraph.outputs, index]
            signature.outputs.append(schema.TensorMapT(name=name, tensorIndex=index))
        return serialize(graph.model)


def _check_arena(network: Network, options: TfliteOptions) -> None:
    """Refuse an unrolled graph for which an interpreter allocates more than `MAX_GATHERED` bytes."""
    connections = [connection for layer in network.layers for connection in layer.connections]
    n_synapses = sum(math.prod(weight.shape) for weight, delay in connections if delay.is_varied)
    size = GATHERED * n_synapses * network.timesteps * (options.rows or 1)
    if options.snn == "unrolled" and size > MAX_GATHERED:
        raise ExportError(
            f"--snn unrolled with {n_synapses:,} delayed synapses and {network.timesteps:,} time steps allocates about "
            f"{math.ceil(size / 2**20):,} MiB at inference; expected at most {MAX_GATHERED >> 20:,} MiB",
            hint="use --snn step, which allocates the memory of one time step",
        )


def _has_wide_membrane(network: Network, options: TfliteOptions) -> bool:
    """Whether the file is a step model whose readout has an int16 membrane."""
    is_step = network.is_spiking and options.snn == "step"
    return is_step and network.input_grid is not None and network.readout != "spike_count"


def _check_micro(network: Network, options: TfliteOptions, weights: Sequence[WeightOperator]) -> None:
    """Refuse what TFLite Micro does not compute, or computes wrongly in one of its releases."""
    if not network.is_instant:
        raise NoFormError(
            f"--tflite-target micro is for int8 weights and activations, which have no form of {name_memory(network)}",
            hint="leave --tflite-target out, or take --to c or sen",
        )
    if network.input_grid is None:
        raise ExportError(
            "--tflite-target micro is for int8 weights and activations",
            hint="add --dtype int8 and --calibration with representative inputs",
        )
    if options.batch_size not in (None, 1):
        raise ExportError(
            f"--tflite-target micro takes one row, not {options.batch_size}", hint="leave --batch-size out"
        )
    if options.sparse_format == "block":
        raise ExportError(
            "--sparse-format block: TFLite Micro reads the compressed values as dense weights",
            hint="leave --sparse-format out",
        )
    scales = [factor.scale for leaf in weights for factor in leaf.factors]
    if any(scale is not None and len(scale) > 1 for scale in scales):
        raise ExportError(
            "--tflite-target micro needs one scale per matrix, and the model has int8 weights with one per row, which "
            "releases of TFLite Micro until May 2024 silently compute wrongly",
            hint="export its source, whose weights are not int8 yet",
        )


def _check_int8_io(network: Network) -> None:
    """Refuse standardization, restoration and output activations, which are float, for int8 inputs and outputs."""
    if network.input_scaling is not None:
        raise ExportError(
            "--int8-io has one scale for all features, and this network standardizes each with its own",
            hint="take --preprocess none, and standardize with input_mean and input_std of the metadata",
        )
    if network.output_scaling is not None:
        raise ExportError(
            "--int8-io has one scale for all outputs, and this network restores each with its own",
            hint="leave --int8-io out: outputs are float32 then",
        )
    if network.output_activation != "none":
        raise ExportError(
            f"--int8-io has no form for the {network.output_activation} of the outputs",
            hint="leave --probabilities out, or --int8-io",
        )


def _add_up(graph: Graph, name: str, parts: Sequence[str]) -> str:
    """Add the float32 sum of values, called `name`."""
    rows, size = graph.shape(parts[0])
    if graph.subgraph.tensors[graph.index[parts[0]]].type == schema.TensorType.INT8:
        signals = [(Signal(part, rows), Signal(f"{name}/t{t}", rows)) for t, part in enumerate(parts)]
        parts = [graph.convert(stored, converted, size).name for stored, converted in signals]
    graph.declare(Signal(name, rows), size)
    graph.operator("ADD_N", 1, parts, [name], schema.AddNOptionsT())
    return name
