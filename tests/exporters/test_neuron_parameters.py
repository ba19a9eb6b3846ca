"""Beta and threshold of each layer and of each neuron, in every target, against the reference."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from sen_edge.errors import UsageError
from sen_edge.exporting.verify.error_bound import error_bounds
from sen_edge.model.free import FreeNetwork
from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_exporters.base import exporter
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.engines import litert, native, onnxruntime
from sen_runtime.errors import NetworkError
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import READOUTS, Network, readout_factors
from sen_runtime.ir.neurons import RESETS, LeakyIntegrator, Lif, Neuron
from sen_runtime.ir.operators import Dense
from tests.support.networks import read_out, stream

SIZES = ((6, 9, 7, 4), (5, 3))
RESET_CASES = [(reset, delay) for reset in RESETS for delay in (True, False)]


def make(sizes, readout, *, each=True, coding="direct", reset="subtract", delay=True, timesteps=5) -> Network:
    """Sums of float32 are exact; parameters differ between the neurons with `each`, else between the layers."""
    rng = np.random.default_rng(sum(sizes))

    def draw(values: list[float], n: int):
        found = rng.choice(np.array(values, np.float32), n)
        return found if each else float(found[0])

    layers = []
    for index, (n_in, n_out) in enumerate(pairwise(sizes)):
        weight = Dense((rng.integers(-24, 40, (n_out, n_in)) / 64).astype(np.float32))
        beta = draw([0.0, 0.25, 0.5, 1.0], n_out)
        is_readout = index == len(sizes) - 2 and readout != "spike_count"
        neuron: Neuron = Lif(beta, draw([0.25, 0.5, 1.0], n_out), reset, delay)
        bias = (rng.integers(0, 16, n_out) / 64).astype(np.float32)
        layers.append(Layer(weight, bias, LeakyIntegrator(beta) if is_readout else neuron))
    return Network(tuple(layers), timesteps, coding, readout)


def draw_inputs(network: Network, rows: int = 6) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (rng.integers(0, 2, (rows, *network.input_shape))).astype(np.float32)


def write_out(network: Network, x: np.ndarray) -> np.ndarray:
    """The equations neuron by neuron."""
    state = [[(0.0, 0)] * layer.weight.shape[0] for layer in network.layers]
    rows = []
    for row in x.astype(np.float64):
        state = [[(0.0, 0)] * len(neurons) for neurons in state]
        outputs = []
        for t in range(network.timesteps):
            values = row[t] if row.ndim == 2 else row
            for index, layer in enumerate(network.layers):
                current = layer.weight.to_dense().astype(np.float64) @ values + layer.bias
                for j, y in enumerate(current):
                    state[index][j] = advance(layer.neuron, j, *state[index][j], y)
                is_readout = isinstance(layer.neuron, LeakyIntegrator)
                values = np.array([u if is_readout else s for u, s in state[index]])
            outputs.append(values)
        rows.append(read_out(network, outputs))
    return np.array(rows)


def of_neuron(parameter: float | np.ndarray, j: int) -> float:
    return float(parameter[j]) if isinstance(parameter, np.ndarray) else parameter


def advance(neuron: Neuron, j: int, u: float, s: int, y: float) -> tuple[float, int]:
    beta = of_neuron(neuron.beta, j)
    if isinstance(neuron, LeakyIntegrator):
        return beta * u + y, 0
    threshold = of_neuron(neuron.threshold, j)
    if neuron.reset == "zero":
        u = beta * u * (1 - s) + y
    elif neuron.reset_delay:
        u = beta * u + y - threshold * s
    else:
        u = beta * (u - threshold * s) + y
    return u, int(u > threshold)


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize(("reset", "delay"), RESET_CASES)
def test_the_reference_and_torch_compute_the_equations(each, sizes, readout, reset, delay) -> None:
    network = make(sizes, readout, each=each, reset=reset, delay=delay)
    x = draw_inputs(network)
    expected = write_out(network, x)
    np.testing.assert_allclose(reference.run(network, x), expected, atol=1e-12)
    with torch.inference_mode():
        actual = FreeNetwork(network)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


GRAPHS = [("onnx", "unrolled"), ("onnx", "scan"), ("onnx", "step"), ("tflite", "unrolled"), ("tflite", "step")]


@pytest.mark.parametrize(("target", "form"), GRAPHS)
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("coding", ["direct", "spikes"])
def test_graphs_agree_with_the_reference(target, form, readout, coding) -> None:
    for each in (True, False):
        for sizes in SIZES:
            network = make(sizes, readout, each=each, coding=coding)
            assert_same(network, target, snn=form)


@pytest.mark.parametrize(("target", "form"), GRAPHS)
@pytest.mark.parametrize(("reset", "delay"), RESET_CASES)
def test_graphs_have_every_reset(target, form, reset, delay) -> None:
    assert_same(make(SIZES[0], "mean_membrane", reset=reset, delay=delay), target, snn=form)


def assert_same(network: Network, target: str, **options: str) -> None:
    x = draw_inputs(network)
    chosen = exporter(target)
    model = chosen.export(network, chosen.Options(name="model", **options)).main
    engine = {"onnx": onnxruntime.load, "tflite": litert.ENGINE.load}[target]
    with engine(model) as session:
        np.testing.assert_allclose(session.run(x), reference.run(network, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("readout", ["mean_membrane", "last_membrane"])
def test_factors_of_a_readout_whose_neurons_differ_are_those_of_each_neuron(readout, steps) -> None:
    betas = np.array([0, 0.5, 1], np.float32)
    weight = Dense(np.ones((3, 2), np.float32))

    def network(beta) -> Network:
        return Network((Layer(weight, None, LeakyIntegrator(beta)),), steps, readout=readout)

    columns = [readout_factors(network(float(beta))) for beta in betas]
    np.testing.assert_array_equal(readout_factors(network(betas)), np.stack(columns, axis=1))
    assert not network(betas).has_summed_readout
    assert network(0.5).has_summed_readout


def test_error_bounds_are_those_of_each_neuron() -> None:
    network = make((5, 3), "last_membrane")
    x = draw_inputs(network)
    layers = [layer.astype(np.float32) for layer in reference.trace(network, x)]
    bounds = error_bounds(network, x, layers, is_float16=False)[-1]
    for j, beta in enumerate(network.layers[0].neuron.beta):
        alone = replace(network, layers=(replace(network.layers[0], neuron=LeakyIntegrator(float(beta))),))
        np.testing.assert_array_equal(bounds[:, j], error_bounds(alone, x, layers, is_float16=False)[-1][:, j])


def test_int8_weights_keep_the_parameters_and_the_outputs_about_the_same() -> None:
    network = make(SIZES[0], "mean_membrane")
    x = draw_inputs(network, 64)
    quantized = to_int8_weights(network, calibration=x)
    assert [layer.neuron for layer in quantized.layers] == [layer.neuron for layer in network.layers]
    expected = reference.run(network, x)
    assert np.abs(reference.run(quantized, x) - expected).mean() < 0.1 * expected.std()


def test_int8_activations_are_refused() -> None:
    network = make(SIZES[0], "mean_membrane")
    with pytest.raises(UsageError, match="layer 0 has beta"):
        to_int8(network, draw_inputs(network, 32))
    with pytest.raises(NetworkError):
        replace(network, input_grid=Grid(1, 0), layers=tuple(replace(each, grid=Grid(1, 0)) for each in network.layers))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"beta": np.array([0.5, 1.5], np.float32)}, "beta"),
        ({"beta": np.array([0.5, np.nan], np.float32)}, "beta"),
        ({"beta": np.array([0.5, 0.5])}, "beta"),
        ({"beta": 0.5, "threshold": np.array([0, 1], np.float32)}, "threshold"),
        ({"beta": np.ones((1, 2), np.float32)}, "beta"),
    ],
)
def test_parameters_out_of_range_are_refused(fields, name) -> None:
    with pytest.raises(NetworkError, match=name):
        Lif(**fields)


def test_as_many_parameters_as_neurons_are_expected() -> None:
    with pytest.raises(NetworkError, match="beta has 2 values; expected 3"):
        Layer(Dense(np.ones((3, 2), np.float32)), None, Lif(np.array([0.5, 0.6], np.float32)))


@pytest.mark.parametrize("kernels", native.KERNELS)
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("coding", ["direct", "spikes"])
def test_the_library_agrees_with_the_reference(kernels, readout, coding) -> None:
    for each in (True, False):
        for sizes in (*SIZES, (40, 70, 5)):
            for pack in (True, False):
                network = make(sizes, readout, each=each, coding=coding)
                assert_native(network, draw_inputs(network), kernels=kernels, pack=pack)


@pytest.mark.parametrize(("reset", "delay"), RESET_CASES)
def test_the_library_has_every_reset(reset, delay) -> None:
    network = make(SIZES[0], "mean_membrane", reset=reset, delay=delay)
    assert_native(network, draw_inputs(network))


def assert_native(network: Network, x: np.ndarray, **options) -> None:
    """Rows alone, as a batch, in steps and in laps."""
    expected, data = reference.run(network, x), image.dumps(network)
    assert image.dumps(image.loads(data)) == data
    np.testing.assert_array_equal(reference.run(image.loads(data), x), expected)
    with native.load(data, **options) as session:
        assert session.input_shape == network.input_shape
        close = {"rtol": 1e-5, "atol": 1e-6}
        np.testing.assert_allclose(session.run(x), expected, **close)
        np.testing.assert_allclose([session.run(row) for row in x], expected, **close)
        session.layer_ns(x[:1])
        np.testing.assert_allclose(session.run(x[:1]), expected[:1], **close)
        np.testing.assert_allclose(stream(session, network, x[0]), expected[0], **close)


def test_layers_with_and_without_parameters_of_neurons() -> None:
    varied, same = (make(SIZES[0], "last_membrane", each=each) for each in (True, False))
    for mixed in ((0, 1, 1), (1, 0, 0), (1, 1, 0)):
        layers = tuple((same, varied)[which].layers[index] for index, which in enumerate(mixed))
        network = replace(varied, layers=layers)
        assert_native(network, draw_inputs(network))
        only_beta = replace(network.layers[0], neuron=Lif(varied.layers[0].neuron.beta, 0.5))
        only_threshold = replace(network.layers[0], neuron=Lif(0.5, varied.layers[0].neuron.threshold))
        for first in (only_beta, only_threshold):
            changed = replace(network, layers=(first, *network.layers[1:]))
            assert_native(changed, draw_inputs(changed))
