"""Interface of the sessions of all engines: threads, inputs, paths, release."""

import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_exporters.base import exporter_for
from sen_runtime import engines
from sen_runtime.engines.session import to_float32
from sen_runtime.errors import EngineError, ImageError
from sen_runtime.ir.network import Network
from sen_runtime.memory_limits import MemoryLimitError
from tests.support.networks import random_network

#: Engine nir has the session of reference, and files of fewer networks.
NAMES = [name for name in engines.names() if name not in ("nir", *engines.missing(engines.names()))]
in_every_engine = pytest.mark.parametrize("name", NAMES)
#: TFLite Micro takes one row, and has no operator for int8 weights alone.
WITH_BATCHES = [name for name in NAMES if name != "tflite-micro"]
with_steps = pytest.mark.parametrize("name", [name for name in ("c", "native") if name in NAMES])
THREADS, CALLS = 4, 250


def network_of(kind: str = "float32", **given) -> Network:
    rng = np.random.default_rng(0)
    network = random_network(rng, kinds=("dense",), sizes=(6, 9, 7, 3), **given)
    if kind == "int8":
        return to_int8(network, rng.random((64, 6)).astype(np.float32))
    return to_int8_weights(network) if kind == "int8 weights" else network


def write(network: Network, name: str, folder: Path, **options) -> Path:
    """The file that an engine loads."""
    exporter = exporter_for(engines.engine(name).suffixes[0])
    return exporter.export(network, exporter.Options(name="net", **options)).write(folder)


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


# --- threads -------------------------------------------------------------------------------------


