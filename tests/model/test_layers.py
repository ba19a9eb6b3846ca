"""The torch layers compared with an independent float64 implementation in numpy."""

from typing import Any

import numpy as np
import pytest
import torch

from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.model.layers import (
    FEW_DIMENSIONS,
    NEAR,
    InverseDistance,
    SpatialLinear,
    SpatialNetwork,
    inhibition_mask,
    squared_distance,
)


def expected_weights(layer: SpatialLinear, steepness: float, exponent: float = 1.0, floor: float = 0.0) -> np.ndarray:
    source, target = (p.detach().double().numpy() for p in (layer.source, layer.target))
    distance = np.sqrt(((target[:, None, :] - source[None, :, :]) ** 2).sum(-1) + layer.axis**2)
    mask = 2 / (1 + np.exp(-steepness * layer.inhibition.detach().double().numpy())) - 1
    gain = 1.0 if layer.gain is None else float(layer.gain.detach())
    return gain * mask[None, :] / np.maximum(distance, floor) ** exponent


def random_layer(n_in: int = 40, n_out: int = 30, d: int = 3, scale: float = 1.0, **options: Any) -> SpatialLinear:
    config = SpatialConfig((n_in, n_out), dimensions=d + 1, **options)
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.nn.Parameter(scale * torch.randn(n, d, generator=generator)) for n in (n_in, n_out))
    layer = SpatialLinear(source, target, config)
    with torch.no_grad():
        layer.inhibition.normal_(generator=generator)
        layer.gain.fill_(1.7)
    return layer


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0, 6.0, 0.5])
@pytest.mark.parametrize("d", [1, 3, 32])
def test_weights_follow_the_equation(d: int, exponent: float, training: bool) -> None:
    layer = random_layer(d=d, steepness=3.0, exponent=exponent, layer_spacing=0.1).train(training)
    weights = layer.weight().detach().numpy()
    np.testing.assert_allclose(
        weights, expected_weights(layer, 3.0, exponent), rtol=2e-3 if training else 1.2e-7, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, FEW_DIMENSIONS, FEW_DIMENSIONS + 1, 32])
def test_squared_distance_keeps_its_bound_for_near_and_far_points(d: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(200, d, generator=generator, dtype=torch.float64).to(dtype)
    spread = torch.logspace(-6, 1, 300, dtype=torch.float64).unsqueeze(1)
    source = (target[torch.arange(300) % 200] + spread * torch.randn(300, d, generator=generator)).to(dtype)
    exact = (target.double()[:, None] - source.double()[None]).square().sum(-1)
    unit = torch.finfo(dtype).eps / 2
    error = ((squared_distance(source, target).double() - exact).abs() / exact.clamp_min(1e-300)).max()
    assert error <= 2 * (d + 4) * unit / NEAR


def test_the_expanded_form_alone_would_lose_near_points() -> None:
    rest = [0.0] * (FEW_DIMENSIONS - 1)
    target = torch.tensor([[10.0, 20.0, *rest]]) + 1e-3
    source = torch.tensor([[10.0, 20.0, *rest], [-300.0, 200.0, *rest]])
    expanded = target.square().sum(1, keepdim=True) + source.square().sum(1) - 2 * target @ source.T
    exact = (target.double()[:, None] - source.double()[None]).square().sum(-1)
    assert abs(expanded[0, 0] - exact[0, 0]) / exact[0, 0] > 0.1
    assert abs(squared_distance(source, target)[0, 0] - exact[0, 0]) / exact[0, 0] < 1e-5


@pytest.mark.parametrize("axis", [0.0, 0.3])
@pytest.mark.parametrize("exponent", [1.0, 1.7])
@pytest.mark.parametrize("d", [3, FEW_DIMENSIONS + 1])
def test_gradient_against_finite_differences(d: int, exponent: float, axis: float) -> None:
    generator = torch.Generator().manual_seed(2)
    points = [torch.randn(n, d, generator=generator, dtype=torch.float64, requires_grad=True) for n in (6, 5)]
    assert torch.autograd.gradcheck(lambda s, t: InverseDistance.apply(s, t, axis, exponent, 0.0), points)


@pytest.mark.parametrize("exponent", [1.0, 1.7])
def test_gradient_of_a_learned_spacing(exponent: float) -> None:
    generator = torch.Generator().manual_seed(2)
    points = [torch.randn(n, 3, generator=generator, dtype=torch.float64, requires_grad=True) for n in (6, 5)]
    spacing = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, t, a: InverseDistance.apply(s, t, a, exponent, 0.0), (*points, spacing))


def test_the_paper_s_learned_distances_are_one_number_per_layer() -> None:
    config = SpatialConfig((784, 2048, 10), layer_axis="learned", gain=False)
    network = SpatialNetwork(config)
    assert sum(p.numel() for p in network.parameters()) == 10_576
    network.reset_parameters(0)
    inputs = torch.rand(5, 784, generator=torch.Generator().manual_seed(0))
    network.train()(inputs).square().sum().backward()
    assert all(abs(float(layer.spacing.grad)) > 0 for layer in network.linears())


def test_relaxed_layer_axis_starts_next_to_the_layer_index() -> None:
    network = SpatialNetwork(SpatialConfig((50, 40, 30), layer_axis="free"))
    network.reset_parameters(0, relaxed_spacing=0.5)
    for index, position in enumerate(network.positions):
        assert index * 0.5 <= position[:, -1].min() and position[:, -1].max() < (index + 1) * 0.5
        assert position[:, 0].min() < 0


