"""Networks with positions: checkpoints, and images that store coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
        network: network whose weights are all `Coordinates`; of a checkpoint, without its pattern of synapses.
        sha256: SHA-256 of the file, or empty.
        checkpoint: the checkpoint; None for an image.
    """

    name: str
    network: Network
    sha256: str
    checkpoint: Checkpoint | None = None

    @property
    def description(self) -> str:
        """Kind of the network, layer sizes and time steps."""
        sizes, steps = "-".join(map(str, self.network.layer_sizes)), self.network.timesteps
        return f"spiking network {sizes}, T = {steps}" if self.network.is_spiking else f"perceptron {sizes}"

    @property
    def synapses(self) -> Mapping[int, Synapses]:
        """Weight layer -> connected neurons `[n_out, n_in]`, for pruned layers of a checkpoint."""
        return {} if self.checkpoint is None else self.checkpoint.synapses

    @property
    def metadata(self) -> Mapping[str, str]:
        """Metadata of the file."""
        return self.network.metadata if self.checkpoint is None else self.checkpoint.metadata

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

    @property
    def is_axis_fixed(self) -> bool:
        """Whether the last coordinate is that of the layer: in an image, equal within layers and distinct between."""
        if self.checkpoint is not None:
            return self.checkpoint.config.layer_axis == "fixed"
        last = [np.unique(at[:, -1]) for at in self.positions]
        is_equal = all(len(values) == 1 for values in last)
        return self.dimensions > 1 and is_equal and len(np.unique(np.concatenate(last))) == len(last)

    def runnable(self) -> Network:
        """The network with its pattern of synapses.

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
    if path.suffix != models.IMAGE_SUFFIX:
        return of_checkpoint(checkpoints.load(path, map_path=map_path), path.name)
    model = models.load(path, map_path=map_path)
    _check_positions(model.network, path)
    return Source(path.name, model.network, model.sha256)


def of_checkpoint(checkpoint: Checkpoint, name: str) -> Source:
    """The network of a checkpoint."""
    return Source(name, checkpoints.to_network(replace(checkpoint, synapses={})), checkpoint.sha256, checkpoint)


def _check_positions(network: Network, path: Path) -> None:
    weights = [layer.weight for layer in network.layers]
    for index, weight in enumerate(weights):
        if not isinstance(weight, Coordinates):
            raise UsageError(
                f"{path}: layer {index} holds weights and no positions, so there is nothing to draw",
                hint="draw the checkpoint of the image, or export with --weights coordinates",
            )
    coordinates = [weight for weight in weights if isinstance(weight, Coordinates)]
    for index, (before, after) in enumerate(pairwise(coordinates)):
        if not np.array_equal(before.target, after.source):
            raise UsageError(
                f"{path}: neurons of layer {index + 1} have two positions each, as targets and as sources; expected one"
            )
