"""The TOML map of a foreign state dict: which tensors hold each role, and the constants.

    state_dict = "model.state"       # dict inside the file; omit it if the file is the state dict

    [config]                         # constants of the network; keys as in a checkpoint's config
    layer_axis = "free"
    steepness = 5.0
    exponent = [1.0, 2.0]            # of each layer

    [tensors.positions]              # and inhibition; other roles if the network has them
    name = "layers.{i}.positions"    # `{i}` counts from `first` in steps of `step`
    first = 1
    transpose = true                 # stored [d, n]

    [tensors.inhibition]
    names = ["inp.inh", 1e9]         # one by one; a number is a constant of its layer, here the mask 1

    [tensors.gain]
    value = 0.5                      # a constant of all layers, or a list

The reference is docs/how-to/foreign-checkpoints.md. `sen_edge.model.foreign` applies a map.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le

from sen_edge import schema
from sen_edge.errors import CheckpointError
from sen_edge.schema import (
    Count,
    OneOrEach,
    Schema,
    SchemaError,
    Text,
    TextOrNumber,
    Whole,
)
from sen_runtime.untrusted import quote

#: The largest number of float32.
MAX_VALUE = 3.4e38
Number = Annotated[float, Ge(-MAX_VALUE), Le(MAX_VALUE)]
#: Roles whose values a map can state, roles that hold constants of neurons, and roles of positions.
CONSTANT = ("inhibition", "gain", "bias")
NEURONS = ("beta", "threshold", "reset")
POSITIONS = ("positions", "target_positions")
#: Keys of `config` that follow from a role.
IMPLIED = {"gain": "gain", "bias": "bias", "separate_positions": "target_positions"}


@dataclass(frozen=True)
class TensorRule(Schema):
    """Where the tensors of one role are: one of `name`, `names` and `value`.

    Attributes:
        name: pattern with `{i}`, or the name of one tensor that holds all layers.
        names: the names one by one; a number is a constant of its layer.
        value: constants instead of tensors, of all layers or of each.
        first: `{i}` of the first layer; of one tensor, the layers at its start that are skipped.
        step: difference of `{i}` from layer to layer.
        transpose: whether positions are stored `[d, n]`; None where the map does not state it.
        role: field of `TensorRules`, which sets it.
    """

    name: str = ""
    names: tuple[Annotated[Text | float, TextOrNumber(Number)], ...] = ()
    value: Annotated[float | tuple[float, ...], OneOrEach(Number)] | None = None
    first: Whole = 0
    step: Count = 1
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
    target_positions: TensorRule | None = None
    gain: TensorRule | None = None
    bias: TensorRule | None = None
    spacing: TensorRule | None = None
    beta: TensorRule | None = None
    threshold: TensorRule | None = None
    reset: TensorRule | None = None

    def check(self) -> None:
        """Refuse keys that have no effect in a role."""
        for role, rule in self.by_role.items():
            object.__setattr__(rule, "role", role)
            counts = rule.is_pattern or (rule.is_split and role in ("gain", "bias"))
            if rule.value is not None and role not in CONSTANT:
                raise SchemaError(f"applies to {', '.join(CONSTANT)} only", key=f"{role}.value")
            numbers = [index for index, name in enumerate(rule.names) if not isinstance(name, str)]
            if numbers and role in (*POSITIONS, "reset"):
                raise SchemaError("is a number; expected the name of a tensor", key=f"{role}.names[{numbers[0]}]")
            if rule.transpose is not None and role not in POSITIONS:
                raise SchemaError("applies to positions only", key=f"{role}.transpose")
            if rule.first and not counts:
                raise SchemaError("needs a name with {i}", key=f"{role}.first")
            if rule.is_split and (role in NEURONS or (self.target_positions is not None and role in POSITIONS)):
                raise SchemaError("is one tensor of all layers; expected one for each", key=f"{role}.name")

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
        axis = self.config.get("layer_axis")
        if axis is None:
            raise SchemaError(
                "is missing",
                'layer_axis = "free" where positions hold every coordinate, "fixed" where the last one is not stored '
                'and is layer index * layer_spacing, "learned" where distances between layers are tensors',
                key="config.layer_axis",
            )
        if (axis == "learned") is not (self.tensors.spacing is not None):
            given = "given" if self.tensors.spacing else "missing"
            raise SchemaError(f"is {quote(axis)}, and [tensors.spacing] is {given}", key="config.layer_axis")
        for key, role in IMPLIED.items():
            has_rule = role in self.tensors.by_role
            if self.config.get(key, has_rule) is not has_rule:
                raise SchemaError(
                    f"is {quote(self.config[key])}, and [tensors.{role}] is {'given' if has_rule else 'missing'}",
                    f"leave config.{key} out: it follows from [tensors.{role}]",
                    key=f"config.{key}",
                )
        self._check_neurons()

    def _check_neurons(self) -> None:
        """Require the reset, and each constant of neurons once."""
        spiking = self.config.get("spiking")
        for role in NEURONS:
            if role in self.tensors.by_role and (not isinstance(spiking, dict) or role in spiking):
                problem = (
                    f"config.spiking.{role} states it too" if isinstance(spiking, dict) else "needs config.spiking"
                )
                raise SchemaError(problem, key=f"tensors.{role}")
        if isinstance(spiking, dict) and "reset_delay" not in spiking:
            raise SchemaError(
                "is missing",
                "reset_delay = true where the reset acts after the next decay (snnTorch by default), false where it "
                "acts in the step of the spike (SpikingJelly); docs/explanation/maths.md has the equations",
                key="config.spiking.reset_delay",
            )


def read_map(path: Path) -> TensorMap:
    """Read a map, or raise a `CheckpointError`."""
    found, _, sha256 = schema.read_map(TensorMap, path, error=CheckpointError)
    object.__setattr__(found, "file", path.name)
    object.__setattr__(found, "sha256", sha256)
    return found
