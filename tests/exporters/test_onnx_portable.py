"""Rules of every ONNX graph, that other tools than onnxruntime read."""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, shape_inference

from sen_edge.passes.quantize import to_float16, to_int8_weights
from sen_exporters.base import ExportError
from sen_exporters.onnx.exporter import OnnxExporter
from sen_runtime import reference
from sen_runtime.engines.onnxruntime import load
from sen_runtime.ir.codings import CODINGS
from sen_runtime.ir.delays import ConstantDelay, StoredDelay
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import READOUTS, Network
from sen_runtime.ir.neurons import RESETS, LeakyIntegrator, Lif, RefractoryLif
from sen_runtime.ir.operators import Dense
from sen_runtime.ir.standardization import Standardization
from tests.support.networks import KINDS, random_network

EXPORTER = OnnxExporter()

#: Each is in all tools of docs/reference/consumers.md that have the data types of a form; GatherElements, for delays
#: alone, is in ReferenceEvaluator, OpenVINO and tract.
OPERATORS = {
    *("Add", "Div", "Floor", "HardSigmoid", "MatMul", "Max", "Mul", "ReduceSum", "Relu", "Sigmoid", "Softmax", "Sqrt"),
    *(
        "Cast",
        "Concat",
        "ConstantOfShape",
        "Gather",
        "GatherElements",
        "Identity",
        "Reshape",
        "Scan",
        "ScatterND",
        "Shape",
        "Slice",
    ),
    *("Split", "Sub", "Transpose"),
}
#: float16 and int8 are types of stored weights alone, int32 of stored indices.
VALUE_TYPES = {TensorProto.FLOAT, TensorProto.INT64}
STORED_TYPES = VALUE_TYPES | {TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT32}


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and the bodies in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def shapes(graph: GraphProto) -> dict[str, tuple[int, list[int | str]]]:
    """Type and shape of each value that has one; a dimension is a number, a name, or "" if it is unknown."""
    found = {array.name: (array.data_type, list(array.dims)) for array in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim]
        found[value.name] = (tensor.elem_type, dims)
    return found


def check_node(node: NodeProto, values: Mapping[str, tuple[int, list[int | str]]], is_fixed: bool) -> None:
    """Check an operator, its operands and its results."""
    assert node.op_type in OPERATORS, node.op_type
    assert set(node.input) <= set(values), f"{node.name} reads {set(node.input) - set(values)} from outside"
    if node.op_type == "MatMul":
        assert all(len(values[name][1]) >= 2 for name in node.input), node.name
    if node.op_type == "Cast":
        assert values[node.input[0]][0] in STORED_TYPES - VALUE_TYPES
    for name in node.output:
        kind, dims = values[name]
        assert kind in VALUE_TYPES, f"{name} has type {kind}"
        assert all(isinstance(dim, int) or (dim == "batch" and not is_fixed) for dim in dims), f"{name} {dims}"


def check_rules(content: bytes, batch_size: int | None) -> None:
    """Check the rules in a model and in all bodies."""
    model: ModelProto = onnx.load_from_string(content)
    assert (model.ir_version, [(each.domain, each.version) for each in model.opset_import]) == (7, [("", 13)])
    if batch_size is None:
        assert not any(graph.value_info for graph in graphs(model.graph))
        model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    for graph in graphs(model.graph):
        values = shapes(graph)
        assert {array.data_type for array in graph.initializer} <= STORED_TYPES
        for node in graph.node:
            check_node(node, values, batch_size is not None)


STORAGE = {"float32": lambda network: network, "float16": to_float16, "int8": to_int8_weights}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    storage=st.sampled_from(list(STORAGE)),
    snn=st.sampled_from([None, "unrolled", "scan", "step"]),
    readout=st.sampled_from(READOUTS),
    reset=st.sampled_from(RESETS),
    delay=st.booleans(),
    coding=st.sampled_from(["direct", "spikes"]),
    sparse_format=st.sampled_from(["densify", "dense"]),
    batch_size=st.sampled_from([None, 1, 3]),
)
def test_every_form_keeps_the_rules(seed, kind, storage, snn, readout, reset, delay, coding, sparse_format, batch_size):
    if kind == "coordinates" and storage == "int8":
        storage = "float16"
    spiking = {} if snn is None else {"spiking": True, "readout": readout, "reset": reset, "reset_delay": delay}
    rng = np.random.default_rng(seed)
    network = STORAGE[storage](random_network(rng, kinds=(kind,), input_coding=coding, **spiking))
    options = {"snn": snn or "unrolled", "sparse_format": sparse_format, "batch_size": batch_size}
    check_rules(EXPORTER.export(network, EXPORTER.Options(**options)).main, batch_size)


