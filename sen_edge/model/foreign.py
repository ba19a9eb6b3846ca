"""Foreign state dicts: tensors of other training code, read through a map.

An ambiguous map is an error: gaps in the numbering, more tensors than layers, square positions. A map cannot prove that
its constants are those of the model; `sen_edge.exporting.verify.expectation` compares outputs. Where an entry of a
role is expected, a number stands for a tensor filled with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from sen_edge.errors import CheckpointError
from sen_edge.model.config import SpatialConfig
from sen_edge.model.foreign_map import IMPLIED, NEURONS, POSITIONS, TensorMap, TensorRule
from sen_edge.model.parameters import AppliedMap, Checkpoint
from sen_edge.model.tensor_file import Float32Array, check_tensor, quote_name, to_float32_array
from sen_runtime.untrusted import listing, quote

#: Constants with a default in a map; the others follow from the tensors or must be stated.
ASSUMABLE = ("steepness", "exponent", "min_distance", "input_range")
ASSUMABLE_SPIKING = ("beta", "threshold", "reset", "input_coding", "readout")
#: Resets by the numbers that snnTorch stores.
RESETS = {0.0: "subtract", 1.0: "zero"}
#: Characters kept of the name of an unused entry.
MAX_UNUSED = 200

#: Name of a tensor, or a number in place of one.
Entry = str | float


def apply_map(content: Mapping[Any, Any], tensor_map: TensorMap, sha256: str) -> Checkpoint:
    """Build a checkpoint from the content of a torch or safetensors file with this hash."""
    state, rules = _state_dict(content, tensor_map.state_dict), tensor_map.tensors.by_role
    entries = {role: _find_entries(rule, state) for role, rule in rules.items()}
    _refuse_shared(entries)
    positions = {role: _positions(rules[role], entries[role], state) for role in POSITIONS if role in rules}
    config = _config(tensor_map, positions)
    entries = {role: _select(rule, entries[role], config) for role, rule in rules.items()}
    if "target_positions" in rules:
        tensors = _assign_pairs(entries, positions, config)
    else:
        tensors = _assign(rules["positions"], entries["positions"], positions["positions"], config)
    for role in rules.keys() - {*POSITIONS, *NEURONS}:
        arrays = [to_float32_array(each, state[each]) if isinstance(each, str) else each for each in entries[role]]
        tensors |= _assign(rules[role], entries[role], arrays, config)
    config, single = _neurons({role: entries[role] for role in NEURONS if role in rules}, state, config)
    used = {each for found in entries.values() for each in found if isinstance(each, str)}
    rest = (name for name in state if name not in used)
    unused = tuple(name[:MAX_UNUSED] if isinstance(name, str) else quote(name) for name in rest)
    assumed = _assumed_constants(tensor_map, config)
    applied = AppliedMap(tensor_map.file, tensor_map.sha256, unused, tensor_map.config, assumed)
    return Checkpoint(config, {**tensors, **single}, {"map": tensor_map.file}, sha256, applied_map=applied)


def _state_dict(content: Mapping[Any, Any], dotted: str) -> Mapping[Any, Any]:
    state: Any = content
    for part in filter(None, dotted.split(".")):
        state = state.get(part) if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping):
        raise CheckpointError(f"no dict at state_dict = {quote(dotted)}; the file holds: {listing(content)}")
    return state


def _expected(role: str, config: SpatialConfig) -> int:
    """Return the number of entries of a role."""
    n_layers = len(config.layer_sizes) - 1
    if role == "positions":
        return n_layers + (not config.separate_positions)
    return config.n_spiking if role in ("threshold", "reset") else n_layers


# --- names ---------------------------------------------------------------------------------------


def _find_entries(rule: TensorRule, state: Mapping[Any, Any]) -> tuple[Entry, ...]:
    """Return the entries of a role in layer order; for a pattern, all matches from `first` on."""
    if rule.value is not None:
        return rule.value if isinstance(rule.value, tuple) else (rule.value,)
    if rule.is_pattern:
        return _match_names(rule, state)
    names = rule.names or (rule.name,)
    missing = [name for name in names if isinstance(name, str) and name not in state]
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


def _list_hint(rule: TensorRule, names: Sequence[Entry]) -> str:
    return f'list the layers in [tensors.{rule.role}]: names = ["{quote_name(names[0])}", ...]'


def _refuse_shared(entries: Mapping[str, Sequence[Entry]]) -> None:
    """Refuse a tensor with two roles."""
    roles: dict[str, str] = {}
    for role, found in entries.items():
        for name in found:
            if isinstance(name, str) and roles.setdefault(name, role) != role:
                raise CheckpointError(f"the map uses tensor {quote_name(name)} for {roles[name]} and for {role}")


def _select(rule: TensorRule, entries: tuple[Entry, ...], config: SpatialConfig) -> tuple[Entry, ...]:
    """Check the number of entries; drop one of the output neurons that has no effect there.

    Output neurons have no synapses; those of a membrane readout do not spike.
    """
    expected, has_readout = _expected(rule.role, config), config.n_spiking < len(config.layer_sizes) - 1
    if rule.is_split:
        return entries
    if rule.value is not None and not isinstance(rule.value, tuple):
        return entries * expected
    unused = ("inhibition", "threshold", "reset") if has_readout else ("inhibition",)
    if len(entries) == expected + 1 and rule.role in unused:
        return entries[:-1]
    if len(entries) == expected:
        return entries
    hint = _list_hint(rule, entries)
    if rule.is_pattern and len(entries) == expected + 1:
        skipped = f"first = {rule.first + rule.step} in [tensors.{rule.role}] leaves out {quote_name(entries[0])}"
        hint = f"{skipped}; or {hint}"
    elif rule.role == "beta" and len(entries) == expected - 1:
        hint = "the readout has a decay too: list it in names, as a tensor or a number, or state config.spiking.beta"
    raise CheckpointError(
        f"found {len(entries)} {rule.role} tensors: {listing(entries)}; expected {expected}", hint=hint
    )


# --- neurons -------------------------------------------------------------------------------------


def _neurons(
    entries: Mapping[str, Sequence[Entry]], state: Mapping[Any, Any], config: SpatialConfig
) -> tuple[SpatialConfig, dict[str, Float32Array]]:
    """Read constants of neurons: numbers of layers into the configuration, those of single neurons as tensors."""
    changed: dict[str, list[Any]] = {}
    single: dict[str, Float32Array] = {}
    for role, found in entries.items():
        changed[role] = []
        for index, entry in enumerate(found):
            n, own = config.layer_sizes[index + 1], f"{role}.{index}"
            if role == "reset":
                changed[role].append(_reset(entry, state[entry], n))
                continue
            array = to_float32_array(entry, state[entry]) if isinstance(entry, str) else np.array([entry], np.float32)
            if array.size == 1:
                changed[role].append(float(array.reshape(())))
                continue
            if array.size != n or max(array.shape) != n:
                raise CheckpointError(
                    f"tensor {quote_name(entry)} has shape {quote(list(array.shape))}; expected one number, or {[n]}"
                )
            single[own] = array.reshape(n)
            changed[role].append(1.0)  # has no effect next to the tensor
    values = config.to_dict()
    if changed:
        values["spiking"] |= changed
    return SpatialConfig.from_dict(values), single


def _reset(name: Entry, content: object, n_neurons: int) -> str:
    """Return the reset of a layer that snnTorch stores as a number, or as the same number for each neuron."""
    tensor = check_tensor(name, content, "a number")
    values = [*set(tensor.flatten().tolist())] if tensor.numel() in (1, n_neurons) else []
    if len(values) != 1 or values[0] not in RESETS:
        found = f"the value {values[0]:g}" if len(values) == 1 else f"shape {quote(list(tensor.shape))}"
        found = f"{len(values)} different values" if len(values) > 1 else found
        raise CheckpointError(
            f"tensor {quote_name(name)} has {found}; expected 0 for subtract, or 1 for zero, the same for all neurons"
        )
    return RESETS[values[0]]


# --- shapes --------------------------------------------------------------------------------------


def _positions(rule: TensorRule, names: Sequence[Entry], state: Mapping[Any, Any]) -> list[Float32Array]:
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
            hint=f"state transpose = false in [tensors.{rule.role}] if they are [n, d], or true if they are [d, n]",
        )
    if rule.transpose:
        arrays = [np.ascontiguousarray(array.T) for array in arrays]
    counts, coordinates = zip(*(array.shape for array in arrays), strict=True)
    if len(set(coordinates)) > 1:
        swap = f"transpose = {str(not rule.transpose).lower()} in [tensors.{rule.role}] swaps the axes"
        raise CheckpointError(
            f"positions {listing(names)} have {listing(coordinates)} coordinates; expected the same number",
            hint=swap if len(set(counts)) == 1 else "",
        )
    return arrays


def _config(tensor_map: TensorMap, positions: Mapping[str, Sequence[Float32Array]]) -> SpatialConfig:
    """Combine constants of the map with sizes and dimensions of the tensors."""
    values, rules = dict(tensor_map.config), tensor_map.tensors
    layers = [*positions["positions"], *positions.get("target_positions", ())[-1:]]
    if rules.positions.is_split:
        if not isinstance(values.get("layer_sizes"), list):
            raise CheckpointError("positions are one tensor, so the map must state config.layer_sizes to split it")
    else:
        values.setdefault("layer_sizes", [len(array) for array in layers])
    values.setdefault("dimensions", layers[0].shape[1] + (values["layer_axis"] != "free"))
    values |= {key: role in rules.by_role for key, role in IMPLIED.items()}
    return SpatialConfig.from_dict(values)


def _assumed_constants(tensor_map: TensorMap, config: SpatialConfig) -> dict[str, Any]:
    """Return the constants that keep their defaults."""
    values, stated = config.to_dict(), tensor_map.config
    names = (*ASSUMABLE, "layer_spacing") if config.layer_axis == "fixed" else ASSUMABLE
    assumed = {name: values[name] for name in names if name not in stated}
    if config.spiking is not None:
        known = {*stated["spiking"], *tensor_map.tensors.by_role}
        assumed |= {f"spiking.{key}": values["spiking"][key] for key in ASSUMABLE_SPIKING if key not in known}
    return assumed


def _assign_pairs(
    entries: Mapping[str, Sequence[Entry]], positions: Mapping[str, Sequence[Float32Array]], config: SpatialConfig
) -> dict[str, Float32Array]:
    """Return source and target positions of each layer of weights under the names of the checkpoint format."""
    n_layers = len(config.layer_sizes) - 1
    names = {
        "positions": [f"positions.{index}" for index in range(n_layers)],
        "target_positions": [*(f"target_positions.{index}" for index in range(1, n_layers)), f"positions.{n_layers}"],
    }
    shapes, assigned = config.tensor_shapes(), {}
    for role, own in names.items():
        for name, found, array in zip(own, entries[role], positions[role], strict=True):
            assigned[name] = _fit(found, array, name, shapes[name], config)
    return assigned


def _assign(
    rule: TensorRule, entries: Sequence[Entry], arrays: Sequence[Float32Array | float], config: SpatialConfig
) -> dict[str, Float32Array]:
    """Return the tensors of a role under the names and shapes of the checkpoint format."""
    shapes = {name: shape for name, shape in config.tensor_shapes().items() if name.startswith(f"{rule.role}.")}
    if rule.is_split:
        whole = np.asarray(arrays[0])
        entries, arrays = [rule.name] * len(shapes), _split(rule, whole, config)
    return {
        own: _fit(entry, array, own, shape, config)
        for entry, array, (own, shape) in zip(entries, arrays, shapes.items(), strict=True)
    }


def _fit(
    name: Entry, value: Float32Array | float, own: str, shape: tuple[int, ...], config: SpatialConfig
) -> Float32Array:
    """Return a tensor in its shape: a number fills it; [n, 1], [1, n] and [1] are forms of vectors and scalars."""
    if isinstance(value, float):
        return np.full(shape, value, np.float32)
    is_same = value.size == prod(shape) and max(value.shape, default=1) == value.size
    fitted = value.reshape(shape) if "positions" not in own and is_same else value
    if fitted.shape != shape:
        raise CheckpointError(
            f"tensor {quote_name(name)} has shape {quote(list(value.shape))}; expected {list(shape)} for {own}",
            hint=f"layer sizes are {quote(list(config.layer_sizes))}",
        )
    return fitted


def _split(rule: TensorRule, array: Float32Array, config: SpatialConfig) -> list[Float32Array]:
    """Split one tensor `[n_total, ...]` into one per layer; `first = 1` skips the input layer."""
    sizes = config.layer_sizes
    numbers = (1,) * (len(sizes) - 1)
    needed = {
        "positions": sizes, "inhibition": sizes[:-1], "bias": sizes[1:], "gain": numbers, "spacing": numbers
    }[rule.role]  # fmt: skip
    if rule.role in ("gain", "spacing"):
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
