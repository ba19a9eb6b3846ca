"""Foreign state dicts: tensors of other training code, read through a TOML map.

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

The reference is docs/how-to/foreign-checkpoints.md. An ambiguous map is an error: gaps in the numbering, more tensors
than layers, square positions. A map cannot prove that its constants are those of the model;
`sen_edge.exporting.verify.expectation` compares outputs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from sen_edge.errors import CheckpointError
from sen_edge.model.config import SpatialConfig
from sen_edge.model.parameters import AppliedMap, Checkpoint
from sen_edge.model.tensor_file import Float32Array, quote_name, to_float32_array
from sen_edge.schema import MAX_BYTES, Count, Schema, SchemaError, Text, Whole, load_toml, parse
from sen_runtime.untrusted import listing, quote, read_regular

#: Constants with a default in a map; the others follow from the tensors or must be stated.
ASSUMABLE = ("steepness", "exponent", "min_distance", "input_range")
ASSUMABLE_SPIKING = ("beta", "threshold", "reset", "input_coding", "readout")
#: Characters kept of the name of an unused entry.
MAX_UNUSED = 200
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
    """Read a map, or raise a `CheckpointError`."""
    data = read_regular(path, MAX_BYTES, error=CheckpointError)
    document = load_toml(data, str(path), error=CheckpointError)
    found = parse(TensorMap, document, str(path), error=CheckpointError)
    object.__setattr__(found, "file", path.name)
    object.__setattr__(found, "sha256", hashlib.sha256(data).hexdigest())
    return found


def apply_map(content: Mapping[Any, Any], tensor_map: TensorMap, sha256: str) -> Checkpoint:
    """Build a checkpoint from the content of a torch or safetensors file with this hash."""
    state, rules = _state_dict(content, tensor_map.state_dict), tensor_map.tensors.by_role
    names = {role: _find_names(rule, state) for role, rule in rules.items()}
    _refuse_shared(names)
    positions = _positions(rules["positions"], names["positions"], state)
    config = _config(tensor_map, positions)
    tensors: dict[str, Float32Array] = {}
    used: set[str] = set()
    for role, rule in rules.items():
        selected = _select_names(rule, names[role], len(config.layer_sizes) - 1)
        used.update(selected)
        arrays = positions if role == "positions" else [to_float32_array(name, state[name]) for name in selected]
        tensors.update(_assign(rule, selected, arrays, config))
    rest = (name for name in state if name not in used)
    unused = tuple(name[:MAX_UNUSED] if isinstance(name, str) else quote(name) for name in rest)
    applied = AppliedMap(tensor_map.file, tensor_map.sha256, unused, _assumed_constants(tensor_map.config, config))
    return Checkpoint(config, tensors, {"map": tensor_map.file}, sha256, applied_map=applied)


def _state_dict(content: Mapping[Any, Any], dotted: str) -> Mapping[Any, Any]:
    state: Any = content
    for part in filter(None, dotted.split(".")):
        state = state.get(part) if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping):
        raise CheckpointError(f"no dict at state_dict = {quote(dotted)}; the file holds: {listing(content)}")
    return state


# --- names ---------------------------------------------------------------------------------------


def _find_names(rule: TensorRule, state: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the names of a role's tensors in layer order; for a pattern, all matches from `first` on."""
    if rule.value is not None:
        return ()
    if rule.is_pattern:
        return _match_names(rule, state)
    names = rule.names or (rule.name,)
    missing = [name for name in names if name not in state]
    if missing:
        raise _missing(rule, missing, state)
    return names


def _missing(rule: TensorRule, names: Sequence[str], state: Mapping[Any, Any]) -> CheckpointError:
    dicts = [quote_name(name) for name, value in state.items() if isinstance(name, str) and isinstance(value, Mapping)]
    inner = f'; if the tensors are in {dicts[0]}: state_dict = "{dicts[0]}"' if dicts else ""
    return CheckpointError(
        f"the map's {rule.role} are not in the file: {listing(names)}", f"the file holds: {listing(state)}{inner}"
    )


