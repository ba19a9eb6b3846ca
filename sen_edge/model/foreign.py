"""Foreign state dicts: the tensors of other training code, read through a map (`sen_edge.model.tensor_map`).

A map that could mean two networks is an error: numbers with a gap, more tensors than layers, positions that fit both
ways. A map cannot prove that the constants are those of the model; `sen_edge.export.verify.expectation` compares
outputs.
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
from sen_edge.model.tensor_file import Float32Array, as_array, shown
from sen_edge.model.tensor_map import TensorMap, TensorRule
from sen_runtime.untrusted import listing, quote

#: Constants that a map may leave to their defaults; the rest follow from the tensors, or must be stated.
ASSUMABLE = ("steepness", "exponent", "min_distance", "input_range")
ASSUMABLE_SPIKING = ("beta", "threshold", "reset", "input_coding", "readout")
#: Characters of the name of an unused entry that are kept.
MAX_UNUSED = 200


@dataclass(frozen=True)
class Found:
    """The tensors of one role in the file, in layer order."""

    names: tuple[str, ...]
    arrays: tuple[Float32Array, ...]


def apply_map(content: Mapping[Any, Any], tensor_map: TensorMap, sha256: str) -> Checkpoint:
    """Read `content`, what a torch or safetensors file of this hash holds, through a map.

    Raises:
        CheckpointError: the map does not fit the file.
    """
    state = _state_dict(content, tensor_map.state_dict)
    names = {role: _find(rule, state) for role, rule in tensor_map.rules.items()}
    _refuse_shared(names)
    positions = _positions(tensor_map.rules["positions"], names["positions"], state)
    config = _config(tensor_map, positions)
    tensors: dict[str, Float32Array] = {}
    used: set[str] = set()
    for role, rule in tensor_map.rules.items():
        kept = _kept(rule, names[role], len(config.layer_sizes) - 1)
        used.update(kept)
        arrays = positions.arrays if role == "positions" else tuple(as_array(name, state[name]) for name in kept)
        tensors.update(_assign(rule, Found(kept, arrays), config))
    rest = (name for name in state if name not in used)
    unused = tuple(name[:MAX_UNUSED] if isinstance(name, str) else quote(name) for name in rest)
    applied = AppliedMap(tensor_map.file, tensor_map.sha256, unused, _assumed(tensor_map.config, config))
    return Checkpoint(config, tensors, {"map": tensor_map.file}, sha256, applied_map=applied)


def _state_dict(content: Mapping[Any, Any], dotted: str) -> Mapping[Any, Any]:
    state: Any = content
    for part in filter(None, dotted.split(".")):
        state = state.get(part) if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping):
        raise CheckpointError(f"no dict at state_dict = {quote(dotted)}; the file holds: {listing(content)}")
    return state


# --- names ---------------------------------------------------------------------------------------


def _find(rule: TensorRule, state: Mapping[Any, Any]) -> tuple[str, ...]:
    """Names of a role's tensors, in layer order; all that match a pattern, from `first` on."""
    if rule.value is not None:
        return ()
    names = _numbered(rule, state) if rule.is_pattern else rule.names or (rule.name,)
    missing = [name for name in names if name not in state]
    if missing:
        raise CheckpointError(f"the map's {rule.role} are not in the file: {listing(missing)}", hint=_holds(state))
    return names


def _holds(state: Mapping[Any, Any]) -> str:
    """What a file has instead of the tensors that a map names."""
    dicts = [name for name, value in state.items() if isinstance(name, str) and isinstance(value, Mapping)]
    inner = f'; if the tensors are in {shown(dicts[0])}: state_dict = "{shown(dicts[0])}"' if dicts else ""
    return f"the file holds: {listing(state)}{inner}"


def _numbered(rule: TensorRule, state: Mapping[Any, Any]) -> tuple[str, ...]:
    """The names that match a pattern. A number that is left out, or one more, would be another network."""
    head, *tail = (re.escape(part) for part in rule.name.split("{i}"))
    pattern = re.compile(head + r"([0-9]{1,40})" + r"\1".join(tail))  # zero-padded numbers too
    matches = (pattern.fullmatch(name) for name in state if isinstance(name, str))
    found = sorted((int(match[1]), match[0]) for match in matches if match and int(match[1]) >= rule.first)
    if not found:
        raise CheckpointError(
            f"the map's {rule.role} are not in the file: {shown(rule.name.replace('{i}', str(rule.first)))}",
            hint=_holds(state),
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
            else f'list those of the layers in [tensors.{rule.role}]: names = ["{shown(names[0])}", ...]',
        )
    return tuple(names)


def _refuse_shared(names: Mapping[str, Sequence[str]]) -> None:
    """A tensor has one role."""
    roles: dict[str, str] = {}
    for role, found in names.items():
        for name in found:
            if roles.setdefault(name, role) != role:
                raise CheckpointError(f"the map uses tensor {shown(name)} for {roles[name]} and for {role}")


