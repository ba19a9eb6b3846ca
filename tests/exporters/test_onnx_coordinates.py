"""Coordinates in ONNX files: weights computed in the graph, folded by onnxruntime at load."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sen_exporters.base import ExportError
from sen_exporters.onnx.coordinates import UNIT, WEIGHT_ERROR, rounding_errors
from sen_runtime import memory_limits
from sen_runtime.errors import NetworkError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Coordinates
from sen_runtime.memory_limits import MemoryLimitError
from tests.exporters.test_onnx import export, graph_of, names, optimized


def spatial(rng, sizes, d, dtype=np.float32, shift=0.0, **fields):
    """A perceptron of coordinates, neighbouring layers sharing positions."""
    positions = [rng.normal(size=(n, d)) for n in sizes]
    for index, position in enumerate(positions):
        position[:, -1] = index
    positions = [(position + shift).astype(dtype) for position in positions]
    layers = []
    for source, goal in pairwise(positions):
        mask = rng.uniform(-1, 1, len(source)).astype(dtype)
        layers.append(Layer(Coordinates(source, goal, mask, **fields), np.zeros(len(goal), dtype), Relu()))
    layers[-1] = replace(layers[-1], neuron=Identity())
    return Network(tuple(layers))


def single(source, goal, **fields):
    """A network of one layer."""
    source, goal = (np.asarray(each, np.float32).reshape(len(each), -1) for each in (source, goal))
    return Network((Layer(Coordinates(source, goal, np.ones(len(source), np.float32), **fields), None, Identity()),))


def folded(model, tmp_path):
    """Weights `[n_out, n_in]` of each layer, as onnxruntime has them after load."""
    graph = optimized(model, tmp_path)
    assert {node.op_type for node in graph.node} <= {"FusedGemm", "Gemm", "MatMul", "Relu"}
    arrays = {array.name: numpy_helper.to_array(array) for array in graph.initializer}
    return [arrays[node.input[1]].T for node in graph.node if node.op_type != "Relu"]


def assert_folded(model, network, tmp_path):
    """onnxruntime folds every weight into an array, within the bound of rounding of the plain reference."""
    weights = folded(model, tmp_path)
    for weight, layer in zip(weights, network.layers, strict=True):
        assert weight.dtype == np.float32
        _, error = rounding_errors(layer.weight)
        np.testing.assert_allclose(weight, layer.weight.to_dense(), rtol=error + UNIT, atol=0)


def test_a_mnist_network_of_coordinates_is_small_and_folds_at_load(tmp_path):
    network = spatial(np.random.default_rng(0), (784, 512, 10), 3, gain=0.05)
    model = export(network)
    assert len(model) < 40_000
    assert_folded(model, network, tmp_path)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 3.7, 6.0])
@pytest.mark.parametrize("min_distance", [0.0, 1.25])
@pytest.mark.parametrize("d", [1, 4])
def test_coordinates_fold_to_the_plain_weights(d, min_distance, exponent, dtype, tmp_path):
    network = spatial(np.random.default_rng(d), (30, 20, 9), d, dtype, exponent=exponent, min_distance=min_distance)
    assert_folded(export(network), network, tmp_path)


@pytest.mark.parametrize("shift", [100.0, -3000.0])
def test_a_shift_of_all_positions_costs_no_digits(shift, tmp_path):
    network = spatial(np.random.default_rng(1), (30, 20, 9), 3, shift=shift)
    assert_folded(export(network), network, tmp_path)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.7])
@pytest.mark.parametrize("limits", [(0.0, 2.0), (1.25, 2.0), (2.5, 2.51)], ids=str)
def test_synapses_beyond_max_distance_fold_to_zeros(limits, exponent, opset, tmp_path):
    fields = {"min_distance": limits[0], "max_distance": limits[1], "exponent": exponent}
    network = spatial(np.random.default_rng(2), (30, 20, 9), 4, **fields)
    model = export(network, opset=opset)
    assert_folded(model, network, tmp_path)
    for weight, layer in zip(folded(model, tmp_path), network.layers, strict=True):
        np.testing.assert_array_equal(weight == 0, layer.weight.to_dense() == 0)
        assert 0 < np.mean(weight == 0) < 1


def test_only_a_max_distance_that_leaves_synapses_out_is_in_the_graph():
    for limit, is_there in ((np.inf, False), (100.0, False), (2.0, True)):
        found = names(graph_of(export(spatial(np.random.default_rng(2), (30, 20, 9), 4, max_distance=limit))))
        assert ("layer0/is_within_max_distance" in found) == is_there


def test_rounding_decides_about_no_synapse(tmp_path):
    """Some pairs are exactly max_distance apart, some more by a step of one coordinate; all far from the origin."""
    rng = np.random.default_rng(0)
    source = rng.integers(-320, 320, (60, 3)) / 32 + 100
    goal = source.copy()
    goal[:, 0] += 7
    goal[30:, 2] += 1 / 32
    clear = single(source, goal, max_distance=7)
    weight = folded(export(clear), tmp_path)[0]
    np.testing.assert_array_equal(weight == 0, ((goal[:, None] - source) ** 2).sum(-1) > 49)
    goal[30:, 2] += 2.0**-16 - 1 / 32
    with pytest.raises(ExportError, match=r"layer 0.*max_distance \(7\)") as raised:
        export(single(source, goal, max_distance=7))
    assert "--weights" in raised.value.hint


def test_shared_positions_are_stored_once():
    graph = graph_of(export(spatial(np.random.default_rng(0), (30, 20, 10, 5), 3)))
    stored = [array.name for array in graph.initializer if array.data_type == onnx.TensorProto.FLOAT]
    assert [name for name in stored if "positions" in name] == [
        *("layer0/source_positions", "layer0/target_positions", "layer1/target_positions", "layer2/target_positions"),
    ]


@pytest.mark.parametrize("min_distance", [0.0, 1e-4])
def test_near_neurons_are_as_accurate_as_others(min_distance, tmp_path):
    network = spatial(np.random.default_rng(1), (30, 20, 10), 3, min_distance=min_distance)
    first = network.layers[0].weight
    source = first.source.copy()
    source[4] = first.target[7]
    source[4, 0] = np.nextafter(source[4, 0], np.float32(9))
    first = replace(network.layers[0], weight=replace(first, source=source))
    near = replace(network, layers=(first, network.layers[1]))
    assert_folded(export(near), near, tmp_path)


def test_the_error_bound_holds_and_is_checked():
    rng = np.random.default_rng(0)
    accurate = spatial(rng, (300, 200), 32, exponent=6.0).layers[0].weight
    source, goal = accurate.source, accurate.target
    squared = np.zeros((len(goal), len(source)), np.float32)
    for k in range(32):
        squared += (goal[:, k, None] - source[:, k]) ** 2
    weights = accurate.mask / (squared * squared * squared)
    _, bound = rounding_errors(accurate)
    error = np.max(np.abs(weights / accurate.to_dense().astype(np.float64) - 1))
    assert bound / 20 < error < bound < WEIGHT_ERROR
    with pytest.raises(ExportError, match=r"layer 0.*\b1e-05") as raised:
        export(spatial(rng, (3, 2), 500, exponent=16.0))
    assert "--weights" in raised.value.hint


def test_neurons_at_one_point_are_named():
    network = spatial(np.random.default_rng(1), (5, 4, 3), 2)
    last = network.layers[1].weight
    goal = last.target.copy()
    goal[2] = last.source[3]
    broken = replace(network, layers=(network.layers[0], replace(network.layers[1], weight=replace(last, target=goal))))
    with pytest.raises(NetworkError, match=r"layer 1.*neuron 3.*neuron 2") as raised:
        export(broken)
    assert "min_distance" in raised.value.hint
    floored = replace(last, target=goal, min_distance=0.1)
    export(replace(network, layers=(network.layers[0], replace(network.layers[1], weight=floored))))


@pytest.mark.parametrize(
    ("fields", "error"),
    [({"exponent": 2}, NetworkError), ({"exponent": 2, "gain": 1e-30}, ExportError)],
    ids=["weight", "distance"],
)
def test_numbers_beyond_float32_are_refused(fields, error):
    with pytest.raises(error, match=r"layer 0.*float32"):
        export(single([0], [1e-30], **fields))


def test_a_layer_that_takes_gigabytes_at_load_is_refused():
    points = np.zeros((8192, 3), np.float32)
    with pytest.raises(ExportError, match=r"layer 0.*2\.4 GB.*2\.1"):
        export(single(points, points + np.float32(1)))


def test_memory_at_load_is_compared_with_that_of_the_machine(monkeypatch):
    monkeypatch.setattr(memory_limits, "available", lambda: 100_000_000)
    source = np.arange(2000)[:, None] * np.ones((1, 3))
    export(single(source, source[:10] + 0.5))
    with pytest.raises(MemoryLimitError, match="2000 x 2000"):
        export(single(source, source + 0.5))
