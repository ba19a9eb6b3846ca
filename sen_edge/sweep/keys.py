"""The keys of a sweep file's [training] and [compression]: those of `sen-edge train` and `sen-edge compress`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

TABLES = ("training", "compression")


@dataclass(frozen=True)
class Kind:
    """What a key takes.

    Attributes:
        expected: in words.
        accepts: whether a value of TOML is one.
        read: what it becomes.
        number: int or float where a range of it can be sampled, else None.
    """

    expected: str
    accepts: Callable[[Any], bool]
    read: Callable[[Any], Any] = lambda value: value
    number: type | None = None


def _is_integer(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


COUNT = Kind("a whole number from 1", lambda value: _is_integer(value, 1), number=int)
WHOLE = Kind("a whole number from 0", _is_integer, number=int)
NUMBER = Kind("a number", _is_number, float, number=float)
SWITCH = Kind("true or false", lambda value: isinstance(value, bool))
WORD = Kind("a string", lambda value: isinstance(value, str))
WEIGHTS = Kind('"positions" or "free"', lambda value: value in ("positions", "free"))
ARCHITECTURE = Kind('"mlp" or "snn"', lambda value: value in ("mlp", "snn"))
SIZES = Kind(
    "a list of layer sizes such as [512, 256]",
    lambda value: isinstance(value, list) and all(_is_integer(size, 1) for size in value),
    tuple,
)
LAYERS = Kind(
    "a list of layer numbers such as [0, 1]",
    lambda value: isinstance(value, list) and bool(value) and all(map(_is_integer, value)),
    tuple,
)

#: Of a spiking network alone, as `SpikingConfig` calls them.
SPIKING: Mapping[str, Kind] = {
    "timesteps": COUNT,
    "beta": NUMBER,
    "threshold": NUMBER,
    "reset": WORD,
    "reset_delay": SWITCH,
    "readout": WORD,
    "input_coding": WORD,
    "surrogate_slope": NUMBER,
}
#: As `Recipe` calls them.
RECIPE: Mapping[str, Kind] = {
    "epochs": COUNT,
    "batch_size": COUNT,
    "learning_rate": NUMBER,
    "position_scale": NUMBER,
    "shift": WHOLE,
    "validation": NUMBER,
}
#: As `SpatialConfig` calls them.
CONFIG: Mapping[str, Kind] = {
    "steepness": NUMBER,
    "layer_spacing": NUMBER,
    "layer_axis": WORD,
    "exponent": NUMBER,
    "min_distance": NUMBER,
    "gain": SWITCH,
    "bias": SWITCH,
}
#: Of spatially embedded networks alone.
SPATIAL = frozenset(("dims", "position_scale", *CONFIG)) - {"bias"}
KEYS: Mapping[str, Mapping[str, Kind]] = {
    "training": {
        "arch": ARCHITECTURE,
        "weights": WEIGHTS,
        "hidden": SIZES,
        "dims": COUNT,
        **CONFIG,
        **RECIPE,
        **SPIKING,
    },
    "compression": {
        "sparsity": NUMBER,
        "threshold": NUMBER,
        "criterion": WORD,
        "pattern": WORD,
        "scope": WORD,
        "layers": LAYERS,
        "rank": COUNT,
        "macs": NUMBER,
        "error": NUMBER,
        "near": NUMBER,
        "hierarchical": NUMBER,
        "epochs": WHOLE,
        "distillation": NUMBER,
        "ramp": NUMBER,
        "patience": WHOLE,
        "as_checkpoint": SWITCH,
    },
}
