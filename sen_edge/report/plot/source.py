"""What has positions that can be drawn: a checkpoint, or an image that stores coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from sen_edge.errors import UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model import model as models
from sen_edge.model.parameters import Checkpoint, Synapses
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Coordinates


@dataclass(frozen=True, eq=False)
class Source:
    """A network with positions, whether its weights can be computed or not.

    Attributes:
        name: of the file.
        network: of `Coordinates` alone.
        is_axis_fixed: whether the last coordinate is that of the layer.
        synapses: weight layer -> `[n_out, n_in]`, which neurons are connected, where `network` does not say it.
        metadata: free text that travels with it.
        sha256: of the file, or empty.
        checkpoint: that it is of; None for an image.
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

    def runnable(self) -> Network:
        """The network with the synapses that it has.

        Raises:
            NetworkError: neurons coincide, so that there are no weights.
        """
        return self.network if self.checkpoint is None else checkpoints.to_network(self.checkpoint)


def load(path: Path, *, map_path: Path | None = None) -> Source:
    """Read what is to be drawn; coincident neurons are no error.

    Args:
        path: a checkpoint, or a `.sen` image.
        map_path: TOML map of a foreign state dict.

    Raises:
        CheckpointError, ImageError: see `sen_edge.model.model.load`.
        UsageError: an image without coordinates; a map for an image.
    """
    if path.suffix == models.IMAGE_SUFFIX:
        return _of_image(models.load(path, map_path=map_path), path)
    return of_checkpoint(checkpoints.load(path, map_path=map_path), path.name)


def of_checkpoint(checkpoint: Checkpoint, name: str) -> Source:
    """A checkpoint as it is drawn, under a name."""
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
                hint="draw the checkpoint that the image was made from, or export it with --weights coordinates",
            )
    source = Source(path.name, network, _is_axis_fixed(network), {}, network.metadata, model.sha256)
    for index, (before, after) in enumerate(pairwise(source.operators)):
        if not np.array_equal(before.target, after.source):
            raise UsageError(
                f"{path}: neurons of layer {index + 1} have two positions each, as targets and as sources; expected one"
            )
    return source


def _is_axis_fixed(network: Network) -> bool:
    """Whether the last coordinate is the same for all neurons of a layer, and another for each layer."""
    operators = [layer.weight for layer in network.layers if isinstance(layer.weight, Coordinates)]
    last = [operator.source[:, -1] for operator in operators] + [operators[-1].target[:, -1]]
    if operators[0].dimensions < 2 or any(values.min() != values.max() for values in last):
        return False
    return len({float(values[0]) for values in last}) == len(last)
