"""The C library against the reference: every operator, every kernel."""

import ctypes
import gc
import re
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.passes.quantize import to_float16, to_int8_weights
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.engines import native
from sen_runtime.errors import EngineError, ImageError, MissingExtraError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum
from tests.support.native import SMALL, WAYS, in_every_way
from tests.support.networks import KINDS, by_source, random_input, random_network

STORAGES = {"float32": lambda network: network, "float16": to_float16, "int8": to_int8_weights}


def sessions(network: Network) -> Iterator[native.NativeSession]:
    data = image.dumps(network)
    for way in WAYS:
        yield native.load(data, **way)


def assert_close(actual: np.ndarray, expected: np.ndarray, *, allowed: float = 0.0, error: float = 2e-5) -> None:
    """Within float32 rounding, but for a share `allowed` of the rows, whose spikes may flip."""
    assert (actual.dtype, actual.shape) == (np.float32, expected.shape)
    errors = np.abs(actual - expected).max(axis=1) / max(float(np.abs(expected).max()), 1e-3)
    assert np.mean(errors > error) <= allowed, errors.max()


def assert_agrees_in_every_storage(
    network: Network, x: np.ndarray, way: dict, arrange: Callable[[Network], Network] = lambda network: network
) -> None:
    for stored in (to_float16(network), network):
        assert_close(native.load(image.dumps(arrange(stored)), **way).run(x), reference.run(stored, x))
    stored = to_int8_weights(network)
    session = native.load(image.dumps(arrange(stored)), **way)
    np.testing.assert_array_equal(session.run(x), reference.trace_int8(stored, x)[-1])


