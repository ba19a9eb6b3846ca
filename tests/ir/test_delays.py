"""Delays of synapses, and layers with delays, recurrent synapses and synaptic currents in the reference."""

from dataclasses import replace

import numpy as np
import pytest

from sen_runtime import reference
from sen_runtime.errors import NetworkError
from sen_runtime.ir.delays import MAX_DELAY, ConstantDelay, Delay, SpatialDelay, StoredDelay
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import LeakyIntegrator, Lif, RefractoryLif
from sen_runtime.ir.operators import Coordinates, Dense


def f32(*values: object) -> np.ndarray:
    return np.array(values, np.float32)


LINE = f32([0.0], [1.0], [2.5], [40.0])
ORIGIN = f32([0.0])


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        (ConstantDelay(3), [3, 3, 3, 3]),
        (StoredDelay(np.array([[0, 1, 255, 7]], np.uint8)), [0, 1, 255, 7]),
        (SpatialDelay(LINE, ORIGIN), [0, 1, 2, 40]),  # 2.5 is rounded to even
        (SpatialDelay(LINE, ORIGIN, scale=2), [0, 2, 5, 80]),
        (SpatialDelay(LINE, ORIGIN, softening=9.0), [3, 3, 4, 40]),
        (SpatialDelay(LINE, ORIGIN, limit=20, overflow="clamp", shift=2), [2, 3, 4, 22]),
        (SpatialDelay(LINE, ORIGIN, limit=20, overflow="wrap", shift=1), [1, 2, 3, 20]),
        (SpatialDelay(f32([0, 3]), f32([4, 0])), [5]),
    ],
)
def test_steps_by_hand(delay: Delay, expected: list[int]) -> None:
    found = delay.steps((1, len(expected)))
    np.testing.assert_array_equal(found, [expected])
    low, high = delay.bounds
    assert found.dtype == np.int32 and low <= found.min() and found.max() <= high


@pytest.mark.parametrize("overflow", ["clamp", "wrap"])
def test_bounds_hold_for_all_positions(overflow: str) -> None:
    rng = np.random.default_rng(0)
    for scale, softening, limit in [(0.1, 0.0, 3), (3.0, 4.0, 7), (50.0, 0.01, 40), (1e4, 0.0, 9), (1.0, 1e4, 5)]:
        source, target = (rng.normal(size=(n, 3)).astype(np.float32) * 9 for n in (20, 30))
        delay = SpatialDelay(source, target, scale, softening, limit, overflow, 1)
        steps = delay.steps((30, 20))
        assert delay.bounds[0] <= steps.min() and steps.max() <= delay.bounds[1]


def test_a_delay_beyond_the_limit_is_an_error() -> None:
    delay = SpatialDelay(LINE, ORIGIN, limit=39)
    with pytest.raises(NetworkError, match=r"source neuron 3 to target neuron 0 is 40 .*39") as caught:
        delay.steps((1, 4))
    assert caught.value.hint


@pytest.mark.parametrize("overflow", ["error", "wrap"])
def test_an_infinite_delay_is_an_error(overflow: str) -> None:
    infinite = SpatialDelay(f32([3e38, 3e38]), f32([-3e38, 0]), overflow=overflow, limit=9)
    with pytest.raises(NetworkError, match="inf"):
        infinite.steps((1, 1))


def test_an_infinite_delay_is_clamped() -> None:
    assert SpatialDelay(f32([3e38, 3e38]), f32([-3e38, 0]), overflow="clamp", limit=9).steps((1, 1)) == 9


@pytest.mark.parametrize(
    "make",
    [
        lambda: ConstantDelay(-1),
        lambda: ConstantDelay(1.5),  # type: ignore[arg-type]
        lambda: ConstantDelay(True),
        lambda: ConstantDelay(MAX_DELAY + 1),
        lambda: StoredDelay(np.zeros((2, 2), np.int8)),
        lambda: StoredDelay(np.zeros((2, 0), np.uint8)),
        lambda: StoredDelay(np.full((1, 1), 0.5, np.float32)),
        lambda: SpatialDelay(LINE, f32([0.0, 1.0])),
        lambda: SpatialDelay(LINE, f32([np.nan])),
        lambda: SpatialDelay(LINE, ORIGIN, scale=0.0),
        lambda: SpatialDelay(LINE, ORIGIN, softening=-0.1),
        lambda: SpatialDelay(LINE, ORIGIN, limit=-1),
        lambda: SpatialDelay(LINE, ORIGIN, limit=MAX_DELAY, shift=1),
        lambda: SpatialDelay(LINE, ORIGIN, overflow="ignore"),
    ],
)
def test_delays_that_make_no_sense(make: object) -> None:
    with pytest.raises(NetworkError):
        make()  # type: ignore[operator]


