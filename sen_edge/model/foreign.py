"""Foreign state dicts: tensors of other training code, read through a map (`sen_edge.model.tensor_map`).

An ambiguous map is an error: gaps in the numbering, more tensors than layers, square positions. A map cannot prove that
its constants are those of the model; `sen_edge.exporting.verify.expectation` compares outputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from sen_edge.errors import CheckpointError
from sen_edge.model.config import SpatialConfig
from sen_edge.model.parameters import AppliedMap, Checkpoint
from sen_edge.model.tensor_file import Float32Array, quote_name, to_float32_array
from sen_edge.model.tensor_map import TensorMap, TensorRule
from sen_runtime.untrusted import listing, quote

#: Constants with a default in a map; the others follow from the tensors or must be stated.
ASSUMABLE = ("steepness", "exponent", "min_distance", "input_range")
ASSUMABLE_SPIKING = ("beta", "threshold", "reset", "input_coding", "readout")
#: Characters kept of the name of an unused entry.
MAX_UNUSED = 200


@dataclass(frozen=True)
class RoleTensors:
    """Tensors of one role in layer order."""

    names: tuple[str, ...]
    arrays: tuple[Float32Array, ...]


def apply_map(content: Mapping[Any, Any], tensor_map: TensorMap, sha256: str) -> Checkpoint:
    """Build a checkpoint from the content of a torch or safetensors file with this hash.

    Raises:
        CheckpointError: the map does not fit the file.
    """
    state = _state_dict(content, tensor_map.state_dict)
    names = {role: _find_names(rule, state) for role, rule in tensor_map.rules.items()}
    _refuse_shared(names)
    positions = _positions(tensor_map.rules["positions"], names["positions"], state)
    config = _config(tensor_map, positions)
    tensors: dict[str, Float32Array] = {}
    used: set[str] = set()
    for role, rule in tensor_map.rules.items():
        selected = _select_names(rule, names[role], len(config.layer_sizes) - 1)
        used.update(selected)
        arrays = (
            positions.arrays if role == "positions" else tuple(to_float32_array(name, state[name]) for name in selected)
        )
        tensors.update(_assign(rule, RoleTensors(selected, arrays), config))
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
    names = _match_names(rule, state) if rule.is_pattern else rule.names or (rule.name,)
    missing = [name for name in names if name not in state]
    if missing:
        raise CheckpointError(
            f"the map's {rule.role} are not in the file: {listing(missing)}", hint=_describe_content(state)
        )
    return names


def _describe_content(state: Mapping[Any, Any]) -> str:
    """Describe the content of the file, for a map that names other tensors."""
    dicts = [name for name, value in state.items() if isinstance(name, str) and isinstance(value, Mapping)]
    inner = f'; if the tensors are in {quote_name(dicts[0])}: state_dict = "{quote_name(dicts[0])}"' if dicts else ""
    return f"the file holds: {listing(state)}{inner}"


def _match_names(rule: TensorRule, state: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the names that match a pattern; gaps are errors, because they indicate another network."""
    head, *tail = (re.escape(part) for part in rule.name.split("{i}"))
    pattern = re.compile(head + r"([0-9]{1,40})" + r"\1".join(tail))  # also zero-padded
    matches = (pattern.fullmatch(name) for name in state if isinstance(name, str))
    found = sorted((int(match[1]), match[0]) for match in matches if match and int(match[1]) >= rule.first)
    if not found:
        raise CheckpointError(
            f"the map's {rule.role} are not in the file: {quote_name(rule.name.replace('{i}', str(rule.first)))}",
            hint=_describe_content(state),
        )
    numbers, names = [number for number, _ in found], [name for _, name in found]
    if numbers != [rule.first + index * rule.step for index in range(len(numbers))]:
        steps = {after - before for before, after in pairwise(numbers)}
        keys = f"first = {numbers[0]}" * (numbers[0] != rule.first)
        keys += ", " * bool(keys and steps) + f"step = {max(steps)}" * bool(steps)
        is_regular = len(steps) < 2
        raise CheckpointError(
            f"the map's {rule.role} count from {rule.first} in steps of {rule.step}; the file holds {listing(names)}",
            hint=f"if these are all layers: {keys} in [tensors.{rule.role}]"
            if is_regular
            else f'list the layers in [tensors.{rule.role}]: names = ["{quote_name(names[0])}", ...]',
        )
    return tuple(names)


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
    hint = f'list the layers in [tensors.{rule.role}]: names = ["{quote_name(names[0])}", ...]'
    if rule.is_pattern and len(names) == expected + 1:
        hint = (
            f"first = {rule.first + rule.step} in [tensors.{rule.role}] leaves out {quote_name(names[0])}; or " + hint
        )
    raise CheckpointError(
        f"the map finds {len(names)} {rule.role} tensors: {listing(names)}; "
        f"expected {expected} for {n_layers} layers of weights",
        hint=hint,
    )


