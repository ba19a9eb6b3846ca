"""The three ONNX forms of spiking networks, through onnxruntime."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_exporters.onnx.graph import MAX_OPSET, MIN_OPSET
from sen_runtime import reference
from sen_runtime.engines.onnxruntime import load
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import READOUTS, Network
from sen_runtime.ir.neurons import RESETS, LeakyIntegrator, Lif
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum
from tests.exporters.test_onnx import EXPORTER, KINDS, assert_close, export, graph_of, make_operator, names, optimized

FORMS = ("unrolled", "scan", "step")
EXACT_KINDS = ("dense", "float16", "sparse", "low_rank", "sum")


def exact_operator(rng, n_out, n_in, kind):
    """Multiples of 2^-6 below 1/2, or products of such: float32 sums of them are exact."""
    w = (rng.integers(-31, 32, (n_out, n_in)) / 64).astype(np.float32)
    if kind == "dense":
        return Dense(w)
    if kind == "float16":
        return Dense(w.astype(np.float16))
    if kind == "sparse":
        return Sparse.from_dense(np.where(rng.random(w.shape) < 0.4, w, np.float32(0)))
    if kind == "low_rank":
        left, right = rng.integers(-3, 4, (n_out, 2)) / 4, rng.integers(-3, 4, (2, n_in)) / 8
        return LowRank(left.astype(np.float32), right.astype(np.float32))
    return Sum(exact_operator(rng, n_out, n_in, "low_rank"), exact_operator(rng, n_out, n_in, "sparse"))


def make_snn(operators, biases, timesteps, *, coding, readout, reset="subtract", delay=True, beta=0.5, threshold=1.0):
    neuron = Lif(beta, threshold, reset, delay)
    layers = [Layer(weight, bias, neuron) for weight, bias in zip(operators, biases, strict=True)]
    if readout != "spike_count":
        layers[-1] = replace(layers[-1], neuron=LeakyIntegrator(beta))
    return Network(tuple(layers), timesteps, coding, readout)


def plain_snn(rng, sizes, timesteps, kinds=None, coding="direct", readout="mean_membrane", **fields):
    """Ordinary floats, weights large enough for some neurons to spike."""
    kinds = kinds or ["dense"] * (len(sizes) - 1)
    operators = [make_operator(rng, o, i, kind) for (i, o), kind in zip(pairwise(sizes), kinds, strict=True)]
    biases = [rng.normal(0.3, 0.3, n).astype(np.float32) for n in sizes[1:]]
    return make_snn(operators, biases, timesteps, coding=coding, readout=readout, **fields)


def make_input(rng, network, batch):
    """Multiples of 1/16 in [0, 2], or spikes."""
    if network.input_coding == "spikes":
        return (rng.random((batch, network.timesteps, network.n_in)) < 0.5).astype(np.float32)
    return (rng.integers(0, 33, (batch, network.n_in)) / 16).astype(np.float32)


def assert_layers(model, network, x):
    """Spike counts of every hidden layer are equal; the readout is the reference's but for rounding."""
    expected = reference.trace(network, x)
    assert_close(load(model).run(x), expected[-1])
    outputs = load(EXPORTER.instrument(model)).run_all(x)
    assert list(outputs) == ["output", *(f"layer{i}/activation" for i in range(len(network.layers) - 1))]
    for index, counts in enumerate(expected[:-1]):
        np.testing.assert_array_equal(outputs[f"layer{index}/activation"], counts)
    if network.readout == "spike_count":
        np.testing.assert_array_equal(outputs["output"], expected[-1])
    else:
        assert_close(outputs["output"], expected[-1])


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=4),
    data=st.data(),
    timesteps=st.integers(1, 6),
    coding=st.sampled_from(["direct", "spikes"]),
    readout=st.sampled_from(READOUTS),
    reset=st.sampled_from(RESETS),
    delay=st.booleans(),
    beta=st.sampled_from([0.0, 0.5, 1.0]),
    threshold=st.sampled_from([1.0, 0.75]),
    batch_size=st.sampled_from([None, 3]),
    opset=st.sampled_from([MIN_OPSET, 17, 18, MAX_OPSET]),
)
def test_exact_networks_spike_exactly(
    form, seed, sizes, data, timesteps, coding, readout, reset, delay, beta, threshold, batch_size, opset
):
    rng = np.random.default_rng(seed)
    n_layers = len(sizes) - 1
    kinds = data.draw(st.lists(st.sampled_from(EXACT_KINDS), min_size=n_layers, max_size=n_layers))
    with_bias = data.draw(st.booleans())
    operators = [exact_operator(rng, o, i, kind) for (i, o), kind in zip(pairwise(sizes), kinds, strict=True)]
    biases = [(rng.integers(0, 33, n) / 64).astype(np.float32) if with_bias else None for n in sizes[1:]]
    neurons = {"reset": reset, "delay": delay, "beta": beta, "threshold": threshold}
    network = make_snn(operators, biases, timesteps, coding=coding, readout=readout, **neurons)
    model = export(network, snn=form, batch_size=batch_size, opset=opset)
    assert_layers(model, network, make_input(rng, network, 3))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("coding", ["direct", "spikes"])
