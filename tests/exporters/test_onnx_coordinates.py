"""Coordinates in ONNX files: weights computed in the graph, folded by onnxruntime at load."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sen_exporters.onnx.coordinates import DISTANCE_ERROR, expansion_error, squared_bound
from sen_runtime.errors import NetworkError
from sen_runtime.ir.network import Layer, Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Coordinates
from tests.exporters.test_onnx import export, graph_of, names, optimized


def spatial(rng, sizes, d, dtype=np.float32, **fields):
    """A perceptron of coordinates, neighbouring layers sharing positions."""
    positions = [rng.normal(size=(n, d)).astype(dtype) for n in sizes]
    for index, position in enumerate(positions):
        position[:, -1] = index
    layers = []
    for source, goal in pairwise(positions):
        mask = rng.uniform(-1, 1, len(source)).astype(dtype)
        layers.append(Layer(Coordinates(source, goal, mask, **fields), np.zeros(len(goal), dtype), Relu()))
    layers[-1] = replace(layers[-1], neuron=Identity())
    return Network(tuple(layers))


def folded(model, tmp_path):
    """Arrays of the model by name, as onnxruntime has them after load."""
    return {array.name: numpy_helper.to_array(array) for array in optimized(model, tmp_path).initializer}


def assert_folded(model, network, tmp_path):
    """onnxruntime folds every weight into an array, within 2 ulp of the plain reference."""
    graph = optimized(model, tmp_path)
    assert {node.op_type for node in graph.node} <= {"FusedGemm", "Gemm", "Relu"}
    arrays = folded(model, tmp_path)
    for index, layer in enumerate(network.layers):
        weight = arrays[f"layer{index}/weight"]
        assert weight.dtype == np.float32
        np.testing.assert_array_max_ulp(weight, layer.weight.to_dense(), maxulp=2)


def test_a_mnist_network_of_coordinates_is_small_and_folds_at_load(tmp_path):
    network = spatial(np.random.default_rng(0), (784, 512, 10), 3, gain=0.05)
    model = export(network)
    assert len(model) < 40_000
    assert_folded(model, network, tmp_path)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 3.7])
@pytest.mark.parametrize("min_distance", [0.0, 1.25])
@pytest.mark.parametrize("d", [1, 4])
def test_coordinates_fold_to_the_plain_weights(d, min_distance, exponent, dtype, tmp_path):
    network = spatial(np.random.default_rng(d), (30, 20, 9), d, dtype, exponent=exponent, min_distance=min_distance)
    model = export(network)
    assert "layer0/difference" not in names(graph_of(model))
    assert_folded(model, network, tmp_path)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.7])
@pytest.mark.parametrize("limits", [(0.0, 2.0), (1.25, 2.0), (2.5, 2.51)], ids=str)
def test_synapses_beyond_max_distance_fold_to_zeros(limits, exponent, opset, tmp_path):
    fields = {"min_distance": limits[0], "max_distance": limits[1], "exponent": exponent}
    network = spatial(np.random.default_rng(2), (30, 20, 9), 4, **fields)
    model = export(network, opset=opset)
    assert "layer0/difference" not in names(graph_of(model))
    assert_folded(model, network, tmp_path)
    for index, layer in enumerate(network.layers):
        weight = folded(model, tmp_path)[f"layer{index}/weight"]
        np.testing.assert_array_equal(weight == 0, layer.weight.to_dense() == 0)
        assert 0 < np.mean(weight == 0) < 1


def test_only_a_max_distance_that_leaves_synapses_out_is_in_the_graph():
    for limit, is_there in ((np.inf, False), (100.0, False), (2.0, True)):
        found = names(graph_of(export(spatial(np.random.default_rng(2), (30, 20, 9), 4, max_distance=limit))))
        assert ("layer0/is_beyond_max_distance" in found) == is_there


@pytest.mark.parametrize("is_clear", [True, False])
def test_rounding_decides_about_no_synapse(is_clear, tmp_path):
    """Some pairs are exactly max_distance apart, some aside by a step of one coordinate; all far from the origin."""
    rng = np.random.default_rng(0)
    source = rng.integers(-320, 320, (60, 3)) / 32 + 100
    goal = source.astype(np.float32)
    goal[:, 0] += 7
    goal[30:, 2] += 1 / 32 if is_clear else 2.0**-16
    operator = Coordinates(source.astype(np.float32), goal, np.ones(60, np.float32), max_distance=7)
    assert squared_bound(operator)[1] == is_clear
    network = Network((Layer(operator, None, Identity()),))
    model = export(network)
    assert ("layer0/difference" in names(graph_of(model))) != is_clear
    weight = folded(model, tmp_path)["layer0/weight"]
    np.testing.assert_array_equal(weight == 0, ((goal.astype(np.float64)[:, None] - source) ** 2).sum(-1) > 49)
    assert np.all(np.diag(weight)[:30] != 0) and np.all(np.diag(weight)[30:] == 0)


def test_shared_positions_are_stored_once():
    graph = graph_of(export(spatial(np.random.default_rng(0), (30, 20, 10, 5), 3)))
    stored = [array.name for array in graph.initializer if array.data_type == onnx.TensorProto.FLOAT]
    assert [name for name in stored if "positions" in name] == [
        *("layer0/source_positions_f32", "layer0/target_positions_f32"),
        *("layer1/target_positions_f32", "layer2/target_positions_f32"),
    ]


@pytest.mark.parametrize("min_distance", [0.0, 1e-4])
def test_near_neurons_are_computed_from_differences(min_distance, tmp_path):
    network = spatial(np.random.default_rng(1), (30, 20, 10), 3, min_distance=min_distance)
    first = network.layers[0].weight
    source = first.source.copy()
    source[4] = first.target[7]
    source[4, 0] = np.nextafter(source[4, 0], np.float32(9))
    near = replace(
        network, layers=(replace(network.layers[0], weight=replace(first, source=source)), network.layers[1])
    )
    model = export(near)
    found = names(graph_of(model))
    assert "layer0/difference" in found
    assert "layer1/difference" not in found
    assert_folded(model, near, tmp_path)


def test_the_bound_on_the_expanded_form_holds():
    """Against differences, which are exact to the last digit, over many near pairs."""
    rng = np.random.default_rng(0)
    goal = rng.normal(0, 3, (200, 3)).astype(np.float32)
    source = (goal + rng.normal(0, 1e-3, goal.shape)).astype(np.float32)
    bound = expansion_error(Coordinates(source, goal, np.ones(200, np.float32)))
    assert bound > DISTANCE_ERROR
    p, q = source.astype(np.float64), goal.astype(np.float64)
    exact = np.sum((q[:, None] - p) ** 2, axis=2)
    expanded = np.sum(q * q, axis=1)[:, None] - 2 * (q @ p.T) + np.sum(p * p, axis=1)
    assert bound / 1000 < np.max(np.abs(expanded / exact - 1)) < bound


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


def test_a_weight_that_is_left_out_may_be_beyond_float32(tmp_path):
    operator = Coordinates(
        np.array([[0], [1e-20]], np.float32), np.array([[3e-20]], np.float32), np.ones(2, np.float32),
        gain=1e20, max_distance=2.5e-20,
    )  # fmt: skip
    with pytest.raises(NetworkError, match=r"neuron 1.*neuron 0"):
        export(Network((Layer(operator, None, Identity()),)))
    network = Network((Layer(replace(operator, max_distance=1e-20), None, Identity()),))
    assert folded(export(network), tmp_path)["layer0/weight"].tolist() == [[0, 0]]


def test_weights_beyond_float32_are_named():
    near = Coordinates(
        np.zeros((1, 1), np.float32), np.full((1, 1), 1e-30, np.float32), np.ones(1, np.float32), exponent=2
    )
    with pytest.raises(NetworkError, match=r"layer 0.*float32"):
        export(Network((Layer(near, None, Identity()),)))
