"""Checkpoints that cannot be read, or whose neurons coincide, and pruned ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sen_edge.model import checkpoint as checkpoints
from tests.conftest import MLP, make_checkpoint
from tests.model.test_checkpoint import Payload, content


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
