"""The configuration of a spatially embedded network: the hyperparameters of a checkpoint.

docs/reference/checkpoint.md describes every field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Le, MaxLen, MinLen

from sen_edge.errors import CheckpointError
from sen_edge.schema import NonNegative, OneOrEach, Positive, Schema, SchemaError, parse
from sen_runtime.ir.codings import CODINGS, Coding

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sen_runtime.ir.checks import Parameter
    from sen_runtime.ir.neurons import Neuron

#: Number of neurons or coordinates, within the index types of all formats.
Size = Annotated[int, Ge(1), Le(2**31 - 1)]
Decay = Annotated[float, Ge(0), Le(1)]
LayerAxis = Literal["fixed", "learned", "free"]
Reset = Literal["subtract", "zero"]
InputCoding = Literal["direct", "spikes", "current", "rate", "delta"]
Readout = Literal["mean_membrane", "last_membrane", "spike_count"]
Task = Literal["classification", "multilabel", "regression", "reconstruction"]
#: Names of features, outputs or columns of a table.
Names = tuple[Annotated[str, MinLen(1), MaxLen(1000)], ...]
#: Steps T, at most `sen_runtime.ir.network.MAX_TIMESTEPS`.
Timesteps = Annotated[int, Ge(1), Le(1 << 20)]
#: One value of all layers of weights, or one for each.
Positives = Annotated[float | tuple[float, ...], OneOrEach(Positive)]
Decays = Annotated[float | tuple[float, ...], OneOrEach(Decay)]
Resets = Annotated[Reset | tuple[Reset, ...], OneOrEach(Reset)]
T = TypeVar("T")


def at(value: T | tuple[T, ...], index: int) -> T:
    """Return the value of layer `index`."""
    return value[index] if isinstance(value, tuple) else value


#: Fields of names.
NAME_LISTS = ("feature_names", "output_names", "target_columns")
#: Additions to version 1 that are stored only if they differ from these values.
OPTIONAL: Mapping[str, Any] = {
    "max_distance": (),
    "separate_positions": False,
    "task": "classification",
    **dict.fromkeys(NAME_LISTS, ()),
    "input_scaling": False,
    "output_scaling": False,
}


@dataclass(frozen=True)
class SpikingConfig(Schema):
    """Time and neurons of a spiking network; equations at `sen_runtime.ir.neurons.Lif`.

    Attributes:
        beta: of all layers, or one number for each.
        threshold: likewise, of the layers that spike; so is `reset`.
        input_coding: see `sen_runtime.ir.codings`.
        delta: min change that spikes, of input coding "delta".
    """

    timesteps: Timesteps
    beta: Decays = 0.9
    threshold: Positives = 1.0
    reset: Resets = "subtract"
    input_coding: InputCoding = "direct"
    readout: Readout = "mean_membrane"
    surrogate_slope: Positive = 25.0
    reset_delay: bool = True
    delta: Positive | None = None

    def check(self) -> None:
        """Require the threshold of input coding "delta", and of no other."""
        if self.input_coding == "delta" and self.delta is None:
            raise SchemaError("is missing; expected a number > 0 for input_coding delta", key="delta")
        if self.input_coding != "delta" and self.delta is not None:
            raise SchemaError(f"is {self.delta:g}; only input_coding delta has one", key="delta")

    @property
    def coding(self) -> Coding:
        """Properties of the input coding."""
        return CODINGS[self.input_coding]


@dataclass(frozen=True)
class SpatialConfig(Schema):
    """Shape and constants of a spatially embedded network; a multilayer perceptron unless `spiking` is set.

    Attributes:
        task: what the outputs mean, see `sen_runtime.task`.
        feature_names: of the inputs, or empty.
        output_names: of the outputs: classes, labels or values; or empty.
        target_columns: of a table, which hold the targets; or empty.
        input_scaling: whether inputs are standardized by the tensors `input_mean` and `input_std`.
        output_scaling: whether outputs are restored by `output_mean` and `output_std`.
    """

    layer_sizes: Annotated[tuple[Size, ...], MinLen(2)]
    dimensions: Size = 3
    layer_axis: LayerAxis = "fixed"
    layer_spacing: Positives = 1.0
    steepness: Positives = 1.0
    exponent: Positives = 1.0
    min_distance: NonNegative = 0.0
    max_distance: tuple[NonNegative, ...] = ()
    gain: bool = True
    bias: bool = True
    separate_positions: bool = False
    input_range: tuple[float, float] = (0.0, 1.0)
    spiking: SpikingConfig | None = None
    task: Task = "classification"
    feature_names: Names = ()
    output_names: Names = ()
    target_columns: Names = ()
    input_scaling: bool = False
    output_scaling: bool = False

    def check(self) -> None:
        """Check dimensions, distances, names and the input range against each other."""
        self._check_task()
        if self.has_layer_axis and self.dimensions < 2:
            raise SchemaError(f"is 1; expected an integer >= 2 with a {self.layer_axis} layer axis", key="dimensions")
        low, high = self.input_range
        if low >= high:
            raise SchemaError(f"is [{low:g}, {high:g}]; expected min < max", key="input_range")
        n_layers = len(self.layer_sizes) - 1
        if self.max_distance:
            check_items("max_distance", self.max_distance, n_layers)
        for name in ("layer_spacing", "steepness", "exponent"):
            check_items(name, getattr(self, name), n_layers)
        if self.spiking is not None:
            check_items("spiking.beta", self.spiking.beta, n_layers)
            check_items("spiking.threshold", self.spiking.threshold, self.n_spiking, " that spikes")
            check_items("spiking.reset", self.spiking.reset, self.n_spiking, " that spikes")
        for index, value in enumerate(self.max_distance):
            if 0 < value <= self.min_distance:
                raise SchemaError(
                    f"is {value:g}; expected 0 for none, or more than min_distance ({self.min_distance:g})",
                    key=f"max_distance[{index}]",
                )

    def _check_task(self) -> None:
        n_in, n_out = self.layer_sizes[0], self.layer_sizes[-1]
        for key, expected in (("feature_names", self.n_features), ("output_names", n_out)):
            found = len(getattr(self, key))
            if found not in (0, expected):
                raise SchemaError(f"has {found} items; expected {expected} or none", key=key)
        coding = self.coding
        if self.task == "reconstruction" and (n_in != n_out or coding.has_steps):
            inputs = f"{n_in} inputs{' in each step' if coding.has_steps else ''}"
            raise SchemaError(
                f"is reconstruction, with {inputs} and {n_out} outputs; expected one per input value", key="task"
            )
        if self.spiking is not None and self.input_scaling and coding.gives_spikes:
            raise SchemaError(
                f"is true; input coding {self.spiking.input_coding} feeds spikes, which are not standardized",
                "train without --standardize, or take input coding direct or current",
                key="input_scaling",
            )
        if coding.is_computed and not coding.has_steps and not 0 <= self.input_range[0] < self.input_range[1] <= 1:
            low, high = self.input_range
            raise SchemaError(
                f"is [{low:g}, {high:g}]; input coding rate takes inputs from 0 to 1",
                "scale the inputs, or take input coding direct",
                key="input_range",
            )
        if self.n_features < self.layer_sizes[0] != 2 * self.n_features:
            raise SchemaError(
                f"is {self.layer_sizes[0]}; expected two input neurons for each channel of input coding delta",
                key="layer_sizes[0]",
            )

    def radius(self, index: int) -> float:
        """Distance beyond which the neurons of weight layer `index` are not connected; infinite for none."""
        return (self.max_distance[index] if self.max_distance else 0.0) or math.inf

    @property
    def architecture(self) -> str:
        """Either "mlp" or "snn"."""
        return "mlp" if self.spiking is None else "snn"

    @property
    def coding(self) -> Coding:
        """Properties of the input coding; "direct" of a perceptron."""
        return CODINGS["direct"] if self.spiking is None else self.spiking.coding

    @property
    def n_features(self) -> int:
        """Values of an input, in each step of a sequence; half the input neurons for input coding "delta"."""
        is_delta = self.coding.is_computed and self.coding.has_steps
        return self.layer_sizes[0] // (2 if is_delta else 1)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: `(n_features,)`, or `(T, n_features)` of a sequence."""
        spiking = self.spiking
        if spiking is None or not spiking.coding.has_steps:
            return (self.n_features,)
        return spiking.timesteps, self.n_features

    @property
    def has_layer_axis(self) -> bool:
        """Whether the last coordinate is the same for all neurons of a layer, and not stored with the positions."""
        return self.layer_axis != "free"

    @property
    def free_dimensions(self) -> int:
        """Coordinates of a position that are stored and learned."""
        return self.dimensions - self.has_layer_axis

    @property
    def n_spiking(self) -> int:
        """Number of layers that spike."""
        if self.spiking is None:
            return 0
        return len(self.layer_sizes) - (1 if self.spiking.readout == "spike_count" else 2)

    def neurons(self, tensors: Mapping[str, NDArray[np.float32]] | None = None) -> tuple[Neuron, ...]:
        """The neurons of each weight layer, with the parameters of single neurons in `tensors`, see `neuron_shapes`."""
        from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu

        n_layers, spiking = len(self.layer_sizes) - 1, self.spiking
        if spiking is None:
            return (*(Relu(),) * (n_layers - 1), Identity())

        def parameter(name: str, index: int) -> Parameter:
            found = (tensors or {}).get(f"{name}.{index}")
            return at(getattr(spiking, name), index) if found is None else found

        neurons: list[Neuron] = [
            Lif(parameter("beta", index), parameter("threshold", index), at(spiking.reset, index), spiking.reset_delay)
            for index in range(self.n_spiking)
        ]
        return (*neurons, *(LeakyIntegrator(parameter("beta", index)) for index in range(len(neurons), n_layers)))

    def neuron_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return name and shape of the tensors that a checkpoint may have: constants of single neurons."""
        counts = {"beta": 0 if self.spiking is None else len(self.layer_sizes) - 1, "threshold": self.n_spiking}
        return {f"{name}.{index}": (self.layer_sizes[index + 1],) for name in counts for index in range(counts[name])}

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return name and shape of every tensor that a checkpoint with this configuration must have."""
        shapes = dict(self.scaling_shapes())
        for index, size in enumerate(self.layer_sizes):
            shapes[f"positions.{index}"] = (size, self.free_dimensions)
        for index, size in enumerate(self.layer_sizes[1:-1] * self.separate_positions, start=1):
            shapes[f"target_positions.{index}"] = (size, self.free_dimensions)
        for index, (n_in, n_out) in enumerate(pairwise(self.layer_sizes)):
            shapes[f"inhibition.{index}"] = (n_in,)
            if self.gain:
                shapes[f"gain.{index}"] = ()
            if self.bias:
                shapes[f"bias.{index}"] = (n_out,)
            if self.layer_axis == "learned":
                shapes[f"spacing.{index}"] = ()
        return shapes

    @property
    def n_parameters(self) -> int:
        """Number of learned parameters."""
        constants = self.scaling_shapes()
        return sum(math.prod(shape) for name, shape in self.tensor_shapes().items() if name not in constants)

    def scaling_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return name and shape of the tensors that are constants of the data, and not learned."""
        sizes = {"input": self.n_features, "output": self.layer_sizes[-1]}
        scaled = {"input": self.input_scaling, "output": self.output_scaling}
        return {f"{end}_{what}": (sizes[end],) for end in sizes if scaled[end] for what in ("mean", "std")}

    def timing(self) -> dict[str, Any]:
        """Return the fields of a `Network` that a spiking network has; none for a multilayer perceptron."""
        spiking = self.spiking
        if spiking is None:
            return {}
        values = {name: getattr(spiking, name) for name in ("timesteps", "input_coding", "readout")}
        return {**values, "delta": spiking.delta or 0.0}

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the network: input range, task and names."""
        texts = {"input_range": f"{self.input_range[0]:.9g} {self.input_range[1]:.9g}"}
        if self.task != "classification":
            texts["task"] = self.task
        lists = {name: getattr(self, name) for name in NAME_LISTS}
        return {**texts, **{name: json.dumps(names, ensure_ascii=False) for name, names in lists.items() if names}}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values as stored in a checkpoint, without unused optional additions to version 1."""
        values: dict[str, Any] = _plain(
            {name: value for name, value in asdict(self).items() if name not in OPTIONAL or value != OPTIONAL[name]}
        )
        if self.spiking is not None:
            unused = (("reset_delay", True), ("delta", None))
            values["spiking"] = {
                name: value for name, value in values["spiking"].items() if (name, value) not in unused
            }
        return values

    @classmethod
    def from_dict(cls, values: Any) -> SpatialConfig:
        """Read plain values, or raise a `CheckpointError`."""
        return parse(cls, values, "", key="config", error=CheckpointError)


def check_items(key: str, value: Any, expected: int, which: str = "") -> None:
    """Refuse a tuple with another number of items than layers."""
    if isinstance(value, tuple) and len(value) != expected:
        raise SchemaError(f"has {len(value)} items; expected {expected}, one for each layer{which}", key=key)


def _plain(value: Any) -> Any:
    """Return lists instead of tuples."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return list(value) if isinstance(value, tuple) else value
