"""A model from arrays: positions, inhibition and the other parameters, and constants."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from sen_edge.errors import CheckpointError, UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpikingConfig
from sen_edge.model.foreign import apply_map
from sen_edge.model.foreign_map import TensorMap
from sen_edge.model.model import Model
from sen_edge.schema import parse

if TYPE_CHECKING:
    from torch import Tensor

#: A number for all layers, or a number or array for each.
PerLayer = float | Sequence[ArrayLike]


def build(
    positions: Sequence[ArrayLike],
    inhibition: PerLayer,
    *,
    target_positions: Sequence[ArrayLike] | None = None,
    bias: PerLayer | None = None,
    gain: PerLayer | None = None,
    spacing: Sequence[float] | None = None,
    beta: Sequence[ArrayLike] | None = None,
    threshold: Sequence[ArrayLike] | None = None,
    spiking: SpikingConfig | Mapping[str, Any] | None = None,
    **config: Any,
) -> Model:
    """Build a model from arrays, such as numpy arrays or torch tensors.

    Args:
        positions: `[n, d]` of each layer of neurons, input first; with `target_positions`, of the sources of each layer
            of weights.
        inhibition: `[n_in]` of each layer of weights; 1e9 for a mask of 1.
        target_positions: `[n, d]` of the targets of each layer of weights, for hidden neurons with two positions.
        bias: `[n_out]` of each layer of weights; None for no bias.
        gain: a number for each layer of weights; None for 1.
        spacing: learned distances between layers, if `positions` lack the last coordinate.
        beta: decay of each layer of a spiking network, a number or `[n]`, instead of `spiking["beta"]`.
        threshold: of each layer that spikes, likewise.
        spiking: fields of a spiking network; None for a multilayer perceptron. `reset_delay` must be stated.
        config: fields of a checkpoint's config, such as `steepness`, `exponent`, `input_range`; `layer_axis` is "free"
            unless stated.

    Returns:
        Model with a checkpoint, without a file; `sen_edge.export` takes it.

    Raises:
        CheckpointError: wrong shapes, values or constants.
        NetworkError: neurons coincide.
        UsageError: an array that holds no numbers.
    """
    given = {
        "positions": positions, "target_positions": target_positions, "inhibition": inhibition, "bias": bias,
        "gain": gain, "spacing": spacing, "beta": beta, "threshold": threshold,
    }  # fmt: skip
    state: dict[str, Tensor] = {}
    rules = {role: _rule(role, values, state) for role, values in given.items() if values is not None}
    stated = {"layer_axis": "free" if spacing is None else "learned", **config}
    if spiking is not None:
        stated["spiking"] = spiking
    tensor_map = parse(TensorMap, {"tensors": rules, "config": stated}, "", error=CheckpointError)
    checkpoint = replace(apply_map(state, tensor_map, ""), applied_map=None, metadata={})
    sha256 = hashlib.sha256(checkpoints.dumps(checkpoint, Path("model.safetensors"))).hexdigest()
    return Model(checkpoints.to_network(checkpoint), sha256, checkpoint)


def _rule(role: str, values: Any, state: dict[str, Tensor]) -> dict[str, Any]:
    """Return the rule of a role in a map, and add its arrays to the state dict."""
    rule: dict[str, Any] = {"transpose": False} if role.endswith("positions") else {}
    if isinstance(values, Real):
        return {**rule, "value": float(values)}
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise UsageError(f"{role} is {type(values).__name__}; expected a list with one array for each layer")
    names: list[str | float] = []
    for index, each in enumerate(values):
        if isinstance(each, Real):
            names.append(float(each))
            continue
        name = f"{role}[{index}]"
        state[name] = to_tensor(name, each)
        names.append(name)
    return {**rule, "names": names}


def to_tensor(name: str, values: Any) -> Tensor:
    """Convert numbers to a float32 tensor, or float64 where they are, or raise a `UsageError`."""
    import torch

    if isinstance(values, torch.Tensor):
        return values.detach().cpu()
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists
        raise UsageError(f"{name} is no array: {error}") from None
    if array.dtype.kind not in "fiu":
        raise UsageError(f"{name} has dtype {array.dtype}; expected real numbers")
    return torch.from_numpy(np.ascontiguousarray(array, np.float64).reshape(array.shape))
