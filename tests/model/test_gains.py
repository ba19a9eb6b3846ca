"""Gains add no network to the paper's form: positions and inhibitions absorb them (docs/explanation/maths.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sen_edge.model.config import SpatialConfig
from sen_edge.model.layers import SpatialNetwork, inhibition_mask

CONFIGS = {
    "learned layer distances": SpatialConfig((30, 20, 10), layer_axis="learned"),
    "free axis, exponents and steepness by layer": SpatialConfig(
        (30, 20, 10), dimensions=5, layer_axis="free", exponent=(1.0, 6.0), steepness=(1.0, 0.5)
    ),
}


def absorb_gains(network: SpatialNetwork) -> SpatialNetwork:
    """Return the network without gains that has the same weights.

    Positions times c and masks times g c^e give the same weights; masks stay in (-1, 1) where c is small enough.
    """
    absorbed, layers = SpatialNetwork(replace(network.config, gain=False)), network.linears()
    masks = [inhibition_mask(layer.inhibition.double(), layer.steepness) * layer.gain for layer in layers]
    scales = [(0.99 / mask.abs().max()) ** (1 / layer.exponent) for mask, layer in zip(masks, layers, strict=True)]
    c = min(1.0, *map(float, scales))
    for ours, theirs in zip(network.positions, absorbed.positions, strict=True):
        theirs.copy_(c * ours)
    for layer, other, mask in zip(layers, absorbed.linears(), masks, strict=True):
        other.inhibition.copy_(2 / layer.steepness * torch.atanh(c**layer.exponent * mask))
        if layer.spacing is not None and other.spacing is not None:
            other.spacing.copy_(c * layer.spacing)
    return absorbed


@pytest.mark.parametrize("gains", [(0.05, 0.3), (20.0, -0.5), (0.0, 3.0)], ids=str)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.no_grad()
def test_a_network_without_gains_has_the_same_weights(config: SpatialConfig, gains: tuple[float, float]) -> None:
    network = SpatialNetwork(config)
    network.reset_parameters(0)
    for layer, gain in zip(network.linears(), gains, strict=True):
        assert layer.gain is not None
        layer.gain.fill_(gain)
    absorbed = absorb_gains(network)
    pairs = zip(network.eval().linears(), absorbed.eval().linears(), strict=True)
    for layer, other in pairs:
        torch.testing.assert_close(other.weight(), layer.weight(), rtol=1e-5, atol=0.0)
    assert sum(each.numel() for each in absorbed.parameters()) == sum(each.numel() for each in network.parameters()) - 2
