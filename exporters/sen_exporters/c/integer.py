"""A network with int8 activations as the structures of integer.h: no floating-point arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import singledispatch

import numpy as np

from sen_exporters.base import ExportError, NoFormError
from sen_exporters.c.integer_matrix import Product, Simd, lower_matrix
from sen_exporters.c.memory import Arena, Constant, number
from sen_exporters.c.program import LoweredLayer, Program
from sen_exporters.c.scaling import lower_scaling
from sen_exporters.c.weights import Members, Place, Weights
from sen_runtime import integer
from sen_runtime.errors import NetworkError
from sen_runtime.integer import STORED_SPIKES, zero_of
from sen_runtime.ir.checks import Array
from sen_runtime.ir.int8 import Grid
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, is_constant_readout, output_grid, readout_grid
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Neuron, Relu
from sen_runtime.ir.operators import Dense, Int4, LowRank, Sparse, Sum, WeightOperator, leaves

#: Places of the vectors that the caller provides.
INPUT, OUTPUT = "SEN_CALLER_INPUT", "SEN_CALLER_OUTPUT"
#: Constants of network.h; Lif neurons have parameters too.
_NEURONS: dict[type[Neuron], str] = {
    Identity: "SEN_IDENTITY",
    Relu: "SEN_RELU",
    LeakyIntegrator: "SEN_LEAKY_INTEGRATOR",
}
#: Bytes of a counter of time steps, and of a membrane.
CLOCK_BYTES, MEMBRANE_BYTES = 4, 2


@dataclass
class ByteArena(Arena):
    """Allocates vectors in bytes, at multiples of 4; `size` is in bytes.

    Attributes:
        top: end of the vectors of the layer that is being lowered, which others then reuse.
        peak: max of it.
    """

    top: int = 0
    peak: int = 0

    def take(self, comment: str, size: int) -> int:
        """Allocate `size` bytes; returns the first one's number."""
        start = self.size
        self.vectors.append((comment, size))
        self.size += size + -size % 4
        return start

    def take_temporary(self, size: int) -> int:
        """Allocate `size` bytes behind all others until `release`."""
        start = max(self.top, self.size)
        self.top = start + size + -size % 4
        self.peak = max(self.peak, self.top)
        return start

    def release(self) -> None:
        """Free temporary vectors."""
        self.top = self.size


@dataclass(frozen=True, eq=False)
class IntegerLayer(LoweredLayer):
    """A `sen_integer_layer`.

    Attributes:
        operations: members of each `sen_operation`.
    """

    operations: tuple[Members, ...]


@dataclass(frozen=True, eq=False)
class IntegerProgram(Program):
    """A `sen_integer_network` and all that it points to."""

    @property
    def input_grid(self) -> Grid:
        """Grid of the stored inputs: spikes are 0 or 64."""
        return _input_grid(self.network)

    @property
    def output_grid(self) -> Grid:
        """Grid of the stored outputs."""
        grid = output_grid(self.network)
        assert grid is not None
        return grid

    @property
    def has_steps(self) -> bool:
        """Whether the network runs step by step."""
        return self.network.is_spiking and not is_constant_readout(self.network)

    @property
    def q16(self) -> tuple[int, int] | None:
        """Factor of a stored output and its shift to Q16.16; None beyond the 32 bits of Q16.16."""
        scale = self.output_grid.scale
        if self.scaling.restores or scale * integer.MAX_STORED >= 1 << 15:
            return None
        shift = min(30, max(1, 5 - int(np.frexp(scale)[1])))
        return int(np.rint(scale * 2.0 ** (16 + shift))), shift

    @property
    def constants(self) -> list[Constant]:
        """Arrays in flash, but for those of the conversions from and to floating point."""
        conversions = set(self.scaling.constants.values())
        return [constant for constant in super().constants if constant not in conversions]

    @property
    def arena_bytes(self) -> int:
        """Bytes of the arena."""
        return max(8, self.arena.size + -self.arena.size % 8)

    @property
    def macros(self) -> list[str]:
        """Macros of integer.h: none."""
        return []

    @property
    def functions(self) -> set[str]:
        """Regions of the library that the generated code names."""
        run = "sen_integer_spiking_run" if self.network.is_spiking else "sen_integer_perceptron_run"
        return {run, *(weights.kernel for weights in self.weights)}

    @property
    def conditional_functions(self) -> dict[str, set[str]]:
        """Regions of the conversions from and to floating point."""
        return {"FLOAT": {"sen_integer_quantize", *self.scaling.functions}}

    @property
    def weights_type(self) -> str:
        """Structure of a matrix."""
        return "sen_integer_weights"

    @property
    def structures(self) -> dict[str, int]:
        """Number of structures by type."""
        return {
            "sen_integer_weights": len(self.weights),
            "sen_operation": sum(len(layer.operations) for layer in self.layers if isinstance(layer, IntegerLayer)),
            "sen_integer_layer": len(self.layers),
            "sen_integer_network": 1,
        }

    @property
    def n_kept(self) -> int:
        """Number of layers whose output is in the arena."""
        return sum(not isinstance(layer.members["out"], str) for layer in self.layers)

    @property
    def interface(self) -> str:
        """Key of the size of the public functions in code_size.json."""
        return "interface_of_integers"


