"""A model from a torch module: its layers are described, and the result is compared with the module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sen_edge.errors import UsageError, VerificationError
from sen_edge.exporting.verify.expectation import check_arrays, compare, describe, first_difference, softmax_hint
from sen_edge.model.build import build, to_tensor
from sen_edge.model.model import Model
from sen_runtime.untrusted import listing

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Attribute of the module with dots between, such as "net.0.bias"; function of the module; or the value.
Value = str | Callable[["nn.Module"], "Tensor"] | ArrayLike
HINT = (
    "check positions, inhibition, bias, gain, and the constants: steepness (tanh(inhibition) is 2), exponent, spiking"
)


@dataclass(frozen=True, eq=False)
class TorchLayer:
    """Where a torch module has the parameters of one layer of weights.

    A value is the name of an attribute with dots between, such as "net.0.bias", a function of the module, or a number
    or an array.

    Attributes:
        target: `[n_out, d]` positions of the postsynaptic neurons.
        inhibition: `[n_in]`; 1e9 for a mask of 1.
        source: `[n_in, d]` positions of the presynaptic neurons; None for the targets of the layer before.
        bias: `[n_out]`, or None; of all layers or of none.
        gain: a number, or None.
        output: name of the submodule that computes the activations, after the ReLU, or the spikes: a wrong layer is
            found by it.
    """

    target: Value
    inhibition: Value
    source: Value | None = None
    bias: Value | None = None
    gain: Value | None = None
    output: str = ""


def from_torch(module: nn.Module, example_input: ArrayLike, *, layers: Sequence[TorchLayer], **options: Any) -> Model:
    """Build a model from a torch module whose layers are described, and compare it with the module.

    Args:
        module: called with `example_input` in evaluation mode; returns outputs `[n, n_out]`, or a tuple that starts
            with them: logits, or the readout of a spiking network.
        example_input: representative inputs, `[n, n_in]`; a hundred are enough.
        layers: parameters of each layer of weights.
        options: constants and further arrays of `sen_edge.build`, such as `steepness`, `exponent`, `spiking`. The
            `input_range` is [0, 1], or that of the example input if it exceeds it.

    Returns:
        Model with a checkpoint, whose outputs are those of the module.

    Raises:
        UsageError: an attribute is missing, or is no tensor.
        CheckpointError, NetworkError: see `sen_edge.build`.
        DataError: inputs or outputs of a wrong shape, or not finite.
        VerificationError: a layer differs; names the first.
    """
    if not layers or layers[0].source is None:
        raise UsageError("layers[0].source is None; expected the positions of the input neurons")
    inputs = to_tensor("example_input", example_input)
    if inputs.numel():
        low, high = min(0.0, float(inputs.min())), max(1.0, float(inputs.max()))
        options.setdefault("input_range", [low, high])
    model = build(**_arrays(module, layers), **options)
    arrays = _run(module, inputs, {f"layer{i}": each.output for i, each in enumerate(layers[:-1]) if each.output})
    values, expected = check_arrays("module(example_input)", {"x": inputs.numpy(), **arrays}, model.network)
    n_compared, found = compare(model.network, values, expected)
    first = first_difference(found)
    if first is None:
        return model
    absent = [f"layers[{index}].output" for index in range(first.layer) if index not in expected]
    hints = [f"state {listing(absent)} to find the first wrong layer"] if absent else []
    hints.append(softmax_hint(expected[first.layer]) or HINT)
    raise VerificationError(
        f"the layers do not compute module(example_input): {describe(first, model.network, n_compared)}",
        hint="; ".join(hints),
    )


def _arrays(module: nn.Module, layers: Sequence[TorchLayer]) -> dict[str, Any]:
    """Return the arrays of all layers, by the arguments of `build`."""
    found: dict[str, list[Any]] = {}
    for role in ("source", "target", "inhibition", "bias", "gain"):
        values = [(f"layers[{index}].{role}", getattr(layer, role)) for index, layer in enumerate(layers)]
        found[role] = [None if value is None else _resolve(module, name, value) for name, value in values]
        absent = [name for name, value in values if value is None]
        if absent and role in ("bias", "gain") and len(absent) < len(layers):
            raise UsageError(f"{absent[0]} is None; expected a value, as other layers have", hint="0 for no bias")
    sources = [source if source is not None else found["target"][i - 1] for i, source in enumerate(found["source"])]
    arrays = {role: found[role] for role in ("inhibition", "bias", "gain") if found[role][0] is not None}
    pairs = zip(sources[1:], found["target"][:-1], strict=True)
    if all(source.shape == target.shape and bool((source == target).all()) for source, target in pairs):
        return {**arrays, "positions": [*sources, found["target"][-1]]}
    return {**arrays, "positions": sources, "target_positions": found["target"]}


def _resolve(module: nn.Module, name: str, value: Value) -> Any:
    """Return the tensor or the number of a description."""
    if isinstance(value, str):
        at: Any = module
        for part in value.split("."):
            try:
                at = getattr(at, part) if hasattr(at, part) else at[int(part)]  # containers of torch have both
            except (IndexError, KeyError, TypeError, ValueError):
                raise UsageError(f"{name} is {value!r}; the module has no such attribute") from None
        value = at
    elif callable(value):
        value = value(module)
    return float(value) if isinstance(value, (int, float)) else to_tensor(name, value)


def _run(module: nn.Module, inputs: Tensor, outputs: dict[str, str]) -> dict[str, NDArray[Any]]:
    """Return the outputs `y` of the module, and those of submodules by name: sums over all calls, so spike counts."""
    import torch

    totals: dict[str, Tensor] = {}
    first = next(module.parameters(), inputs)

    def record(name: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            value = output[0] if isinstance(output, tuple) else output
            totals[name] = value + totals.get(name, 0)

        return hook

    with _evaluating(module), torch.no_grad():
        submodules = dict(module.named_modules())
        missing = [path for path in outputs.values() if path not in submodules]
        if missing:
            raise UsageError(f"output is {missing[0]!r}; the module has: {listing(submodules)}")
        hooks = [submodules[path].register_forward_hook(record(name)) for name, path in outputs.items()]
        try:
            y = module(inputs.to(first.device, first.dtype))
        finally:
            for hook in hooks:
                hook.remove()
    totals["y"] = y[0] if isinstance(y, tuple) else y
    return {name: np.asarray(to_tensor(name, value)) for name, value in totals.items()}


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Set evaluation mode, and restore the mode of each submodule."""
    modes = {each: each.training for each in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for each, training in modes.items():
            each.training = training
