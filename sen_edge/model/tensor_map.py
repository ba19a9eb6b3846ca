"""The TOML map of a foreign state dict: its keys and their types, without the tensors.

    state_dict = "model.state"       # dict inside the file; left out where the file is the state dict

    [config]                         # constants of the network; keys as in a checkpoint's config
    layer_axis = "free"
    steepness = 5.0

    [tensors.positions]              # and inhibition; bias and gain where the network has them
    name = "layers.{i}.positions"    # `{i}` counts from `first` in steps of `step`
    first = 1
    transpose = true                 # stored [d, n]

    [tensors.inhibition]
    names = ["inp.inh", "hid.inh"]   # one by one

    [tensors.gain]
    value = 0.5                      # a constant of all layers

The reference is docs/how-to/foreign-checkpoints.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sen_edge.errors import CheckpointError
from sen_edge.schema import MAX_BYTES, load_toml
from sen_runtime.untrusted import listing, quote, read_regular

ROLES = ("positions", "inhibition", "gain", "bias")
#: Largest `first` and `step`.
MAX_COUNT = 1_000_000
#: Largest `value`, that of float32.
MAX_VALUE = 3.4e38


@dataclass(frozen=True)
class TensorRule:
    """Where the tensors of one role are.

    Attributes:
        role: "positions", "inhibition", "gain" or "bias".
        name: pattern with `{i}`, or the name of one tensor that holds all layers.
        names: the names one by one, instead of `name`.
        value: a constant instead of tensors; gain only.
        first: `{i}` of the first layer; of one tensor, the layers at its start that are skipped.
        step: difference of `{i}` from layer to layer.
        transpose: whether positions are stored `[d, n]`; None where the map does not state it.
    """

    role: str
    name: str = ""
    names: tuple[str, ...] = ()
    value: float | None = None
    first: int = 0
    step: int = 1
    transpose: bool | None = None

    @property
    def is_pattern(self) -> bool:
        """Whether `name` counts the layers."""
        return "{i}" in self.name

    @property
    def is_split(self) -> bool:
        """Whether one tensor holds all layers."""
        return bool(self.name) and not self.is_pattern


@dataclass(frozen=True)
class TensorMap:
    """A map.

    Attributes:
        file: its name.
        sha256: of its bytes.
        state_dict: keys that lead to the state dict, with dots between; empty for the file itself.
        config: constants, not checked yet.
        rules: role -> rule.
    """

    file: str
    sha256: str
    state_dict: str
    config: Mapping[str, Any]
    rules: Mapping[str, TensorRule]


def read_map(path: Path) -> TensorMap:
    """Read a map.

    Raises:
        CheckpointError: the file cannot be read, is not TOML, or has unknown, missing or wrong entries.
    """
    data = read_regular(path, MAX_BYTES, error=CheckpointError)
    document = load_toml(data, str(path), error=CheckpointError)
    where = f"the map {path}"
    unknown = [name for name in document if name not in ("state_dict", "config", "tensors")]
    if unknown:
        raise CheckpointError(f"{where} has unknown entries: {listing(unknown)}; known are state_dict, config, tensors")
    state_dict, config = document.get("state_dict", ""), document.get("config", {})
    if not isinstance(state_dict, str):
        raise CheckpointError(f"{where}: state_dict is {quote(state_dict)}; expected text, such as 'model.state'")
    if not isinstance(document.get("tensors"), dict) or not isinstance(config, dict):
        raise CheckpointError(f"{where} needs a table [tensors], and config must be a table")
    if "layer_axis" not in config:
        raise CheckpointError(
            f"{where} does not state config.layer_axis",
            hint='layer_axis = "free" where positions hold every coordinate, "fixed" where the last one is not stored '
            "and is layer index * layer_spacing",
        )
    spiking = config.get("spiking")
    if isinstance(spiking, dict) and "reset_delay" not in spiking:
        raise CheckpointError(
            f"{where} does not state config.spiking.reset_delay",
            hint="reset_delay = true where the reset acts after the next decay (snnTorch by default), false where it "
            "acts in the step of the spike (SpikingJelly); docs/explanation/maths.md has the equations",
        )
    rules = _rules(where, document["tensors"])
    for role in ("gain", "bias"):
        if role in config and config[role] is not (role in rules):
            raise CheckpointError(
                f"{where}: config.{role} is {quote(config[role])}, and [tensors.{role}] is "
                f"{'there' if role in rules else 'missing'}",
                hint=f"leave config.{role} out: [tensors.{role}] says it",
            )
    return TensorMap(path.name, hashlib.sha256(data).hexdigest(), state_dict, config, rules)


def _rules(where: str, tables: Mapping[str, Any]) -> dict[str, TensorRule]:
    unknown = [role for role in tables if role not in ROLES]
    missing = [role for role in ("positions", "inhibition") if role not in tables]
    if unknown:
        raise CheckpointError(f"{where}: [tensors] has unknown roles: {listing(unknown)}; known are {', '.join(ROLES)}")
    if missing:
        raise CheckpointError(f"{where}: [tensors] lacks {' and '.join(missing)}")
    return {role: _rule(f"{where}: [tensors.{role}]", role, table) for role, table in tables.items()}


def _rule(where: str, role: str, table: object) -> TensorRule:
    if not isinstance(table, dict):
        raise CheckpointError(f"{where} is {quote(table)}; expected a table")
    for key, value in table.items():
        if key not in _VALID:
            raise CheckpointError(f"{where} has the unknown key {quote(key)}; known are {', '.join(_VALID)}")
        is_valid, expected = _VALID[key]
        if not is_valid(value):
            raise CheckpointError(f"{where}: {key} is {quote(value)}; expected {expected}")
    if sum(key in table for key in ("name", "names", "value")) != 1:
        raise CheckpointError(f"{where} needs one of name, names and value")
    rule = TensorRule(role, **{**table, "names": tuple(table.get("names", ()))})
    for key, applies, use in (
        ("value", role == "gain", "is for the gain"),
        ("transpose", role == "positions", "is for positions"),
        ("step", rule.is_pattern, "needs a name with {i}"),
        ("first", rule.is_pattern or (rule.is_split and role in ("gain", "bias")), "needs a name with {i}"),
    ):
        if key in table and not applies:
            raise CheckpointError(f"{where}: {key} {use}")
    return rule


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MAX_COUNT


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MAX_VALUE


def _is_names(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) and name for name in value)


#: Key of [tensors.ROLE] -> whether a value is of its type, and what is expected.
_VALID: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "name": (lambda value: isinstance(value, str) and bool(value), "text"),
    "names": (_is_names, "a list of names"),
    "value": (_is_number, f"a number of at most {MAX_VALUE:g}"),
    "first": (lambda value: _is_count(value, 0), f"an integer from 0 to {MAX_COUNT:,}"),
    "step": (lambda value: _is_count(value, 1), f"an integer from 1 to {MAX_COUNT:,}"),
    "transpose": (lambda value: isinstance(value, bool), "true or false"),
}