def lower_integers(network: Network, name: str, storage: str | None = None, simd: Simd = "none") -> IntegerProgram:
    """Lower a network with int8 activations; arguments as in `Program` and `COptions`.

    Raises:
        NoFormError: an operator has no lowering.
        ExportError: 32 bits do not hold its sums.
    """
    try:
        integer.check_integers(network)
    except NetworkError as error:
        raise ExportError(error.message, error.hint) from error
    arena = ByteArena()
    members = _network_members(network, arena)
    places = [_place_layer(network, index, arena) for index in range(len(network.layers))]
    has_int4 = any(isinstance(leaf, Int4) for layer in network.layers for leaf in leaves(layer.weight))
    lowering = _Lowering(arena, simd, is_compact=has_int4)
    layers = tuple(_lower_layer(network, index, places, members, lowering) for index in range(len(network.layers)))
    arena.take("vectors between products", arena.peak - arena.size if arena.peak > arena.size else 0)
    members["scratch"] = arena.take("scratch of products", lowering.scratch)
    scaling = lower_scaling(network, Arena())  # the conversions from and to floating point need no vector
    return IntegerProgram(name, network, layers, {}, members, scaling, arena, storage)


def _input_grid(network: Network) -> Grid:
    assert network.input_grid is not None
    return STORED_SPIKES if network.coding.is_binary else network.input_grid


def _network_members(network: Network, arena: ByteArena) -> Members:
    """Members of `sen_integer_network`, but for its scratch."""
    members: Members = {
        "layers": "layers",
        "layer_count": len(network.layers),
        "n_in": network.n_in,
        "n_out": network.n_out,
        "zero": zero_of(_input_grid(network)),
        "input": INPUT,
    }
    if not network.is_spiking:
        return members
    counts_spikes = network.readout == "spike_count"
    out = readout_grid(network, _input_grid(network))
    factors = integer.factor_steps(network, out).astype(np.int32)
    comment = f"readout: steps of its input for a spike in each time step [{network.timesteps}]"
    return members | {
        "lif_count": len(network.layers) - (not counts_spikes),
        "timesteps": network.timesteps,
        "is_spike_train": int(network.coding.has_steps),
        "integrate": "sen_integer_integrate",
        "factors": Constant("readout_factors", factors, comment),
        "weighted": arena.take("weighted sum of spikes", network.layer_sizes[-1 if counts_spikes else -2]),
        "clock": arena.take("number of steps", CLOCK_BYTES),
    }


def _place_layer(network: Network, index: int, arena: ByteArena) -> Members:
    """Vectors of a layer that outlive it; the last one without spikes writes to the caller's y."""
    layer, n_out = network.layers[index], network.layer_sizes[index + 1]
    if isinstance(layer.neuron, Lif):
        return {
            "out": arena.take(f"layer {index}: currents", n_out),
            "membrane": arena.take(f"layer {index}: membranes", MEMBRANE_BYTES * n_out),
            "spikes": arena.take(f"layer {index}: spikes", n_out),
        }
    return {"out": OUTPUT if index == len(network.layers) - 1 else arena.take(f"layer {index}: output", n_out)}


@dataclass
class _Lowering:
    """What the layers have in common.

    Attributes:
        arena: of their vectors.
        simd: see `COptions`.
        is_compact: whether small matrices take the smallest kernel; int4 weights are chosen for their size.
        scratch: bytes that a product needs, at most.
        weights: matrices of the current layer.
        operations: its operations.
    """

    arena: ByteArena
    simd: Simd
    is_compact: bool
    scratch: int = 0
    weights: list[Weights] = field(default_factory=list)
    operations: list[Members] = field(default_factory=list)

    def multiply(self, product: Product, place: Place, part: str, x: str | int, y: str | int) -> None:
        """Append a product."""
        weights, scratch = lower_matrix(product, place, part, self.simd, is_compact=self.is_compact)
        self.scratch = max(self.scratch, scratch)
        self.append(weights, x, y)

    def append(self, weights: Weights, x: str | int, y: str | int) -> None:
        """Append an operation."""
        self.weights.append(weights)
        self.operations.append({"weights": f"&{weights.symbol}", "x": x, "y": y})


@dataclass(frozen=True)
class _Step:
    """`y = W x + b`: vectors with their grids, the bias, and the min of `y`."""

    place: Place
    x: str | int
    y: str | int
    grid: Grid
    out: Grid
    low: int
    bias: Array | None


