"""What networks cost: curves from made-up latencies, so that no test depends on the machine; every engine runs once."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from sen_edge.compress import cost, cost_layers
from sen_edge.compress.cost import CostModel, Curve, calibrate, measure, weight_bytes
from sen_edge.compress.cost_layers import PRODUCTS, places
from sen_edge.errors import DataError, UsageError
from sen_edge.passes.quantize import to_float16, to_int8, to_int8_weights
from sen_exporters.base import Artifact
from sen_exporters.tflite.exporter import TfliteExporter
from sen_exporters.tflite.options import TfliteOptions
from sen_runtime import engines, reference
from sen_runtime import format as image
from sen_runtime.bench.interleaved import Latencies
from sen_runtime.errors import MissingExtraError, NetworkError
from sen_runtime.ir.network import Identity, Layer, LeakyIntegrator, Lif, Network, Relu
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum
from tests.support.networks import random_input, random_network

#: What calls, idle networks and multiply-accumulates are made to take.
CALL_US, IDLE_US, MAC_US, PRODUCT_US, NEURON_US = 30.0, 5.0, 0.01, 2.0, 0.25
EVERY_ENGINE = pytest.mark.parametrize("engine", cost.ENGINES)


def perceptron() -> Network:
    return random_network(np.random.default_rng(0), kinds=("dense",), sizes=(32, 48, 16))


def spiking(input_coding: str = "direct") -> Network:
    return random_network(
        np.random.default_rng(0),
        spiking=True,
        kinds=("dense",),
        sizes=(32, 48, 24, 10),
        timesteps=4,
        input_coding=input_coding,
    )


def inputs(network: Network, n: int = 20) -> np.ndarray:
    return random_input(np.random.default_rng(1), network, n)


def made_up(calls: Mapping[str, Callable[[], object]], seconds: float, seed: int) -> Latencies:
    """Latencies that are straight lines of what the names say; everything is called once."""
    del seconds, seed

    def us(name: str) -> float:
        if name in (cost.LEAST, cost.DENSE):  # so that the dense network seems faster than its layers: no crowding
            return CALL_US
        if name.endswith(cost.IDLE) or name in (cost.NEURON, cost.CLOCK):
            return IDLE_US
        if name == cost.NEURONS:
            return IDLE_US + NEURON_US * (48 + 24)
        return IDLE_US + PRODUCT_US + MAC_US * int(name.split()[-1])

    for call in calls.values():
        call()
    return Latencies({name: np.full(3, us(name)) for name in calls})


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "interleaved", made_up)


def sparse(n_out: int, n_in: int, block: tuple[int, int], seed: int = 0) -> Sparse:
    """Half of the blocks."""
    rng = np.random.default_rng(seed)
    kept = rng.permutation(-(-n_out // block[0]) * -(-n_in // block[1])) % 2 == 0
    mask = np.kron(kept.reshape(-(-n_out // block[0]), -1), np.ones(block))[:n_out, :n_in]
    return Sparse.from_dense((rng.uniform(1, 2, (n_out, n_in)) * mask).astype(np.float32), block)


def low_rank(n_out: int, n_in: int, rank: int) -> LowRank:
    return LowRank(np.ones((n_out, rank), np.float32), np.ones((rank, n_in), np.float32))


def with_weights(network: Network, *weights: object) -> Network:
    pairs = zip(network.layers, weights, strict=True)
    return replace(network, layers=tuple(replace(layer, weight=weight) for layer, weight in pairs))


def expected_us(macs: list[int], spiking_neurons: int = 0) -> float:
    """Of a network whose products have these multiply-accumulates; the fake network of rank 1 took `CALL_US`."""
    least, neurons = ((48 + 32, 24 + 48, 10 + 24), 48 + 24) if spiking_neurons else ((48 + 32, 16 + 48), 0)
    overhead = CALL_US - NEURON_US * neurons - sum(PRODUCT_US + MAC_US * one for one in least)
    return overhead + NEURON_US * spiking_neurons + sum(PRODUCT_US + MAC_US * one for one in macs)


def test_a_curve_goes_through_its_points_and_on() -> None:
    curve = Curve((8, 8), False, "dense", "float32", (10, 20, 40), (1.0, 3.0, 4.0))
    assert [curve.at(macs) for macs in (10, 20, 40)] == [1.0, 3.0, 4.0]
    assert [curve.at(macs) for macs in (15, 30, 60)] == [2.0, 3.5, 5.0]
    assert [curve.at(macs) for macs in (7, 0)] == [pytest.approx(0.4), 0.0]  # never below 0
    assert Curve((8, 8), False, "dense", "float32", (10,), (1.5,)).at(99) == 1.5


@EVERY_ENGINE
def test_every_product_of_an_engine_is_measured_in_every_place(engine: str) -> None:
    model = calibrate(perceptron(), engine, inputs(perceptron()), seconds=0.1)
    found = {(curve.shape, curve.form, curve.dtype) for curve in model.curves}
    assert found == {((n_out, n_in), *product) for n_out, n_in in ((48, 32), (16, 48)) for product in PRODUCTS[engine]}
    assert all(len(curve.macs) >= 2 and np.all(np.diff(curve.macs) > 0) for curve in model.curves)
    assert not any(curve.per_step for curve in model.curves)
    assert (model.timesteps, model.neuron_us) == (0, 0.0)


@EVERY_ENGINE
@pytest.mark.parametrize("input_coding", ["direct", "spikes"])
def test_what_meets_spikes_is_measured_in_all_steps(engine: str, input_coding: str) -> None:
    network = spiking(input_coding)
    model = calibrate(network, engine, inputs(network), seconds=0.1, dtypes=("float32",))
    per_step = {curve.shape for curve in model.curves if curve.per_step}
    once = {curve.shape for curve in model.curves if not curve.per_step}
    assert once == ({(10, 24), (48, 32)} if input_coding == "direct" else {(10, 24)})
    assert per_step == {(48, 32), (24, 48), (10, 24)} - once
    assert model.timesteps == 4


@EVERY_ENGINE
def test_a_latency_is_the_sum_of_its_products(engine: str) -> None:
    network = perceptron()
    model = calibrate(network, engine, inputs(network), seconds=0.1)
    assert model.latency_us(network) == pytest.approx(expected_us([48 * 32, 16 * 48]))
    factors, blocks = low_rank(48, 32, 3), sparse(48, 32, (16, 1))
    both = with_weights(network, Sum(factors, blocks), network.layers[1].weight)
    multiplied = blocks.macs if engine == "native" else 48 * 32  # zeros and all, where there is no such kernel
    assert model.latency_us(both) == pytest.approx(expected_us([3 * 80, multiplied, 16 * 48]))
    assert model.latency_us(to_int8_weights(both)) == pytest.approx(model.latency_us(both))


def test_layers_crowd_each_other_the_more_the_more_weights_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    def crowded(calls: Mapping[str, Callable[[], object]], seconds: float, seed: int) -> Latencies:
        blocks_us = dict(made_up(calls, seconds, seed).blocks_us)
        return Latencies(blocks_us | {cost.DENSE: np.full(3, 100.0)})

    monkeypatch.setattr(cost, "interleaved", crowded)
    network = perceptron()
    model = calibrate(network, "onnxruntime", inputs(network), seconds=0.1)
    assert model.latency_us(network) == pytest.approx(100)
    crowding_us = 100 - expected_us([48 * 32, 16 * 48])
    first, second = network.layers[0].weight, network.layers[1].weight
    half = with_weights(network, first, low_rank(16, 48, 6))  # half of what the second layer has
    assert model.latency_us(half) == pytest.approx(expected_us([48 * 32, 16 * 24]) + crowding_us / 2)
    alone = with_weights(network, low_rank(48, 32, 1), second)
    assert model.latency_us(alone) == pytest.approx(expected_us([48 + 32, 16 * 48]))
    more = with_weights(network, Sum(first, first), second)
    assert model.latency_us(more) == pytest.approx(expected_us([48 * 32, 48 * 32, 16 * 48]) + crowding_us)


def test_neurons_that_are_removed_take_their_time_along() -> None:
    network = spiking()
    model = calibrate(network, "native", inputs(network), seconds=0.1, forms=())
    assert model.neuron_us == pytest.approx(NEURON_US)
    assert model.latency_us(network) == pytest.approx(expected_us([48 * 32, 24 * 48, 10 * 24], 48 + 24))
    first, second, last = network.layers
    fewer = replace(
        network,
        layers=(
            replace(first, weight=Dense(np.ones((20, 32), np.float32)), bias=None),
            replace(second, weight=Dense(np.ones((24, 20), np.float32))),
            last,
        ),
    )
    assert model.latency_us(fewer) == pytest.approx(expected_us([20 * 32, 24 * 20, 10 * 24], 20 + 24))


def test_sparse_kernels_of_litert_are_for_all_layers_or_none() -> None:
    network = perceptron()
    model = calibrate(network, "litert", inputs(network), seconds=0.1)
    blocks, others = sparse(48, 32, (1, 4)), sparse(16, 48, (1, 4))
    every = with_weights(network, blocks, others)
    assert model.latency_us(every) == pytest.approx(expected_us([blocks.macs, others.macs]))
    assert model.options(every) == TfliteExporter.Options(sparse_format="block", tflite_target="litert")
    singly = with_weights(network, Sparse.from_dense(blocks.to_dense()), others)
    assert model.latency_us(singly) == pytest.approx(model.latency_us(every))
    mixed = with_weights(network, blocks, sparse(16, 48, (1, 1)))
    assert model.latency_us(mixed) == pytest.approx(expected_us([48 * 32, 16 * 48]))
    assert model.options(mixed) == TfliteExporter.Options(tflite_target="litert")


def test_sparse_kernels_of_litert_are_left_alone_where_they_are_slower() -> None:
    network = with_weights(perceptron(), sparse(48, 32, (1, 4)), sparse(16, 48, (1, 4)))
    model = calibrate(network, "litert", inputs(network), seconds=0.1)
    slow = tuple(
        replace(curve, us=tuple(100 + us for us in curve.us)) if curve.form == "1x4" else curve
        for curve in model.curves
    )
    model = replace(model, curves=slow)
    assert model.latency_us(network) == pytest.approx(expected_us([48 * 32, 16 * 48]))
    assert model.options(network).sparse_format is None


def test_a_shape_without_whole_blocks_has_no_figures_for_them() -> None:
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(30, 8, 6))
    model = calibrate(network, "litert", inputs(network), seconds=0.1)
    assert {curve.shape for curve in model.curves if curve.form == "1x4"} == {(6, 8)}
    assert model.options(with_weights(network, sparse(8, 30, (1, 4)), sparse(6, 8, (1, 4)))).sparse_format is None


def test_a_layer_without_a_weight_has_no_sparse_figures() -> None:
    network = with_weights(perceptron(), Dense(np.zeros((48, 32), np.float32)), perceptron().layers[1].weight)
    model = calibrate(network, "litert", inputs(network), seconds=0.1)
    assert {curve.shape for curve in model.curves if curve.form == "1x4"} == {(16, 48)}


def test_a_shape_that_was_not_measured_goes_by_the_most_similar_one() -> None:
    shapes = {(512, 784): 1.0, (256, 512): 2.0, (10, 256): 3.0}
    curves = tuple(Curve(shape, False, "dense", "float32", (1,), (us,)) for shape, us in shapes.items())
    model = CostModel("native", "1", 0, 0.0, 0.0, 0.0, 0, 0, curves)
    for shape, us in {(400, 784): 1.0, (256, 400): 2.0, (10, 100): 3.0, (10, 3): 3.0}.items():
        layer = Layer(Dense(np.ones(shape, np.float32)), None, Identity())
        assert model.latency_us(Network((layer,))) == us


def test_noise_makes_no_curve_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(calls: Mapping[str, Callable[[], object]], seconds: float, seed: int) -> Latencies:
        rng = np.random.default_rng(0)
        return Latencies({name: rng.uniform(0, 10, 3) for name in calls})

    monkeypatch.setattr(cost, "interleaved", noisy)
    model = calibrate(perceptron(), "native", inputs(perceptron()), seconds=0.1)
    assert all(min(curve.us) >= 0 and np.all(np.diff(curve.us) >= 0) for curve in model.curves)
    assert model.overhead_us >= 0


def test_more_time_is_spent_on_more_sizes() -> None:
    network = perceptron()
    sizes = [
        max(len(curve.macs) for curve in calibrate(network, "onnxruntime", inputs(network), seconds=s).curves)
        for s in (0.01, 60.0)
    ]
    assert sizes == [cost.FEWEST_SIZES, cost.MOST_SIZES]


def test_progress_rises_to_the_end() -> None:
    told: list[float] = []
    calibrate(perceptron(), "onnxruntime", inputs(perceptron()), seconds=1e6, progress=told.append)
    assert told == sorted(told)
    assert len(told) > 10
    assert 0 < told[0] < 1
    assert told[-1] == 1.0


def test_a_model_survives_json() -> None:
    network = spiking()
    model = calibrate(network, "native", inputs(network), seconds=0.1, forms=("16x1",))
    again = CostModel.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again == model
    assert again.latency_us(network) == model.latency_us(network)


def test_a_model_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    values = calibrate(perceptron(), "native", inputs(perceptron()), seconds=0.1, forms=()).to_dict()
    monkeypatch.setattr(engines.engine("native"), "version", lambda: "99")
    with pytest.raises(UsageError, match=r"measured with native .*; installed is 99") as caught:
        CostModel.from_dict(values)
    assert caught.value.hint == "measure again"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"curves": [{}]},
        {"curves": 3},
        {"curves": [], "engine": "native"},
        {"curves": [], "engine": "native", "colour": "red"},
    ],
)
def test_what_is_no_model_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="this is no cost model"):
        CostModel.from_dict(values)


@pytest.mark.parametrize(
    "change",
    [{"macs": [1, 1]}, {"macs": [2, 1]}, {"us": ["1", "2"]}, {"us": [1.0]}, {"macs": [], "us": []}, {"shape": [3]}],
)
def test_figures_of_other_types_are_refused(change: dict[str, object]) -> None:
    curve = {"shape": [2, 3], "per_step": False, "form": "dense", "dtype": "float32", "macs": [1, 2], "us": [1.0, 2.0]}
    names = ("overhead_us", "neuron_us", "crowding_us", "alone_bytes", "dense_bytes", "timesteps")
    values = {"engine": "native", "version": engines.engine("native").version(), **dict.fromkeys(names, 0)}
    assert CostModel.from_dict({**values, "curves": [curve]}).engine == "native"
    for wrong in ({**values, "curves": [{**curve, **change}]}, {**values, "curves": [curve], "overhead_us": "1"}):
        with pytest.raises(UsageError):
            CostModel.from_dict(wrong)


def calls_of(x: np.ndarray | None = None, engine: str = "native", **arguments: object) -> Callable[[], object]:
    network = perceptron()
    return lambda: calibrate(network, engine, inputs(network) if x is None else x, **{"seconds": 0.1, **arguments})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(calls_of(engine="gpu"), UsageError, "engine is 'gpu'; expected one of native, onnx", id="engine"),
        pytest.param(calls_of(forms=("2x2",)), UsageError, "form is '2x2'; expected some of dense, low-r", id="form"),
        pytest.param(calls_of(dtypes=("int4",)), UsageError, "dtype is 'int4'; expected some of float32", id="dtype"),
        pytest.param(calls_of(np.ones((0, 32), np.float32)), DataError, "no inputs to measure with", id="no inputs"),
        pytest.param(calls_of(np.ones((3, 31), np.float32)), NetworkError, r"shape \[3, 31\]", id="shape"),
        pytest.param(lambda: measure({}, "gpu", np.ones((1, 1)), 0.1), UsageError, "engine is 'gpu'", id="measure"),
    ],
)
def test_wrong_requests_are_refused(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_an_engine_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise MissingExtraError("the engine onnxruntime", "pip install onnxruntime")

    monkeypatch.setattr(engines.engine("onnxruntime"), "version", missing)
    with pytest.raises(MissingExtraError, match="onnxruntime"):
        calibrate(perceptron(), "onnxruntime", inputs(perceptron()))
    with pytest.raises(MissingExtraError, match="onnxruntime"):
        measure({"a": perceptron()}, "onnxruntime", inputs(perceptron()), 0.1)


def test_networks_without_figures_are_refused() -> None:
    network = perceptron()
    model = calibrate(network, "native", inputs(network), seconds=0.1, forms=("16x1",), dtypes=())
    dense = network.layers[1].weight
    with pytest.raises(UsageError, match=r"layer 0 has 4x1 float32 weights; measured on native was dense float32"):
        model.latency_us(with_weights(network, sparse(48, 32, (4, 1)), dense))
    with pytest.raises(UsageError, match=r"layer 0 has dense float16 weights"):
        model.latency_us(to_float16(network))
    with pytest.raises(UsageError, match=r"layer 0 has dense int8 weights"):
        model.options(to_int8_weights(network))
    with pytest.raises(UsageError, match="int8 activations"):
        model.latency_us(to_int8(network, inputs(network)))
    with pytest.raises(UsageError, match="the network has 4 time steps; latencies were measured with 0"):
        model.latency_us(spiking())
    points = np.ones((32, 1), np.float32), 2 * np.ones((48, 1), np.float32)
    coordinates = Coordinates(*points, np.ones(32, np.float32), gain=1.0, exponent=1.0, min_distance=0.0)
    with pytest.raises(UsageError, match="coordinates"):
        model.latency_us(with_weights(network, coordinates, dense))


def test_coordinates_are_computed_before_they_are_measured() -> None:
    network = random_network(np.random.default_rng(0), kinds=("coordinates",), sizes=(12, 8))
    assert calibrate(network, "native", inputs(network), seconds=0.1, forms=()).curves


@pytest.mark.parametrize("make", [perceptron, spiking, partial(spiking, "spikes")])
@EVERY_ENGINE
def test_every_engine_is_called_on_one_input_after_the_other(
    engine: str, make: Callable[[], Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, list[object]] = {}

    def called(calls: Mapping[str, Callable[[], object]], seconds: float, seed: int) -> Latencies:
        assert (seconds, seed) == (0.5, 3)
        found.update({name: [call() for _ in range(2 * cost.ROWS)] for name, call in calls.items()})
        return Latencies({name: np.ones(1) for name in calls})

    monkeypatch.setattr(cost, "interleaved", called)
    network = make()
    x = inputs(network, cost.ROWS)
    networks = {"first": network, "second": to_int8_weights(network)}
    assert measure(networks, engine, x, 0.5, 3).median_us("first") == 1.0
    assert list(found) == ["first", "second"]
    expected = reference.run(network, x)
    actual = np.array([np.squeeze(np.asarray(output)) for output in found["first"]])
    np.testing.assert_allclose(actual, np.concatenate([expected, expected]), rtol=1e-4, atol=1e-5)


def test_finalists_are_exported_as_they_were_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TfliteOptions] = []
    export = TfliteExporter.export

    def noted(self: TfliteExporter, network: Network, options: TfliteOptions) -> Artifact:
        asked.append(options)
        return export(self, network, options)

    monkeypatch.setattr(TfliteExporter, "export", noted)
    monkeypatch.setattr(cost, "interleaved", lambda calls, seconds, seed: Latencies({}))
    network = with_weights(perceptron(), sparse(48, 32, (1, 4)), sparse(16, 48, (1, 4)))
    block = TfliteExporter.Options(sparse_format="block", tflite_target="litert")
    measure({"a": network}, "litert", inputs(network), 0.1)
    measure({"a": network}, "litert", inputs(network), 0.1, options=lambda _: block)
    assert asked == [TfliteExporter.Options(tflite_target="litert"), block]


def test_a_place_has_the_inputs_of_its_layer() -> None:
    rng = np.random.default_rng(0)
    neuron = Lif(beta=0.5, threshold=0.4)
    layers = [Layer(Dense(rng.uniform(0, 0.3, (5, 4)).astype(np.float32)), None, neuron)]
    layers += [Layer(Dense(rng.uniform(-0.2, 0.9, (5, 5)).astype(np.float32)), None, neuron) for _ in range(2)]
    readout = Layer(Dense(np.ones((2, 5), np.float32)), None, LeakyIntegrator(0.5))
    network = Network((*layers, readout), timesteps=3)
    x = rng.random((2, 4), np.float32)
    found = {place.name: place for place in places(network, x, 0)}
    assert list(found) == ["5x4", "5x5 per step", "2x5"]
    np.testing.assert_array_equal(found["5x4"].x, x)
    trains, membranes = [], reference.initial_membranes(network, 2)
    for _ in range(3):
        membranes, spikes = reference.step(network, membranes, x)
        trains.append(spikes)
    for row in range(2):  # layers 1 and 2 have the same shape, so their inputs lie one after the other
        np.testing.assert_array_equal(found["5x5 per step"].x[row], [spikes[0][row] for spikes in trains])
        np.testing.assert_array_equal(found["5x5 per step"].x[2 + row], [spikes[1][row] for spikes in trains])
    assert 0 < found["5x5 per step"].x.mean() < 1


def test_zeros_go_where_they_do_least_harm() -> None:
    """An input that never changes, and an output that nothing comes of, lose their synapses first."""
    w = np.ones((4, 8), np.float32)
    hidden = Layer(Dense(w), None, Relu())
    after = np.ones((2, 4), np.float32) * np.array([0, 1, 1, 1], np.float32) * np.array([[1], [-1]], np.float32)
    network = Network((hidden, Layer(Dense(after), None, Identity())))
    x = np.random.default_rng(0).random((50, 8), np.float32)
    x[:, 3] = 2
    place = places(network, x, 0)[0]
    rng = np.random.default_rng(0)
    for weight in place.weights("1x1", 5, rng):
        kept = weight.to_dense() != 0
        assert not kept[0].any()
        assert not kept[:, 3].any()
        assert kept.any()


def test_dense_layers_are_measured_up_to_all_their_neurons() -> None:
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(8, 48))
    place, rng = places(network, inputs(network), 0)[0], np.random.default_rng(0)
    assert [weight.shape[0] for weight in place.weights("dense", 4, rng)] == [8, 16, 32, 48]
    assert [weight.rank for weight in place.weights("low-rank", 4, rng)] == [1, 2, 4]


def test_bytes_are_those_of_the_image() -> None:
    network = replace(perceptron(), metadata={"text": "x" * 1000})
    assert weight_bytes(network) == len(image.dumps(replace(network, metadata={})))
    blocks = sparse(48, 32, (1, 1))
    small, large = weight_bytes(with_weights(network, blocks, network.layers[1].weight)), weight_bytes(network)
    assert small < large
    assert small - large == pytest.approx(blocks.macs * (4 + 2) + 49 * 4 - 48 * 32 * 4, abs=300)  # columns in 16 bits


@pytest.mark.parametrize("name", cost.ENGINES)
def test_a_real_clock(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once with real measurements; what they are is the machine's affair."""
    monkeypatch.undo()
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(16, 8))
    x = inputs(network)
    model = calibrate(network, name, x, seconds=0.1, forms=(), dtypes=())
    assert model.version == engines.engine(name).version()
    assert 0 < model.latency_us(network) < 1e6
    assert measure({"a": network}, name, x, 0.01).median_us("a") > 0


def test_constants_agree() -> None:
    """Engines have their products; the forms of sparse weights are the blocks that weights are stored in."""
    assert set(PRODUCTS) == set(cost.ENGINES)
    assert set(cost_layers.FORMS) == {form for form, _ in PRODUCTS["native"]}
