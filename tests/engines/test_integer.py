"""Int8 activations: the integer reference, the C library in every kernel, and ai-edge-litert."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.errors import DataError
from sen_edge.passes.quantize import to_int8
from sen_exporters.base import ExportError
from sen_exporters.sen.exporter import SenExporter
from sen_exporters.tflite.exporter import TfliteExporter
from sen_exporters.tflite.graph import TfliteOptions
from sen_runtime import format as image
from sen_runtime import integer
from sen_runtime.engines import native
from sen_runtime.engines.litert import ENGINE as LITERT
from sen_runtime.engines.session import ArenaSession
from sen_runtime.errors import EngineError
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, output_grid
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Dense, Sum
from tests.support.networks import random_input, random_network

KINDS = ("dense", "sparse", "blocks", "low_rank", "sum", "nested_sum")
WAYS = [{"kernels": kernels, "pack": pack} for kernels in native.KERNELS for pack in (True, False)]
SPIKING = st.fixed_dictionaries(
    {
        "readout": st.sampled_from(["mean_membrane", "last_membrane", "spike_count"]),
        "reset": st.sampled_from(["subtract", "zero"]),
        "reset_delay": st.booleans(),
        "input_coding": st.sampled_from(["direct", "spikes"]),
        "timesteps": st.integers(1, 12),
    }
)


def sessions(network: Network) -> Iterator[native.NativeSession]:
    data = image.dumps(network)
    return (native.load(data, **way) for way in WAYS)


def quantized(network: Network, x: np.ndarray, granularity: str = "channel") -> Network:
    """The network in int8; where a layer gives zeros only, another one."""
    try:
        return to_int8(network, x, granularity)
    except DataError:
        layer = Layer(Dense(np.eye(network.n_in, dtype=np.float32)), None, Identity())
        return to_int8(Network((layer,)), random_input(np.random.default_rng(0), Network((layer,)), 8))


def assert_same_in_every_kernel(network: Network, x: np.ndarray) -> np.ndarray:
    expected = integer.run(network, x)
    for session in sessions(network):
        np.testing.assert_array_equal(session.run(x), expected, err_msg=session.kernels)
    return expected


@given(
    seed=st.integers(0, 2**32 - 1),
    widest=st.sampled_from([20, 150]),
    granularity=st.sampled_from(["channel", "tensor"]),
    spiking=st.none() | SPIKING,
)
@settings(max_examples=60, deadline=None)
def test_every_kernel_equals_the_reference_to_the_bit(
    seed: int, widest: int, granularity: str, spiking: dict[str, object] | None
) -> None:
    rng = np.random.default_rng(seed)
    sizes = tuple(int(n) for n in rng.integers(1, widest + 1, rng.integers(2, 5)))
    network = random_network(rng, kinds=KINDS, sizes=sizes, spiking=spiking is not None, **(spiking or {}))
    x = random_input(rng, network, 20)
    network = quantized(network, x, granularity)
    x = random_input(rng, network, 20)
    assert_same_in_every_kernel(network, x)
    assert_same_in_every_kernel(network, (30 * (x - np.float32(0.5))).astype(np.float32))


@given(seed=st.integers(0, 2**32 - 1), spiking=st.none() | SPIKING)
@settings(max_examples=40, deadline=None)
def test_litert_is_within_one_step(seed: int, spiking: dict[str, object] | None) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, kinds=KINDS, spiking=spiking is not None, **(spiking or {}))
    x = random_input(rng, network, 32)
    network = quantized(network, x)
    x = random_input(rng, network, 32)
    expected = LITERT.load(TfliteExporter().export(network, TfliteOptions()).main).run(x)
    grid = output_grid(network)
    assert grid is not None
    steps = np.abs(integer.run(network, x) - expected) / grid.scale
    assert np.mean(steps.max(axis=1) < 1.01) >= (0.9 if spiking else 1.0), steps.max()


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0, 1e12, 1e-12])
def test_factors_of_any_size(scale: float) -> None:
    """Large ones need more than the top half of a product, on which vectors rely."""
    rng = np.random.default_rng(1)
    w = rng.integers(-127, 128, (37, 29), np.int8)
    weight = Dense(w, np.full(37, np.float32(scale)))
    layer = Layer(weight, rng.normal(0, 40 * scale, 37).astype(np.float32), Relu(), Grid(1.0, -100))
    network = Network((layer,), input_grid=Grid(1.0, 5))
    x = rng.integers(-140, 140, (9, 29)).astype(np.float32)
    sums = x.clip(-133, 122) @ w.T.astype(np.float64) * scale + np.rint(layer.bias / np.float64(scale)) * scale
    expected = assert_same_in_every_kernel(network, x)
    np.testing.assert_allclose(expected, np.floor(sums + 0.5).clip(0, 227), atol=1)


def test_inputs_beyond_the_grid_saturate() -> None:
    layer = Layer(Dense(np.eye(20, dtype=np.int8), np.ones(1, np.float32)), None, Identity(), Grid(1.0, 0))
    network = Network((layer,), input_grid=Grid(1.0, 0))
    x = np.resize(np.array([1e30, -1e30, 3.4e38, -3.4e38, 1e9, -1e9, 127.5, -128.5, 0.5, 1.5], np.float32), (1, 20))
    expected = np.resize(np.array([127, -128] * 4 + [0, 2], np.float32), (1, 20))
    np.testing.assert_array_equal(assert_same_in_every_kernel(network, x), expected)


def test_a_sum_of_grids_of_all_sizes() -> None:
    x = np.arange(-8, 8, dtype=np.float32)[:, np.newaxis]
    one, two = (Dense(np.array([[value]], np.int8), np.ones(1, np.float32)) for value in (1, 2))
    for a, b, out in ((1e-9, 1.0, 1.0), (1.0, 1e-9, 1e-9), (1e9, 1e9, 1.0), (1.0, 1.0, 1e9), (1e-3, 1e9, 1.0)):
        layer = Layer(Sum(one, two, Grid(a, 1), Grid(b, -2)), None, Identity(), Grid(out, 3))
        assert_same_in_every_kernel(Network((layer,), input_grid=Grid(1.0, 0)), x)


def test_hidden_layers_and_their_time() -> None:
    rng = np.random.default_rng(3)
    network = random_network(rng, kinds=("dense",), sizes=(30, 20, 10))
    x = random_input(rng, network, 8)
    network = to_int8(network, x)
    session = native.load(image.dumps(network))
    values = session.run_all(x)
    hidden, output = integer.trace(network, x)
    np.testing.assert_array_equal(values["output"], output)
    np.testing.assert_array_equal(values["layer0/activation"], hidden)
    assert session.layer_ns(x).shape == (8, 2)


def test_a_membrane_is_read_out_after_all_steps_only() -> None:
    rng = np.random.default_rng(4)
    network = random_network(rng, kinds=("dense",), sizes=(9, 8, 7), spiking=True)
    x = random_input(rng, network, 8)
    network = to_int8(network, x)
    session = native.load(image.dumps(network))
    assert isinstance(session, ArenaSession) and session.timesteps == 0
    hidden, output = integer.trace(network, x)
    values = session.run_all(x)
    np.testing.assert_array_equal(values["layer0/activation"], hidden)
    np.testing.assert_array_equal(values["output"], output)
    with pytest.raises(EngineError):
        session.step(x[0])


def test_spikes_are_counted_step_by_step_too() -> None:
    rng = np.random.default_rng(5)
    network = random_network(rng, kinds=("dense",), sizes=(9, 8, 7), spiking=True, readout="spike_count")
    x = random_input(rng, network, 8)
    network = to_int8(network, x)
    session = native.load(image.dumps(network))
    hidden, output = integer.trace(network, x)
    values = session.run_all(x)
    np.testing.assert_array_equal(values["layer0/activation"], hidden)
    session.reset()
    np.testing.assert_array_equal(np.sum([session.step(x[0]) for _ in range(network.timesteps)], axis=0), output[0])


def test_a_product_beyond_32_bits_is_refused_by_its_layer() -> None:
    weight = Dense(np.ones((2, 3), np.int8), np.ones(1, np.float32))
    layer = Layer(weight, np.array([0, 3e9], np.float32), Identity(), Grid(1.0, 0))
    with pytest.raises(ExportError, match=r"layer 0.*neuron 1.*32 bits"):
        SenExporter().export(Network((layer,), input_grid=Grid(1.0, 0)), SenExporter.Options())