def test_ordinary_networks_spike_alike(coding, kind, form):
    rng = np.random.default_rng(7)
    network = plain_snn(rng, (20, 16, 12, 5), 8, [kind] * 3, coding, beta=0.9, threshold=0.8)
    x = make_input(rng, network, 16)
    outputs = load(EXPORTER.instrument(export(network, snn=form))).run_all(x)
    expected = reference.trace(network, x, np.float32)
    for index, counts in enumerate(expected[:-1]):
        assert 0 < counts.mean() < network.timesteps
        assert np.mean(outputs[f"layer{index}/activation"] == counts) > 0.99
    difference = np.abs(outputs["output"] - expected[-1]).max(axis=1)
    assert np.mean(difference < 1e-5 * expected[-1].std()) > 0.9


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("opset", range(MIN_OPSET, MAX_OPSET + 1))
def test_every_operator_set_loads_and_agrees(opset, form):
    rng = np.random.default_rng(opset)
    operators = [exact_operator(rng, o, i, "sum") for i, o in ((5, 6), (6, 4), (4, 3))]
    biases = [np.full(n, 0.25, np.float32) for n in (6, 4, 3)]
    network = make_snn(operators, biases, 4, coding="spikes", readout="mean_membrane", reset="zero")
    assert_layers(export(network, snn=form, opset=opset), network, make_input(rng, network, 3))


def body_of(graph):
    node = next(node for node in graph.node if node.op_type == "Scan")
    return next(attribute.g for attribute in node.attribute if attribute.name == "body")


def test_names_metadata_and_border():
    network = plain_snn(np.random.default_rng(0), (5, 4, 3, 2), 3, readout="last_membrane")
    graphs = {form: graph_of(export(network, snn=form)) for form in FORMS}
    for t in range(3):
        wanted = {f"layer{i}/t{t}/{kind}" for i in (0, 1) for kind in ("membrane", "spikes")[t == 0 :]}
        assert names(graphs["unrolled"]) >= wanted | {f"layer1/t{t}/current", "layer0/current"}
    body = body_of(graphs["scan"])
    assert names(body) >= {f"layer{i}/{kind}" for i in (0, 1) for kind in ("membrane", "spikes")}
    step = graphs["step"]
    assert [value.name for value in step.input] == ["input", *(f"layer{i}/membrane" for i in range(3))]
    assert [value.name for value in step.output] == ["output", *(f"layer{i}/membrane_next" for i in range(3))]
    for form in FORMS:
        assert EXPORTER.properties(export(network, snn=form)) == {
            "architecture": "5-4-3-2",
            "input_coding": "direct",
            "readout": "last_membrane",
            "snn": form,
            "timesteps": "3",
        }


def test_weights_are_stored_once_and_a_constant_input_is_multiplied_once():
    network = plain_snn(np.random.default_rng(0), (5, 4, 3, 2), 9)
    unrolled, scan = (graph_of(export(network, snn=form)) for form in ("unrolled", "scan"))
    weights = [f"layer{i}/weight" for i in range(3)]
    for graph, multiplied in ((unrolled, weights), (scan, weights[::2]), (body_of(scan), weights[1:2])):
        found = [node.input[1] for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights]
        assert found == multiplied


@pytest.mark.parametrize("coding", ["direct", "spikes"])
@pytest.mark.parametrize(("n_layers", "readout"), [(1, "spike_count"), *((2, readout) for readout in READOUTS)])
def test_a_scan_grows_with_time_by_a_number_or_two_per_step(n_layers, readout, coding):
    sizes = (6, 5, 4)[: n_layers + 1]
    lengths = [
        len(export(plain_snn(np.random.default_rng(0), sizes, steps, None, coding, readout), snn="scan"))
        for steps in (10, 1000)
    ]
    growth = 20 * len("1000")  # the number T itself, in shapes and the metadata
    stored = (readout != "spike_count") + (coding == "direct")
    assert 0 <= lengths[1] - lengths[0] - 4 * 990 * stored <= growth


def test_a_thousand_unrolled_steps():
    rng = np.random.default_rng(0)
    network = plain_snn(rng, (6, 5, 4), 1000, beta=0.9)
    model = export(network)
    x = make_input(rng, network, 2)
    assert_close(load(model).run(x), reference.run(network, x, np.float32))


@pytest.mark.parametrize("delay", [True, False])
@pytest.mark.parametrize("reset", RESETS)
def test_a_step_carries_the_membranes_in_and_out(reset, delay):
    rng = np.random.default_rng(0)
    network = plain_snn(rng, (6, 5, 4, 3), 5, beta=0.9, reset=reset, delay=delay)
    session = load(export(network, snn="step")).session
    x = make_input(rng, network, 2)
    states = reference.initial_state(network, 2, np.float32)
    state = {f"layer{i}/membrane": each.membrane for i, each in enumerate(states)}
    for _ in range(5):
        output, *after = session.run(None, {"input": x, **state})
        states, _ = reference.step(network, states, x)
        for expected, actual in zip(states, after, strict=True):
            assert_close(actual, expected.membrane)
        np.testing.assert_array_equal(output, after[-1])
        state = dict(zip(state, after, strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_coordinates_fold_at_load(form, tmp_path):
    rng = np.random.default_rng(3)
    network = plain_snn(rng, (20, 16, 12, 5), 4, ["coordinates"] * 3, beta=0.9)
    assert all(isinstance(layer.weight, Coordinates) for layer in network.layers)
    graph = optimized(export(network, snn=form), tmp_path)
    for each in (graph, *([body_of(graph)] if form == "scan" else ())):
        assert not {node.op_type for node in each.node} & {"Sqrt", "Div"}


@pytest.mark.parametrize("form", FORMS)
def test_bytes_are_the_same_and_valid_after_instrument(form):
    network = plain_snn(np.random.default_rng(0), (6, 5, 4), 3, coding="spikes")
    model = export(network, snn=form)
    assert model == export(network, snn=form)
    shown = EXPORTER.instrument(model)
    assert shown == EXPORTER.instrument(model)
    onnx.checker.check_model(onnx.load_from_string(shown), full_check=True)