@pytest.mark.parametrize("min_distance", [0.0, 0.5])
def test_coincident_points_have_finite_weights_and_gradients(min_distance: float) -> None:
    layer = random_layer(min_distance=min_distance, layer_axis="free")
    with torch.no_grad():
        layer.target[:5] = layer.source[:5]
    layer.weight().sum().backward()
    assert torch.isfinite(layer.weight()).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters() if parameter.grad is not None)


def test_min_distance_is_the_floor_of_the_distance() -> None:
    layer = random_layer(min_distance=1.5, layer_axis="free").eval()
    np.testing.assert_allclose(layer.weight().detach(), expected_weights(layer, 1.0, floor=1.5), rtol=1.2e-7)


def test_mask_is_the_paper_s_sigmoid() -> None:
    inhibition = torch.linspace(-20, 20, 101, dtype=torch.float64)
    torch.testing.assert_close(inhibition_mask(inhibition, 0.7), 2 * torch.sigmoid(0.7 * inhibition) - 1)


def test_hidden_neurons_have_one_position() -> None:
    network = SpatialNetwork(SpatialConfig((784, 512, 10), dimensions=32))
    assert network.linears()[0].target is network.linears()[1].source
    assert sum(p.numel() for p in network.parameters()) == 42_306
    assert {name: tuple(p.shape) for name, p in network.named_tensors().items()} == network.config.tensor_shapes()


def test_paper_form_counts() -> None:
    network = SpatialNetwork(SpatialConfig((784, 512, 10), dimensions=3))
    assert sum(p.numel() for p in network.parameters()) == 4_432


def random_network(config: SpatialConfig) -> SpatialNetwork:
    network = SpatialNetwork(config)
    network.reset_parameters(3, position_scale=1.0)
    with torch.no_grad():
        for layer in network.linears():  # loud enough that neurons spike
            layer.gain.mul_(2)
            layer.bias.uniform_(-0.2, 0.6, generator=torch.Generator().manual_seed(0))
    return network.eval()


def expected_spikes(network: SpatialNetwork, x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Spike counts and membranes of the last layer `[T, batch, n]`, by the equations, neuron models in float64."""
    spiking = network.config.spiking
    assert spiking is not None
    weights = [layer.weight().detach().double().numpy() for layer in network.linears()]
    biases = [layer.bias.detach().double().numpy() for layer in network.linears()]
    membranes = [np.zeros((len(x), len(b))) for b in biases]
    spikes = [np.zeros_like(u) for u in membranes]
    counts, outputs = [np.zeros_like(u) for u in membranes], []
    for t in range(spiking.timesteps):
        current = x[:, t] if spiking.input_coding == "spikes" else x
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            y = current @ w.T + b
            leaky = i == len(weights) - 1 and spiking.readout != "spike_count"
            if leaky:
                membranes[i] = spiking.beta * membranes[i] + y
            elif spiking.reset == "subtract" and not spiking.reset_delay:
                membranes[i] = spiking.beta * (membranes[i] - spiking.threshold * spikes[i]) + y
            elif spiking.reset == "subtract":
                membranes[i] = spiking.beta * membranes[i] + y - spiking.threshold * spikes[i]
            else:
                membranes[i] = spiking.beta * membranes[i] * (1 - spikes[i]) + y
            spikes[i] = (membranes[i] > spiking.threshold) * (0.0 if leaky else 1.0)
            counts[i] += spikes[i]
            current = spikes[i]
        outputs.append(membranes[-1])
    return counts, np.array(outputs)


@pytest.mark.parametrize("coding", ["direct", "spikes"])
@pytest.mark.parametrize("readout", ["mean_membrane", "last_membrane", "spike_count"])
@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_spiking_network_follows_the_equations(reset: str, reset_delay: bool, readout: str, coding: str) -> None:
    options = {"reset": reset, "reset_delay": reset_delay, "readout": readout, "input_coding": coding}
    spiking = SpikingConfig(7, beta=0.8, threshold=0.6, **options)
    network = random_network(SpatialConfig((12, 20, 8, 4), spiking=spiking))
    rng = np.random.default_rng(4)
    x = (rng.random((9, 7, 12)) < 0.6).astype(np.float32) if coding == "spikes" else rng.random((9, 12), np.float32)
    counts, membranes = expected_spikes(network, x)
    got = [layer.detach().numpy() for layer in network.trace(torch.from_numpy(x))]
    assert sum(count.sum() for count in counts[:-1]) > 0
    for count, layer in zip(counts[:-1], got[:-1], strict=True):
        np.testing.assert_array_equal(layer, count)
    readouts = {"mean_membrane": membranes.mean(0), "last_membrane": membranes[-1], "spike_count": counts[-1]}
    np.testing.assert_allclose(got[-1], readouts[readout], atol=1e-5)


def test_surrogate_gradient_is_the_fast_sigmoid() -> None:
    from sen_edge.model.dynamics import spike

    above = torch.linspace(-2, 2, 41, requires_grad=True)
    spike(above, 25.0).sum().backward()
    torch.testing.assert_close(above.grad, 1 / (1 + 25.0 * above.detach().abs()) ** 2)


def test_spiking_network_learns_through_time() -> None:
    network = random_network(SpatialConfig((12, 20, 4), spiking=SpikingConfig(5)))
    network.train()(torch.rand(3, 12)).square().sum().backward()
    grads = [parameter.grad for parameter in network.parameters()]
    assert all(grad is not None and torch.isfinite(grad).all() for grad in grads)
    assert sum(float(grad.abs().sum()) for grad in grads) > 0
