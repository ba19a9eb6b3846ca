"""Calls of the native engine without ctypes: what they take, and that everything else takes the general way."""

import gc
import os
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from sen_runtime import format as image
from sen_runtime.engines import native, native_call
from sen_runtime.errors import EngineError
from tests.support.networks import random_input, random_network

N_IN, N_OUT = 7, 3
PERCEPTRON = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(N_IN, 5, N_OUT))
TRAIN = random_network(
    np.random.default_rng(0), spiking=True, timesteps=4, input_coding="spikes", kinds=("dense",), sizes=(N_IN, 5, N_OUT)
)


class Subclass(np.ndarray):
    """Not exactly an array."""


@pytest.fixture
def session() -> native.NativeSession:
    return native.load(image.dumps(PERCEPTRON))


def unaligned(x: np.ndarray) -> np.ndarray:
    memory = np.zeros(x.nbytes + 1, np.uint8)
    moved = memory[1:].view(np.float32).reshape(x.shape)
    moved[...] = x
    return moved


def read_only(x: np.ndarray) -> np.ndarray:
    copy = x.copy()
    copy.flags.writeable = False
    return copy


TAKEN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a batch of one": lambda x: x[:1],
    "a row of a batch": lambda x: x[1:2],
    "a single input": lambda x: x[1],
    "read-only": lambda x: read_only(x[:1]),
}
LEFT: dict[str, Callable[[np.ndarray], object]] = {
    "no rows": lambda x: x[:0],
    "float64": lambda x: x[:1].astype(np.float64),
    "float16": lambda x: x[:1].astype(np.float16),
    "integers": lambda x: x[:1].astype(np.int32),
    "other byte order": lambda x: x[:1].astype(np.dtype(np.float32).newbyteorder()),
    "columns first": np.asfortranarray,
    "every second row": lambda x: x[::2],
    "backwards": lambda x: x[:1, ::-1],
    "a subclass": lambda x: x[:1].view(Subclass),
    "unaligned": lambda x: unaligned(x[:1]),
    "lists": lambda x: x[:1].tolist(),
}
WRONG: dict[str, object] = {
    "nothing": None,
    "a number": np.float32(1),
    "no dimensions": np.zeros((), np.float32),
    "a column too many": np.zeros((1, N_IN + 1), np.float32),
    "transposed": np.zeros((N_IN, 1), np.float32),
    "too many dimensions": np.zeros((1, 1, N_IN, 1), np.float32),
    "text": "1",
}


def test_the_library_is_built_here() -> None:
    assert native_call._library() is not None


