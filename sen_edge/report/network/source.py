"""Networks with positions: checkpoints, and images that store coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sen_edge.errors import UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model import model as models
from sen_edge.model.parameters import Checkpoint, Synapses
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Coordinates


@dataclass(frozen=True, eq=False)
class Source:
    """A network with positions; coincident neurons are allowed.

    Attributes:
        name: file name.
        network: network whose weights are all `Coordinates`.
        is_axis_fixed: whether the last coordinate is that of the layer.
        synapses: weight layer -> connected neurons `[n_out, n_in]`, for pruned layers of a checkpoint.
        metadata: metadata of the file.
        sha256: SHA-256 of the file, or empty.
        checkpoint: the checkpoint; None for an image.
    """

    name: str
    network: Network
    is_axis_fixed: bool
    synapses: Mapping[int, Synapses] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""
    checkpoint: Checkpoint | None = None

    @property
    def operators(self) -> list[Coordinates]:
        """Positions and masks of every layer."""
        return [layer.weight for layer in self.network.layers if isinstance(layer.weight, Coordinates)]

    @property
    def dimensions(self) -> int:
        """Coordinates d of a position."""
        return self.operators[0].dimensions

    @property
    def positions(self) -> list[NDArray[np.float32]]:
        """Positions `[n, d]` of each layer, input first."""
        return [*(operator.source for operator in self.operators), self.operators[-1].target]

    def runnable(self) -> Network:
        """The network without the synapses that are pruned.

        Raises:
            NetworkError: neurons coincide, so that there are no weights.
        """
        return self.network if self.checkpoint is None else checkpoints.to_network(self.checkpoint)


def load(path: Path, *, map_path: Path | None = None) -> Source:
    """Read a network.

    Args:
        path: checkpoint or `.sen` image.
        map_path: TOML map of a foreign state dict.

    Raises:
        CheckpointError, ImageError: see `sen_edge.model.model.load`.
        UsageError: an image without coordinates; a map for an image.
    """
    if path.suffix == models.IMAGE_SUFFIX:
        return _of_image(models.load(path, map_path=map_path), path)
    return of_checkpoint(checkpoints.load(path, map_path=map_path), path.name)


def of_checkpoint(checkpoint: Checkpoint, name: str) -> Source:
    """The network of a checkpoint."""
    return Source(
        name,
        checkpoints.to_network(replace(checkpoint, synapses={})),
        checkpoint.config.layer_axis == "fixed",
        checkpoint.synapses,
        checkpoint.metadata,
        checkpoint.sha256,
        checkpoint,
    )


def _of_image(model: models.Model, path: Path) -> Source:
    network = model.network
    for index, layer in enumerate(network.layers):
        if not isinstance(layer.weight, Coordinates):
            raise UsageError(
                f"{path}: layer {index} holds weights and no positions, so there is nothing to draw",
                hint="draw the checkpoint of the image, or export with --weights coordinates",
            )
    source = Source(path.name, network, _is_axis_fixed(network), {}, network.metadata, model.sha256)
    for index, (before, after) in enumerate(pairwise(source.operators)):
        if not np.array_equal(before.target, after.source):
            raise UsageError(
                f"{path}: neurons of layer {index + 1} have two positions each, as targets and as sources; expected one"
            )
    return source


def _is_axis_fixed(network: Network) -> bool:
    """Whether the last coordinate is equal within each layer and differs between layers."""
    positions = Source("", network, is_axis_fixed=False).positions
    last = [at[:, -1] for at in positions]
    if positions[0].shape[1] < 2 or any(values.min() != values.max() for values in last):
        return False
    return len({float(values[0]) for values in last}) == len(last)
