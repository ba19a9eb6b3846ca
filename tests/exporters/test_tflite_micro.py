"""Files for TFLite Micro and NPUs: content, refusals, and the same numbers in every interpreter that is installed."""

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from sen_edge.errors import DataError
from sen_edge.passes.equalize import equalize
from sen_edge.passes.quantize import to_int8
from sen_exporters.base import ExportError
from sen_exporters.tflite.schema import parse, serialize, set_properties
from sen_runtime import engines, reference
from sen_runtime.engines import tflite_micro
from sen_runtime.errors import EngineError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, output_grid
from sen_runtime.ir.neurons import LeakyIntegrator, Lif
from sen_runtime.ir.operators import Dense
from tests.exporters.test_tflite import BLOCK, BLOCKS, EXPORTER, blocks, dense, export, network, operators, quantized
from tests.support.networks import random_input, random_network

MICRO = {"tflite_target": "micro"}
KINDS = ("dense", "sparse", "blocks", "low_rank", "sum", "nested_sum")
INSTALLED = engines.installed(["litert", "tflite-runtime", "tflite-micro"])


def micro(net, seed=1):
    """int8 with one scale per matrix."""
    return to_int8(equalize(net), random_input(np.random.default_rng(seed), net, 64), "tensor")


def live_micro(net, seed):
    """As `micro`; rejects an example with a dead layer."""
    try:
        return micro(net, seed)
    except DataError as error:
        assert "layer " in error.message
        reject()


NET = micro(network(dense(5, 4), dense(3, 5)))
SPIKING = micro(random_network(np.random.default_rng(0), spiking=True, kinds=("dense",), sizes=(6, 5, 3)))


def tensors(model):
    graph = parse(model).subgraphs[0]
    return {tensor.name.decode(): tensor for tensor in graph.tensors}


@pytest.mark.parametrize("net", [NET, SPIKING], ids=["perceptron", "spiking"])
def test_border_is_int8_of_one_row_with_the_usual_names(net):
    model = export(net, **MICRO)
    found, graph = tensors(model), parse(model).subgraphs[0]
    for name, (index,) in (("input", graph.inputs), ("output", graph.outputs)):
        tensor = graph.tensors[index]
        assert (tensor.name.decode(), tensor.type, tensor.shape[0]) == (name, 9, 1)
        assert tensor.shapeSignature is None
    assert {tensor.type for tensor in found.values()} <= {2, 9}  # int32 of biases, int8
    weights = [tensor for name, tensor in found.items() if name.endswith("/weight")]
    assert [len(tensor.quantization.scale) for tensor in weights] == [1] * len(net.layers)
    assert EXPORTER.properties(model)["tflite_target"] == "micro"
    assert EXPORTER.engines(model) == ("tflite-micro", "litert", "tflite-runtime")


def test_a_perceptron_is_its_products():
    assert operators(export(NET, **MICRO)) == [("FULLY_CONNECTED", 4)] * 2


@pytest.mark.parametrize("readout", ["mean_membrane", "spike_count"])
@pytest.mark.parametrize("spiking", [True, False])
def test_int8_io_keeps_the_names_of_input_and_output(spiking, readout):
    net = random_network(np.random.default_rng(0), spiking=spiking, kinds=("dense",), sizes=(6, 5, 3), readout=readout)
    for int8_io in (True, False):
        graph = parse(export(quantized(net, "int8"), int8_io=int8_io)).subgraphs[0]
        names = [graph.tensors[index].name for index in (*graph.inputs, *graph.outputs)]
        assert names == [b"input", b"output"]


def test_blocks_are_for_named_interpreters():
    model = export(BLOCKS, **BLOCK)
    assert EXPORTER.properties(model)["tflite_target"] == "litert, tflite-runtime"
    assert EXPORTER.engines(model) == ("litert", "tflite-runtime")
    named = export(BLOCKS, **BLOCK, tflite_target="litert")
    assert EXPORTER.properties(named)["tflite_target"] == "litert"


REFUSED = {
    "float": (network(dense(2, 4)), {}, "int8", "--calibration"),
    "int8 weights": (quantized(network(dense(2, 4)), "int8-dynamic"), {}, "int8", "--dtype int8"),
    "per row": (quantized(network(dense(2, 4)), "int8"), {}, "one scale per matrix", "source"),
    "batch": (NET, {"batch_size": 4}, r"\b4\b", "--batch-size"),
    "blocks": (micro(network(blocks(5, 8))), BLOCK, "block", "--sparse-format"),
}


