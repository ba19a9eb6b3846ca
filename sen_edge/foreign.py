"""Foreign state dicts: another team's names and orientations, read through a small TOML map.

    [config]                     # as in a checkpoint; layer_sizes and dimensions follow from the tensors
    layer_axis = "free"
    steepness = 5.0

    [tensors.positions]          # positions, inhibition; and bias, gain where the network has them
    name = "layers.{i}.positions"  # {i} counts from `first` (default 0)
    first = 1
    transpose = true             # stored [d, n]

    [tensors.inhibition]
    names = ["inp.inh", "hid.inh"]   # or the names one by one

Without `{i}`, `name` is a single tensor that holds all layers one after the other and is split by
config.layer_sizes. `state_dict = "model.state"` at the top names a dict inside the file. The reference is
docs/how-to/foreign-checkpoints.md.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, pairwise, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from sen_edge.checkpoint import Checkpoint, Float32Array, as_array
from sen_edge.config import SpatialConfig
from sen_edge.errors import CheckpointError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROLES = ("positions", "inhibition", "gain", "bias")


@dataclass(frozen=True)
class TensorRule:
    """Where one role's tensors are.

    Attributes:
        role: "positions", "inhibition", "gain" or "bias".
        name: pattern with `{i}`, or the name of one tensor to split.
        names: the names one by one, instead of `name`.
        first: value of `{i}` for the first layer.
        transpose: whether positions are stored `[d, n]`.
    """

    role: str
    name: str = ""
    names: tuple[str, ...] = ()
    first: int = 0
    transpose: bool = False

    @property
    def is_split(self) -> bool:
        """Whether one tensor holds all layers."""
        return not self.names and "{i}" not in self.name

    def candidates(self, state: Mapping[str, Any]) -> list[str]:
        """Names of this role's tensors, in layer order."""
        if self.names:
            return list(self.names)
        if self.is_split:
            return [self.name]
        return list(takewhile(state.__contains__, (self.name.replace("{i}", str(i)) for i in count(self.first))))


def apply_map(content: Mapping[str, Any], map_path: Path, sha256: str) -> Checkpoint:
    """Read `content` (what a torch or safetensors file holds) through the map at `map_path`.

    Raises:
        CheckpointError: the map is wrong, or does not fit the file.
    """
    document = _read_map(map_path)
    state = _state_dict(content, document.get("state_dict", ""))
    rules = _rules(document["tensors"])
    config_values = dict(document.get("config", {}))
    found = {role: _gather(rule, state) for role, rule in rules.items()}
    sizes = config_values.get("layer_sizes")
    if rules["positions"].is_split:
        if not isinstance(sizes, list):
            raise CheckpointError(f"{map_path}: positions are one tensor, so config.layer_sizes is needed to split it")
    else:
        config_values.setdefault("layer_sizes", [len(array) for array in found["positions"]])
    free = found["positions"][0].shape[1]
    config_values.setdefault("layer_axis", "free")
    config_values.setdefault("dimensions", free + (config_values["layer_axis"] == "fixed"))
    config_values["gain"], config_values["bias"] = "gain" in rules, "bias" in rules
    config = SpatialConfig.from_dict(config_values)
    tensors: dict[str, Float32Array] = {}
    for role, rule in rules.items():
        tensors.update(_assign(rule, found[role], config))
    used = {name for rule in rules.values() for name in rule.candidates(state)}
    unused = sorted(str(name) for name in state if name not in used)
    metadata = {"map": map_path.name, "unused_entries": ", ".join(unused)}
    return Checkpoint(config, tensors, metadata, sha256)


