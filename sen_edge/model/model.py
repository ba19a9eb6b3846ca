"""A model: a checkpoint or a `.sen` image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sen_edge.errors import CheckpointError, UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.parameters import AppliedMap, Checkpoint
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.errors import ImageError, NetworkError
from sen_runtime.ir.network import Network
from sen_runtime.untrusted import quote, read_regular

FloatArray = NDArray[np.float32]

IMAGE_SUFFIX = ".sen"
SUFFIXES = (*checkpoints.SUFFIXES, IMAGE_SUFFIX)
#: Rows per chunk: bounds memory, does not change results.
CHUNK = 1000


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its source.

    Attributes:
        network: of a checkpoint, from `checkpoint.to_network`; of an image, as stored.
        sha256: of the file.
        checkpoint: None for an image.
        name: of the file.
    """

    network: Network
    sha256: str
    checkpoint: Checkpoint | None = None
    name: str = ""

    @property
    def kind(self) -> str:
        """Either "checkpoint" or "image"."""
        return "image" if self.checkpoint is None else "checkpoint"

    @property
    def architecture(self) -> str:
        """Either "mlp" or "snn"."""
        return "snn" if self.network.is_spiking else "mlp"

    @property
    def applied_map(self) -> AppliedMap | None:
        """Map of a foreign checkpoint."""
        return None if self.checkpoint is None else self.checkpoint.applied_map

    @property
    def n_parameters(self) -> int:
        """Parameters of a checkpoint; stored numbers of an image (`count_stored_numbers`)."""
        return sum(count_stored_numbers(self.network)) if self.checkpoint is None else self.checkpoint.n_parameters

    def trace(self, x: FloatArray) -> list[FloatArray]:
        """Compute outputs of every layer, `[batch, n]` each, the readout last: the reference for verification.

        A checkpoint runs in torch, an image in the reference interpreter, in float32 and in chunks.

        Args:
            x: `[batch, n_in]`, or `[batch, T, n_in]` for input coding "spikes".

        Raises:
            NetworkError: neurons of an image coincide.
        """
        chunks = [self._layers(x[start : start + CHUNK]) for start in range(0, len(x), CHUNK)]
        return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]

    @cached_property
    def _layers(self) -> Callable[[FloatArray], Sequence[FloatArray]]:
        """Function that traces one chunk; cached, because building it takes longer than running it."""
        if self.checkpoint is None:
            network = reference.expand(self.network)
            return lambda x: reference.trace(network, x, np.float32)
        import torch

        module = checkpoints.to_module(self.checkpoint)

        def layers(x: FloatArray) -> list[FloatArray]:
            with torch.inference_mode():
                return [layer.numpy() for layer in module.trace(torch.from_numpy(x))]

        return layers


def load(path: Path, *, map_path: Path | None = None) -> Model:
    """Read a model.

    Args:
        path: checkpoint, or `.sen` image.
        map_path: TOML map of a foreign state dict.

    Raises:
        CheckpointError: see `sen_edge.model.checkpoint.load`; or unknown suffix.
        ImageError: the image is missing or damaged.
        NetworkError: coincident neurons in a layer with a stored pattern.
        UsageError: a map for an image.
    """
    if path.suffix == IMAGE_SUFFIX:
        if map_path is not None:
            raise UsageError(f"--map is for foreign checkpoints; {path} is an image", hint="leave it out")
        return _load_image(path)
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: suffix is {quote(path.suffix)}; expected one of {', '.join(SUFFIXES)}")
    checkpoint = checkpoints.load(path, map_path=map_path)
    try:
        return Model(checkpoints.to_network(checkpoint), checkpoint.sha256, checkpoint, path.name)
    except NetworkError as error:
        raise NetworkError(f"{path}: {error.message}", error.hint) from error


def _load_image(path: Path) -> Model:
    """Read the file once, so hash and network belong together."""
    data = read_regular(path, error=ImageError)
    try:
        return Model(image.loads(data), hashlib.sha256(data).hexdigest(), name=path.name)
    except ImageError as error:
        raise ImageError(f"{path}: {error.message}", error.hint) from error


def count_stored_numbers(network: Network) -> tuple[int, ...]:
    """Count the weights or positions, and biases, that each layer adds to an image.

    Indices and scales are not counted; a shared array counts in its first layer.
    """
    seen: set[int] = set()
    counts = []
    for layer in network.layers:
        arrays = {id(array): array for array in (*layer.weight.weight_arrays(), layer.bias) if array is not None}
        counts.append(sum(int(array.size) for key, array in arrays.items() if key not in seen))
        seen.update(arrays)
    return tuple(counts)