@pytest.mark.parametrize(("net", "options", "message", "hint"), REFUSED.values(), ids=REFUSED)
def test_what_tflite_micro_computes_wrongly_is_refused(net, options, message, hint):
    for call in (EXPORTER.check, EXPORTER.export):
        with pytest.raises(ExportError, match=message) as raised:
            call(net, EXPORTER.Options(**MICRO, **options))
        assert hint in raised.value.hint


@given(
    seed=st.integers(0, 2**32 - 1),
    spiking=st.booleans(),
    readout=st.sampled_from(["mean_membrane", "last_membrane", "spike_count"]),
    reset=st.sampled_from(["subtract", "zero"]),
    input_coding=st.sampled_from(["direct", "spikes"]),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_every_interpreter_computes_the_reference(seed, spiking, readout, reset, input_coding):
    rng = np.random.default_rng(seed)
    options = {"readout": readout, "reset": reset, "input_coding": input_coding} if spiking else {}
    net = random_network(rng, spiking=spiking, kinds=KINDS, **options)
    net = live_micro(net, seed)
    x, model = random_input(rng, net, 12), export(net, **MICRO)
    expected, step = reference.run(net, x, np.float32), output_grid(net).scale
    # rounding in another direction moves spikes, of a constant input in every step
    share = (0.4 if input_coding == "direct" else 1 / len(x)) if spiking else 0
    for name in INSTALLED:
        session = engines.engine(name).load(model)
        assert session.batch_size == 1
        steps = np.abs(np.concatenate([session.run(x[i : i + 1]) for i in range(len(x))]) - expected) / step
        assert np.mean(steps.max(axis=1) > 3.01) <= share


@given(
    seed=st.integers(0, 2**32 - 1),
    readout=st.sampled_from(["mean_membrane", "last_membrane", "spike_count"]),
    reset=st.sampled_from(["subtract", "zero"]),
    input_coding=st.sampled_from(["direct", "spikes"]),
    timesteps=st.integers(1, 40),
    target=st.sampled_from(["litert", "micro"]),
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_int8_step_models_do_not_drift(seed, readout, reset, input_coding, timesteps, target):
    rng = np.random.default_rng(seed)
    options = {"readout": readout, "reset": reset, "input_coding": input_coding, "timesteps": timesteps}
    net = random_network(rng, spiking=True, kinds=KINDS, **options)
    net = live_micro(net, seed)
    x, model = random_input(rng, net, 6), export(net, snn="step", tflite_target=target)
    expected, grid = reference.run(net, x, np.float32), output_grid(net)
    spikes = reference.trace(net, x, np.float32)[:-1]
    for name in set(EXPORTER.engines(model)) & set(INSTALLED):
        session = engines.engine(name).load(EXPORTER.instrument(model))
        outputs = [session.run_all(x[i : i + 1]) for i in range(len(x))]
        is_same = np.ones(len(x), bool)  # hidden layers give the spikes of the unrolled form but for rounding
        for index, counts in enumerate(spikes):
            found = np.concatenate([each[f"layer{index}/activation"] for each in outputs])
            is_same &= (found == counts).all(axis=1)
        error = np.abs(np.concatenate([each["output"] for each in outputs]) - expected).max(axis=1)
        wide_step = grid.widen(4 * timesteps).scale if readout == "mean_membrane" else grid.widen(4).scale
        # the reference rounds sums of spikes to steps of 1/255 of their range, and so does the output
        assert np.all(error[is_same] <= 6 * grid.scale + timesteps * wide_step)


def test_a_step_model_has_int8_membranes_and_an_int16_readout():
    model = export(SPIKING, snn="step", **MICRO)
    graph, (signature,) = parse(model).subgraphs[0], parse(model).signatureDefs
    inputs = {each.name.decode(): graph.tensors[each.tensorIndex] for each in signature.inputs}
    outputs = {each.name.decode(): graph.tensors[each.tensorIndex] for each in signature.outputs}
    types = {"input": 9, "layer0/membrane": 9, "layer1/membrane": 7}  # int8, int16
    assert {name: tensor.type for name, tensor in inputs.items()} == types
    assert [outputs[name].type for name in ("output", "layer0/membrane_next", "layer1/membrane_next")] == [7, 9, 7]
    for name in ("layer0/membrane", "layer1/membrane"):
        before, after = inputs[name].quantization, outputs[f"{name}_next"].quantization
        assert (before.scale, before.zeroPoint) == (after.scale, after.zeroPoint)
    assert EXPORTER.engines(model) == ("tflite-micro", "litert")


def test_a_membrane_without_memory_runs_in_every_interpreter():
    hidden = Layer(Dense(np.eye(3, dtype=np.float32)), None, Lif(0.0, 0.5, "zero"))
    readout = Layer(Dense(np.diag(np.float32([1, 2, 4]))), None, LeakyIntegrator(0.0))
    net = micro(Network((hidden, readout), timesteps=3))
    model, x = export(net, snn="step", **MICRO), np.float32([[1, 1, 0]])
    for name in set(EXPORTER.engines(model)) & set(INSTALLED):
        y = engines.engine(name).load(model).run(x)
        np.testing.assert_allclose(y, [[1, 2, 0]], atol=2 * output_grid(net).scale)


def test_int8_step_models_are_not_for_tflite_runtime():
    for target in ("any", "tflite-runtime"):
        with pytest.raises(ExportError, match=r"step\b.*int8") as raised:
            export(SPIKING, snn="step", tflite_target=target)
        assert "micro" in raised.value.hint
    counting = random_network(
        np.random.default_rng(0), spiking=True, kinds=("dense",), sizes=(6, 5, 3), readout="spike_count"
    )
    model = export(micro(counting), snn="step", tflite_target="any")
    assert EXPORTER.engines(model) == ("litert", "tflite-runtime")


needs_micro = pytest.mark.skipif("tflite-micro" not in INSTALLED, reason="tflite-micro is not installed")


@needs_micro
@pytest.mark.parametrize("net", [NET, SPIKING], ids=["perceptron", "spiking"])
def test_hidden_layers_and_the_bare_call(net):
    x, model = random_input(np.random.default_rng(0), net, 1), export(net, **MICRO)
    session = tflite_micro.load(EXPORTER.instrument(model))
    outputs, expected = session.run_all(x), reference.trace(net, x, np.float32)
    assert set(outputs) == {"output", "layer0/activation"}
    np.testing.assert_allclose(outputs["layer0/activation"], expected[0], atol=0.03 * expected[0].max())
    plain = tflite_micro.load(model)
    stored = plain.bare_call(x)()
    np.testing.assert_array_equal(plain.grids["output"].dequantize(stored), plain.run(x))
    plain.close()


@needs_micro
def test_float32_runs_and_files_for_others_are_refused():
    net = random_network(np.random.default_rng(0), spiking=True, kinds=("dense",), sizes=(6, 5, 3))
    x = random_input(np.random.default_rng(0), net, 1)
    for form in ("unrolled", "step"):
        session = tflite_micro.load(export(net, snn=form))
        np.testing.assert_allclose(session.run(x), reference.run(net, x, np.float32), rtol=1e-5, atol=1e-5)
    for model in (export(BLOCKS, **BLOCK), export(net, tflite_target="litert")):
        with pytest.raises(EngineError, match="litert"):
            tflite_micro.load(model)
    with pytest.raises(EngineError):
        tflite_micro.load(export(quantized(BLOCKS, "float16")))


@needs_micro
@pytest.mark.parametrize("named", ["inputs", "outputs"])
@pytest.mark.parametrize("change", [{"name": "other"}, {"name": None}, {"tensorIndex": 10**6}], ids=str)
def test_files_whose_signature_lacks_a_value_are_refused(named, change):
    model = parse(export(NET, **MICRO))
    for key, value in change.items():
        setattr(getattr(model.signatureDefs[0], named)[0], key, value)
    with pytest.raises(EngineError, match="expected input and output"):
        tflite_micro.load(serialize(model))


@needs_micro
def test_files_without_a_subgraph_are_refused_before_the_interpreter_reads_them():
    model = parse(export(NET, **MICRO))
    model.subgraphs = []
    with pytest.raises(EngineError, match="no signature"):
        tflite_micro.load(serialize(model))


@needs_micro
def test_sparse_files_of_unknown_target_are_refused():
    model = parse(export(BLOCKS, **BLOCK))
    properties = dict(EXPORTER.properties(export(BLOCKS, **BLOCK)))
    del properties["tflite_target"]  # as earlier exports
    set_properties(model, properties)
    with pytest.raises(EngineError, match="sparse"):
        tflite_micro.load(serialize(model))