@pytest.mark.parametrize("network", [PERCEPTRON, TRAIN], ids=["perceptron", "spike train"])
@pytest.mark.parametrize("form", [*TAKEN, *LEFT])
def test_both_ways_give_the_same(network, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = native.load(image.dumps(network))
    monkeypatch.setattr(native_call, "_library", lambda: None)
    general = native.load(image.dumps(network))
    x = (TAKEN | LEFT)[form](random_input(np.random.default_rng(1), network, 4))
    y, expected = session.run(x), general.run(x)
    np.testing.assert_array_equal(y, expected)
    assert (type(y), y.dtype, y.shape) == (np.ndarray, np.float32, expected.shape)
    assert y.flags.writeable and y.flags.owndata and y.flags.c_contiguous
    assert (session._call(x) is None, general._call(x)) == (form in LEFT, None)


@pytest.mark.parametrize("network", [PERCEPTRON, TRAIN], ids=["perceptron", "spike train"])
@pytest.mark.parametrize("form", WRONG)
def test_wrong_inputs_are_errors(network, form: str) -> None:
    session = native.load(image.dumps(network))
    assert session._call(WRONG[form]) is None
    with pytest.raises(EngineError):
        session.run(WRONG[form])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("network", [PERCEPTRON, TRAIN], ids=["perceptron", "spike train"])
def test_batches_are_taken_from_the_second_on(network, threads: int) -> None:
    session, x = native.load(image.dumps(network), threads=threads), random_input(np.random.default_rng(1), network, 9)
    assert session._call(x) is None
    expected = session.run(x)
    y = session._call(x[:5])
    assert y is not None and (y.dtype, y.shape) == (np.float32, (5, N_OUT)) and y.flags.owndata
    np.testing.assert_array_equal(y, expected[:5])
    np.testing.assert_array_equal(session.run(x), expected)
    x[3, ..., 2] = np.nan
    assert session._call(x) is None
    with pytest.raises(EngineError, match=r"\[3, "):
        session.run(x)
    session.close()
    assert session._call(x) is None


def test_outputs_of_a_large_batch_are_estimated(session: native.NativeSession) -> None:
    x = np.zeros((2**20 // N_OUT + 1, N_IN), np.float32)  # MAX_VALUES of call.c
    session.run(x[:2])
    assert session._call(x[:-1]) is not None
    assert session._call(x) is None


def test_inputs_stay_and_outputs_are_new(session: native.NativeSession) -> None:
    x = np.ones((1, N_IN), np.float32)
    first, second = session.run(x), session.run(2 * x)
    assert not np.shares_memory(first, second) and not np.array_equal(first, second)
    np.testing.assert_array_equal(x, 1)


def test_an_error_is_the_one_of_the_general_way(session: native.NativeSession) -> None:
    x = np.ones((2, 1, N_IN), np.float32)
    x[0, 0, 2] = np.nan
    expected = session.run(x[1])
    for _ in range(3):
        with pytest.raises(EngineError, match=r"\[0, 2\]"):
            session.run(x[0])
        np.testing.assert_array_equal(session.run(x[1]), expected)


def test_nothing_is_leaked(session: native.NativeSession) -> None:
    x, bad = np.ones((1, N_IN), np.float32), np.full((1, N_IN), np.nan, np.float32)
    objects = [x, bad, x.dtype, np.ndarray, session._caller]

    def counts() -> list[int]:
        for each in (x, bad, None):
            for _ in range(1000):
                session._call(each)
        return [sys.getrefcount(each) for each in objects]

    counts()
    tracemalloc.start()
    try:
        before, memory = counts(), tracemalloc.get_traced_memory()[0]
        assert counts() == before
        assert tracemalloc.get_traced_memory()[0] - memory < 1000
    finally:
        tracemalloc.stop()


def test_a_session_is_freed_when_it_is_dropped(session: native.NativeSession) -> None:
    gc.collect()
    gc.disable()
    try:
        other = native.load(image.dumps(PERCEPTRON))
        arena = weakref.ref(other._arena)
        call, expected = other._call, other.run(np.ones((1, N_IN), np.float32))
        del other
        assert arena() is not None
        np.testing.assert_array_equal(call(np.ones((1, N_IN), np.float32)), expected)
        del call
        assert arena() is None
        arena = weakref.ref(session._arena)
        session.close()
        assert arena() is None
    finally:
        gc.enable()


def test_a_session_that_another_thread_closes(session: native.NativeSession) -> None:
    x, errors = np.ones((1, N_IN), np.float32), []
    expected, started = session.run(x), threading.Barrier(4)

    def work() -> None:
        started.wait()
        try:
            while True:
                np.testing.assert_array_equal(session.run(x), expected)
        except EngineError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    started.wait()
    call = session._call
    session.close()
    for thread in threads:
        thread.join()
    assert len(errors) == 3 and all("closed" in error.message for error in errors)
    assert call(x) is None


def test_who_waits_for_a_session_lets_others_run_python(session: native.NativeSession) -> None:
    x, found = np.ones((1, N_IN), np.float32), []
    expected = session.run(x)
    thread = threading.Thread(target=lambda: found.append(session.run(x)))
    with session._turn:
        thread.start()  # comes back although that thread waits
        assert found == []
    thread.join()
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_goes_on(session: native.NativeSession) -> None:
    x = np.ones((1, N_IN), np.float32)
    expected = session.run(x)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(session.run(x), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def reloaded() -> Iterator[None]:
    native_call._library.cache_clear()
    yield
    native_call._library.cache_clear()


@pytest.mark.usefixtures("reloaded")
@pytest.mark.parametrize("change", [("LIBRARY", "absent.so"), ("_ARRAY_VERSIONS", ())], ids=["library", "numpy"])
def test_without_it_the_general_way_does_everything(change, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.ones((1, N_IN), np.float32)
    expected = native.load(image.dumps(PERCEPTRON)).run(x)
    native_call._library.cache_clear()
    monkeypatch.setattr(native_call, *change)
    session = native.load(image.dumps(PERCEPTRON))
    assert session._call is native_call.general
    np.testing.assert_array_equal(session.run(x), expected)
    session.input[...] = x[0]
    session.invoke()
    np.testing.assert_array_equal(session.output, expected[0])