def _lower_layer(
    network: Network, index: int, places: list[Members], members: Members, lowering: _Lowering
) -> IntegerLayer:
    layer = network.layers[index]
    assert layer.grid is not None
    x, grid = _arriving(network, index, places, members)
    lowering.weights, lowering.operations = [], []
    lowering.arena.release()
    y = places[index]["out"]
    assert isinstance(y, (str, int))
    bias = integer.bias_of(network, layer)
    place = Place(f"layer{index}", f"layer {index}")
    _lower(layer.weight, _Step(place, x, y, grid, layer.grid, integer.low_of(layer), bias), lowering)
    own: Members = {
        "operations": f"layer{index}_operations",
        "operation_count": len(lowering.operations),
        "n_in": layer.weight.shape[1],
        "n_out": layer.weight.shape[0],
        **_neuron(layer),
        **places[index],
    }
    return IntegerLayer(layer, tuple((each,) for each in lowering.weights), own, None, tuple(lowering.operations))


def _arriving(network: Network, index: int, places: list[Members], members: Members) -> tuple[str | int, Grid]:
    """Place and grid of the input of a layer."""
    layer, first = network.layers[index], _input_grid(network)
    if layer.neuron.role == "readout" and not is_constant_readout(network):
        return int(members["weighted"]), readout_grid(network, first)  # type: ignore[arg-type]
    if layer.neuron.role == "readout":
        return INPUT, readout_grid(network, first)
    if index == 0:
        return INPUT, first
    before = network.layers[index - 1]
    assert before.grid is not None
    if network.is_spiking:
        return int(places[index - 1]["spikes"]), STORED_SPIKES  # type: ignore[arg-type]
    return int(places[index - 1]["out"]), before.grid  # type: ignore[arg-type]


def _neuron(layer: Layer) -> Members:
    neuron = layer.neuron
    assert layer.grid is not None
    zero = zero_of(layer.grid)
    members: Members = {"scale": number(layer.grid.scale), "zero": zero}
    if not isinstance(neuron, Lif):
        return members | {"neuron": _NEURONS[type(neuron)]}
    threshold, decay = integer.lif_steps(neuron, layer.grid)
    reset = "SEN_RESET_ZERO" if neuron.reset == "zero" else "SEN_RESET_SUBTRACT"
    if neuron.subtracts_before_decay:
        reset = "SEN_RESET_BEFORE_DECAY"
    return members | {"neuron": "SEN_LIF", "lif": f"{{{threshold}, {decay}, {zero}, {reset}}}"}


@singledispatch
def _lower(operator: WeightOperator, step: _Step, lowering: _Lowering) -> None:
    """Append the operations of `y = W x + b`; one function for each operator."""
    raise NoFormError(f"{step.place.where}: integers have no form of weights of type {type(operator).__name__}")


@_lower.register(Dense)
@_lower.register(Sparse)
def _matrix(operator: Dense | Sparse, step: _Step, lowering: _Lowering) -> None:
    product = Product.of(operator, step.grid, step.bias, step.out, step.low)
    lowering.multiply(product, step.place, "weights", step.x, step.y)


@_lower.register
def _low_rank(operator: LowRank, step: _Step, lowering: _Lowering) -> None:
    right, left = operator.factors
    assert isinstance(right, Dense) and isinstance(left, Dense) and operator.inner is not None
    between = lowering.arena.take_temporary(right.shape[0])
    lowering.multiply(Product.of(right, step.grid, None, operator.inner, 0), step.place, "right", step.x, between)
    second = Product.of(left, operator.inner, step.bias, step.out, step.low)
    lowering.multiply(second, step.place, "left", between, step.y)


@_lower.register
def _sum(operator: Sum, step: _Step, lowering: _Lowering) -> None:
    operands = list(_operands(operator, step, lowering))
    for each, operand in operands:
        _lower(each, operand, lowering)
    a, b = (operand for _, operand in operands)
    assert isinstance(a.y, int) and isinstance(b.y, int)
    factors, shift = integer.sum_factors(a.out, b.out, step.out)
    numbers = np.array([*factors, zero_of(a.out), zero_of(b.out), shift], np.int32)
    members: Members = {
        "rows": operator.shape[0],
        "columns": b.y - a.y,
        "values": step.place.constant("sum_values", numbers, "factors and zeros of both vectors, and the shift"),
        "zero": zero_of(step.out),
        "low": step.low,
    }
    lowering.append(Weights(f"{step.place.name}_sum", "sen_integer_add", members), a.y, step.y)


def _operands(operator: Sum, step: _Step, lowering: _Lowering) -> Iterator[tuple[WeightOperator, _Step]]:
    for name, each, grid, bias in (
        ("a", operator.a, operator.a_grid, None),
        ("b", operator.b, operator.b_grid, step.bias),
    ):
        assert grid is not None
        place = Place(f"{step.place.name}_{name}", step.place.where)
        y = lowering.arena.take_temporary(operator.shape[0])
        yield each, _Step(place, step.x, y, step.grid, grid, 0, bias)