def _match_names(rule: TensorRule, state: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the names that match a pattern; gaps are errors, because they indicate another network."""
    head, *tail = (re.escape(part) for part in rule.name.split("{i}"))
    pattern = re.compile(head + r"([0-9]{1,40})" + r"\1".join(tail))  # also zero-padded
    matches = (pattern.fullmatch(name) for name in state if isinstance(name, str))
    found = sorted((int(match[1]), match[0]) for match in matches if match and int(match[1]) >= rule.first)
    if not found:
        raise _missing(rule, [rule.name.replace("{i}", str(rule.first))], state)
    numbers, names = zip(*found, strict=True)
    if numbers != tuple(rule.first + index * rule.step for index in range(len(numbers))):
        steps = {after - before for before, after in pairwise(numbers)} or {1}
        keys = f"if these are all layers: first = {numbers[0]}, step = {min(steps)} in [tensors.{rule.role}]"
        raise CheckpointError(
            f"the map's {rule.role} count from {rule.first} in steps of {rule.step}; the file holds {listing(names)}",
            hint=keys if len(steps) == 1 else _list_hint(rule, names),
        )
    return names


def _list_hint(rule: TensorRule, names: Sequence[str]) -> str:
    return f'list the layers in [tensors.{rule.role}]: names = ["{quote_name(names[0])}", ...]'


def _refuse_shared(names: Mapping[str, Sequence[str]]) -> None:
    """Refuse a tensor with two roles."""
    roles: dict[str, str] = {}
    for role, found in names.items():
        for name in found:
            if roles.setdefault(name, role) != role:
                raise CheckpointError(f"the map uses tensor {quote_name(name)} for {roles[name]} and for {role}")


def _select_names(rule: TensorRule, names: tuple[str, ...], n_layers: int) -> tuple[str, ...]:
    """Drop the inhibition of the output neurons, which have no synapses; check the number of tensors."""
    if rule.is_split or rule.value is not None:
        return names
    expected = n_layers + 1 if rule.role == "positions" else n_layers
    if rule.role == "inhibition" and len(names) == expected + 1:
        return names[:-1]
    if len(names) == expected:
        return names
    hint = _list_hint(rule, names)
    if rule.is_pattern and len(names) == expected + 1:
        hint = f"first = {rule.first + rule.step} in [tensors.{rule.role}] leaves out {quote_name(names[0])}; or {hint}"
    raise CheckpointError(
        f"the map finds {len(names)} {rule.role} tensors: {listing(names)}; "
        f"expected {expected} for {n_layers} layers of weights",
        hint=hint,
    )


# --- shapes --------------------------------------------------------------------------------------


def _positions(rule: TensorRule, names: Sequence[str], state: Mapping[Any, Any]) -> list[Float32Array]:
    """Return positions `[n, d]`, transposed if the map requires it."""
    arrays = [to_float32_array(name, state[name]) for name in names]
    for name, array in zip(names, arrays, strict=True):
        if array.ndim != 2:
            raise CheckpointError(
                f"tensor {quote_name(name)} has shape {quote(list(array.shape))}; expected two axes, neurons and d"
            )
    if rule.transpose is None and all(array.shape[0] == array.shape[1] for array in arrays):
        raise CheckpointError(
            f"positions {listing(names)} are square, so [n, d] and [d, n] both fit",
            hint="state transpose = false in [tensors.positions] if they are [n, d], or true if they are [d, n]",
        )
    if rule.transpose:
        arrays = [np.ascontiguousarray(array.T) for array in arrays]
    counts, coordinates = zip(*(array.shape for array in arrays), strict=True)
    if len(set(coordinates)) > 1:
        swap = f"transpose = {str(not rule.transpose).lower()} in [tensors.positions] swaps the axes"
        raise CheckpointError(
            f"positions {listing(names)} have {listing(coordinates)} coordinates; expected the same number",
            hint=swap if len(set(counts)) == 1 else "",
        )
    return arrays


def _config(tensor_map: TensorMap, positions: Sequence[Float32Array]) -> SpatialConfig:
    """Combine constants of the map with sizes and dimensions of the tensors."""
    values, rules = dict(tensor_map.config), tensor_map.tensors
    if rules.positions.is_split:
        if not isinstance(values.get("layer_sizes"), list):
            raise CheckpointError("positions are one tensor, so the map must state config.layer_sizes to split it")
    else:
        values.setdefault("layer_sizes", [len(array) for array in positions])
    values.setdefault("dimensions", positions[0].shape[1] + (values["layer_axis"] == "fixed"))
    values["gain"], values["bias"] = rules.gain is not None, rules.bias is not None
    return SpatialConfig.from_dict(values)


def _assumed_constants(stated: Mapping[str, Any], config: SpatialConfig) -> dict[str, Any]:
    """Return the constants that keep their defaults."""
    values = config.to_dict()
    names = (*ASSUMABLE, "layer_spacing") if config.layer_axis == "fixed" else ASSUMABLE
    assumed = {name: values[name] for name in names if name not in stated}
    if config.spiking is not None:
        spiking = values["spiking"]
        assumed |= {f"spiking.{key}": spiking[key] for key in ASSUMABLE_SPIKING if key not in stated["spiking"]}
    return assumed


def _assign(
    rule: TensorRule, names: Sequence[str], arrays: Sequence[Float32Array], config: SpatialConfig
) -> dict[str, Float32Array]:
    """Return the tensors of a role under the names and shapes of the checkpoint format."""
    shapes = {name: shape for name, shape in config.tensor_shapes().items() if name.startswith(f"{rule.role}.")}
    if rule.value is not None:
        return {name: np.full(shape, rule.value, np.float32) for name, shape in shapes.items()}
    if rule.is_split:
        names, arrays = [rule.name] * len(shapes), _split(rule, arrays[0], config)
    assigned = {}
    for name, array, (own, shape) in zip(names, arrays, shapes.items(), strict=True):
        # [n, 1], [1, n] and [1] are common forms of a vector or a scalar; positions are not reshaped.
        is_same = array.size == prod(shape) and max(array.shape, default=1) == array.size
        fitted = array.reshape(shape) if rule.role != "positions" and is_same else array
        if fitted.shape != shape:
            raise CheckpointError(
                f"tensor {quote_name(name)} has shape {quote(list(array.shape))}; expected {list(shape)} for {own}",
                hint=f"layer sizes are {quote(list(config.layer_sizes))}",
            )
        assigned[own] = fitted
    return assigned


def _split(rule: TensorRule, array: Float32Array, config: SpatialConfig) -> list[Float32Array]:
    """Split one tensor `[n_total, ...]` into one per layer; `first = 1` skips the input layer."""
    sizes = config.layer_sizes
    needed = {"positions": sizes, "inhibition": sizes[:-1], "bias": sizes[1:], "gain": (1,) * (len(sizes) - 1)}[
        rule.role
    ]
    if rule.role == "gain":
        array = array.reshape(-1)
    rows, n_input = len(array) if array.ndim else 0, sizes[0] if rule.role == "bias" else 1
    skipped = n_input if rule.first else 0
    expected = [skipped + sum(needed)]
    if rule.role == "inhibition":  # optionally with the output neurons, which have no synapses
        expected.append(sum(sizes))
    if rows not in expected or rule.first > 1:
        has_input = rule.role in ("bias", "gain") and rows == sum(needed) + n_input
        raise CheckpointError(
            f"tensor {quote_name(rule.name)} has {rows} rows and first = {rule.first}; expected "
            f"{' or '.join(map(str, expected))} for the layer sizes {quote(list(sizes))}",
            hint=f"first = 1 in [tensors.{rule.role}] skips the input layer" if has_input else "",
        )
    bounds = skipped + np.cumsum((0, *needed))
    return [array[start:stop] for start, stop in pairwise(bounds)]
