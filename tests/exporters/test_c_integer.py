"""Exported C with int8 activations: integers only, equal to the reference to the bit."""

import ctypes
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sen_edge.data import datasets
from sen_edge.errors import DataError
from sen_edge.model.model import load
from sen_edge.passes.materialize import materialize
from sen_edge.passes.quantize import to_int8
from sen_edge.passes.standardization import fold
from sen_exporters.tflite.exporter import TfliteExporter
from sen_exporters.tflite.graph import TfliteOptions
from sen_runtime import integer
from sen_runtime.engines import c as engine
from sen_runtime.engines.litert import ENGINE as LITERT
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Dense
from sen_runtime.ir.standardization import Standardization
from tests.engines.test_integer import KINDS, SPIKING, quantized
from tests.support.c_exports import STRICT, assert_flash, compile_and_run, export
from tests.support.networks import random_input, random_network
from tests.support.scalings import scaled

pytestmark = pytest.mark.needs("gcc")
CHECKED = (*STRICT, "-O1", "-fPIC", "-shared", "-fsanitize=undefined", "-fno-sanitize-recover=all")
CHECKPOINTS = Path(__file__).parents[2] / "examples/checkpoints"
#: A build takes most of the time.
EXAMPLES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(
    seed=st.integers(0, 2**32 - 1),
    granularity=st.sampled_from(["channel", "tensor"]),
    spiking=st.none() | SPIKING,
    simd=st.sampled_from(["none", "dsp", "mve"]),
)
@EXAMPLES
def test_outputs_equal_the_reference_to_the_bit(
    seed: int, granularity: str, spiking: dict[str, object] | None, simd: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, kinds=KINDS, spiking=spiking is not None, **(spiking or {}))
    x = random_input(rng, network, 20)
    network = quantized(network, x, granularity)
    x = random_input(rng, network, 20)
    session = engine.load(export(network, simd=simd).write(tmp_path_factory.mktemp("net")), flags=CHECKED)
    *hidden, expected = integer.trace(network, x)
    values = session.run_all(x)
    np.testing.assert_array_equal(values["output"], expected)
    for index, each in enumerate(hidden):
        np.testing.assert_array_equal(values[f"layer{index}/activation"], each)
    if not network.coding.is_binary:
        x = (30 * (x - np.float32(0.5))).astype(np.float32)
        np.testing.assert_array_equal(session.run(x), integer.run(network, x))