def outputs_in_threads(call: Callable[[np.ndarray], object], inputs: list[np.ndarray]) -> list[list[object]]:
    """What each thread gets, which calls with its own input again and again."""
    start, found = threading.Barrier(len(inputs)), [[] for _ in inputs]

    def work(number: int) -> None:
        start.wait()
        for _ in range(CALLS):
            found[number].append(call(inputs[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.usefixtures("frequent_switches")
@pytest.mark.parametrize(("name", "rows"), [*product(NAMES, [1]), *product(WITH_BATCHES, [3])])
@pytest.mark.parametrize("kind", ["perceptron", "spiking"])
def test_threads_do_not_disturb_each_other(name: str, kind: str, rows: int, tmp_path: Path) -> None:
    network = network_of(spiking=True, timesteps=3) if kind == "spiking" else network_of()
    session = engines.engine(name).load(write(network, name, tmp_path))
    rng = np.random.default_rng(1)
    inputs = [rng.random((rows, 6)).astype(np.float32) for _ in range(THREADS)]
    expected = [session.run_all(x) for x in inputs]
    for each, found in zip(expected, outputs_in_threads(session.run, inputs), strict=True):
        assert len(found) == CALLS and all(np.array_equal(y, each["output"]) for y in found)
    for each, found in zip(expected, outputs_in_threads(session.run_all, inputs), strict=True):
        assert len(found) == CALLS
        assert all(np.array_equal(y[key], each[key]) for y in found for key in each)


@pytest.mark.usefixtures("frequent_switches")
def test_one_thread_works_without_copies_while_others_run() -> None:
    from sen_runtime import format as image
    from sen_runtime.engines import native

    session = native.load(image.dumps(network_of()))
    rng = np.random.default_rng(1)
    inputs = [rng.random((1, 6)).astype(np.float32) for _ in range(THREADS)]
    expected = [session.run(x) for x in inputs]

    def call(x: np.ndarray) -> np.ndarray:
        if x is not inputs[0]:
            return session.run(x)
        session.input[...] = x[0]
        session.invoke()
        return session.output[np.newaxis].copy()

    for each, found in zip(expected, outputs_in_threads(call, inputs), strict=True):
        assert all(np.array_equal(y, each) for y in found)


@with_steps
def test_a_run_ends_the_stream_of_a_session(name: str, tmp_path: Path) -> None:
    session = engines.engine(name).load(write(network_of(spiking=True, timesteps=3), name, tmp_path))
    x = np.ones(6, np.float32)
    first = [session.step(x) for _ in range(4)]
    for run in (session.run, session.run_all, lambda x: session.run(x[np.newaxis])):
        session.reset()
        session.step(x)
        run(x)
        with pytest.raises(EngineError) as raised:
            session.step(x)
        assert "reset" in raised.value.hint
        session.reset()
        np.testing.assert_array_equal([session.step(x) for _ in range(4)], first)


# --- inputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["perceptron", "direct", "spikes"])
@pytest.mark.parametrize("name", WITH_BATCHES)
def test_inputs_of_every_form(name: str, coding: str, tmp_path: Path) -> None:
    given = {} if coding == "perceptron" else {"spiking": True, "timesteps": 3, "input_coding": coding}
    network = network_of(**given)
    session = engines.engine(name).load(write(network, name, tmp_path))
    x = np.random.default_rng(1).integers(0, 2, (2, *network.input_shape)).astype(np.float32)
    expected = session.run(x)
    for form in (x.tolist(), x.astype(np.float64), x.astype(np.int64), x.astype(bool), np.asfortranarray(x)):
        np.testing.assert_array_equal(session.run(form), expected)
    everything = session.run_all(x)
    for form in (x[0], x[0].tolist(), x[0].astype(np.uint8)):
        alone = session.run(form)
        assert alone.shape == (3,)
        np.testing.assert_allclose(alone, expected[0], rtol=1e-5, atol=1e-6)
        for key, values in session.run_all(form).items():
            np.testing.assert_allclose(values, everything[key][0], rtol=1e-5, atol=1e-6)


def test_an_input_between_addresses_is_copied() -> None:
    """A processor may have no instructions for it."""
    x = np.zeros(25, np.uint8)[1:].view(np.float32)
    assert not x.flags.aligned and to_float32(x).flags.aligned


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_a_copy_beyond_the_memory_is_refused(dtype: type) -> None:
    with pytest.raises(MemoryLimitError, match=r"10000000000, 784.*float32"):
        to_float32(np.broadcast_to(np.zeros(784, dtype), (10**10, 784)))


@pytest.mark.parametrize(
    "wrong",
    [["a"] * 6, [[1], [1, 2]], np.ones(6, complex), np.ones((1, 7)), np.ones((1, 1, 6)), 3, None, [object()] * 6],
    ids=["text", "ragged", "complex", "width", "rank", "number", "nothing", "objects"],
)
@in_every_engine
def test_inputs_that_are_refused(name: str, wrong: object, tmp_path: Path) -> None:
    session = engines.engine(name).load(write(network_of(), name, tmp_path))
    for call in (session.run, session.run_all):
        with pytest.raises(EngineError):
            call(wrong)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *product(NAMES, ["float32"]),
        *product(WITH_BATCHES, ["int8 weights"]),
        *((name, "int8") for name in NAMES if ".tflite" in engines.engine(name).suffixes),
    ],
)
def test_nan_and_infinity_are_refused(name: str, kind: str, tmp_path: Path) -> None:
    path = write(network_of(kind), name, tmp_path)
    with engines.engine(name).load(path) as session:
        for value in (np.nan, np.inf, -np.inf, 1e39):
            x = np.ones((3, 6))
            x[2, 5] = value
            for call, given in ((session.run, x), (session.run_all, x), (session.run, x[2]), (session.run, x[2:])):
                with pytest.raises(EngineError):
                    call(given)
        session.run(np.full((1, 6), 3e38))
    with engines.engine(name).load(path, allow_nonfinite=True) as session:
        for value in (np.nan, np.inf):
            assert session.run(np.full((1, 6), value, np.float32)).shape == (1, 3)


@with_steps
def test_steps_refuse_nan_too(name: str, tmp_path: Path) -> None:
    session = engines.engine(name).load(write(network_of(spiking=True), name, tmp_path))
    with pytest.raises(EngineError):
        session.step([np.nan] * 6)
    session.step([1] * 6)


# --- files, and the end --------------------------------------------------------------------------


@in_every_engine
def test_models_are_named_in_every_form(name: str, tmp_path: Path) -> None:
    path = write(network_of(), name, tmp_path)
    x = np.ones((1, 6), np.float32)
    forms = [path, str(path)] + ([] if name == "c" else [path.read_bytes()])
    outputs = [engines.engine(name).load(form).run(x) for form in forms]
    assert all(np.array_equal(y, outputs[0]) for y in outputs)
    for wrong in (3, None, tmp_path / f"absent{path.suffix}", tmp_path):
        with pytest.raises((EngineError, ImageError)):
            engines.engine(name).load(wrong)


@in_every_engine
def test_a_closed_session_runs_nothing(name: str, tmp_path: Path) -> None:
    path = write(network_of(), name, tmp_path)
    x = np.ones((1, 6), np.float32)
    with engines.engine(name).load(path) as session:
        session.run(x)
    session.close()
    calls = [lambda: session.run(x), lambda: session.run(x[0]), lambda: session.run_all(x)]
    if name in ("c", "native"):
        calls += [session.reset, lambda: session.step(x[0]), lambda: session.layer_output(0)]
    if name == "native":
        calls.append(session.invoke)
    for call in calls:
        with pytest.raises(EngineError, match="closed"):
            call()


@in_every_engine
def test_sessions_are_not_pickled(name: str, tmp_path: Path) -> None:
    session = engines.engine(name).load(write(network_of(), name, tmp_path))
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="session"):
            attempt(session)


TRUNCATE = """
import os, sys
import numpy as np
from sen_runtime.engines import engine
session = engine(sys.argv[1]).load(sys.argv[2])
x = np.ones((1, 200), np.float32)
before = session.run(x)
os.truncate(sys.argv[2], 0)
assert np.array_equal(session.run(x), before)
"""


@in_every_engine
def test_a_file_may_be_truncated_while_its_session_is_open(name: str, tmp_path: Path) -> None:
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(200, 100, 3))
    path = write(network, name, tmp_path)
    done = subprocess.run([sys.executable, "-c", TRUNCATE, name, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr[-500:])
