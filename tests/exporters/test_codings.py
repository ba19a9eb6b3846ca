"""Input codings in every target, against spikes written out neuron by neuron."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from sen_edge.errors import UsageError
from sen_edge.model.free import FreeNetwork
from sen_edge.model.probe import verification_inputs
from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_exporters.base import exporter
from sen_runtime import reference
from sen_runtime.engines import litert, native, onnxruntime
from sen_runtime.errors import EngineError, NetworkError
from sen_runtime.ir.codings import CODINGS
from sen_runtime.ir.network import READOUTS, Network
from sen_runtime.ir.standardization import Standardization
from tests.exporters.test_neuron_parameters import assert_native, make

DELTA = 0.3
COMPUTED = ("current", "rate", "delta")
GRAPHS = [("onnx", "unrolled"), ("onnx", "scan"), ("onnx", "step"), ("tflite", "unrolled"), ("tflite", "step")]


def coded(coding: str, sizes=(6, 9, 4), readout: str = "mean_membrane", **fields) -> Network:
    network = make(sizes, readout, each=False, timesteps=7)
    return replace(network, input_coding=coding, delta=DELTA if coding == "delta" else 0.0, **fields)


def draw(network: Network, rows: int = 8) -> np.ndarray:
    """Values that float32 sums of products hold exactly, of rates and changes around their boundaries."""
    rng = np.random.default_rng(3)
    if network.input_coding == "current":
        return (rng.integers(-8, 32, (rows, *network.input_shape)) / 16).astype(np.float32)
    if network.input_coding == "rate":
        x = rng.integers(0, 2 * 256 + 1, (rows, *network.input_shape)) / 512
        return (x + rng.choice([-1e-7, 0, 1e-7], x.shape)).clip(0, 1).astype(np.float32)
    steps = rng.choice(np.array([0, DELTA, -DELTA, 0.1, -0.1, 0.7], np.float32), (rows, *network.input_shape))
    return np.cumsum(steps, axis=1, dtype=np.float32)


def spikes_of(network: Network, row: np.ndarray) -> np.ndarray:
    """What arrives in each step, `[T, n_in]`, in exact arithmetic."""
    steps = range(network.timesteps)
    if network.input_coding == "rate":
        # halves are rounded up, the sum before that to float32
        rates = [Fraction(int(np.float32(256) * value + np.float32(0.5)), 256) for value in row]
        return np.array([[(t + 1) * r // 1 - t * r // 1 for r in rates] for t in steps], np.float64)
    if network.input_coding == "delta":
        before = np.concatenate([row[:1], row[:-1]])
        up, down = row - before >= np.float32(DELTA), before - row >= np.float32(DELTA)
        return np.concatenate([up, down], axis=1).astype(np.float64)
    return row.astype(np.float64)


@pytest.mark.parametrize("coding", COMPUTED)
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("sizes", [(6, 9, 4), (6, 3)])
def test_the_reference_and_torch_run_the_spikes_that_inputs_become(coding, readout, sizes) -> None:
    network = coded(coding, sizes, readout)
    x = draw(network)
    train = np.stack([spikes_of(network, row) for row in x])
    assert coding == "current" or 0.05 < train.mean() < 0.95
    plain = replace(network, input_coding="current", delta=0.0)
    expected = reference.run(plain, train)
    np.testing.assert_array_equal(reference.run(network, x), expected)
    with torch.inference_mode():
        actual = FreeNetwork(network)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("coding", COMPUTED)
@pytest.mark.parametrize(("target", "form"), GRAPHS)
@pytest.mark.parametrize("sizes", [(6, 9, 7, 4), (6, 3)])
def test_graphs_agree_with_the_reference(coding, target, form, sizes) -> None:
    for readout in READOUTS:
        assert_same(coded(coding, sizes, readout), target, form)


@pytest.mark.parametrize(("target", "form"), GRAPHS)
def test_currents_are_standardized(target, form) -> None:
    scaling = Standardization(np.arange(6, dtype=np.float32) / 8, np.full(6, 0.5, np.float32))
    assert_same(coded("current", input_scaling=scaling), target, form)


@pytest.mark.parametrize("coding", COMPUTED)
@pytest.mark.parametrize("kernels", native.KERNELS)
def test_the_library_agrees_with_the_reference(coding, kernels) -> None:
    for readout in READOUTS:
        for sizes in ((6, 9, 7, 4), (6, 9, 4), (6, 3), (40, 70, 5)):
            network = coded(coding, sizes, readout)
            assert_native(network, draw(network), kernels=kernels)
    each = replace(make((6, 9, 4), "mean_membrane", timesteps=7), input_coding=coding, delta=network.delta)
    assert_native(each, draw(each), kernels=kernels)


def test_the_library_standardizes_sequences() -> None:
    scaling = Standardization(np.arange(6, dtype=np.float32) / 8, np.full(6, 0.5, np.float32))
    network = coded("current", input_scaling=scaling)
    assert_native(network, draw(network, 70))


def assert_same(network: Network, target: str, form: str) -> None:
    x, chosen = draw(network), exporter(target)
    model = chosen.export(network, chosen.Options(name="model", snn=form)).main
    with {"onnx": onnxruntime.load, "tflite": litert.ENGINE.load}[target](model) as session:
        assert session.input_shape == network.input_shape
        np.testing.assert_allclose(session.run(x), reference.run(network, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("coding", COMPUTED)
def test_a_stream_of_steps_is_the_run(coding) -> None:
    network = coded(coding, readout="last_membrane")
    x = draw(network)
    chosen = exporter("onnx")
    with onnxruntime.load(chosen.export(network, chosen.Options(name="model", snn="step")).main) as session:
        for row in x[:3]:
            session.reset()
            outputs = [session.step(row[t] if network.coding.has_steps else row) for t in range(network.timesteps)]
            np.testing.assert_allclose(outputs[-1], reference.run(network, row[None])[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("coding", CODINGS)
def test_verification_inputs_fit(coding) -> None:
    network = coded(coding)
    inputs = verification_inputs(network)
    assert inputs.shape[1:] == network.input_shape
    assert reference.trace(network, inputs, np.float32)[0].any()


@pytest.mark.parametrize("coding", COMPUTED)
def test_int8_is_for_weights_only(coding) -> None:
    network = coded(coding)
    x = draw(network, 64)
    expected = reference.run(network, x)
    quantized = to_int8_weights(network, calibration=x)
    assert np.abs(reference.run(quantized, x) - expected).mean() < 0.1 * expected.std()
    with pytest.raises(UsageError, match=coding):
        to_int8(network, x)


@pytest.mark.parametrize("coding", ["current", "delta"])
def test_a_sequence_of_another_length_is_refused(coding) -> None:
    network = coded(coding)
    x = draw(network)[:, :-1]
    with pytest.raises(NetworkError, match="expected"):
        reference.run(network, x)
    chosen = exporter("onnx")
    session = onnxruntime.load(chosen.export(network, chosen.Options(name="model")).main)
    with session, pytest.raises(EngineError, match="shape"):
        session.run(x)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input_coding": "delta"}, "delta is 0"),
        ({"delta": 0.5}, "only input coding 'delta'"),
        ({"input_coding": "delta", "delta": np.inf}, "finite"),
        ({"input_coding": "tempo"}, "input_coding"),
        ({"input_coding": "rate", "input_scaling": Standardization(*np.ones((2, 6), np.float32))}, "not standardized"),
    ],
)
def test_wrong_codings_are_refused(fields, message) -> None:
    with pytest.raises(NetworkError, match=message):
        replace(coded("direct"), **fields)


def test_delta_needs_two_neurons_for_each_channel() -> None:
    with pytest.raises(NetworkError, match="5 input neurons"):
        coded("delta", (5, 3))
