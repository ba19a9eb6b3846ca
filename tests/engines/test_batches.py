"""Batches in the C library: every storage and kernel against one row at a time."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

from sen_edge.passes.quantize import to_float16, to_int8_weights
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.engines import native
from sen_runtime.errors import EngineError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Dense, LowRank, Sparse, Sum, WeightOperator
from sen_runtime.memory_limits import MemoryLimitError
from tests.support.networks import by_source, random_input, random_network

BATCHES = (2, 3, 7, 8, 9, 33, 64, 65, 130)
WAYS = [{"kernels": kernels, "pack": pack} for kernels in native.KERNELS for pack in (True, False)]
in_every_way = pytest.mark.parametrize(
    "way", WAYS, ids=lambda way: f"{way['kernels']}-{'packed' if way['pack'] else 'in place'}"
)
STORAGES = {"float32": lambda network: network, "float16": to_float16, "int8": to_int8_weights}


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def sparse(rng: np.random.Generator, n_out: int, n_in: int, block: tuple[int, int], density: float = 0.2) -> Sparse:
    kept = rng.random((-(-n_out // block[0]), -(-n_in // block[1]))) < density
    mask = np.repeat(np.repeat(kept, block[0], axis=0), block[1], axis=1)[:n_out, :n_in]
    return Sparse.from_dense(normal(rng, n_out, n_in) * mask, block)


def operators(rng: np.random.Generator, n_out: int, n_in: int) -> Iterator[tuple[str, WeightOperator]]:
    yield "dense", Dense(normal(rng, n_out, n_in))
    yield "low rank", LowRank(normal(rng, n_out, 5), normal(rng, 5, n_in))
    for block in ((1, 1), (16, 1), (8, 1), (1, 4), (3, 2)):
        yield f"{block}", sparse(rng, n_out, n_in, block)
    yield "by source", sparse(rng, n_out, n_in, (1, 1))
    yield "sum", Sum(LowRank(normal(rng, n_out, 2), normal(rng, 2, n_in)), sparse(rng, n_out, n_in, (1, 1)))


def some_zeros(rng: np.random.Generator, rows: int, n_in: int) -> np.ndarray:
    """Rows from none to all of whose values are 0."""
    return normal(rng, rows, n_in) * (rng.random((rows, n_in)) < rng.random((rows, 1)) * 1.2)


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    assert (actual.dtype, actual.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * max(float(np.abs(expected).max()), 1e-3))


@in_every_way
@pytest.mark.parametrize("shape", [(1, 1), (10, 33), (70, 300), (130, 64)], ids=str)
def test_every_storage(way: dict, shape: tuple[int, int], subtests: pytest.Subtests) -> None:
    rng = np.random.default_rng(0)
    n_out, n_in = shape
    x = some_zeros(rng, BATCHES[-1], n_in)
    for (kind, operator), storage in product(operators(rng, n_out, n_in), STORAGES):
        layers = (Layer(operator, normal(rng, n_out), Relu()), Layer(Dense(normal(rng, 3, n_out)), None, Identity()))
        network = STORAGES[storage](Network(layers))
        session = native.load(image.dumps(by_source(network) if kind == "by source" else network), **way)
        alone = np.concatenate([session.run(row[np.newaxis]) for row in x])
        full = session.run(x)
        with subtests.test(kind=kind, storage=storage):
            if storage == "int8":
                np.testing.assert_array_equal(full, alone)
            assert_close(full, alone)
            for rows in BATCHES:
                np.testing.assert_array_equal(session.run(x[:rows]), full[:rows])


@in_every_way
@pytest.mark.parametrize("coding", ["direct", "spikes"])
@pytest.mark.parametrize("readout", ["mean_membrane", "spike_count"])
@pytest.mark.parametrize("sizes", [(20, 70, 4), (20, 17, 33, 4), (20, 5)], ids=str)
def test_spiking_networks(way: dict, coding: str, readout: str, sizes: tuple[int, ...]) -> None:
    """Weights and inputs are such that every sum is exact: no spike depends on the order of the terms."""
    rng = np.random.default_rng(0)
    network = random_network(rng, spiking=True, kinds=("dense",), sizes=sizes, readout=readout, input_coding=coding)
    layers = [
        Layer(Dense(rng.integers(-16, 32, layer.weight.shape).astype(np.float32) / 64), None, layer.neuron)
        for layer in network.layers
    ]
    network = Network(tuple(layers), network.timesteps, coding, readout)
    x = np.round(random_input(rng, network, 70) * 4) / 4
    session = native.load(image.dumps(network), **way)
    alone = np.concatenate([session.run(row[np.newaxis]) for row in x])
    assert_close(session.run(x), alone)
    assert_close(session.run(x), reference.run(network, x))


@pytest.mark.parametrize("kernels", native.KERNELS)
def test_a_batch_ends_at_the_first_row_that_is_not_finite(kernels: str) -> None:
    rng = np.random.default_rng(0)
    network = random_network(rng, kinds=("dense",), sizes=(6, 5, 3))
    session, x = native.load(image.dumps(network), kernels=kernels), normal(rng, 9, 6)
    expected = session.run(x)
    x[7, 2] = np.nan
    work, y = native._aligned(session._library.sen_rows_work_size(session._model)), np.zeros((9, 3), np.float32)
    addresses = [session._model, *(array.ctypes.data for array in (work, x, y))]
    assert session._library.sen_run_rows(*addresses, 9) == native._NONFINITE
    np.testing.assert_array_equal(y[:7], expected[:7])
    np.testing.assert_array_equal(y[7:], 0)
    with pytest.raises(EngineError, match=r"\[7, 2\]"):
        session.run(x)
    np.testing.assert_array_equal(session.run(x[:7]), expected[:7])


def test_a_batch_that_does_not_fit_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(np.random.default_rng(0), kinds=("dense",), sizes=(1, 10))
    session = native.load(image.dumps(network))
    x = np.zeros((2 << 20, 1), np.float32)
    monkeypatch.setattr("sen_runtime.memory_limits.available", lambda: 1 << 20)
    with pytest.raises(MemoryLimitError, match="rows"):
        session.run(x)
    with pytest.raises(MemoryLimitError, match="shape"):
        session.run(np.zeros((20 << 20, 1), np.uint8))