def _kept(rule: TensorRule, names: tuple[str, ...], n_layers: int) -> tuple[str, ...]:
    """The names that the network uses: all, but for the inhibition of the output neurons, which have no synapses."""
    if rule.is_split or rule.value is not None:
        return names
    expected = n_layers + 1 if rule.role == "positions" else n_layers
    if rule.role == "inhibition" and len(names) == expected + 1:
        return names[:-1]
    if len(names) == expected:
        return names
    hint = f'list those of the layers in [tensors.{rule.role}]: names = ["{shown(names[0])}", ...]'
    if rule.is_pattern and len(names) == expected + 1:
        hint = f"first = {rule.first + rule.step} in [tensors.{rule.role}] leaves out {shown(names[0])}; or " + hint
    raise CheckpointError(
        f"the map finds {len(names)} {rule.role} tensors: {listing(names)}; "
        f"expected {expected} for {n_layers} layers of weights",
        hint=hint,
    )


# --- shapes --------------------------------------------------------------------------------------


def _positions(rule: TensorRule, names: tuple[str, ...], state: Mapping[Any, Any]) -> Found:
    """Positions `[n, d]`, as the map says that they are stored."""
    arrays = [as_array(name, state[name]) for name in names]
    for name, array in zip(names, arrays, strict=True):
        if array.ndim != 2:
            raise CheckpointError(
                f"tensor {shown(name)} has shape {quote(list(array.shape))}; expected two axes, neurons and d"
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
                f"positions {shown(names[0])} have {d} coordinates, those of {shown(name)} have {array.shape[1]}",
                hint=f"transpose = {other} in [tensors.positions] reads them the other way round" if same else "",
            )
    return Found(names, tuple(arrays))


def _config(tensor_map: TensorMap, positions: Found) -> SpatialConfig:
    """Constants from the map, sizes and dimensions from the tensors."""
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


def _assumed(stated: Mapping[str, Any], config: SpatialConfig) -> dict[str, Any]:
    """Constants that the map leaves to their defaults."""
    values = config.to_dict()
    names = (*ASSUMABLE, "layer_spacing") if config.layer_axis == "fixed" else ASSUMABLE
    assumed = {name: values[name] for name in names if name not in stated}
    if config.spiking is not None:
        spiking = values["spiking"]
        assumed |= {f"spiking.{key}": spiking[key] for key in ASSUMABLE_SPIKING if key not in stated["spiking"]}
    return assumed


def _assign(rule: TensorRule, found: Found, config: SpatialConfig) -> dict[str, Float32Array]:
    """The role's tensors under the checkpoint's own names and shapes."""
    shapes = {name: shape for name, shape in config.tensor_shapes().items() if name.startswith(f"{rule.role}.")}
    if rule.value is not None:
        return {name: np.full(shape, rule.value, np.float32) for name, shape in shapes.items()}
    arrays, names = found.arrays, found.names
    if rule.is_split:
        arrays, names = _split(rule, found, config), names * len(shapes)
    assigned = {}
    for name, array, (own, shape) in zip(names, arrays, shapes.items(), strict=True):
        # [n, 1], [1, n] and [1] are common ways to write a vector or a number. Positions keep their axes.
        is_same = array.size == prod(shape) and max(array.shape, default=1) == array.size
        fitted = array.reshape(shape) if rule.role != "positions" and is_same else array
        if fitted.shape != shape:
            raise CheckpointError(
                f"tensor {shown(name)} has shape {quote(list(array.shape))}; expected {list(shape)} for {own}",
                hint=f"layer sizes are {quote(list(config.layer_sizes))}",
            )
        assigned[own] = fitted
    return assigned


def _split(rule: TensorRule, found: Found, config: SpatialConfig) -> tuple[Float32Array, ...]:
    """One tensor `[n_total, ...]` cut into one per layer; `first = 1` skips what belongs to the input."""
    sizes = config.layer_sizes
    n_layers = len(sizes) - 1
    needed = {"positions": sizes, "inhibition": sizes[:-1], "bias": sizes[1:], "gain": (1,) * n_layers}[rule.role]
    array = found.arrays[0]
    if rule.role == "gain":
        array = array.reshape(-1)
    rows = array.shape[0] if array.ndim else 0
    before = (sizes[0] if rule.role == "bias" else 1) if rule.first else 0
    expected = [before + sum(needed)]
    if rule.role == "inhibition":  # those of the output neurons may follow, which have no synapses
        expected.append(sum(sizes))
    if rows not in expected or rule.first > 1:
        surplus = rows == sum(needed) + (sizes[0] if rule.role == "bias" else 1)
        raise CheckpointError(
            f"tensor {shown(rule.name)} has {rows} rows and first = {rule.first}; expected "
            f"{' or '.join(map(str, expected))} for the layer sizes {quote(list(sizes))}",
            hint=f"first = 1 in [tensors.{rule.role}] skips those of the input"
            if surplus and rule.role in ("bias", "gain")
            else "",
        )
    bounds = before + np.cumsum((0, *needed))
    return tuple(array[start:stop] for start, stop in pairwise(bounds))
