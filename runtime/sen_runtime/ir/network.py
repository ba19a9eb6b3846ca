"""The network representation: frozen dataclasses over numpy arrays, shared by every stage.

A `Network` is a chain of layers, see `sen_runtime.ir.layer`. A pass is a function from `Network` to `Network`;
exporters read it.

Shapes: weights `[n_out, n_in]`, vectors `[n]`, batches `[batch, n]`, spike trains `[batch, T, n]`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sen_runtime.errors import NetworkError
from sen_runtime.ir.checks import Array, check_choice, require, store_float32
from sen_runtime.ir.codings import CODINGS, Coding
from sen_runtime.ir.int8 import INT8_MAX, INT8_MIN, Grid
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.neurons import Neuron, RefractoryLif
from sen_runtime.ir.operators import Coordinates, Int4, WeightOperator, leaves, map_leaves
from sen_runtime.ir.standardization import STANDARDIZED_RANGE, Standardization
from sen_runtime.task import CLASSIFICATION

READOUTS = ("mean_membrane", "last_membrane", "spike_count")
OUTPUT_ACTIVATIONS = ("none", "softmax", "sigmoid")
#: Neurons by role, for messages.
ROLES = {
    "activation": "a multilayer perceptron, such as Relu",
    "spiking": "a spiking layer, such as Lif",
    "readout": "a membrane readout, such as LeakyIntegrator",
}
#: Max time steps of one inference, in every format and engine; a stream has no limit.
MAX_TIMESTEPS = 1 << 20
#: Range without one in the metadata; max magnitude of a range, such that products stay within float32.
DEFAULT_INPUT_RANGE, MAX_INPUT = (0.0, 1.0), 1e18


@dataclass(frozen=True, eq=False)
class Network:
    """A chain of layers; spiking where `timesteps` > 0.

    Attributes:
        layers: from input to readout.
        timesteps: steps T of a spiking network, at most `MAX_TIMESTEPS`; 0 for a multilayer perceptron.
        input_coding: name in `sen_runtime.ir.codings.CODINGS`.
        readout: "mean_membrane" or "last_membrane" (of neurons of role "readout"), or "spike_count" (of spiking ones);
            ignored by a multilayer perceptron.
        metadata: text by name.
        input_grid: int8 grid of the input, after its standardization; None where activations are floating point.
        input_scaling: standardizes inputs before the first layer; None for inputs as they are.
        output_scaling: restores outputs after the last layer or readout; None for outputs as they are.
        delta: min change that spikes, > 0, of input coding "delta"; 0 for others.
        output_activation: "none", or "softmax" or "sigmoid" of the outputs.
        positions: coordinates `[n, d]` of the neurons of each layer, input first, of weights that were materialized;
            empty where they are unknown. Pictures show them; results do not depend on them.
        folded_scaling: standardization of inputs that is in the weights already, which ranges of inputs follow from.
        readout_decay: factor from the weight of a step in the mean of the membranes to that of the next, in (0, 1]; 1
            for equal weights, see `readout_weights`.
    """

    layers: tuple[Layer, ...]
    timesteps: int = 0
    input_coding: str = "direct"
    readout: str = "mean_membrane"
    metadata: Mapping[str, str] = field(default_factory=dict)
    input_grid: Grid | None = None
    input_scaling: Standardization | None = None
    output_scaling: Standardization | None = None
    output_activation: str = "none"
    delta: float = 0.0
    positions: tuple[Array, ...] = ()
    folded_scaling: Standardization | None = None
    readout_decay: float = 1.0

    def __post_init__(self) -> None:
        require(self.layers, "a network needs at least one layer")
        is_countable = 0 <= self.timesteps <= MAX_TIMESTEPS
        require(is_countable, f"timesteps is {self.timesteps}; expected a value from 0 to {MAX_TIMESTEPS}")
        check_choice(self.input_coding, "input_coding", tuple(CODINGS))
        check_choice(self.readout, "readout", READOUTS)
        self._check_readout_decay()
        for index, (before, after) in enumerate(zip(self.layers, self.layers[1:])):
            n_out, n_in = before.weight.shape[0], after.weight.shape[1]
            require(
                n_out == n_in,
                f"layer {index} has {n_out} outputs, layer {index + 1} takes {n_in} inputs; expected the same number",
            )
        self._check_coding()
        for index, layer in enumerate(self.layers):
            self._check_neuron(index, layer.neuron)
            self._check_grids(index, layer)
            can_wait = layer.is_instant or (self.is_spiking and self.input_grid is None)
            require(
                can_wait,
                f"layer {index} has delays or synaptic currents; expected a spiking network without int8 grids",
            )
        check_choice(self.output_activation, "output_activation", OUTPUT_ACTIVATIONS)
        placed = tuple(len(at) for at in self.positions)
        require(placed in ((), self.layer_sizes), f"layers have {placed} positions; expected {self.layer_sizes}")
        scalings = (("input", self.input_scaling, self.n_features), ("output", self.output_scaling, self.n_out))
        for what, scaling, size in scalings:
            if scaling is not None:
                found = len(scaling.mean)
                require(found == size, f"the {what} scaling has {found} features; expected {size}")

    def _check_readout_decay(self) -> None:
        store_float32(self, "readout_decay", "in (0, 1]", lambda decay: 0 < decay <= 1)
        is_mean = self.is_spiking and self.readout == "mean_membrane" and self.input_grid is None
        require(
            self.readout_decay == 1 or is_mean,
            f"readout_decay is {self.readout_decay:g}; only a mean of membranes without int8 grids has one",
        )

    def _check_coding(self) -> None:
        coding = self.coding
        require(
            self.is_spiking or coding == CODINGS["direct"], f"input coding {self.input_coding!r} needs timesteps > 0"
        )
        is_spikes = self.input_scaling is not None and coding.gives_spikes
        require(not is_spikes, f"inputs of coding {self.input_coding!r} are not standardized")
        store_float32(self, "delta")
        if self.input_coding == "delta":
            require(self.delta > 0, f"delta is {self.delta:g}; expected a number > 0 for input coding 'delta'")
            is_even = self.n_in % 2 == 0
            require(is_even, f"input coding 'delta' has {self.n_in} input neurons; expected two for each channel")
        else:
            require(self.delta == 0, f"delta is {self.delta:g}; only input coding 'delta' has one")

    def _check_grids(self, index: int, layer: Layer) -> None:
        """Require int8 activations everywhere or nowhere."""
        has_form = self.input_grid is None or self.input_coding in ("direct", "spikes")
        require(has_form, f"int8 activations have no form of input coding {self.input_coding!r}")
        grids = [layer.grid, *layer.weight.grids]
        if any((grid is None) != (self.input_grid is None) for grid in grids):
            has, lacks = ("has none", "has one") if self.input_grid is None else ("has one", "lacks one")
            raise NetworkError(
                f"the input {has} and a value in layer {index} {lacks} of the grids of int8 activations; "
                "expected all of them or none"
            )
        if layer.grid is not None:
            try:
                layer.neuron.check_grid(layer.grid)
            except NetworkError as error:
                raise NetworkError(f"layer {index}: {error.message}") from None

    def _check_neuron(self, index: int, neuron: Neuron) -> None:
        is_last = index == len(self.layers) - 1
        expected = "activation"
        if self.is_spiking:
            expected = "readout" if is_last and self.readout != "spike_count" else "spiking"
        found = type(neuron).__name__
        require(neuron.role == expected, f"layer {index} has {found} neurons; expected those of {ROLES[expected]}")

    @property
    def is_spiking(self) -> bool:
        """Whether the network has membranes and time steps."""
        return self.timesteps > 0

    @property
    def is_instant(self) -> bool:
        """Whether no layer has delays, recurrence, synaptic currents or refractory neurons, and no step more weight."""
        is_plain = all(layer.is_instant and not isinstance(layer.neuron, RefractoryLif) for layer in self.layers)
        return is_plain and self.readout_decay == 1

    def gives_spikes(self, index: int) -> bool:
        """Whether what arrives at a layer are spikes: of the layer before, or of the input coding."""
        return self.layers[index - 1].neuron.role == "spiking" if index > 0 else self.coding.gives_spikes

    @property
    def has_summed_readout(self) -> bool:
        """Whether the readout is one product with a weighted sum of its inputs: a membrane, with one beta for all."""
        last = self.layers[-1]
        return last.neuron.role == "readout" and not last.neuron.arrays and last.is_instant

    @property
    def coding(self) -> Coding:
        """Properties of the input coding."""
        return CODINGS[self.input_coding]

    @property
    def n_in(self) -> int:
        """Number of input neurons."""
        return self.layers[0].weight.shape[1]

    @property
    def n_features(self) -> int:
        """Values of an input, in each step of a sequence: n_in, or n_in / 2 channels of input coding "delta"."""
        return self.n_in // (2 if self.input_coding == "delta" else 1)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: `(n_features,)`, or `(T, n_features)` of a sequence."""
        return (self.timesteps, self.n_features) if self.coding.has_steps else (self.n_features,)

    @property
    def input_range(self) -> tuple[float, float]:
        """Min and max of an input, see `input_range_of`."""
        return input_range_of(self.metadata)

    @property
    def task(self) -> str:
        """Task in the metadata, see `sen_runtime.task`; classification by default."""
        return self.metadata.get("task", CLASSIFICATION)

    def names(self, kind: str) -> tuple[str, ...]:
        """Names in the metadata: "feature_names", "output_names" or "target_columns"; empty if there are none."""
        return names_of(self.metadata, kind)

    @property
    def n_out(self) -> int:
        """Number of output neurons."""
        return self.layers[-1].weight.shape[0]

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Neurons per layer, input first: L + 1 values."""
        return (self.n_in, *(layer.weight.shape[0] for layer in self.layers))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one pass through all layers (one step of a spiking network)."""
        return sum(weight.macs for layer in self.layers for weight, _ in layer.connections)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        return sum(layer.nbytes for layer in self.layers)

    @property
    def nnz(self) -> int:
        """Stored numbers that are not zero, including biases; for coordinates the number of weights."""
        biases = sum(int(np.count_nonzero(layer.bias)) for layer in self.layers if layer.bias is not None)
        return biases + sum(weight.nnz for layer in self.layers for weight, _ in layer.connections)