def vector(rng, n):
    return rng.uniform(0.5, 0.9, n).astype(np.float32)


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("coding", list(CODINGS))
@pytest.mark.parametrize("snn", ["unrolled", "scan", "step"])
def test_codings_and_parameters_of_each_neuron_keep_the_rules(snn, coding, reset, batch_size):
    rng = np.random.default_rng(0)
    n_in = 8 if coding == "delta" else 4
    hidden = Layer(
        Dense(rng.normal(size=(5, n_in)).astype(np.float32)), vector(rng, 5), Lif(vector(rng, 5), vector(rng, 5), reset)
    )
    readout = Layer(Dense(rng.normal(size=(3, 5)).astype(np.float32)), None, LeakyIntegrator(vector(rng, 3)))
    network = Network((hidden, readout), 4, coding, **({"delta": 0.1} if coding == "delta" else {}))
    check_rules(EXPORTER.export(network, EXPORTER.Options(snn=snn, batch_size=batch_size)).main, batch_size)


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("coding", list(CODINGS))
@pytest.mark.parametrize("snn", ["unrolled", "scan", "step"])
def test_delays_and_recurrent_synapses_keep_the_rules(snn, coding, batch_size):
    rng = np.random.default_rng(0)
    n_in = 8 if coding == "delta" else 4
    for delay, readout_delay in ((ConstantDelay(2), stored(rng, 3, 5)), (stored(rng, 5, n_in, 300), ConstantDelay(1))):
        hidden = Layer(
            Dense(rng.normal(size=(5, n_in)).astype(np.float32)),
            vector(rng, 5),
            RefractoryLif(0.5, vector(rng, 5)),
            delay=delay,
            recurrent=Recurrence(Dense(rng.normal(size=(5, 5)).astype(np.float32)), stored(rng, 5, 5)),
            synapse=0.5,
        )
        weight = Dense(rng.normal(size=(3, 5)).astype(np.float32))
        readout = Layer(weight, None, LeakyIntegrator(0.5), delay=readout_delay)
        network = Network((hidden, readout), 4, coding, **({"delta": 0.1} if coding == "delta" else {}))
        for kept in (network, to_float16(network)):
            check_rules(EXPORTER.export(kept, EXPORTER.Options(snn=snn, batch_size=batch_size)).main, batch_size)


def stored(rng, n_out, n_in, longest=5):
    return StoredDelay(rng.integers(1, longest + 1, (n_out, n_in)).astype(np.uint16))


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_standardization_and_probabilities_keep_the_rules(activation, batch_size):
    rng = np.random.default_rng(0)
    plain = random_network(rng, kinds=("dense",), sizes=(4, 5, 3))
    scaling = Standardization(vector(rng, 4), vector(rng, 4))
    metadata = {"task": "multilabel"} if activation == "sigmoid" else {}
    network = Network(plain.layers, input_scaling=scaling, output_activation=activation, metadata=metadata)
    check_rules(EXPORTER.export(network, EXPORTER.Options(batch_size=batch_size)).main, batch_size)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(threshold=st.floats(2.0**-100, 2.0**100, width=32), steps=st.integers(-3, 3), scale=st.floats(-4, 4, width=32))
def test_a_spike_is_exact_next_to_every_threshold(threshold, steps, scale):
    """The membrane is the input: near the threshold, and of any size."""
    near = np.float32(threshold)
    for _ in range(abs(steps)):
        near = np.nextafter(near, np.float32(np.inf * np.sign(steps)))
    x = np.array([[near, np.float32(scale) * near, np.float32(3e38), np.float32(-3e38), 0]], np.float32)
    layer = Layer(Dense(np.eye(5, dtype=np.float32)), None, Lif(0.0, float(np.float32(threshold))))
    network = Network((layer,), 1, "current", "spike_count")
    model = EXPORTER.export(network, EXPORTER.Options()).main
    np.testing.assert_array_equal(load(model).run(x[:, None]), x > np.float32(threshold))
    np.testing.assert_array_equal(reference.run(network, x[:, None]), x > np.float32(threshold))


def test_thresholds_that_no_product_compares_with_are_refused():
    layer = Layer(Dense(np.eye(2, dtype=np.float32)), None, Lif(0.9, 1e-35))
    with pytest.raises(ExportError, match=r"layer 0.*threshold.*1e-35") as raised:
        EXPORTER.check(Network((layer,), 2, "direct", "spike_count"), EXPORTER.Options())
    assert "scale" in raised.value.hint
    layer = Layer(Dense(np.ones((2, 4), np.float32)), None, Lif(0.9, 1.0))
    with pytest.raises(ExportError, match=r"delta.*1e-35"):
        EXPORTER.check(Network((layer,), 2, "delta", "spike_count", delta=1e-35), EXPORTER.Options())