# --- shapes --------------------------------------------------------------------------------------


def _positions(rule: TensorRule, names: tuple[str, ...], state: Mapping[Any, Any]) -> RoleTensors:
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
    d = arrays[0].shape[1]
    for name, array in zip(names, arrays, strict=True):
        if array.shape[1] != d:
            same = len({array.shape[0] for array in arrays}) == 1
            other = "false" if rule.transpose else "true"
            raise CheckpointError(
                f"positions {quote_name(names[0])} have {d} coordinates; {quote_name(name)} have {array.shape[1]}",
                hint=f"transpose = {other} in [tensors.positions] swaps the axes" if same else "",
            )
    return RoleTensors(names, tuple(arrays))


def _config(tensor_map: TensorMap, positions: RoleTensors) -> SpatialConfig:
    """Combine constants of the map with sizes and dimensions of the tensors."""
    values = dict(tensor_map.config)
    if tensor_map.rules["positions"].is_split:
        if not isinstance(values.get("layer_sizes"), list):
            raise CheckpointError("positions are one tensor, so the map must state config.layer_sizes to split it")
    else:
        values.setdefault("layer_sizes", [len(array) for array in positions.arrays])
    free = positions.arrays[0].shape[1]
    values.setdefault("dimensions", free + (values["layer_axis"] == "fixed"))
    values["gain"], values["bias"] = "gain" in tensor_map.rules, "bias" in tensor_map.rules
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


def _assign(rule: TensorRule, found: RoleTensors, config: SpatialConfig) -> dict[str, Float32Array]:
    """Return the tensors of a role under the names and shapes of the checkpoint format."""
    shapes = {name: shape for name, shape in config.tensor_shapes().items() if name.startswith(f"{rule.role}.")}
    if rule.value is not None:
        return {name: np.full(shape, rule.value, np.float32) for name, shape in shapes.items()}
    arrays, names = found.arrays, found.names
    if rule.is_split:
        arrays, names = _split(rule, found, config), names * len(shapes)
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


def _split(rule: TensorRule, found: RoleTensors, config: SpatialConfig) -> tuple[Float32Array, ...]:
    """Split one tensor `[n_total, ...]` into one per layer; `first = 1` skips the input layer."""
    sizes = config.layer_sizes
    n_layers = len(sizes) - 1
    needed = {"positions": sizes, "inhibition": sizes[:-1], "bias": sizes[1:], "gain": (1,) * n_layers}[rule.role]
    array = found.arrays[0]
    if rule.role == "gain":
        array = array.reshape(-1)
    rows = array.shape[0] if array.ndim else 0
    before = (sizes[0] if rule.role == "bias" else 1) if rule.first else 0
    expected = [before + sum(needed)]
    if rule.role == "inhibition":  # optionally with the output neurons, which have no synapses
        expected.append(sum(sizes))
    if rows not in expected or rule.first > 1:
        surplus = rows == sum(needed) + (sizes[0] if rule.role == "bias" else 1)
        raise CheckpointError(
            f"tensor {quote_name(rule.name)} has {rows} rows and first = {rule.first}; expected "
            f"{' or '.join(map(str, expected))} for the layer sizes {quote(list(sizes))}",
            hint=f"first = 1 in [tensors.{rule.role}] skips the input layer"
            if surplus and rule.role in ("bias", "gain")
            else "",
        )
    bounds = before + np.cumsum((0, *needed))
    return tuple(array[start:stop] for start, stop in pairwise(bounds))
