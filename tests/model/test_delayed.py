"""Spiking networks with delays in torch: gradients, and equality with the network representation."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sen_edge.model.config import SpikingConfig
from sen_edge.model.delayed import arrival
from sen_edge.model.delayed.arrival import arrive, convolve, place, round_delay, scatter
from sen_edge.model.delayed.config import DelayedConfig
from sen_edge.model.delayed.network import DelayedNetwork
from sen_edge.model.delayed.scan import Constants, scan
from sen_edge.model.dynamics import advance
from sen_edge.schema import SchemaError
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.errors import NetworkError
from sen_runtime.ir.delays import ConstantDelay, SpatialDelay, StoredDelay
from sen_runtime.ir.neurons import Lif
from sen_runtime.ir.operators import Coordinates, Dense, Sparse

TIME = SpikingConfig(20, beta=(0.8, 0.9), reset="zero", input_coding="spikes", surrogate_slope=5.0)
CONFIG = DelayedConfig((6, 9, 3), TIME, max_delay=7)
SIGMA = CONFIG.delay_sigma
FORMS = [
    pytest.param({}, id="positions"),
    pytest.param({"delays": "free"}, id="free"),
    pytest.param({"delays": "free", "max_delay": 300, "recurrent": True}, id="wide"),
    pytest.param({"delays": "none", "synapse": 0.5}, id="none"),
    pytest.param({"delays": "none", "recurrent": True}, id="recurrent"),
    pytest.param({"max_delay": 1, "recurrent": True}, id="one-step"),
    pytest.param({"recurrent": True, "dimensions": 8, "synapse": 0.3}, id="recurrent-positions"),
    pytest.param({"weights": "positions", "recurrent": True, "dimensions": 8, "exponent": 2.0}, id="coordinates"),
    pytest.param({"weights": "positions", "delays": "none"}, id="weights"),
    pytest.param({"layer_sizes": (6, 9, 8, 3), "spiking": replace(TIME, beta=0.8)}, id="deep"),
    pytest.param({"spiking": replace(TIME, reset="subtract", readout="last_membrane")}, id="subtract"),
    pytest.param({"spiking": replace(TIME, input_coding="delta", delta=0.5)}, id="delta"),
]


def make(**changes: Any) -> tuple[DelayedNetwork, torch.Tensor]:
    """A network with spikes in every layer, in float64, and inputs."""
    config = replace(CONFIG, **changes)
    network, rng = DelayedNetwork(config), np.random.default_rng(0)
    x = torch.from_numpy((rng.random((16, *config.input_shape)) < 0.2).astype(np.float32))
    network.reset_parameters(0, 4.0)
    network.eval()
    network.calibrate(x)
    with torch.no_grad():
        for bias in network.biases:
            bias.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(1))
    return network, x


@pytest.mark.parametrize("changes", FORMS)
def test_spikes_and_outputs_are_those_of_the_network_representation(changes: dict[str, Any]) -> None:
    network, x = make(**changes)
    converted = image.loads(image.dumps(network.to_network()))
    expected = reference.trace(converted, x.numpy())
    with torch.no_grad():
        found = network.double().trace(x.double())
    for spikes, wanted in zip(found[:-1], expected[:-1], strict=True):
        assert 0 < spikes.sum() < spikes.numel() * TIME.timesteps
        np.testing.assert_array_equal(spikes, wanted)
    np.testing.assert_allclose(found[-1], expected[-1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("changes", FORMS)
def test_every_form_has_finite_gradients(changes: dict[str, Any]) -> None:
    network, x = make(**changes)
    network.train()
    network(x).square().sum().backward()
    gradients = [each.grad for each in network.parameters() if each.grad is not None]
    assert any(bool(each.any()) for each in gradients) and all(bool(each.isfinite().all()) for each in gradients)


@pytest.mark.parametrize("changes", FORMS)
def test_training_computes_what_evaluation_does(changes: dict[str, Any]) -> None:
    network, _ = make(**changes)
    with torch.no_grad():
        for connection in network.connections():
            (weight, delay), (expected, steps) = (connection.train(mode).synapse_values() for mode in (True, False))
            torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-7)
            if steps is not None:
                assert torch.equal(round_delay(delay, connection.slots).float(), steps)


def test_forms_of_weights_and_delays() -> None:
    layer = make()[0].to_network().layers[0]
    assert isinstance(layer.weight, Dense) and isinstance(layer.delay, SpatialDelay) and layer.recurrent is None
    layer = make(delays="free", recurrent=True)[0].to_network().layers[0]
    assert isinstance(layer.delay, StoredDelay) and layer.delay.values.dtype == np.uint8
    assert layer.recurrent is not None and layer.recurrent.delay.bounds[0] >= 1
    layer = make(delays="free", max_delay=300)[0].to_network().layers[0]
    assert isinstance(layer.delay, StoredDelay) and layer.delay.values.dtype == np.uint16
    first, last = make(weights="positions", delays="none", recurrent=True)[0].to_network().layers
    assert isinstance(first.weight, Coordinates) and first.delay is None and isinstance(last.weight, Coordinates)
    assert first.recurrent is not None and isinstance(first.recurrent.delay, ConstantDelay)


@pytest.mark.parametrize("slots", [2, 6, 40])
def test_the_gradient_of_a_delay_is_that_of_the_smoothed_loss(slots: int) -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.random((2, 50, 3)))
    weight = torch.from_numpy(rng.standard_normal((4, 3))).requires_grad_()
    delay = torch.from_numpy(rng.uniform(-0.9, slots, (4, 3))).requires_grad_()
    factor = torch.from_numpy(rng.standard_normal((2, 50, 4)))
    kernel = place(weight, delay, slots, SIGMA)
    assert torch.equal((kernel != 0).nonzero()[:, 2].view(4, 3), delay.round().clamp(0, slots - 1).long())
    (convolve(x, kernel) * factor).sum().backward()

    def total(weight: torch.Tensor, j: int, i: int, step: float) -> float:
        moved = delay.detach().clone()
        moved[j, i] = step
        return float((convolve(x, place(weight, moved, slots, SIGMA)) * factor).sum())

    offsets = np.arange(-6, 7)
    density = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    density /= density.sum()
    for j, i in np.ndindex(4, 3):
        plain, changed = weight.detach(), weight.detach().clone()
        changed[j, i] += 1
        rounded = float(delay[j, i].detach().round().clamp(0, slots - 1))
        losses = np.array([total(plain, j, i, rounded + offset) for offset in offsets])
        slope = (density * offsets * losses).sum() / (density * offsets**2).sum()
        assert float(delay.grad[j, i]) == pytest.approx(slope, rel=1e-5, abs=1e-6)
        assert float(weight.grad[j, i]) == pytest.approx(total(changed, j, i, rounded) - total(plain, j, i, rounded))


@pytest.mark.parametrize("sigma", [0.2, 2.0])
def test_the_gradient_of_a_current_that_grows_by_one_each_step_is_the_weight(sigma: float) -> None:
    slots, rng = 30, np.random.default_rng(0)
    kernel, weight = torch.arange(slots).expand(4, 3, slots).double(), torch.from_numpy(rng.random((4, 3)))
    delay = torch.from_numpy(rng.integers(6, slots - 6, (4, 3))).double()
    found = arrival.synapse_gradients(kernel, weight, delay, sigma)  # with coefficients in float32
    torch.testing.assert_close(found, (delay, weight), rtol=1e-5, atol=0)


@pytest.mark.parametrize("slots", [2, 6])
@pytest.mark.parametrize("chunk", [1, 40, 1 << 22])
def test_scattered_spikes_are_convolved_ones(slots: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.random((3, 10, 5)) * (rng.random((3, 10, 5)) < 0.3))
    weight = torch.from_numpy(rng.standard_normal((4, 5))).requires_grad_()
    delay = torch.from_numpy(rng.uniform(-1.5, slots + 1.5, (4, 5)))
    delay[0, 0], delay[1, 1], delay[2, 2] = 0, slots - 1, 0.5
    delay.requires_grad_()
    factor = torch.from_numpy(rng.standard_normal((3, 10, 4)))
    found = []
    for currents in (convolve(x, place(weight, delay, slots, SIGMA)), scatter(x, weight, delay, slots, SIGMA)):
        gradients = torch.autograd.grad((currents * factor).sum(), (weight, delay))
        found.append((currents.detach(), *gradients))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_sparse_inputs_without_a_gradient_are_scattered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "scatter", lambda *_: None)
    weight, delay = torch.ones(4, 5), torch.ones(4, 5)
    few, many = torch.zeros(3, 10, 5), torch.ones(3, 10, 5)
    few[0, 0, 0] = 1  # of 150, with three slots
    assert arrive(few, weight, delay, 3, SIGMA) is None
    for convolved in (many, few.requires_grad_()):
        assert arrive(convolved, weight, delay, 3, SIGMA) is not None


@pytest.mark.parametrize("synapse", [0.0, 0.4])
@pytest.mark.parametrize("slots", [0, 1, 3])
@pytest.mark.parametrize(
    "neuron", [Lif(0.8, 1.0, "zero"), Lif(0.8, 0.5, "subtract"), Lif(0.8, 0.5, "subtract", reset_delay=False)], ids=str
)
def test_gradients_through_time_are_those_of_the_steps(neuron: Lif, slots: int, synapse: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, bias = (torch.randn(size, generator=generator, dtype=torch.float64) for size in ((4, 12, 5), (5,)))
    weight = torch.randn(5, 5, generator=generator, dtype=torch.float64) if slots else None
    delay = torch.rand(5, 5, generator=generator, dtype=torch.float64) * (slots + 1) - 1 if slots > 1 else None
    factor = torch.randn(4, 12, 5, generator=generator, dtype=torch.float64)
    leaves = [each.requires_grad_() for each in (x, bias, weight, delay) if each is not None]
    kernel = None if weight is None else weight.unsqueeze(2) if delay is None else place(weight, delay, slots, SIGMA)

    state, current, spikes = None, torch.zeros(()), list[torch.Tensor]()
    for t in range(12):
        arrived = x[:, t]
        for k in range(min(slots, t)):
            arrived = arrived + spikes[t - 1 - k] @ kernel[:, :, k].T
        current = synapse * current + arrived
        state = advance(neuron, state, current + bias, 5.0)
        spikes.append(state[1])
    expected = torch.stack(spikes, 1)
    wanted = torch.autograd.grad((expected * factor).sum(), leaves)
    found = scan(x, weight, delay, bias, Constants.of(neuron, synapse, 5.0, SIGMA), slots or 1)
    assert torch.equal(found, expected) and 0 < found.sum() < found.numel()
    for gradient, each in zip(torch.autograd.grad((found * factor).sum(), leaves), wanted, strict=True):
        torch.testing.assert_close(gradient, each)


@pytest.mark.parametrize("changes", [{}, {"weights": "positions", "recurrent": True}, {"delays": "free"}])
def test_every_parameter_has_a_finite_gradient(changes: dict[str, Any]) -> None:
    network, x = make(**changes)
    network.train()
    loss = network(x).square().sum() + sum(each.excess() for each in network.delayed())
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_the_penalty_is_the_mean_excess_over_the_ring() -> None:
    network, _ = make(delays="free")
    (connection,) = network.delayed()
    with torch.no_grad():
        connection.steps.fill_(3)
        assert float(connection.excess().detach()) == 0
        connection.steps[0, :2] = torch.tensor([9.0, -1.0])
    assert float(connection.excess().detach()) == pytest.approx((2 + 1) / connection.steps.numel())


def test_long_delays_are_clamped_or_an_error() -> None:
    network, x = make()
    with torch.no_grad():
        network.positions[1][4] = 100
    delays = network.to_network().layers[0].delay.steps((9, 6))
    assert (delays[4] == 7).all() and delays.max() == 7
    with torch.no_grad():
        torch.testing.assert_close(network(x), network.train()(x))
    network.eval()
    strict = DelayedNetwork(replace(CONFIG, overflow="error"))
    strict.load_state_dict(network.state_dict())
    torch.testing.assert_close(strict.eval()(x), network(x))
    with pytest.raises(NetworkError, match="to target neuron 4 "):
        strict.to_network()


def test_the_longest_synapses_are_pruned() -> None:
    network, x = make()
    (connection,) = network.delayed()
    connection.prune(0.9)
    layer = network.to_network().layers[0]
    assert isinstance(layer.weight, Sparse) and isinstance(layer.delay, SpatialDelay)
    kept, distances = layer.weight.to_dense() != 0, layer.delay.distances()
    assert kept.sum() == round(0.1 * 54) and distances[kept].max() <= distances[~kept].min()
    np.testing.assert_allclose(network(x).detach(), reference.run(network.to_network(), x.numpy()), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"max_delay": 0}, "max_delay"),
        ({"max_delay": -1}, "max_delay"),
        ({"max_delay": 2.5}, "max_delay"),
        ({"max_delay": 1 << 16}, "max_delay"),
        ({"synapse": 1.0}, "synapse"),
        ({"synapse": float("nan")}, "synapse"),
        ({"layer_sizes": (6, 3)}, "layer_sizes"),
        ({"spiking": replace(TIME, beta=(0.8, 0.9, 0.9))}, "spiking.beta"),
        ({"spiking": replace(TIME, input_coding="direct")}, "spiking.input_coding"),
        ({"spiking": replace(TIME, readout="spike_count")}, "spiking.readout"),
        ({"weights": "positions", "recurrent": True, "min_distance": 0.0}, "min_distance"),
    ],
)
def test_invalid_configurations_are_refused(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(SchemaError) as caught:
        replace(CONFIG, **changes)
    assert caught.value.key == key


def test_parameters_that_are_not_finite_are_refused() -> None:
    network, _ = make()
    with torch.no_grad():
        network.positions[0][0, 0] = float("nan")
    with pytest.raises(NetworkError):
        network.to_network()
