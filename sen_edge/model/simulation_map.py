"""Constants of a simulation that its files do not state: a TOML map, or the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np

from sen_edge.errors import CheckpointError
from sen_edge.model.parameters import AppliedMap
from sen_edge.schema import Schema, read_map

#: For simulations whose neurons spike from a potential of 1 on; a neuron of a `Network` spikes above its threshold.
THRESHOLD = float(np.nextafter(np.float32(1), np.float32(0)))
T = TypeVar("T", bound=Schema)


def read_constants(cls: type[T], path: Path, map_path: Path | None, built_in: str) -> tuple[T, AppliedMap]:
    """Read the constants of the network at `path`.

    Args:
        cls: the constants, all with defaults.
        path: of the network, for messages.
        map_path: TOML file, or `built_in` for the defaults.
        built_in: name of the defaults.

    Raises:
        CheckpointError: there is no map, or it is invalid.
    """
    if map_path is None:
        raise CheckpointError(f"{path} does not state its time step", f"add --map {built_in}, or a TOML map with dt")
    stated, document, sha256 = cls(), dict[str, object](), ""
    if str(map_path) != built_in:
        stated, document, sha256 = read_map(cls, map_path, error=CheckpointError)
    assumed = {name: value for name, value in vars(stated).items() if name not in document}
    return stated, AppliedMap(map_path.name, sha256, (), document, assumed)