def _read_map(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read the map {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"the map {path} is not TOML: {error}") from error
    unknown = [name for name in document if name not in ("state_dict", "config", "tensors")]
    if unknown:
        raise CheckpointError(f"the map {path} has unknown entries: {', '.join(unknown)}")
    if not isinstance(document.get("tensors"), dict) or not isinstance(document.get("config", {}), dict):
        raise CheckpointError(f"the map {path} needs a table [tensors], and may have a table [config]")
    return document


def _rules(tables: Mapping[str, Any]) -> dict[str, TensorRule]:
    unknown = [role for role in tables if role not in ROLES]
    missing = [role for role in ("positions", "inhibition") if role not in tables]
    if unknown or missing:
        raise CheckpointError(
            f"the map's [tensors] has unknown roles [{', '.join(unknown)}] and lacks [{', '.join(missing)}]; "
            f"roles are {', '.join(ROLES)}"
        )
    return {role: _rule(role, table) for role, table in tables.items()}


def _rule(role: str, table: object) -> TensorRule:
    where = f"the map's [tensors.{role}]"
    kinds = {"name": str, "names": list, "first": int, "transpose": bool}
    if not isinstance(table, dict):
        raise CheckpointError(f"{where} is {table!r}; expected a table")
    for key, value in table.items():
        if key not in kinds or not isinstance(value, kinds[key]):
            raise CheckpointError(f"{where}: {key} = {value!r}; known are {', '.join(kinds)}, each of its type")
    if ("name" in table) == ("names" in table):
        raise CheckpointError(f"{where} needs either name or names")
    if table.get("transpose") and role != "positions":
        raise CheckpointError(f"{where}: transpose is for positions only")
    return TensorRule(role, **{**table, "names": tuple(table.get("names", ()))})


def _state_dict(content: Mapping[str, Any], dotted: str) -> Mapping[str, Any]:
    state: Any = content
    for part in filter(None, dotted.split(".")):
        state = state.get(part) if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping):
        raise CheckpointError(f"no dict at state_dict = {dotted!r}; the file holds: {', '.join(map(str, content))}")
    return state


def _gather(rule: TensorRule, state: Mapping[str, Any]) -> list[Float32Array]:
    names = rule.candidates(state)
    missing = [name for name in names if name not in state]
    if missing or not names:
        wanted = ", ".join(missing) or rule.name.replace("{i}", str(rule.first))
        raise CheckpointError(
            f"the map's {rule.role} are not in the file: {wanted}",
            hint=f"the file holds: {', '.join(map(str, state))}",
        )
    arrays = [as_array(name, state[name]) for name in names]
    if rule.role != "positions":
        return arrays
    for name, array in zip(names, arrays, strict=True):
        if array.ndim != 2:
            raise CheckpointError(f"tensor {name} has shape {list(array.shape)}; expected two axes, neurons and d")
    return [np.ascontiguousarray(array.T) for array in arrays] if rule.transpose else arrays


def _assign(rule: TensorRule, arrays: list[Float32Array], config: SpatialConfig) -> dict[str, Float32Array]:
    """The role's tensors under the checkpoint's own names and shapes."""
    shapes = {name: shape for name, shape in config.tensor_shapes().items() if name.startswith(f"{rule.role}.")}
    if rule.is_split and rule.role != "gain":
        arrays = _split(rule, arrays[0], config)
    elif rule.is_split:
        arrays = list(arrays[0].reshape(-1))
    if len(arrays) < len(shapes):
        raise CheckpointError(f"the map finds {len(arrays)} {rule.role} tensors; the network needs {len(shapes)}")
    if rule.role != "positions":  # [n, 1] and [1] are common ways to write a vector and a scalar
        arrays = [np.squeeze(array) if array.size > 1 else array.reshape(-1) for array in arrays]
    # A further inhibition vector is that of the output neurons, which have no outgoing synapse.
    return {
        name: array.reshape(shape) if array.size == 1 else array
        for (name, shape), array in zip(shapes.items(), arrays, strict=False)
    }


def _split(rule: TensorRule, array: Float32Array, config: SpatialConfig) -> list[Float32Array]:
    """One tensor `[n_total, ...]` cut into one per layer; neurons a role does not need may be left out or in."""
    sizes = config.layer_sizes
    needed = {"positions": sizes, "inhibition": sizes[:-1], "bias": sizes[1:]}[rule.role]
    total = array.shape[0] if array.ndim else 0
    if total not in (sum(needed), sum(sizes)):
        raise CheckpointError(
            f"tensor {rule.name} has {total} rows; expected {sum(needed)}, the sum of the layer sizes {list(needed)}"
        )
    skipped = sizes[0] if rule.role == "bias" and total == sum(sizes) else 0
    bounds = skipped + np.cumsum((0, *needed))
    return [array[start:stop] for start, stop in pairwise(bounds)]
