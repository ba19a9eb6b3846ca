"""What an export starts from: a checkpoint, or a network that was stored as a `.sen` image."""

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
from sen_runtime.ir.operators import weight_arrays
from sen_runtime.untrusted import quote, read_regular

FloatArray = NDArray[np.float32]

IMAGE_SUFFIX = ".sen"
SUFFIXES = (*checkpoints.SUFFIXES, IMAGE_SUFFIX)
#: Rows that a network or an engine takes at once: bounds memory, not results.
CHUNK = 1000


@dataclass(frozen=True, eq=False)
class Model:
    """A network, and where it came from.

    Attributes:
        network: of a checkpoint, as `checkpoint.to_network` gives it; of an image, as it is stored there.
        sha256: of the file.
        checkpoint: the network's; None for an image.
    """

    network: Network
    sha256: str
    checkpoint: Checkpoint | None = None

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
        """The map that a foreign checkpoint was read through."""
        return None if self.checkpoint is None else self.checkpoint.applied_map

    @property
    def n_parameters(self) -> int:
        """Learned numbers of a checkpoint; those that an image stores: see `stored_numbers`."""
        return sum(stored_numbers(self.network)) if self.checkpoint is None else self.checkpoint.n_parameters

    def trace(self, x: FloatArray) -> list[FloatArray]:
        """What every layer gives out, `[batch, n]` each, the readout last: what an artifact is compared with.

        A checkpoint runs in torch, an image in the reference interpreter, both in float32 and in chunks.

        Args:
            x: `[batch, n_in]`, or `[batch, T, n_in]` for input coding "spikes".

        Raises:
            NetworkError: an image's coordinates have no weights, because neurons coincide.
        """
        chunks = [self._layers(x[start : start + CHUNK]) for start in range(0, len(x), CHUNK)]
        return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]

    @cached_property
    def _layers(self) -> Callable[[FloatArray], Sequence[FloatArray]]:
        """What `trace` gives for a chunk; made once, because that takes longer than to run it."""
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
        path: a checkpoint, or an image: `.sen`.
        map_path: TOML map of a foreign state dict; an image has none.

    Raises:
        CheckpointError: see `sen_edge.model.checkpoint.load`; or another suffix.
        ImageError: the image is absent or damaged; the path is named.
        NetworkError: weights of a checkpoint with a pattern of its own that cannot be computed.
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
        return Model(checkpoints.to_network(checkpoint), checkpoint.sha256, checkpoint)
    except NetworkError as error:
        raise NetworkError(f"{path}: {error.message}", error.hint) from error


def _load_image(path: Path) -> Model:
    """Read once, so that the hash is that of the network."""
    data = read_regular(path, error=ImageError)
    try:
        return Model(image.loads(data), hashlib.sha256(data).hexdigest())
    except ImageError as error:
        raise ImageError(f"{path}: {error.message}", error.hint) from error


def stored_numbers(network: Network) -> tuple[int, ...]:
    """Numbers that each layer adds to an image: weights or positions, and biases.

    Indices and scales are not counted, and an array that layers share is counted in the first of them.
    """
    seen: set[int] = set()
    counts = []
    for layer in network.layers:
        arrays = {id(array): array for array in (*weight_arrays(layer.weight), layer.bias) if array is not None}
        counts.append(sum(int(array.size) for key, array in arrays.items() if key not in seen))
        seen.update(arrays)
    return tuple(counts)