def positions_of(network: Network) -> tuple[Array, ...]:
    """Coordinates `[n, d]` of the neurons of each layer, input first, the kept or the stored ones; empty if unknown."""
    stored = [layer.weight for layer in network.layers if isinstance(layer.weight, Coordinates)]
    is_complete = not network.positions and len(stored) == len(network.layers)
    return (*(weight.source for weight in stored), stored[-1].target) if is_complete else network.positions


def input_range_of(metadata: Mapping[str, str]) -> tuple[float, float]:
    """Min and max of an input: two numbers under `input_range` in the metadata.

    `DEFAULT_INPUT_RANGE` where these are not two rising numbers within `MAX_INPUT`.
    """
    try:
        low, high = map(float, metadata["input_range"].split())
    except (KeyError, ValueError):
        return DEFAULT_INPUT_RANGE
    return (low, high) if -MAX_INPUT <= low < high <= MAX_INPUT else DEFAULT_INPUT_RANGE


def feature_ranges(
    network: Network, input_range: tuple[float, float] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Min and max of each feature `[n_in]`, or of all of them `[]`: `input_range`, by default that of the network.

    A standardized feature lies within `STANDARDIZED_RANGE` standard deviations around its mean.
    """
    low, high = map(np.float64, input_range or network.input_range)
    scaling = network.input_scaling
    if scaling is None:
        return np.asarray(low), np.asarray(high)
    mean, reach = scaling.mean.astype(np.float64), STANDARDIZED_RANGE * scaling.std.astype(np.float64)
    return np.clip(mean - reach, low, high), np.clip(mean + reach, low, high)


def names_of(metadata: Mapping[str, str], kind: str) -> tuple[str, ...]:
    """Names in a JSON list under `kind` in the metadata; empty where it is missing or no list of texts."""
    try:
        found = json.loads(metadata.get(kind, "[]"))
    except (ValueError, RecursionError):
        return ()
    is_list = isinstance(found, list) and all(isinstance(name, str) for name in found)
    return tuple(found) if is_list else ()


def readout_weights(decay: float, steps: int) -> NDArray[np.float64]:
    """Weights w `[steps]` of the readout `sum_t w[t] u[t] / T` of "mean_membrane": w[t] = decay^t.

    Source: arXiv 2511.01632 with decay = exp(-1 / T).
    """
    weights: NDArray[np.float64] = np.float64(decay) ** np.arange(steps)
    return weights


def readout_factors(network: Network, grid: Grid | None = None) -> NDArray[np.float64]:
    """Factors c of the readout `sum_t c[t] y[t]`, which is linear in the currents; all 1 for a spike count.

    `[T]`, or `[T, n]` of a membrane readout whose neurons differ. With `grid` they are multiples of its step; each
    rounding compensates the error of the sum before it.
    """
    neuron, steps = network.layers[-1].neuron, network.timesteps
    if neuron.role != "readout":
        factors = np.ones(steps)
    elif network.readout == "last_membrane":
        factors = neuron.response(steps)[::-1]
    else:
        response = neuron.response(steps)
        weights = readout_weights(network.readout_decay, steps).reshape(-1, *[1] * (response.ndim - 1))
        factors = weights * np.cumsum(weights * response, axis=0)[::-1] / steps
    if grid is None:
        return factors
    return np.diff(np.rint(np.cumsum(factors) / grid.scale), prepend=0.0) * grid.scale


def bias_factor(network: Network, layer: Layer) -> float:
    """Factor of the bias in the product of a layer: that of all steps for a summed readout, else 1."""
    is_summed = layer.neuron.role == "readout" and network.has_summed_readout
    return float(readout_factors(network).sum()) if is_summed else 1.0


def output_grid(network: Network) -> Grid | None:
    """Grid of the output; None for floating-point activations."""
    if network.input_grid is None or network.layers[-1].neuron.role != "spiking":
        return network.layers[-1].grid
    return readout_grid(network, network.input_grid)


def is_constant_readout(network: Network) -> bool:
    """Whether the readout of a spiking network has the same input in each step."""
    return len(network.layers) == 1 and network.coding.is_constant and network.layers[0].is_instant


def readout_grid(network: Network, input_grid: Grid) -> Grid:
    """Grid of `sum_t c[t] x[t]`, the input of the readout of a spiking network with int8 activations.

    From 0 to `sum_t c[t]` for spikes; integers for a spike count; the scaled grid of the current for a constant one.
    """
    total = float(readout_factors(network).sum())
    if network.layers[-1].neuron.role == "spiking":
        return Grid(1.0, INT8_MIN)
    if is_constant_readout(network):
        return Grid(input_grid.scale * total, input_grid.zero_point)
    return Grid(total / (INT8_MAX - INT8_MIN), INT8_MIN)


def map_weights(network: Network, transform: Callable[[WeightOperator], WeightOperator]) -> Network:
    """Apply `transform` to every leaf of the weight operators; its errors get the layer in front."""
    layers = []
    for index, layer in enumerate(network.layers):
        try:
            recurrent = layer.recurrent
            if recurrent is not None:
                recurrent = replace(recurrent, weight=map_leaves(recurrent.weight, transform))
            layers.append(replace(layer, weight=map_leaves(layer.weight, transform), recurrent=recurrent))
        except NetworkError as error:
            raise NetworkError(f"layer {index}: {error.message}", error.hint) from error
    return replace(network, layers=tuple(layers))


def stored_dtype(network: Network) -> str:
    """Type of the stored numbers, as a value of `--dtype`; selects tolerances."""
    has_int4 = any(isinstance(leaf, Int4) for layer in network.layers for leaf in leaves(layer.weight))
    integer = "int4" if has_int4 else "int8"
    if network.input_grid is not None:
        return integer
    weights = [weight for layer in network.layers for weight, _ in layer.connections]
    dtypes = {array.dtype for weight in weights for array in weight.weight_arrays()}
    if np.dtype(np.int8) in dtypes:
        return f"{integer}-dynamic"
    return "float16" if np.dtype(np.float16) in dtypes else "float32"
