"""Random networks through every variant of the TFLite export, in both interpreters, with and without XNNPACK."""

import platform
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.errors import DataError
from sen_edge.passes.quantize import to_float16, to_int8, to_int8_weights
from sen_exporters.tflite.exporter import TfliteExporter
from sen_runtime import reference
from sen_runtime.engines import Engine, litert, tflite_runtime
from sen_runtime.engines.tflite import TfliteSession
from sen_runtime.errors import EngineError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity
from sen_runtime.ir.operators import Sparse
from tests.conftest import INTERPRETERS, needs_both_interpreters
from tests.support.networks import KINDS, random_input, random_network

EXPORTER = TfliteExporter()
ENGINES = {"litert": litert.ENGINE, "tflite-runtime": tflite_runtime.ENGINE}
WITHOUT_COORDINATES = tuple(kind for kind in KINDS if kind != "coordinates")
BATCH = 6
SEEDS = st.integers(0, 2**32 - 1)
TARGETS = st.sampled_from(["any", "litert", "tflite-runtime"])
SNN = st.fixed_dictionaries(
    {
        "readout": st.sampled_from(["mean_membrane", "last_membrane", "spike_count"]),
        "reset": st.sampled_from(["subtract", "zero"]),
        "reset_delay": st.booleans(),
        "input_coding": st.sampled_from(["direct", "spikes"]),
        "timesteps": st.integers(1, 6),
    }
)


def sessions(network: Network, **options: object) -> Iterator[TfliteSession]:
    """The file in every interpreter it is for, with and without XNNPACK."""
    model = EXPORTER.export(network, EXPORTER.Options(**options))
    for name in EXPORTER.engines(model.main):
        for xnnpack in (True, False) if name in INTERPRETERS else ():
            yield ENGINES[name].load(model.main, xnnpack=xnnpack)


def run(session: TfliteSession, x: np.ndarray) -> np.ndarray:
    """All rows at once, or one by one where the model takes one."""
    if session.batch_size == 1:
        return np.concatenate([session.run(x[i : i + 1]) for i in range(len(x))])
    return session.run(x)


def scale(values: np.ndarray) -> float:
    return max(float(values.std()), 1e-2 * float(np.abs(values).max()), 1e-6)


def disagreeing(network: Network, x: np.ndarray, allowed: float, **options: object) -> float:
    """Greatest share, over the sessions, of rows whose error is above what is allowed."""
    expected = reference.run(network, x, np.float32)
    shares = [
        float(np.mean(np.abs(run(session, x) - expected).max(axis=1) > allowed * scale(expected)))
        for session in sessions(network, **options)
    ]
    return max(shares, default=0.0)


@given(seed=SEEDS, half=st.booleans(), batch_size=st.sampled_from([None, 1]), target=TARGETS)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_float_perceptrons(seed: int, half: bool, batch_size: int | None, target: str) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, kinds=WITHOUT_COORDINATES)
    network = to_float16(network) if half else network
    x = random_input(rng, network, BATCH)
    for sparse_format in (None, "dense"):
        options = {"batch_size": batch_size, "tflite_target": target, "sparse_format": sparse_format}
        assert disagreeing(network, x, 1e-4, **options) == 0


@given(seed=SEEDS, half=st.booleans(), form=st.sampled_from(["unrolled", "step"]), snn=SNN)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_float_spiking_networks(seed: int, half: bool, form: str, snn: dict[str, object]) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, spiking=True, kinds=WITHOUT_COORDINATES, **snn)
    network = to_float16(network) if half else network
    x = random_input(rng, network, BATCH)
    for batch_size in (None, 1):
        assert disagreeing(network, x, 1e-4, snn=form, batch_size=batch_size) <= 1 / BATCH


@given(seed=SEEDS, granularity=st.sampled_from(["channel", "tensor"]), target=TARGETS, calibrated=st.booleans())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_int8_weights(seed: int, granularity: str, target: str, calibrated: bool) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, kinds=WITHOUT_COORDINATES)
    calibration = random_input(rng, network, 64) if calibrated else None
    network = to_int8_weights(network, granularity, calibration)
    x = random_input(rng, network, BATCH)
    for batch_size in (None, 1):
        # an interpreter puts activations on 256 values of its own choice, row by row
        assert disagreeing(network, x, 0.15, batch_size=batch_size, tflite_target=target) == 0


