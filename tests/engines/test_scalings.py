"""Scalings and output activations in the C library and the reference engine."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest

from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_runtime import format as image
from sen_runtime import integer, reference
from sen_runtime.engines import native
from sen_runtime.engines import reference as reference_engine
from sen_runtime.errors import EngineError, ImageError
from sen_runtime.ir.network import OUTPUT_ACTIVATIONS, Network
from sen_runtime.ir.standardization import Standardization
from tests.support.networks import by_source, random_network, stream
from tests.support.scalings import HARMLESS, HOSTILE_SCALINGS, raw_input, scaled

SIZES = (70, 33, 6)


def int8_activations(rng: np.random.Generator, network: Network) -> Network:
    """Int8 activations, calibrated with inputs as the first layer takes them."""
    plain = replace(network, input_scaling=None, output_scaling=None, output_activation="none")
    standardized = reference.standardize(network, raw_input(rng, network, 64))
    quantized = to_int8(plain, standardized)
    ends = {name: getattr(network, name) for name in ("input_scaling", "output_scaling", "output_activation")}
    return replace(quantized, **ends)


@pytest.mark.parametrize("kernels", native.KERNELS)
@pytest.mark.parametrize("spiking", [False, True])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_outputs_are_those_of_the_reference(kind: str, spiking: bool, kernels: str) -> None:
    """Alone, in batches of more rows than run side by side, and in threads."""
    rng = np.random.default_rng(0)
    network = random_network(rng, spiking=spiking, kinds=(kind,), sizes=SIZES)
    for each in (network, by_source(network)):
        for activation in OUTPUT_ACTIVATIONS:
            of_all = scaled(rng, each, activation)
            x = raw_input(rng, of_all, 70)
            expected = reference.run(of_all, x)
            for pack, threads in ((True, 1), (False, 1), (True, 2)):
                with native.load(image.dumps(of_all), threads, kernels=kernels, pack=pack) as session:
                    np.testing.assert_allclose(session.run(x), expected, rtol=1e-4, atol=1e-4)
                    np.testing.assert_allclose(session.run(x[3]), expected[3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["dense", "sparse", "low_rank", "sum"])
def test_products_of_int8_see_standardized_inputs_to_the_bit(kind: str) -> None:
    rng = np.random.default_rng(1)
    network = to_int8_weights(random_network(rng, kinds=(kind,), sizes=SIZES))
    network = replace(scaled(rng, network, "none"), output_scaling=None)
    x = raw_input(rng, network, 20)
    expected = reference.trace_int8(network, x)[-1]
    with native.load(image.dumps(network)) as session:
        np.testing.assert_array_equal(session.run(x), expected)
        np.testing.assert_array_equal(session.run(x[0]), expected[0])


@pytest.mark.parametrize("readout", [None, "mean_membrane", "spike_count"])
@pytest.mark.parametrize("activation", OUTPUT_ACTIVATIONS)
def test_int8_activations(activation: str, readout: str | None) -> None:
    rng = np.random.default_rng(2)
    spiking = {} if readout is None else {"spiking": True, "readout": readout}
    network = random_network(rng, kinds=("dense", "low_rank"), sizes=SIZES, **spiking)
    network = int8_activations(rng, scaled(rng, network, activation))
    x = raw_input(rng, network, 20)
    expected = integer.run(network, x)
    for threads in (1, 2):
        with native.load(image.dumps(network), threads) as session:
            np.testing.assert_allclose(session.run(x), expected, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(session.run(x[0]), expected[0], rtol=1e-6, atol=1e-6)
    with reference_engine.load(image.dumps(network)) as session:
        np.testing.assert_array_equal(session.run(x), expected)


@pytest.mark.parametrize("readout", ["mean_membrane", "last_membrane", "spike_count"])
@pytest.mark.parametrize("activation", OUTPUT_ACTIVATIONS)
def test_a_stream_ends_in_the_outputs_of_a_run(activation: str, readout: str) -> None:
    rng = np.random.default_rng(3)
    network = scaled(rng, random_network(rng, spiking=True, sizes=SIZES, readout=readout), activation)
    x = raw_input(rng, network, 1)[0]
    with native.load(image.dumps(network)) as session:
        expected = session.run(x)
        np.testing.assert_allclose(session.finish(stream(session, network, x)), expected, rtol=1e-4, atol=1e-5)


def test_finish_leaves_its_argument_and_networks_without_scaling_alone() -> None:
    network = random_network(np.random.default_rng(4), spiking=True, sizes=(4, 3, 2))
    readout = np.array([0.25, -1], np.float32)
    with native.load(image.dumps(network)) as session:
        assert session.finish(readout).tolist() == [0.25, -1]
    network = scaled(np.random.default_rng(4), network, "softmax")
    with native.load(image.dumps(network)) as session:
        assert session.finish(readout).sum() == pytest.approx(1)
        assert readout.tolist() == [0.25, -1]
        with pytest.raises(EngineError):
            session.finish(np.zeros(3, np.float32))


def test_layers_and_profile() -> None:
    """Hidden layers as they are, the last output finished."""
    rng = np.random.default_rng(5)
    network = scaled(rng, random_network(rng, kinds=("dense",), sizes=SIZES), "softmax")
    x = raw_input(rng, network, 1)
    *hidden, last = reference.trace(network, x)
    with native.load(image.dumps(network)) as session:
        outputs = session.run_all(x)
        np.testing.assert_allclose(outputs["layer0/activation"], hidden[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(outputs["output"], last, rtol=1e-4, atol=1e-5)
        assert session.layer_ns(x).shape == (1, 2)


def test_the_check_of_inputs_is_on_raw_ones() -> None:
    """A finite input may overflow when it is standardized, as any product may."""
    rng = np.random.default_rng(6)
    network = random_network(rng, kinds=("dense",), sizes=(3, 2))
    std = np.array([1e-30, 1, 1], np.float32)
    network = replace(network, input_scaling=Standardization(np.zeros(3, np.float32), std))
    with native.load(image.dumps(network)) as session:
        assert not np.isfinite(session.run(np.array([1e30, 0, 0], np.float32))).all()
        with pytest.raises(EngineError):
            session.run(np.array([np.nan, 0, 0], np.float32))


def test_extreme_outputs() -> None:
    """Softmax and sigmoid of outputs far apart are 0 and 1, not NaN."""
    network = random_network(np.random.default_rng(7), kinds=("dense",), sizes=(1, 3))
    std = np.full(3, 1e4, np.float32)
    for activation in ("softmax", "sigmoid"):
        far = Standardization(np.array([-1e6, 0, 1e6], np.float32), std)
        extreme = replace(network, output_scaling=far, output_activation=activation)
        expected = reference.run(extreme, np.zeros((1, 1)))
        with native.load(image.dumps(extreme)) as session:
            np.testing.assert_allclose(session.run(np.zeros((1, 1), np.float32)), expected, atol=1e-6)


def test_exponentials_are_accurate_over_their_whole_range() -> None:
    """Sigmoids of -88 to 0, which are about e^x."""
    values = np.linspace(-86, 88, 4001, dtype=np.float32)
    network = random_network(np.random.default_rng(8), kinds=("dense",), sizes=(1, len(values)))
    layer = replace(network.layers[0], bias=values)
    network = replace(network, layers=(layer,), output_activation="sigmoid")
    with native.load(image.dumps(network)) as session:
        found = session.run(np.zeros(1, np.float32)).astype(np.float64)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-values.astype(np.float64))), rtol=1e-6)


def test_hostile_images_do_not_load(subtests: pytest.Subtests) -> None:
    for name, (data, _) in HOSTILE_SCALINGS.items():
        with subtests.test(name):
            if name in HARMLESS:
                native.load(data).close()
                continue
            with pytest.raises(ImageError):
                native.load(data)
            aligned = native._aligned(len(data))
            aligned[:] = np.frombuffer(data, np.uint8)
            size = ctypes.c_size_t()
            flags = native.CHECK_CHECKSUM | native.CHECK_VALUES
            assert native._library().sen_arena_size(aligned.ctypes.data, len(data), flags, ctypes.byref(size)) != 0
