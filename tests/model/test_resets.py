"""The spiking neurons of other libraries, written out as those compute them, against `Lif` and its `reset_delay`.

Sources: snnTorch 1.0 `_neurons/leaky.py`, snnTorch 0.7 (the same file), SpikingJelly 2.0 `neuron/base_node.py`.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sen_edge.errors import UsageError
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_exporters.base import MAX_UNROLLED_STEPS, ExportError, exporter
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.engines.steps import timesteps_of
from sen_runtime.errors import EngineError, NetworkError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import MAX_TIMESTEPS, Network
from sen_runtime.ir.neurons import LeakyIntegrator, Lif
from sen_runtime.ir.operators import Dense

STEPS = 12
SEEDS = st.integers(0, 2**32 - 1)
THRESHOLDS = st.sampled_from([0.5, 1.0, 1.25])
BETAS = st.sampled_from([0.0, 0.5, 0.875, 1.0])


def make(seed: int, neuron: Lif, gain: float = 1.0) -> tuple[Network, np.ndarray]:
    """A network with one hidden layer that reads out the last membrane, and trains `[20, T, 6]` for it."""
    rng = np.random.default_rng(seed)
    hidden, last = (rng.normal(0.1, 0.6, shape).astype(np.float32) for shape in ((9, 6), (4, 9)))
    layers = (Layer(Dense(np.float32(gain) * hidden), None, neuron), Layer(Dense(last), None, LeakyIntegrator(0.5)))
    x = (rng.random((20, STEPS, 6)) < 0.5).astype(np.float64)
    return Network(layers, STEPS, "spikes", "last_membrane"), x


def assert_same(network: Network, x: np.ndarray, neuron, start: float = 0.0, most: float = np.inf) -> None:
    """The same spikes and readout for all examples whose membranes before the reset stay at or below `most`."""
    hidden, last = (layer.weight.w.astype(np.float64) for layer in network.layers)
    state, out = np.full((len(x), len(hidden)), start), np.zeros((len(x), len(last)))
    counts, highest = np.zeros_like(state), np.full(len(x), -np.inf)
    for t in range(STEPS):
        spikes, state, charged = neuron(state, x[:, t] @ hidden.T)
        counts, out = counts + spikes, 0.5 * out + spikes @ last.T
        highest = np.maximum(highest, charged.max(1))
    assert counts.any(), "the test says nothing where all neurons are silent"
    expected, rows = reference.trace(network, x), highest <= most
    np.testing.assert_array_equal(expected[0][rows], counts[rows])
    np.testing.assert_allclose(expected[1][rows], out[rows], atol=1e-12)


def snntorch(beta: float, threshold: float, mechanism: str, delay: bool):
    """`Leaky` of snnTorch 0.8 to 1.0. Its state is the membrane after the reset where there is no delay."""

    def step(mem: np.ndarray, current: np.ndarray) -> tuple[np.ndarray, ...]:
        reset = (mem > threshold) * 1.0
        if mechanism == "subtract":
            mem = beta * mem + current - reset * threshold
        else:
            mem = beta * ((1 - reset) * mem) + current
        charged, spikes = mem, (mem > threshold) * 1.0
        if not delay:
            mem = mem - (spikes - reset) * (threshold if mechanism == "subtract" else mem)
        return spikes, mem, charged

    return step


def snntorch_07(beta: float, threshold: float):
    """`Leaky` of snnTorch up to 0.7 with the membrane as an argument: the threshold is subtracted before the decay."""

    def step(mem: np.ndarray, current: np.ndarray) -> tuple[np.ndarray, ...]:
        mem = beta * (mem - (mem > threshold) * threshold) + current
        return (mem > threshold) * 1.0, mem, mem

    return step


def spikingjelly(tau: float, threshold: float, v_reset: float | None, decay_input: bool):
    """`LIFNode`: charge, fire, reset."""
    rest = v_reset or 0.0

    def step(v: np.ndarray, current: np.ndarray) -> tuple[np.ndarray, ...]:
        v = v + (rest - v + current) / tau if decay_input else v + (rest - v) / tau + current
        charged, spikes = v, (v >= threshold) * 1.0
        v = v - threshold * spikes if v_reset is None else spikes * v_reset + (1 - spikes) * v
        return spikes, v, charged

    return step


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=SEEDS, beta=BETAS, threshold=THRESHOLDS)
def test_snntorch_subtracts_after_the_decay(seed: int, beta: float, threshold: float) -> None:
    network, x = make(seed, Lif(beta, threshold, "subtract", True))
    assert_same(network, x, snntorch(beta, threshold, "subtract", True))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=SEEDS, beta=BETAS, threshold=THRESHOLDS)
def test_snntorch_without_delay_is_alike_up_to_twice_the_threshold(seed: int, beta: float, threshold: float) -> None:
    network, x = make(seed, Lif(beta, threshold, "subtract", False))
    assert_same(network, x, snntorch(beta, threshold, "subtract", False), most=2 * threshold)
    assert_same(network, x, snntorch_07(beta, threshold))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=SEEDS, beta=BETAS, threshold=THRESHOLDS, theirs=st.booleans(), ours=st.booleans())
def test_a_reset_to_zero_is_the_same_with_and_without_delay(
    seed: int, beta: float, threshold: float, theirs: bool, ours: bool
) -> None:
    network, x = make(seed, Lif(beta, threshold, "zero", ours))
    assert_same(network, x, snntorch(beta, threshold, "zero", theirs))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=SEEDS,
    tau=st.sampled_from([2.0, 8.0]),
    threshold=THRESHOLDS,
    v_reset=st.sampled_from([None, 0.0, -0.25]),
    decay_input=st.booleans(),
)
def test_spikingjelly_resets_in_the_step_of_the_spike(
    seed: int, tau: float, threshold: float, v_reset: float | None, decay_input: bool
) -> None:
    gain, rest = (tau if decay_input else 1.0), v_reset or 0.0
    neuron = Lif(1 - 1 / tau, gain * (threshold - rest), "subtract" if v_reset is None else "zero", False)
    network, x = make(seed, neuron, gain)
    assert_same(network, x, spikingjelly(tau, threshold, v_reset, decay_input), start=rest)


def test_the_delay_changes_the_outputs() -> None:
    network, x = make(0, Lif(0.875, 0.5, "subtract", False))
    hidden, last = network.layers
    delayed = replace(network, layers=(replace(hidden, neuron=replace(hidden.neuron, reset_delay=True)), last))
    assert np.abs(reference.run(network, x) - reference.run(delayed, x)).max() > 0.1


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reset", "delay", "word"), [("subtract", True, 0), ("zero", True, 1), ("subtract", False, 2), ("zero", False, 3)]
)
def test_readers_without_reset_delay_refuse_images_that_need_it(reset: str, delay: bool, word: int) -> None:
    """They take 0 and 1; the rest of the record is as it was."""
    network, _ = make(0, Lif(0.5, 0.75, reset, delay))
    data, plain = image.dumps(network), image.dumps(make(0, Lif(0.5, 0.75))[0])
    start = int.from_bytes(data[64 + 8 : 64 + 16], "little") + 32
    assert int.from_bytes(data[start + 20 : start + 24], "little") == word
    changed = [i for i, (a, b) in enumerate(zip(data, plain, strict=True)) if a != b and not 24 <= i < 28]
    assert changed in ([], [start + 20])
    assert image.loads(data).layers[0].neuron == network.layers[0].neuron


def test_a_configuration_without_reset_delay_keeps_its_meaning() -> None:
    config = SpatialConfig((6, 5, 4), spiking=SpikingConfig(3))
    assert config.neurons()[0].reset_delay
    values = config.to_dict()
    assert "reset_delay" not in values["spiking"]  # readers before it still take the file
    assert SpatialConfig.from_dict(values) == config
    other = replace(config, spiking=SpikingConfig(3, reset_delay=False))
    assert SpatialConfig.from_dict(other.to_dict()) == other
    assert not other.neurons()[0].reset_delay


@pytest.mark.parametrize("value", [None, 0, "false"])
def test_a_reset_delay_is_true_or_false(value: object) -> None:
    with pytest.raises(UsageError, match="reset_delay"):
        SpikingConfig(3, reset_delay=value)
    with pytest.raises(NetworkError, match="reset_delay"):
        Lif(0.5, reset_delay=value)


@pytest.mark.parametrize(("target", "other"), [("onnx", "scan"), ("onnx", "step"), ("tflite", "step")])
def test_many_steps_are_not_unrolled(target: str, other: str) -> None:
    network = replace(make(0, Lif(0.5))[0], timesteps=MAX_UNROLLED_STEPS + 1)
    chosen = exporter(target)
    with pytest.raises(ExportError) as caught:
        chosen.export(network, chosen.Options())
    assert f"--snn {other}" in caught.value.hint
    chosen.check(replace(network, timesteps=MAX_UNROLLED_STEPS), chosen.Options())
    assert len(chosen.export(network, chosen.Options(snn=other)).main) < 20_000


def test_timesteps_have_one_limit() -> None:
    network, _ = make(0, Lif(0.5))
    assert replace(network, timesteps=SpikingConfig(MAX_TIMESTEPS).timesteps).timesteps == MAX_TIMESTEPS
    with pytest.raises(UsageError, match="timesteps"):
        SpikingConfig(MAX_TIMESTEPS + 1)
    assert timesteps_of({"timesteps": str(MAX_TIMESTEPS)}) == MAX_TIMESTEPS
    for value in ("many", "-1", str(MAX_TIMESTEPS + 1), "9" * 100_000):
        with pytest.raises(EngineError) as caught:
            timesteps_of({"timesteps": value})
        assert len(caught.value.message) < 200
    with pytest.raises(NetworkError, match="timesteps"):
        replace(network, timesteps=MAX_TIMESTEPS + 1)
