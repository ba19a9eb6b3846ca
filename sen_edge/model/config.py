"""The configuration of a spatially embedded network: what a checkpoint says beside its tensors."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from sen_edge.errors import CheckpointError
from sen_runtime.ir.network import (
    INPUT_CODINGS,
    MAX_TIMESTEPS,
    READOUTS,
    RESETS,
    Identity,
    LeakyIntegrator,
    Lif,
    Neuron,
    Relu,
)
from sen_runtime.untrusted import listing, quote

#: Neurons of a layer, and coordinates of a position: what the index types of all formats hold.
MAX_SIZE = 2**31 - 1
LAYER_AXES = ("fixed", "free")
#: Fields that a checkpoint stores as lists.
TUPLES = ("layer_sizes", "max_distance", "input_range")


@dataclass(frozen=True)
class SpikingConfig:
    """Time and neurons of a spiking network; equations at `sen_runtime.ir.network.Lif`.

    Attributes:
        timesteps: steps T, from 1 to `MAX_TIMESTEPS`.
        beta: decay of the membrane per step, in [0, 1].
        threshold: membrane above which a neuron spikes, > 0.
        reset: "subtract" or "zero".
        reset_delay: whether the reset acts after the decay of the next step instead of in the step of the spike.
        input_coding: "direct" (constant current) or "spikes" (the caller gives `[batch, T, n_in]`).
        readout: "mean_membrane", "last_membrane" or "spike_count".
        surrogate_slope: slope of the fast sigmoid that replaces the spike's derivative in training, > 0.
    """

    timesteps: int
    beta: float = 0.9
    threshold: float = 1.0
    reset: str = "subtract"
    input_coding: str = "direct"
    readout: str = "mean_membrane"
    surrogate_slope: float = 25.0
    reset_delay: bool = True

    def __post_init__(self) -> None:
        _integer("spiking.timesteps", self.timesteps, 1, MAX_TIMESTEPS)
        _number("spiking.beta", self.beta, 0, 1)
        _number("spiking.threshold", self.threshold, 0, above=True)
        _number("spiking.surrogate_slope", self.surrogate_slope, 0, above=True)
        _choice("spiking.reset", self.reset, RESETS)
        _boolean("spiking.reset_delay", self.reset_delay)
        _choice("spiking.input_coding", self.input_coding, INPUT_CODINGS)
        _choice("spiking.readout", self.readout, READOUTS)


@dataclass(frozen=True)
class SpatialConfig:
    """Shape and constants of a spatially embedded network; a multilayer perceptron unless `spiking` is set.

    Attributes:
        layer_sizes: neurons per layer, input first; at least two layers.
        dimensions: coordinates d of a position, the layer axis included.
        layer_axis: "fixed" (the last coordinate is layer index * layer_spacing: the paper's form) or "free".
        layer_spacing: distance between layers along a fixed layer axis, > 0.
        steepness: k in the inhibition mask 2 * sigmoid(k * inhibition) - 1, > 0.
        exponent: power e of the distance, > 0; the paper's form is 1, anything else an extension.
        min_distance: floor of the distance, >= 0; 0 makes coincident neurons an error at export.
        max_distance: for each weight layer the distance beyond which neurons are not connected, 0 for none; empty
            where no layer has one.
        gain: whether each layer has a learned factor (an extension).
        bias: whether each neuron has a learned bias.
        input_range: least and greatest value an input takes; verification tests its extremes.
        spiking: time and neurons of a spiking network, or None.
    """

    layer_sizes: tuple[int, ...]
    dimensions: int = 3
    layer_axis: str = "fixed"
    layer_spacing: float = 1.0
    steepness: float = 1.0
    exponent: float = 1.0
    min_distance: float = 0.0
    max_distance: tuple[float, ...] = ()
    gain: bool = True
    bias: bool = True
    input_range: tuple[float, float] = (0.0, 1.0)
    spiking: SpikingConfig | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.layer_sizes, tuple) or len(self.layer_sizes) < 2:
            raise CheckpointError(f"config layer_sizes is {quote(self.layer_sizes)}; expected two or more layer sizes")
        for index, size in enumerate(self.layer_sizes):
            _integer(f"layer_sizes[{index}]", size, 1)
        _choice("layer_axis", self.layer_axis, LAYER_AXES)
        _integer("dimensions", self.dimensions, 2 if self.layer_axis == "fixed" else 1)
        _number("layer_spacing", self.layer_spacing, 0, above=True)
        _number("steepness", self.steepness, 0, above=True)
        _number("exponent", self.exponent, 0, above=True)
        _number("min_distance", self.min_distance, 0)
        self._check_max_distance()
        _boolean("gain", self.gain)
        _boolean("bias", self.bias)
        if not isinstance(self.input_range, tuple) or len(self.input_range) != 2:
            raise CheckpointError(f"config input_range is {quote(self.input_range)}; expected [least, greatest]")
        for index, value in enumerate(self.input_range):
            _number(f"input_range[{index}]", value)
        if self.input_range[0] >= self.input_range[1]:
            raise CheckpointError(f"config input_range is {list(self.input_range)}; expected least < greatest")

    def _check_max_distance(self) -> None:
        n_layers = len(self.layer_sizes) - 1
        if not isinstance(self.max_distance, tuple) or len(self.max_distance) not in (0, n_layers):
            raise CheckpointError(
                f"config max_distance is {quote(self.max_distance)}; expected {n_layers} numbers, one for each layer, "
                "or none"
            )
        for index, value in enumerate(self.max_distance):
            _number(f"max_distance[{index}]", value, 0)
            if 0 < value <= self.min_distance:
                raise CheckpointError(
                    f"config max_distance[{index}] is {value:g}; expected 0 for none, or more than min_distance "
                    f"({self.min_distance:g})"
                )

    def radius(self, index: int) -> float:
        """Distance beyond which the neurons of weight layer `index` are not connected; infinite for none."""
        return (self.max_distance[index] if self.max_distance else 0.0) or math.inf

    @property
    def architecture(self) -> str:
        """Either "mlp" or "snn"."""
        return "mlp" if self.spiking is None else "snn"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: `(n_in,)`, or `(T, n_in)` of a spike train."""
        n_in, spiking = self.layer_sizes[0], self.spiking
        return (n_in,) if spiking is None or spiking.input_coding != "spikes" else (spiking.timesteps, n_in)

    @property
    def free_dimensions(self) -> int:
        """Coordinates of a position that are stored and learned."""
        return self.dimensions - (1 if self.layer_axis == "fixed" else 0)

    def neurons(self) -> tuple[Neuron, ...]:
        """The neurons of each weight layer."""
        n_hidden, spiking = len(self.layer_sizes) - 2, self.spiking
        if spiking is None:
            return (*(Relu(),) * n_hidden, Identity())
        hidden = Lif(spiking.beta, spiking.threshold, spiking.reset, spiking.reset_delay)
        last: Neuron = hidden if spiking.readout == "spike_count" else LeakyIntegrator(spiking.beta)
        return (*(hidden,) * n_hidden, last)

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor a checkpoint of this configuration holds."""
        shapes: dict[str, tuple[int, ...]] = {}
        for index, size in enumerate(self.layer_sizes):
            shapes[f"positions.{index}"] = (size, self.free_dimensions)
        for index, (n_in, n_out) in enumerate(pairwise(self.layer_sizes)):
            shapes[f"inhibition.{index}"] = (n_in,)
            if self.gain:
                shapes[f"gain.{index}"] = ()
            if self.bias:
                shapes[f"bias.{index}"] = (n_out,)
        return shapes

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint stores them; what version 1 began without is left out where it is not used."""
        values = asdict(self)
        for name in TUPLES:
            values[name] = list(values[name])
        if not self.max_distance:
            del values["max_distance"]
        if self.spiking is not None and self.spiking.reset_delay:
            del values["spiking"]["reset_delay"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SpatialConfig:
        """Read and check plain values.

        Raises:
            CheckpointError: an unknown or missing key, a wrong type, a value out of range.
        """
        values = dict(_known(values, cls, "config"))
        if isinstance(values.get("spiking"), Mapping):
            values["spiking"] = SpikingConfig(**_known(values["spiking"], SpikingConfig, "config spiking"))
        elif values.get("spiking") is not None:
            raise CheckpointError(f"config spiking is {quote(values['spiking'])}; expected a table or nothing")
        for name in TUPLES:
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        return cls(**values)


def _known(values: Mapping[str, Any], kind: type, where: str) -> Mapping[str, Any]:
    names = [field.name for field in fields(kind)]
    unknown = [name for name in values if name not in names]
    if unknown:
        raise CheckpointError(f"{where} has unknown keys: {listing(unknown)}; known are {', '.join(names)}")
    required = names[0]  # layer_sizes, timesteps: the one field without a default
    if required not in values:
        raise CheckpointError(f"{where} lacks {required}")
    return values


def _integer(name: str, value: object, least: int, most: int = MAX_SIZE) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise CheckpointError(f"config {name} is {quote(value)}; expected an integer from {least} to {most}")


def _boolean(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise CheckpointError(f"config {name} is {quote(value)}; expected true or false")


def _choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise CheckpointError(f"config {name} is {quote(value)}; expected one of {', '.join(choices)}")


def _number(name: str, value: object, least: float = -math.inf, most: float = math.inf, *, above: bool = False) -> None:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if not fits or not least <= value <= most or (above and value == least):  # type: ignore[operator]
        bound = "a finite number" if least == -math.inf else f"a number {'>' if above else '>='} {least:g}"
        raise CheckpointError(
            f"config {name} is {quote(value)}; expected {bound}" + (f" and <= {most:g}" * (most < math.inf))
        )
