"""TFLite: writes the flatbuffer directly, for ai-edge-litert and tflite-runtime 2.14.

Some combinations of operator, version and element type compute wrong numbers in one of the two interpreters without
an error; `sen_exporters.tflite.weights` lists them and the alternatives in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from sen_exporters.base import Artifact, Exporter, ExportError, NoFormError, check_unrolled, describe
from sen_exporters.tflite.forms import check_neuron, perceptron, step, unrolled
from sen_exporters.tflite.graph import Graph, Signal
from sen_exporters.tflite.instrument import show_activations
from sen_exporters.tflite.options import ENGINES, TfliteOptions
from sen_exporters.tflite.schema import parse, serialize, set_properties
from sen_exporters.tflite.weights import check_operator
from sen_runtime.engines.tflite_file import read_properties
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Sparse, leaves


class TfliteExporter(Exporter):
    """`.tflite` files.

    One signature, `serving_default` (`step` for a step model), with `input`, `output`, and the membranes of a step
    model. Hidden layer N of a multilayer perceptron has the value `layerN/activation`; a spiking network has
    `layerN/t{t}/membrane` and `layerN/t{t}/spikes` (unrolled), or `layerN/membrane_next` and `layerN/spikes`
    (step). Inputs and outputs are float32 without `int8_io`.
    """

    name = "tflite"
    suffixes = (".tflite",)
    Options = TfliteOptions

    def check(self, network: Network, options: TfliteOptions) -> None:
        """Refuse networks and options that an interpreter cannot compute, or computes wrongly.

        Raises:
            ExportError: states found and expected values, and the next step.
        """
        if options.snn == "scan":
            raise NoFormError(
                "--snn scan has no form in TFLite that stays fast", hint="take --snn unrolled or --snn step"
            )
        check_unrolled(network, options, "step")
        if network.is_spiking and network.input_grid is not None and options.snn == "step":
            raise ExportError(
                "--snn step with int8 membranes: rounding in each step makes the readout drift",
                hint="take --dtype int8-dynamic, which has int8 weights and float membranes, or --snn unrolled",
            )
        if options.int8_io and network.input_grid is None:
            raise ExportError("int8 inputs and outputs need int8 activations", hint="add --dtype int8")
        if options.sparse_format == "block" and not _has_sparse_weights(network):
            raise ExportError(
                "--sparse-format block, and no layer has sparse weights", hint="leave --sparse-format out"
            )
        for index, layer in enumerate(network.layers):
            try:
                for leaf in leaves(layer.weight):
                    check_operator(leaf, options)
                check_neuron(layer.neuron)
            except ExportError as error:
                raise type(error)(f"layer {index}: {error.message}", error.hint) from error

    def export(self, network: Network, options: TfliteOptions) -> Artifact:
        """Build the file `name.tflite`.

        Raises:
            ExportError: see `check`; or an int8 product that does not fit 32 bits; or a file beyond 2 GB.
        """
        self.check(network, options)
        return Artifact(self.name, {self.main_file(options): _model(network, options)})

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
        return ENGINES.get(read_properties(model).get("tflite_target", "any"), ENGINES["any"])

    def instrument(self, model: bytes) -> bytes:
        """Add `layerN/activation [batch, n]` of every layer but the last as an output.

        Activations of a multilayer perceptron; spike counts over the steps that the graph holds.
        """
        loaded = parse(model)
        show_activations(loaded, read_properties(model))
        return serialize(loaded)


def _has_sparse_weights(network: Network) -> bool:
    return any(isinstance(leaf, Sparse) for layer in network.layers for leaf in leaves(layer.weight))


def _model(network: Network, options: TfliteOptions) -> bytes:
    graph = Graph(options)
    rows = options.batch_size
    size: tuple[int, ...] = (network.n_in,)
    if network.input_coding == "spikes" and options.snn != "step":
        size = (network.timesteps, network.n_in)
    properties = describe(network, options.snn)
    if options.tflite_target != "any":
        properties["tflite_target"] = options.tflite_target
    x = _input(graph, network, rows, size, is_int8=options.int8_io)
    signature, inputs, outputs = "serving_default", {"input": "input"}, dict[str, str]()
    if network.is_spiking and options.snn == "step":
        signature = "step"
        inputs, outputs = step(graph, network, x)
    else:
        y = (unrolled if network.is_spiking else perceptron)(graph, network, x)
        outputs["output"] = _output(graph, y, network, is_int8=options.int8_io).name
    return graph.finish(
        name=options.name,
        description=f"sen-edge {version('sen-edge')}",
        signature=signature,
        inputs=inputs,
        outputs=outputs,
        properties=properties,
    )


def _input(graph: Graph, network: Network, rows: int | None, size: tuple[int, ...], *, is_int8: bool) -> Signal:
    grid = network.input_grid
    if grid is None or is_int8:
        return graph.declare(Signal("input", rows, grid), *size)
    x = graph.declare(Signal("input", rows), *size)
    return graph.convert(x, Signal("input/int8", rows, grid), *size)


def _output(graph: Graph, y: Signal, network: Network, *, is_int8: bool) -> Signal:
    if y.grid is None or is_int8:
        return y
    return graph.convert(y, Signal("output", y.rows), network.n_out)
