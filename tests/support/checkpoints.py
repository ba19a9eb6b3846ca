"""Checkpoints: of every kind of network, and those that cannot be read, whose neurons coincide, or that are pruned."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.model.layers import SpatialNetwork
from sen_edge.model.parameters import Checkpoint
from tests.conftest import MLP, make_checkpoint

CONFIGS = {
    "mlp": SpatialConfig((12, 9, 4), dimensions=3, layer_spacing=0.5, steepness=2.0),
    "free axes, no gain, no bias": SpatialConfig((12, 9, 4), dimensions=1, layer_axis="free", gain=False, bias=False),
    "snn": SpatialConfig((12, 9, 4), spiking=SpikingConfig(6, reset="zero", readout="spike_count")),
    "learned spacing": SpatialConfig((12, 9, 4), layer_axis="learned", layer_spacing=(0.5, 0.25)),
    "constants of each layer": SpatialConfig(
        (12, 9, 4), layer_spacing=(0.5, 0.2), steepness=(1.0, 3.0), exponent=(2.0, 1.0)
    ),
    "two positions": SpatialConfig((12, 9, 7, 4), separate_positions=True),
    "neurons of each layer": SpatialConfig(
        (12, 9, 7, 4),
        spiking=SpikingConfig(6, beta=(0.5, 0.9, 1.0), threshold=(0.3, 0.6), reset=("zero", "subtract")),
    ),
    "floor and exponent": SpatialConfig((12, 4), exponent=1.5, min_distance=0.25, input_range=(-1.0, 2.0)),
}


def make(config: SpatialConfig) -> Checkpoint:
    network = SpatialNetwork(config)
    network.reset_parameters(0, position_scale=1.0)
    return checkpoints.from_module(network, {"accuracy": "97.1"})


def content(config: SpatialConfig = CONFIGS["mlp"]) -> dict[str, Any]:
    made = make(config)
    tensors = {name: torch.from_numpy(tensor.copy()) for name, tensor in made.tensors.items()}
    return {
        "format": "sen-edge-checkpoint",
        "version": 1,
        "config": config.to_dict(),
        "tensors": tensors,
        "metadata": {"accuracy": "97.1"},
    }


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def write_code(path: Path) -> None:
    torch.save({**content(), "extra": Payload(path.with_name("ran"))}, path)


def write_truncated(path: Path) -> None:
    checkpoints.save(make_checkpoint(MLP), path)
    path.write_bytes(path.read_bytes()[:3000])


def write_chain(path: Path) -> None:
    wrong = content()
    wrong["tensors"]["positions.1"] = torch.zeros(7, 2)
    torch.save(wrong, path)


def write_nan(path: Path) -> None:
    wrong = content()
    wrong["tensors"]["inhibition.1"][3] = torch.nan
    torch.save(wrong, path)


def coincident() -> dict[str, Any]:
    wrong = content()
    wrong["config"]["layer_axis"], wrong["config"]["dimensions"] = "free", 2
    wrong["tensors"]["positions.2"][1] = wrong["tensors"]["positions.1"][4]
    return wrong


def write_coincident(path: Path) -> None:
    torch.save(coincident(), path)


def write_coincident_pattern(path: Path) -> None:
    """The weights that are left are computed when the file is read, so that no command can go on."""
    wrong = coincident()
    (n_in,), (n_out,) = (wrong["tensors"][f"{name}.1"].shape for name in ("inhibition", "bias"))
    wrong["tensors"]["synapses.1"] = torch.full((n_out, -(-n_in // 8)), 255, dtype=torch.uint8)
    torch.save(wrong, path)


def write_pruned(path: Path, layers: tuple[int, ...]) -> None:
    """Every second synapse of these layers of `MLP`."""
    sizes = MLP.layer_sizes
    synapses = {i: np.indices((sizes[i + 1], sizes[i])).sum(axis=0) % 2 == 0 for i in layers}
    checkpoints.save(replace(make_checkpoint(MLP), synapses=synapses), path, replace=True)