@given(seed=st.integers(0, 2**32 - 1), spiking=st.none() | SPIKING)
@EXAMPLES
def test_int4_equals_the_reference_to_the_bit(
    seed: int, spiking: dict[str, object] | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    sizes = tuple(int(n) for n in rng.choice([1, 7, 8, 17, 63, 64, 65, 130, 200], rng.integers(2, 4)))
    network = random_network(rng, kinds=("dense",), sizes=sizes, spiking=spiking is not None, **(spiking or {}))
    x = random_input(rng, network, 40)
    try:
        network = to_int8(network, x, bits=4)
    except DataError:  # a layer that gives zeros only
        return
    artifact = export(network)
    assert "sen_integer_int4_columns" in artifact.main.decode()
    session = engine.load(artifact.write(tmp_path_factory.mktemp("net")), flags=CHECKED)
    x = random_input(rng, network, 20)
    for inputs in (x, x * (rng.random(x.shape) < 0.2).astype(np.float32), np.ones_like(x)):
        np.testing.assert_array_equal(session.run(inputs), integer.run(network, inputs))


@pytest.mark.parametrize(("n_in", "zero_point", "simd"), [(34_000, -128, "none"), (260, 0, "dsp")])
def test_sums_may_carry_before_they_are_corrected(n_in: int, zero_point: int, simd: str, tmp_path: Path) -> None:
    """Sums of weights plus 128, and those of two rows in one number, exceed int32; the sums of the weights do not."""
    w = np.tile(np.array([[126], [126], [-126], [-126]], np.int8), n_in)
    reach = 255 * 126 * n_in
    grid, out = Grid(1 / 255, zero_point), Grid(reach / 255 / 64, 0)
    layer = Layer(Dense(w, np.ones(1, np.float32)), None, Identity(), out)
    network = Network((layer,), input_grid=grid, metadata={"input_range": "-1 1"})
    x = grid.dequantize(np.full((1, n_in), 127, np.int8))
    session = engine.load(export(network, simd=simd).write(tmp_path), flags=CHECKED)
    np.testing.assert_array_equal(session.run(x), integer.run(network, x))


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_scalings_are_part_of_the_conversions(activation: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    network = scaled(rng, random_network(rng, kinds=("dense",), sizes=(6, 5, 3)), activation)
    x = rng.normal(0, 3, (64, 6)).astype(np.float32)
    network = to_int8(network, x)
    assert library(network, tmp_path)
    actual = engine.load(tmp_path / "net/net.c", flags=CHECKED).run(x)
    np.testing.assert_allclose(actual, integer.run(network, x), rtol=1e-5, atol=1e-6)


def small(**given: object) -> Network:
    rng = np.random.default_rng(0)
    network = random_network(rng, kinds=("low_rank", "sparse", "sum"), sizes=(9, 12, 7, 4), **given)
    return to_int8(network, random_input(rng, network, 40))


def library(network: Network, folder: Path) -> ctypes.CDLL:
    """The public functions, without those of floating point."""
    source = export(network).write(folder)
    subprocess.run(["gcc", *CHECKED, source, "-o", folder / "net.so"], check=True)
    return ctypes.CDLL(str(folder / "net.so"))


def stored_rows(network: Network) -> np.ndarray:
    rng = np.random.default_rng(1)
    if network.coding.is_binary:
        return (64 * rng.integers(0, 2, (5, *network.input_shape))).astype(np.uint8)
    return rng.integers(0, 256, (5, network.n_in)).astype(np.uint8)


@pytest.mark.parametrize("readout", ["mean_membrane", "spike_count"])
@pytest.mark.parametrize("coding", ["direct", "spikes"])
def test_steps_add_up_to_a_run(coding: str, readout: str, tmp_path: Path) -> None:
    network = small(spiking=True, input_coding=coding, readout=readout)
    net, arena = library(network, tmp_path), np.zeros(1024, np.uint64).ctypes
    y, stepped = np.zeros(4, np.uint8), np.zeros(4, np.uint8)
    for row in stored_rows(network):
        assert net.net_run_u8(arena, row.ctypes, y.ctypes) == 0
        net.net_reset(arena)
        for step in row if row.ndim == 2 else [row] * network.timesteps:
            assert net.net_step_u8(arena, step.ctypes) == 0
        net.net_read_u8(arena, stepped.ctypes)
        np.testing.assert_array_equal(stepped, y)
        ended = 0 if readout == "spike_count" else 2
        assert net.net_step_u8(arena, np.zeros(9, np.uint8).ctypes) == ended


def test_signed_values_decisions_and_scores(tmp_path: Path) -> None:
    network = small()
    net, arena = library(network, tmp_path), np.zeros(1024, np.uint64).ctypes
    y, signed, q = np.zeros(4, np.uint8), np.zeros(4, np.int8), np.zeros(4, np.int32)
    for row in stored_rows(network):
        assert net.net_run_u8(arena, row.ctypes, y.ctypes) == 0
        np.testing.assert_array_equal(y, integer.run_stored(network, row[np.newaxis])[0])
        x = (row.astype(np.int16) - 128).astype(np.int8)
        before = x.copy()
        assert net.net_run_s8(arena, x.ctypes, signed.ctypes) == 0
        np.testing.assert_array_equal(x, before)
        np.testing.assert_array_equal(signed, y.astype(np.int16) - 128)
        assert net.net_argmax(y.ctypes) == y.argmax()
        net.net_scores_q16(y.ctypes, q.ctypes)
        np.testing.assert_allclose(q / 65536, integer.dequantize(network.layers[-1].grid, y), atol=1 / 65536)


@pytest.mark.needs("arm-none-eabi-gcc")
@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m3"])
@pytest.mark.parametrize("spiking", [False, True], ids=["perceptron", "spiking"])
def test_nothing_is_computed_in_floating_point(spiking: bool, core: str, tmp_path: Path) -> None:
    """Nor with functions for 64 bits."""
    rng = np.random.default_rng(0)
    network = random_network(rng, kinds=("dense",), sizes=(60, 50, 10), spiking=spiking)
    source = export(to_int8(network, random_input(rng, network, 40))).write(tmp_path)
    built = tmp_path / "net.o"
    command = ["arm-none-eabi-gcc", *STRICT, f"-mcpu={core}", "-mthumb", "-Os", "-c", source, "-o", built]
    subprocess.run(command, check=True)
    table = subprocess.run(["arm-none-eabi-nm", "-u", built], check=True, capture_output=True, text=True).stdout
    assert set(table.split()) - {"U"} <= {"memcpy", "memset", "__aeabi_uidiv", "__aeabi_uidivmod"}


@pytest.mark.needs("arm-none-eabi-gcc")
@pytest.mark.parametrize("spiking", [False, True], ids=["perceptron", "spiking"])
def test_flash_and_ram_are_as_stated(spiking: bool, tmp_path: Path) -> None:
    artifact = export(small(spiking=spiking))
    assert_flash(artifact, tmp_path)
    assert f"NET_ARENA_BYTES {artifact.footprint['RAM']}\n" in artifact.files["net/net.h"].decode()


@pytest.mark.parametrize("top", [255, 1], ids=["bytes", "to 1"])
def test_pixels_are_stored_as_they_are(top: int, tmp_path: Path) -> None:
    """With a standardization in the weights."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (300, 64)).astype(np.uint8) * (rng.random((300, 64)) < 0.5)
    x = (pixels / np.float32(255 / top)).astype(np.float32)
    scaling = Standardization(np.full(64, x.mean()), np.full(64, x.std()))
    network = replace(random_network(rng, kinds=("dense",), sizes=(64, 20, 5)), input_scaling=scaling)
    network = to_int8(fold(network, "int8"), x)
    net, y = library(network, tmp_path), np.zeros(5, np.uint8)
    for row, expected in zip(pixels[:20], integer.run(network, x[:20]), strict=True):
        net.net_run_u8(np.zeros(64, np.uint64).ctypes, row.ctypes, y.ctypes)
        np.testing.assert_array_equal(integer.dequantize(network.layers[-1].grid, y), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "snn"])
def test_shipped_networks_are_within_one_step_of_litert(name: str, tmp_path: Path) -> None:
    images = datasets.load("digits").test_inputs.reshape(-1, 8, 8)
    x = np.pad(np.kron(images, np.ones((3, 3))), ((0, 0), (2, 2), (2, 2))).reshape(-1, 784).astype(np.float32)
    network = to_int8(materialize(load(CHECKPOINTS / f"mnist-{name}-d32-e6.pt").network), x)
    actual = engine.load(export(network).write(tmp_path)).run(x)
    expected = LITERT.load(TfliteExporter().export(network, TfliteOptions()).main).run(x)
    steps = np.rint(np.abs(actual - expected) / network.layers[-1].grid.scale)
    assert steps.max() <= 1 and np.mean(steps > 0) < (0.001 if name == "mlp" else 0.05)


@pytest.mark.parametrize("spiking", [False, True], ids=["perceptron", "spiking"])
def test_the_self_test_stays_within_its_arrays(spiking: bool, tmp_path: Path) -> None:
    """The inputs and outputs, which kernels read and write in place, and the arena have no bytes to spare."""
    folder = export(small(spiking=spiking)).write(tmp_path).parent
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    assert compile_and_run(tmp_path, folder / "net.c", folder / "net_selftest.c", flags=flags) == 0
    test = folder / "net_selftest.c"
    test.write_text(test.read_text().replace("y[output] != golden", "y[output] == golden"))
    assert compile_and_run(tmp_path, folder / "net.c", test, flags=flags) == 1