# --- layers --------------------------------------------------------------------------------------


def wired(rng: np.random.Generator, steps: int = 12) -> Network:
    """Weights from coordinates with delays from the same, recurrent synapses, and a delayed readout."""
    here, there = (rng.normal(size=(n, 3)).astype(np.float32) for n in (6, 5))
    mask = rng.uniform(0, 1, 6).astype(np.float32)
    hidden = Layer(
        Coordinates(here, there, mask, exponent=2.0),
        rng.normal(size=5).astype(np.float32) * 0.1,
        RefractoryLif(0.8, 0.75),
        delay=SpatialDelay(here, there, 1.5),
        recurrent=Recurrence(
            Dense(rng.normal(size=(5, 5)).astype(np.float32)),
            StoredDelay(rng.integers(1, 9, (5, 5)).astype(np.uint8)),
        ),
        synapse=0.5,
    )
    readout = Layer(
        Dense(rng.normal(size=(3, 5)).astype(np.float32)), None, LeakyIntegrator(0.9), delay=ConstantDelay(2)
    )
    return Network((hidden, readout), steps, "spikes", "last_membrane")


def plain(network: Network, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spikes `[T, n]` and readout of one spike train by the sums of the definition."""
    hidden, readout = network.layers
    assert hidden.recurrent is not None and hidden.delay is not None and hidden.bias is not None
    w, d = hidden.weight.to_dense().astype(float), hidden.delay.steps(hidden.weight.shape)
    r, e = hidden.recurrent.weight.to_dense().astype(float), hidden.recurrent.delay.steps((5, 5))
    spikes, current, membrane = np.zeros((len(x), 5)), np.zeros(5), np.zeros(5)
    for t in range(len(x)):
        arrived = np.zeros(5)
        for j in range(5):
            arrived[j] += sum(w[j, i] * x[t - d[j, i], i] for i in range(6) if t >= d[j, i])
            arrived[j] += sum(r[j, i] * spikes[t - e[j, i], i] for i in range(5) if t >= e[j, i])
        current = 0.5 * current + arrived
        held = membrane > 0.75
        membrane = np.where(held, 0, np.float32(0.8).astype(float) * membrane + current + hidden.bias)
        spikes[t] = membrane > 0.75
    output = np.zeros(3)
    for t in range(len(x)):
        delayed = spikes[t - 2] if t >= 2 else np.zeros(5)
        output = float(np.float32(0.9)) * output + readout.weight.to_dense().astype(float) @ delayed
    return spikes, output


@pytest.mark.parametrize("seed", range(5))
def test_the_reference_computes_the_sums_of_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = wired(rng)
    x = (rng.random((4, 12, 6)) < 0.4).astype(np.float32)
    counts, outputs = reference.trace(network, x)
    assert counts.any()
    for row, train in enumerate(x):
        spikes, output = plain(network, train.astype(float))
        np.testing.assert_array_equal(counts[row], spikes.sum(axis=0))
        np.testing.assert_allclose(outputs[row], output, rtol=1e-12, atol=1e-12)


def test_a_refractory_neuron_loses_the_current_of_the_next_step() -> None:
    layer = Layer(Dense(f32([1.0])), None, RefractoryLif(0.5, 1.0))
    network = Network((layer,), 5, "current", "spike_count")
    state, membranes = reference.initial_state(network, 1), []
    for value in (2.0, 2.0, 0.75, 0.75, 2.0):
        state, _ = reference.step(network, state, np.array([[value]]))
        membranes.append(state[0].membrane.item())
    assert membranes == [2.0, 0.0, 0.75, 1.125, 0.0]


def test_networks_that_make_no_sense() -> None:
    hidden, readout = wired(np.random.default_rng(0)).layers
    assert hidden.recurrent is not None
    for changes in (
        {"delay": StoredDelay(np.zeros((5, 5), np.uint8))},
        {"synapse": 1.0},
        {"synapse": -0.1},
        {"recurrent": Recurrence(Dense(np.ones((5, 6), np.float32)), ConstantDelay(1))},
        {"recurrent": replace(hidden.recurrent, delay=ConstantDelay(0))},
        {"recurrent": replace(hidden.recurrent, delay=SpatialDelay(*[f32([1], [2], [3], [4], [5])] * 2))},
    ):
        with pytest.raises(NetworkError):
            replace(hidden, **changes)
    with pytest.raises(NetworkError):
        replace(readout, recurrent=Recurrence(Dense(np.ones((3, 3), np.float32)), ConstantDelay(1)))
    with pytest.raises(NetworkError, match="layer 0"):
        Network((replace(hidden, neuron=Lif(0.5), recurrent=None), replace(readout, delay=None)), 0)
