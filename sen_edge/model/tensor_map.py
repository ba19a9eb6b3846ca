"""The TOML map of a foreign state dict: its keys and their types, without the tensors.

    state_dict = "model.state"       # dict inside the file; omit it if the file is the state dict

    [config]                         # constants of the network; keys as in a checkpoint's config
    layer_axis = "free"
    steepness = 5.0

    [tensors.positions]              # and inhibition; bias and gain if the network has them
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le

from sen_edge.errors import CheckpointError
from sen_edge.schema import MAX_BYTES, Schema, SchemaError, Text, load_toml, parse
from sen_runtime.untrusted import quote, read_regular

MAX_COUNT = 1_000_000
#: The largest number of float32.
MAX_VALUE = 3.4e38


@dataclass(frozen=True)
class TensorRule(Schema):
    """Where the tensors of one role are: one of `name`, `names` and `value`.

    Attributes:
        name: pattern with `{i}`, or the name of one tensor that holds all layers.
        names: the names one by one.
        value: a constant instead of tensors; gain only.
        first: `{i}` of the first layer; of one tensor, the layers at its start that are skipped.
        step: difference of `{i}` from layer to layer.
        transpose: whether positions are stored `[d, n]`; None where the map does not state it.
        role: "positions", "inhibition", "gain" or "bias"; set by `TensorRules`.
    """

    name: str = ""
    names: tuple[Text, ...] = ()
    value: Annotated[float, Ge(-MAX_VALUE), Le(MAX_VALUE)] | None = None
    first: Annotated[int, Ge(0), Le(MAX_COUNT)] = 0
    step: Annotated[int, Ge(1), Le(MAX_COUNT)] = 1
    transpose: bool | None = None
    role: str = field(default="", init=False)

    @property
    def is_pattern(self) -> bool:
        """Whether `name` counts the layers."""
        return "{i}" in self.name

    @property
    def is_split(self) -> bool:
        """Whether one tensor contains all layers."""
        return bool(self.name) and not self.is_pattern

    def check(self) -> None:
        """Require one source of values, and a pattern for numbered names."""
        if bool(self.name) + bool(self.names) + (self.value is not None) != 1:
            raise SchemaError("needs one of name, names and value")
        if self.step != 1 and not self.is_pattern:
            raise SchemaError("needs a name with {i}", key="step")


@dataclass(frozen=True)
class TensorRules(Schema):
    """The rule of each role; roles without one have no tensors."""

    positions: TensorRule
    inhibition: TensorRule
    gain: TensorRule | None = None
    bias: TensorRule | None = None

    def check(self) -> None:
        """Refuse keys that have no effect in a role."""
        for role, rule in self.by_role.items():
            object.__setattr__(rule, "role", role)
            counts = rule.is_pattern or (rule.is_split and role in ("gain", "bias"))
            if rule.value is not None and role != "gain":
                raise SchemaError("applies to gain only", key=f"{role}.value")
            if rule.transpose is not None and role != "positions":
                raise SchemaError("applies to positions only", key=f"{role}.transpose")
            if rule.first and not counts:
                raise SchemaError("needs a name with {i}", key=f"{role}.first")

    @property
    def by_role(self) -> dict[str, TensorRule]:
        """Role -> its rule."""
        return {role: rule for role, rule in vars(self).items() if rule is not None}


@dataclass(frozen=True)
class TensorMap(Schema):
    """A map.

    Attributes:
        tensors: rule of each role.
        config: constants; `SpatialConfig` validates them.
        state_dict: keys that lead to the state dict, with dots between; empty for the file itself.
        file: name of the map; set by `read_map`, as is `sha256` of its bytes.
    """

    tensors: TensorRules
    config: dict[str, Any]
    state_dict: str = ""
    file: str = field(default="", init=False)
    sha256: str = field(default="", init=False)

    def check(self) -> None:
        """Require the constants that differ between training codes, and no contradiction of config and tensors."""
        if "layer_axis" not in self.config:
            raise SchemaError(
                "is missing",
                'layer_axis = "free" where positions hold every coordinate, "fixed" where the last one is not stored '
                "and is layer index * layer_spacing",
                key="config.layer_axis",
            )
        spiking = self.config.get("spiking")
        if isinstance(spiking, dict) and "reset_delay" not in spiking:
            raise SchemaError(
                "is missing",
                "reset_delay = true where the reset acts after the next decay (snnTorch by default), false where it "
                "acts in the step of the spike (SpikingJelly); docs/explanation/maths.md has the equations",
                key="config.spiking.reset_delay",
            )
        for role in ("gain", "bias"):
            has_rule = role in self.tensors.by_role
            if self.config.get(role, has_rule) is not has_rule:
                raise SchemaError(
                    f"is {quote(self.config[role])}, and [tensors.{role}] is {'given' if has_rule else 'missing'}",
                    f"leave config.{role} out: it follows from [tensors.{role}]",
                    key=f"config.{role}",
                )


def read_map(path: Path) -> TensorMap:
    """Read a map.

    Raises:
        CheckpointError: the file cannot be read, is not TOML, or has unknown, missing or wrong entries.
    """
    data = read_regular(path, MAX_BYTES, error=CheckpointError)
    document = load_toml(data, str(path), error=CheckpointError)
    found = parse(TensorMap, document, str(path), error=CheckpointError)
    object.__setattr__(found, "file", path.name)
    object.__setattr__(found, "sha256", hashlib.sha256(data).hexdigest())
    return found