@given(seed=st.integers(0, 2**32 - 1), storage=st.sampled_from(["float32", "float16"]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_perceptrons(seed: int, storage: str) -> None:
    rng = np.random.default_rng(seed)
    network = STORAGES[storage](random_network(rng))
    x = random_input(rng, network, 4)
    expected = reference.trace(network, x)
    for session in sessions(network):
        outputs = session.run_all(x)
        assert_close(outputs["output"], expected[-1])
        for index, values in enumerate(expected[:-1]):
            assert_close(outputs[f"layer{index}/activation"], values)
        np.testing.assert_array_equal(session.run(x), outputs["output"])
        assert_close(session.run(x[:1]), expected[-1][:1])


@given(seed=st.integers(0, 2**32 - 1), widest=st.sampled_from([20, 150]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_int8_is_the_same_to_the_bit_in_every_kernel(seed: int, widest: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = tuple(int(n) for n in rng.integers(1, widest, rng.integers(2, 5)))
    kinds = tuple(kind for kind in KINDS if kind != "coordinates")
    network = to_int8_weights(random_network(rng, kinds=kinds, sizes=sizes))
    x = rng.normal(size=(4, sizes[0])).astype(np.float32) * (rng.random((4, sizes[0])) < 0.8)
    x = x.astype(np.float32)
    expected = reference.trace_int8(network, x)
    for session in sessions(network):
        outputs = session.run_all(x)
        np.testing.assert_array_equal(outputs["output"], expected[-1])
        for index, values in enumerate(expected[:-1]):
            np.testing.assert_array_equal(outputs[f"layer{index}/activation"], values)


@in_every_way
def test_int8_takes_inputs_of_any_size(way: dict) -> None:
    """Zeros, halves between two steps, values too small to divide by, and what is not a number: no kernel may trip."""
    rng = np.random.default_rng(0)
    network = to_int8_weights(random_network(rng, kinds=("dense",), sizes=(70, 33, 3)))
    rows = [np.zeros(70), np.full(70, 1e-38), np.full(70, -0.0), np.arange(70) - 0.5, rng.normal(size=70) * 1e30]
    x = np.array(rows, np.float32)
    session = native.load(image.dumps(network), **way)
    np.testing.assert_array_equal(session.run(x), reference.trace_int8(network, x)[-1])
    holes = np.where(rng.random((1, 70)) < 0.3, np.nan, rows[4] / 1e30).astype(np.float32)
    expected = native.load(image.dumps(network), kernels="reference", allow_nonfinite=True).run(holes)
    session = native.load(image.dumps(network), allow_nonfinite=True, **way)
    np.testing.assert_array_equal(session.run(holes), expected)
    for value in (np.nan, np.inf, -np.inf):
        session.run(np.full((1, 70), value, np.float32))


@given(
    seed=st.integers(0, 2**32 - 1),
    readout=st.sampled_from(["mean_membrane", "last_membrane", "spike_count"]),
    reset=st.sampled_from(["subtract", "zero"]),
    delay=st.booleans(),
    coding=st.sampled_from(["direct", "spikes"]),
    storage=st.sampled_from(list(STORAGES)),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_spiking_networks(seed: int, readout: str, reset: str, delay: bool, coding: str, storage: str) -> None:
    rng = np.random.default_rng(seed)
    kinds = tuple(kind for kind in KINDS if storage != "int8" or kind != "coordinates")
    network = random_network(
        rng, spiking=True, kinds=kinds, readout=readout, reset=reset, reset_delay=delay, input_coding=coding
    )
    network = STORAGES[storage](network)
    x = random_input(rng, network, 10)
    expected = reference.trace(network, x)
    outputs = [session.run_all(x) for session in (*sessions(network), *sessions(by_source(network)))]
    for each in outputs:
        if storage == "int8":  # the reference rounds no inputs
            assert_close(each["output"], expected[-1], allowed=0.5, error=0.1)
            assert_close(each["output"], outputs[0]["output"], allowed=0.1)
            continue
        assert_close(each["output"], expected[-1], allowed=0.1)
        for index, counts in enumerate(expected[:-1]):
            assert np.mean(each[f"layer{index}/activation"] != counts) <= 0.05


@in_every_way
@pytest.mark.parametrize("coding", ["direct", "spikes"])
@pytest.mark.parametrize(("reset", "delay"), [("subtract", True), ("subtract", False), ("zero", True), ("zero", False)])
def test_every_reset_in_whole_vectors_and_beyond(way: dict, reset: str, delay: bool, coding: str) -> None:
    """150 neurons: blocks of 64, vectors of 16, and 6 one by one. All numbers are exact in float32."""
    rng = np.random.default_rng(0)
    neuron = Lif(0.5, 0.75, reset, delay)
    layers = [Layer(Dense((rng.integers(-16, 48, (150, 9)) / 64).astype(np.float32)), None, neuron)]
    layers.append(Layer(Dense((rng.integers(-16, 16, (4, 150)) / 64).astype(np.float32)), None, LeakyIntegrator(0.5)))
    network = Network(tuple(layers), 6, coding, "last_membrane")
    x = (rng.integers(0, 2, (5, 6, 9) if coding == "spikes" else (5, 9))).astype(np.float32)
    expected = reference.trace(network, x)
    session = native.load(image.dumps(network), **way)
    outputs = session.run_all(x)
    np.testing.assert_array_equal(session.run(x), expected[-1])
    np.testing.assert_array_equal(outputs["layer0/activation"], expected[0])
    np.testing.assert_array_equal(outputs["output"], expected[-1])
    assert 0 < expected[0].mean() < 6


BLOCKS = [(1, 1), (16, 1), (8, 1), (4, 1), (1, 4), (1, 8), (3, 2), (32, 1)]


@in_every_way
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (37, 29), (130, 64), (33, 200)], ids=str)
def test_sparse_blocks_of_every_size(way: dict, shape: tuple[int, int], subtests: pytest.Subtests) -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=shape) * (rng.random(shape) < 0.3)
    x = rng.normal(size=(3, shape[1])).astype(np.float32)
    for block in BLOCKS:
        network = Network((Layer(Sparse.from_dense(w.astype(np.float32), block), None, Identity()),))
        with subtests.test(block=block):
            assert_agrees_in_every_storage(network, x, way)
            assert_agrees_in_every_storage(network, x, way, by_source)


@in_every_way
def test_dense_of_every_width(way: dict, subtests: pytest.Subtests) -> None:
    for n_out in (1, 15, 16, 17, 63, 64, 65, 130):
        rng = np.random.default_rng(n_out)
        network = Network(
            (
                Layer(Dense(rng.normal(size=(n_out, 33)).astype(np.float32)), None, Relu()),
                Layer(Dense(rng.normal(size=(5, n_out)).astype(np.float32)), None, Identity()),
            )
        )
        x = (rng.normal(size=(4, 33)) * (rng.random((4, 33)) < 0.5)).astype(np.float32)
        with subtests.test(n_out=n_out):
            assert_agrees_in_every_storage(network, x, way)


def test_more_columns_than_sixteen_bits_name() -> None:
    """Sparse indices are then int32, and sums of int8 products no longer fit 32 bits."""
    rng = np.random.default_rng(0)
    w = np.zeros((3, 70_000), np.float32)
    w[rng.integers(3, size=500), rng.integers(70_000, size=500)] = 1
    w[0, :] = 1
    x = np.ones((1, 70_000), np.float32)
    for operator in (Sparse.from_dense(w), Dense(w)):
        network = Network((Layer(operator, None, Identity()),))
        for stored in (network, to_int8_weights(network)):
            for session in (*sessions(stored), *sessions(by_source(stored))):
                assert_close(session.run(x), reference.run(stored, x))


@pytest.mark.parametrize("exponent", [0.25, 0.5, 1, 1.5, 2, 3, 4.75, 12.5])
def test_exponents_of_the_distance(exponent: float) -> None:
    rng = np.random.default_rng(0)
    operator = Coordinates(
        rng.normal(size=(9, 3)).astype(np.float32),
        (rng.normal(size=(7, 3)) + 4).astype(np.float32),
        rng.uniform(-1, 1, 9).astype(np.float32),
        exponent=exponent,
    )
    network = Network((Layer(operator, None, Identity()),))
    x = rng.normal(size=(3, 9)).astype(np.float32)
    assert_close(native.load(image.dumps(network)).run(x), reference.run(network, x))


@in_every_way
@pytest.mark.parametrize("min_distance", [0.0, 1.5])
def test_synapses_beyond_max_distance_have_no_weight(way: dict, min_distance: float) -> None:
    rng = np.random.default_rng(0)
    source, target = (rng.normal(size=(n, 3)).astype(np.float32) for n in (40, 70))
    source[0], target[0], target[1] = [2, 2, 2], [2, 4, 2], [2, np.nextafter(np.float32(4), np.float32(5)), 2]
    mask = rng.uniform(0.5, 1, 40).astype(np.float32)
    operator = Coordinates(source, target, mask, min_distance=min_distance, max_distance=2)
    network = Network((Layer(operator, None, Identity()),))
    weights = native.load(image.dumps(network), **way).run(np.eye(40, dtype=np.float32)).T
    np.testing.assert_array_equal(weights == 0, operator.to_dense() == 0)
    np.testing.assert_allclose(weights, operator.to_dense(), rtol=1e-6)
    assert (weights[0, 0], weights[1, 0]) == (mask[0] / 2, 0) and 0.3 < np.mean(weights == 0) < 0.8


@pytest.mark.parametrize("exponent", [300.0, 1000.5, 1e9])
def test_exponents_beyond_reason(exponent: float) -> None:
    source, target = np.zeros((1, 1), np.float32), np.full((1, 1), 1.01, np.float32)
    operator = Coordinates(source, target, np.ones(1, np.float32), exponent=exponent)
    network = Network((Layer(operator, None, Identity()),))
    x = np.ones((1, 1), np.float32)
    np.testing.assert_allclose(native.load(image.dumps(network)).run(x), reference.run(network, x), rtol=1e-3)


def test_coincident_neurons_are_an_error() -> None:
    operator = Coordinates(*(np.zeros((1, 2), np.float32),) * 2, np.ones(1, np.float32))
    for limit in (np.inf, 0.5):
        network = Network((Layer(replace(operator, max_distance=limit), None, Identity()),))
        with pytest.raises(ImageError, match=r"neuron 0.*neuron 0"):
            native.load(image.dumps(network))


def test_coordinates_on_the_fly_take_no_memory() -> None:
    rng = np.random.default_rng(0)
    network = random_network(rng, kinds=("coordinates",), sizes=(300, 200, 10))
    x = random_input(rng, network, 2)
    expanded, computed = (native.load(image.dumps(network), expand=expand) for expand in (True, False))
    assert computed.arena_bytes < 20_000 < 4 * 300 * 200 < expanded.arena_bytes
    assert_close(computed.run(x), expanded.run(x))


@pytest.mark.parametrize("kernels", native.KERNELS)
@pytest.mark.parametrize("exponent", [0.7, 1.0, 2.5, 6.0])
@pytest.mark.parametrize("dimensions", [1, 3, 64, 65])
def test_weights_computed_on_the_fly_are_those_of_the_reference(kernels: str, exponent: float, dimensions: int) -> None:
    """Each input is 0 but for one value, so an output is a weight; more targets than the vectors of a step."""
    rng = np.random.default_rng(0)
    source, target = (rng.random((n, dimensions), np.float32) for n in (17, 83))
    target[:, 0] += 2
    operator = Coordinates(source, target, 0.1 + 0.9 * rng.random(17, np.float32), 0.5, exponent)
    distances = np.sort(np.linalg.norm(source[:, np.newaxis] - target, axis=-1).ravel())
    widest = 200 + int(np.diff(distances[200:-200]).argmax())  # no distance is within rounding of a limit
    near, far = distances[:2].mean(), distances[widest : widest + 2].mean()
    for each in (operator, replace(operator, min_distance=float(near), max_distance=float(far))):
        network = Network((Layer(each, None, Identity()),))
        session = native.load(image.dumps(network), kernels=kernels, expand=False)
        np.testing.assert_allclose(session.run(np.eye(17, dtype=np.float32)), each.to_dense().T, rtol=4e-6)


def test_sums_nest_to_the_limit_on_either_side() -> None:
    leaf = Dense(np.ones((2, 3), np.float32))
    left = right = leaf
    for _ in range(31):
        left, right = Sum(left, leaf), Sum(leaf, right)
    for operator in (left, right):
        network = Network((Layer(operator, None, Identity()),))
        np.testing.assert_allclose(native.load(image.dumps(network)).run(np.ones((1, 3), np.float32)), 96)


def test_two_models_at_once_and_streams_that_do_not_mix() -> None:
    rng = np.random.default_rng(0)
    network = random_network(rng, spiking=True, kinds=("dense",), sizes=(6, 5, 3))
    data = image.dumps(network)
    a, b = native.load(data), native.load(data)
    frames = rng.random((8, 6)).astype(np.float32)
    alone = [a.step(frame) for frame in frames]
    a.reset()
    for frame, expected in zip(frames, alone, strict=True):
        np.testing.assert_array_equal(a.step(frame), expected)
        b.step(frame[::-1])


def test_a_file_is_read_where_it_is(tmp_path: Path) -> None:
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(400, 300, 10))
    image.write(network, tmp_path / "net.sen")
    in_place = native.load(tmp_path / "net.sen", pack=False)
    assert in_place.arena_bytes < 20_000 < 4 * 300 * 400 < native.load(tmp_path / "net.sen").arena_bytes
    x = random_input(np.random.default_rng(1), network, 2)
    assert_close(in_place.run(x), reference.run(network, x))


def test_the_border() -> None:
    session = native.load(SMALL)
    assert (session.input.shape, session.output.shape, session.batch_size) == ((3,), (2,), None)
    session.input[...] = [1, 2, 3]
    session.invoke()
    np.testing.assert_array_equal(session.output, session.run(np.array([[1, 2, 3]], np.float32))[0])
    for wrong in (np.zeros((1, 4)), np.zeros(4), np.zeros((2, 3, 1))):
        with pytest.raises(EngineError, match=r"\[batch, 3\].*\[3\]"):
            session.run(wrong)
    for call in (session.reset, lambda: session.step(np.zeros(3, np.float32))):
        with pytest.raises(EngineError, match="step"):
            call()
    with pytest.raises(EngineError, match="layer 0"):
        session.layer_output(0)
    assert native.load(SMALL, kernels="reference").kernels == "reference"
    with pytest.raises(EngineError, match=r"'fast'.*fastest"):
        native.load(SMALL, kernels="fast")
    for layout in (np.asfortranarray, lambda x: x.astype(np.float64), lambda x: np.repeat(x, 2, 0)[::2]):
        x = np.random.default_rng(0).random((4, 3), np.float32)
        np.testing.assert_allclose(session.run(layout(x)), session.run(x), rtol=1e-6)


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_LIBRARY", "nothing.so")
    native._library.cache_clear()
    with pytest.raises(MissingExtraError, match="native") as raised:
        native.load(SMALL)
    assert "C compiler" in raised.value.hint
    native._library.cache_clear()


def test_numbers_are_those_of_the_header() -> None:
    header = (Path(native.__file__).parents[1] / "c/include/sen.h").read_text()
    flags = {name: int(value) for name, value in re.findall(r"SEN_(\w+) = (\d+)", header)}
    for name in ("CHECK_CHECKSUM", "CHECK_VALUES", "PACK", "ON_THE_FLY", "ALLOW_NONFINITE"):
        assert getattr(native, name) == flags[name]
    assert {"fastest": 0, **{name: flags[name.upper()] for name in list(native.KERNELS)[1:]}} == native.KERNELS
    statuses = re.findall(r"STATUS\(SEN_(\w+), ", header)
    of_the_image = [statuses[number] for number in native._IMAGE_STATUSES]
    assert (of_the_image[0], of_the_image[-1]) == ("TRUNCATED", "DELAY")
    assert statuses[native._NONFINITE] == "NONFINITE"
    library = native._library()
    texts = {library.sen_status_text(number) for number in range(len(statuses))}
    assert len(texts) == len(statuses) and b"unknown status" not in texts


def test_kernels_are_distinguished() -> None:
    network = Network(
        (
            Layer(LowRank(np.ones((2, 1), np.float32), np.ones((1, 3), np.float32)), None, Lif(0.5)),
            Layer(Dense(np.ones((2, 2), np.float32)), None, LeakyIntegrator(0.5)),
        ),
        timesteps=2,
    )
    names = {native.load(image.dumps(network), kernels=name).kernels for name in native.KERNELS}
    assert names >= {"reference", "portable"}


def test_a_bare_call_outlives_its_session() -> None:
    network = random_network(np.random.default_rng(0), kinds=("dense",))
    x = random_input(np.random.default_rng(1), network, 1)
    session = native.load(image.dumps(network))
    expected, call, left = session.run(x), session.bare_call(x), weakref.ref(session._arena)
    session.close()
    del session
    gc.collect()
    assert left() is not None  # else the call reads memory that was given back, which may or may not show
    assert np.array_equal(call(), expected)


@pytest.mark.parametrize("kernels", native.KERNELS)
@pytest.mark.parametrize("expand", [True, False])
def test_a_packed_model_does_not_use_its_image(kernels: str, expand: bool) -> None:
    library, flags = native._library(), native.KERNELS[kernels] | native.PACK | native.ON_THE_FLY * (not expand)
    for kind, storage, spiking in product((*KINDS, "sources"), STORAGES, (False, True)):
        if (kind, storage) == ("coordinates", "int8"):
            continue
        kinds = ("sparse", "blocks") if kind == "sources" else (kind,)
        network = random_network(np.random.default_rng(1), spiking=spiking, kinds=kinds, sizes=(70, 40, 5))
        network = STORAGES[storage](network)
        data = image.dumps(by_source(network) if kind == "sources" else network)
        copy, size, model = native._aligned(len(data)), ctypes.c_size_t(), ctypes.c_void_p()
        copy[:] = np.frombuffer(data, np.uint8)
        assert library.sen_arena_size(copy.ctypes.data, copy.size, flags, ctypes.byref(size)) == 0
        arena = native._aligned(size.value)
        assert not library.sen_load(
            ctypes.byref(model), copy.ctypes.data, copy.size, arena.ctypes.data, arena.size, flags
        )
        copy[:] = 0xFF
        x = random_input(np.random.default_rng(2), network, 1)
        y = np.zeros((1, 5), np.float32)
        assert library.sen_run(model, x.ctypes.data, y.ctypes.data) == 0
        np.testing.assert_array_equal(y, native.load(data, kernels=kernels, expand=expand).run(x))