@given(seed=SEEDS, form=st.sampled_from(["unrolled", "step"]), target=TARGETS, snn=SNN)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_int8_weights_of_spiking_networks(seed: int, form: str, target: str, snn: dict[str, object]) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, spiking=True, kinds=WITHOUT_COORDINATES, **snn)
    network = to_int8_weights(network, "channel", random_input(rng, network, 64))
    x = random_input(rng, network, 20)
    # spikes are exact; a constant input is not, and may move a spike by a step
    share = 0.4 if snn["input_coding"] == "direct" else 0.0
    assert disagreeing(network, x, 0.15, snn=form, tflite_target=target) <= share


@given(
    seed=SEEDS,
    granularity=st.sampled_from(["channel", "tensor"]),
    activation_range=st.sampled_from(["minmax", "percentile", "mse"]),
    int8_io=st.booleans(),
    snn=st.none() | SNN,
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_int8_activations(
    seed: int, granularity: str, activation_range: str, int8_io: bool, snn: dict[str, object] | None
) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, spiking=snn is not None, kinds=WITHOUT_COORDINATES, **(snn or {}))
    try:
        network = to_int8(network, random_input(rng, network, 64), granularity, activation_range)
    except DataError as error:  # a dead layer
        assert "layer " in error.message
        return
    x = random_input(rng, network, BATCH)
    expected = reference.run(network, x, np.float32)
    grid = network.layers[-1].grid
    counts = snn is not None and snn["readout"] == "spike_count"
    for batch_size in (None, 1):
        for session in sessions(network, int8_io=int8_io, batch_size=batch_size):
            steps = np.abs(run(session, x) - expected) / (1 if counts else grid.scale)
            if snn is None:
                assert steps.max() <= 3.01
            assert np.mean(steps.max(axis=1) > 3.01) <= 1 / BATCH


@pytest.mark.parametrize("interpreter", [ENGINES[name] for name in INTERPRETERS], ids=INTERPRETERS)
@pytest.mark.parametrize("shape", [(1, 4), (3, 8), (64, 64), (7, 100)], ids=str)
def test_sparse_blocks(interpreter: Engine, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    kept = np.repeat(rng.random((shape[0], shape[1] // 4)) < 0.3, 4, axis=1)
    kept[0, :4] = True
    operator = Sparse.from_dense((rng.normal(size=shape) * kept).astype(np.float32), (1, 4))
    network = Network((Layer(operator, rng.normal(size=shape[0]).astype(np.float32), Identity()),))
    x = rng.normal(size=(5, shape[1])).astype(np.float32)
    expected = reference.run(network, x, np.float32)
    model = EXPORTER.export(network, EXPORTER.Options(sparse_format="block")).main
    for xnnpack in (True, False):
        session = interpreter.load(model, xnnpack=xnnpack)
        np.testing.assert_allclose(session.run(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(
    sys.version_info >= (3, 12) or (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="tflite-runtime has no wheel for this Python or machine",
)
def test_both_interpreters_are_here() -> None:
    """Where there are wheels of both, nothing in these files may be skipped for want of one."""
    assert INTERPRETERS == ("litert", "tflite-runtime")


@needs_both_interpreters
def test_per_channel_int8_for_litert_is_refused_by_the_other_loudly() -> None:
    """The one form that tflite-runtime would compute wrongly without a word is one that it does not load."""
    network = to_int8_weights(random_network(np.random.default_rng(0), kinds=("dense",), sizes=(8, 6, 4)))
    model = EXPORTER.export(network, EXPORTER.Options(tflite_target="litert")).main
    with pytest.raises(EngineError, match="tflite-runtime"):
        tflite_runtime.ENGINE.load(model)


@pytest.mark.parametrize("sparse_format", ["block", "densify", "dense"])
def test_weights_that_are_all_zero_load_in_every_form(sparse_format: str) -> None:
    empty = Sparse.from_dense(np.zeros((4, 8), np.float32), (1, 4))
    bias = np.arange(4, dtype=np.float32)
    network = Network((Layer(empty, bias, Identity()),))
    for session in sessions(network, sparse_format=sparse_format):
        assert np.array_equal(run(session, np.ones((2, 8), np.float32)), [bias, bias])
