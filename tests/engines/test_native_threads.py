"""Threads of the native engine: the same results to the bit, whatever runs or ends meanwhile."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import sen_runtime
from sen_edge.passes.quantize import to_float16, to_int8, to_int8_weights
from sen_runtime import engines
from sen_runtime import format as image
from sen_runtime.engines import native, native_threads
from sen_runtime.errors import EngineError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum
from tests.support.networks import random_input

N_IN, WIDE, N_OUT = 400, 1400, 5
TASKS = Path("/proc/self/task")
WAYS = [
    {"kernels": "fastest", "pack": True},
    {"kernels": "fastest", "pack": False},
    {"kernels": "narrow", "pack": True},
    {"kernels": "portable", "pack": True},
    {"kernels": "reference", "pack": False},
]


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def networks() -> Iterator[tuple[str, Network]]:
    """Networks whose first layer is large enough for several threads."""
    rng = np.random.default_rng(0)
    last = Layer(Dense(normal(rng, N_OUT, WIDE)), normal(rng, N_OUT), Identity())
    dense, bias = Dense(normal(rng, WIDE, N_IN)), normal(rng, WIDE)
    whole = Network((Layer(dense, bias, Relu()), last))
    factors = LowRank(normal(rng, WIDE, 390), normal(rng, 390, N_IN))
    sparse = Sparse.from_dense(dense.w * (rng.random(dense.w.shape) < 0.2))
    places = Coordinates(normal(rng, 200, 3), normal(rng, 160, 3), normal(rng, 200).clip(-1, 1))
    lif, readout = Layer(dense, bias, Lif(0.9, 1.0)), Layer(last.weight, last.bias, LeakyIntegrator(0.9))
    yield "float32", whole
    yield "float16", to_float16(whole)
    yield "int8 weights", to_int8_weights(whole)
    yield "int8", to_int8(whole, normal(rng, 64, N_IN))
    yield "low rank", Network((Layer(factors, None, Relu()), last))
    yield "sum", Network((Layer(Sum(dense, sparse), bias, Relu()), last))
    yield "sparse", Network((Layer(sparse, bias, Relu()), last))
    yield "coordinates", Network((Layer(places, None, Identity()),))
    yield "spiking", Network((lif, readout), 2)
    yield "spike train", Network((lif, readout), 2, "spikes")


NETWORKS = dict(networks())


@pytest.fixture
def session() -> Iterator[native.NativeSession]:
    with native.load(image.dumps(NETWORKS["float32"]), threads=3) as opened:
        yield opened


def inputs(network: Network, rows: int) -> np.ndarray:
    return random_input(np.random.default_rng(1), network, rows)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way['kernels']}-{'packed' if way['pack'] else 'in place'}")
@pytest.mark.parametrize("kind", NETWORKS)
def test_results_are_the_same_to_the_bit(kind: str, way: dict) -> None:
    network = NETWORKS[kind]
    data, x = image.dumps(network), inputs(network, 20)
    alone = native.load(data, expand=False, **way)
    with native.load(data, threads=5, expand=False, **way) as shared:
        for rows in (1, 2, 20):
            np.testing.assert_array_equal(shared.run(x[:rows]), alone.run(x[:rows]))
        np.testing.assert_array_equal(shared.run(x[0]), alone.run(x[0]))
        shared.input[...] = x[1]
        shared.invoke()
        np.testing.assert_array_equal(shared.output, alone.run(x[1]))
        np.testing.assert_array_equal(shared.bare_call(x[:1])(), alone.run(x[:1]))
        outputs = shared.run_all(x[:1])
        for name, values in alone.run_all(x[:1]).items():
            np.testing.assert_array_equal(outputs[name], values)


@pytest.mark.parametrize("threads", [0, -1, 257, 1.5, "2", None, True, np.float32(2)], ids=repr)
def test_numbers_that_are_refused(threads: object) -> None:
    with pytest.raises(EngineError, match="threads"):
        native.load(image.dumps(NETWORKS["coordinates"]), threads=threads)


@pytest.mark.parametrize("name", ["native", "reference", "onnxruntime", "litert"])
def test_engines_refuse_the_same_numbers(name: str) -> None:
    for threads in (0, 257, "2"):
        with pytest.raises(EngineError, match=r"threads.*\b1 to 256\b"):
            sen_runtime.load("model", engine=name, threads=threads)


def test_integers_of_numpy_are_numbers_too() -> None:
    native.load(image.dumps(NETWORKS["coordinates"]), threads=np.int64(2)).close()


def test_a_system_without_threads_is_an_error() -> None:
    def refuse(*_: object) -> None:
        return None

    library = SimpleNamespace(sen_team_open=refuse, sen_team_close=refuse)
    with pytest.raises(EngineError, match="7 threads"):
        native_threads.runner(library, 0, 7)


@pytest.mark.skipif(not TASKS.exists(), reason="lists threads as Linux does")
def test_threads_start_with_a_session_and_end_with_it() -> None:
    def count() -> int:
        return len(list(TASKS.iterdir()))

    before = count()
    with native.load(image.dumps(NETWORKS["float32"]), threads=4) as session:
        assert count() == before + 3
        call = session.bare_call(inputs(NETWORKS["float32"], 1))
    assert count() == before + 3
    call()
    del call
    assert count() == before
    native.load(image.dumps(NETWORKS["float32"]), threads=4)
    assert count() == before


def test_threads_that_sleep_wake_up(session: native.NativeSession) -> None:
    x = inputs(NETWORKS["float32"], 9)
    one, several = session.run(x[:1]), session.run(x)
    pauses = np.random.default_rng(2).choice([0, 2e-5, 5e-5, 1e-4, 1e-3], 300)
    for pause in pauses:
        time.sleep(pause)
        np.testing.assert_array_equal(session.run(x[:1]), one)
        time.sleep(pause)
        np.testing.assert_array_equal(session.run(x), several)


def test_several_callers(session: native.NativeSession) -> None:
    x = inputs(NETWORKS["float32"], 9)
    sessions = [session, session, native.load(image.dumps(NETWORKS["float32"]), threads=2)]
    expected, found = (session.run(x), session.run(x[:1])), [[] for _ in sessions]

    def work(each: native.NativeSession, results: list[bool]) -> None:
        results += [
            np.array_equal(each.run(x), expected[0]) and np.array_equal(each.run(x[:1]), expected[1]) for _ in range(30)
        ]

    callers = [threading.Thread(target=work, args=pair) for pair in zip(sessions, found, strict=True)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == [[True] * 30] * 3


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_the_first_input_that_is_not_finite_is_named(kind: str) -> None:
    session, x = native.load(image.dumps(NETWORKS[kind]), threads=2), inputs(NETWORKS[kind], 9)
    expected = session.run(x)
    wrong = x.copy()
    wrong[3, 7] = wrong[8, 1] = np.nan
    for given, place in ((wrong, r"\[3, 7\]"), (wrong[3:4], r"\[0, 7\]"), (wrong[8], r"1\]")):
        with pytest.raises(EngineError, match=place):
            session.run(given)
    np.testing.assert_array_equal(session.run(x), expected)


@pytest.mark.parametrize("kind", ["float32", "sparse"])
def test_rows_before_one_that_is_not_finite_are_written(kind: str) -> None:
    """Whether threads share outputs or rows."""
    session, x = native.load(image.dumps(NETWORKS[kind]), threads=2), inputs(NETWORKS[kind], 9)
    expected, y = session.run(x), np.zeros((9, N_OUT), np.float32)
    x[7, 2] = np.inf
    status = session._runner.run_rows(
        session._runner.handle, *(each.ctypes.data for each in (session._caller.memory, x, y)), 9
    )
    assert status == native._NONFINITE
    np.testing.assert_array_equal(y[:7], expected[:7])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_one_thread(session: native.NativeSession) -> None:
    x = inputs(NETWORKS["float32"], 9)
    expected = session.run(x), session.run(x[:1])
    child = os.fork()
    if child == 0:
        same = np.array_equal(session.run(x), expected[0]) and np.array_equal(session.run(x[:1]), expected[1])
        session.close()
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(session.run(x), expected[0])


def test_bench_measures_the_engine_with_threads() -> None:
    assert engines.engine("native").is_threaded
