"""A network as the structures of network.h: constants in flash, vectors in the arena, kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sen_exporters.c import names
from sen_exporters.c.memory import Arena, Constant, dtype
from sen_exporters.c.neurons import lower_neuron
from sen_exporters.c.scaling import LoweredScaling, lower_scaling
from sen_exporters.c.weights import Members, Place, Weights, lower
from sen_exporters.c.wiring import LoweredWiring, Share, lower_wiring
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network, readout_factors
from sen_runtime.ir.neurons import LeakyIntegrator
from sen_runtime.ir.operators import leaves

#: Bytes of scratch for a quantized value: two in a pair of int16, and a second form for the kernels of streams.
QUANTIZED_BYTES = {"sen_stream_int8": 3, "sen_stream4_int8": 4}
#: Words that `nonzero` may write behind the last index.
EVENT_SLACK = 15
#: Constants of more bytes are a binary file: compilers take long over text.
BINARY_FROM = 256 * 1024


@dataclass(frozen=True, eq=False)
class LoweredLayer:
    """A `sen_layer`.

    Attributes:
        source: the layer of the network.
        terms: of its weights: one or two matrices in the order of multiplication.
        members: all but the terms.
        wiring: instead of terms, or None.
    """

    source: Layer
    terms: tuple[tuple[Weights, ...], ...]
    members: Members
    wiring: LoweredWiring | None

    @property
    def weights(self) -> list[Weights]:
        """All matrices in the order of multiplication."""
        return [weights for term in self.terms for weights in term]


@dataclass(frozen=True, eq=False)
class Program:
    """A `sen_network` and all that it points to.

    Attributes:
        name: prefix of all public symbols.
        network: source.
        layers: from input to readout.
        kernels: members of `sen_kernels`.
        members: of `sen_network`.
        scaling: of inputs and outputs.
        arena: vectors in RAM.
        storage: of the constants: "array", "incbin", or None for that of their size.
        shares_kernels: whether kernels are a library, and not part of NAME.c.
    """

    name: str
    network: Network
    layers: tuple[LoweredLayer, ...]
    kernels: Mapping[str, str]
    members: Members
    scaling: LoweredScaling
    arena: Arena
    storage: str | None
    shares_kernels: bool = False

    @property
    def macro(self) -> str:
        """Prefix of all macros."""
        return self.name.upper()

    @property
    def sources(self) -> tuple[str, ...]:
        """Files that a build compiles, but for `kernel_sources` and the self-test."""
        return (f"{self.name}.c", *([f"{self.name}_weights.S"] if self.is_binary else []))

    @property
    def kernel_sources(self) -> tuple[str, ...]:
        """Files that a program compiles once for all its networks."""
        return ("sen_kernels.c",) if self.shares_kernels else ()

    @property
    def needs_libm(self) -> bool:
        """Whether a program links with -lm, for sqrtf."""
        is_computed = any(kind == "sen_spatial" for kind, _ in self.wiring_structures.values())
        return bool(self.positions) or is_computed or self.shares_kernels

    @property
    def headers(self) -> tuple[str, ...]:
        """Files that a program includes."""
        return (f"{self.name}.h", f"{self.name}.hpp", *([f"{self.name}_names.h"] if names.names(self.network) else []))

    @property
    def architecture(self) -> str:
        """Sizes of all layers, from the input on."""
        return "-".join(map(str, self.network.layer_sizes))

    @property
    def weights(self) -> list[Weights]:
        """All matrices."""
        return [weights for layer in self.layers for weights in layer.weights]

    @property
    def wirings(self) -> list[LoweredWiring]:
        """Those of all layers with delays, recurrent synapses or synaptic currents."""
        return [layer.wiring for layer in self.layers if layer.wiring is not None]

    @property
    def wiring_structures(self) -> dict[str, tuple[str, Members]]:
        """Type and members of the structures of all of them by symbol, in an order that compiles."""
        return {
            symbol: found
            for wiring in self.wirings
            for symbol, found in {**wiring.structures, wiring.symbol: ("sen_wiring", wiring.members)}.items()
        }

    @property
    def positions(self) -> list[Weights]:
        """Matrices that are computed from positions."""
        return [weights for weights in self.weights if weights.is_positions]

    @property
    def constants(self) -> list[Constant]:
        """Arrays in flash; empty ones, which C does not have, are not among them."""
        layers = [part for layer in self.layers for part in (*(each.members for each in layer.weights), layer.members)]
        wirings = [members for _, members in self.wiring_structures.values()]
        parts = (*layers, *wirings, self.members)
        found = [value for part in parts for value in part.values() if isinstance(value, Constant)]
        constants = {each.symbol: each for each in (*found, *self.scaling.constants.values())}
        return [constant for constant in constants.values() if constant.array.size]

    @property
    def is_binary(self) -> bool:
        """Whether the constants are a binary file."""
        if self.storage:
            return self.storage == "incbin"
        return sum(constant.nbytes for constant in self.constants) > BINARY_FROM

    @property
    def arena_bytes(self) -> int:
        """Bytes of the arena; at least 8, because C has no empty array."""
        return 4 * max(2, self.arena.size)

    @property
    def input_size(self) -> int:
        """Floats of one input."""
        return int(np.prod(self.network.input_shape))

    @property
    def input_length(self) -> str:
        """The same as a C expression."""
        steps = f"{self.macro}_TIMESTEPS * " if self.network.coding.has_steps else ""
        return f"{steps}{self.macro}_INPUTS"

    @property
    def expanded_bytes(self) -> int:
        """Bytes of the weights that NAME_EXPAND computes from positions."""
        return sum(4 * weights.shape[0] * weights.shape[1] for weights in self.positions)

    @property
    def n_kept(self) -> int:
        """Number of layers whose output is in the arena."""
        return sum("out" in layer.members for layer in self.layers)

    @property
    def macros(self) -> list[str]:
        """Macros of network.h that the structures of this network need."""
        is_varied = any(layer.source.neuron.arrays for layer in self.layers)
        uses = {
            "SEN_PER_NEURON": is_varied,
            "SEN_CODES_INPUTS": self.network.coding.is_computed,
            "SEN_DELAYS": not self.network.is_instant,
        }
        return [name for name, is_used in uses.items() if is_used or self.shares_kernels]

    @property
    def functions(self) -> set[str]:
        """Regions of the library that the generated code names."""
        run = "sen_spiking_run" if self.network.is_spiking else "sen_perceptron_run"
        products = (weights.kernel for weights in self.weights)
        code = {str(self.members["code"])} if "code" in self.members else set()
        wirings = (name for wiring in self.wirings for name in wiring.functions)
        return {"sen_is_finite", run, *self.kernels.values(), *products, *code, *wirings, *self.scaling.functions}

    @property
    def structures(self) -> dict[str, int]:
        """Number of structures by type."""
        wired = Counter(kind for kind, _ in self.wiring_structures.values())
        return {
            **wired,
            "sen_weights": len(self.weights),
            "sen_term": sum(len(layer.terms) for layer in self.layers),
            "sen_layer": len(self.layers),
            "sen_kernels": 1,
            "sen_network": 1,
        }

    @property
    def weights_type(self) -> str:
        """Structure of a matrix."""
        return "sen_weights"

    @property
    def conditional_functions(self) -> dict[str, set[str]]:
        """Other regions, by the end of the macro that enables them."""
        return {}

    @property
    def interface(self) -> str:
        """Key of the size of the public functions in code_size.json."""
        return "interface_with_scaling" if self.scaling.functions else "interface"

    @property
    def expanded_functions(self) -> set[str]:
        """The same where weights are expanded from positions."""
        expanded = {"sen_weight", "sen_dense_f32"} if self.positions else set()
        return self.functions - {"sen_coordinates"} | expanded


def lower_network(network: Network, name: str, storage: str | None = None, delays: str = "table") -> Program:
    """Lower a network of floating-point activations; arguments as in `Program`.

    `delays` is the form of delays from positions, "table" or "coordinates".

    Raises:
        NoFormError: an operator or a neuron has no lowering.
    """
    arena, constants = Arena(), dict[tuple[str, tuple[int, ...], bytes], Constant]()

    def share(constant: Constant) -> Constant:
        """The first of equal constants."""
        array = constant.array
        return constants.setdefault((array.dtype.name, array.shape, array.tobytes()), constant)

    layers = tuple(_lower_layer(network, index, arena, delays, share) for index in range(len(network.layers)))
    members = _network_members(network, layers, arena)
    scaling = lower_scaling(network, arena)
    return Program(name, network, layers, _kernels(network, layers), members, scaling, arena, storage)


def _network_members(network: Network, layers: tuple[LoweredLayer, ...], arena: Arena) -> Members:
    """Members of `sen_network`; scratch is as large as the widest product needs."""
    members: Members = {
        "kernels": "&kernels",
        "layers": "layers",
        "layer_count": len(layers),
        "n_in": network.n_features,
        "n_out": network.n_out,
    }
    if network.is_spiking:
        members |= {
            "timesteps": network.timesteps,
            "is_spike_train": int(network.coding.has_steps),
            "readout": f"SEN_{network.readout.upper()}",
        }
    if network.is_spiking and (network.has_summed_readout or network.readout == "spike_count"):
        factors = readout_factors(network).astype(np.float32)
        comment = f"readout: contribution of a current of 1 in each step [{network.timesteps}]"
        members["factors"] = Constant("readout_factors", factors, comment)
    if network.coding.is_computed:
        members |= {
            "code": f"sen_code_{network.input_coding}",
            "coded": arena.take("input as spikes", network.n_in),
            "state": arena.take("state of the input coding", network.n_features + 1),
            **({"delta": network.delta} if network.delta else {}),
        }
    if network.readout_decay != 1:
        members["readout_decay"] = network.readout_decay
    weights = [each for layer in layers for each in layer.weights]
    inner = max((term[0].shape[0] for layer in layers for term in layer.terms if len(term) == 2), default=0)
    quantized = max((_quantized_floats(each) for each in weights if each.uses("SEN_USES_INT8")), default=0)
    sources = [each.shape[1] for each in weights if each.uses("SEN_USES_EVENTS")]
    sources += [layer.wiring.n_sources for layer in layers if layer.wiring is not None]
    events = max((n + EVENT_SLACK for n in sources), default=0)
    for name, comment, size in (
        ("inner", "scratch: between two factors", inner),
        ("quantized", "scratch: quantized input", quantized),
        ("events", "scratch: indices of spikes", events),
    ):
        if size:
            members[name] = arena.take(comment, size)
    return members


def _quantized_floats(weights: Weights) -> int:
    """Floats of scratch that a quantized input takes, in whole vectors of 64 values."""
    return -(-weights.shape[1] // 64) * 16 * QUANTIZED_BYTES.get(weights.kernel, 2)


def _kernels(network: Network, layers: tuple[LoweredLayer, ...]) -> dict[str, str]:
    weights = [each for layer in layers for each in layer.weights]
    is_varied = [bool(layer.neuron.arrays) for layer in network.layers if layer.neuron.role == "spiking"]
    has_wiring = any(layer.wiring is not None for layer in layers)
    conditions = {
        "quantize": any(each.uses("SEN_USES_INT8") for each in weights),
        "nonzero": has_wiring or any(each.uses("SEN_USES_EVENTS") for each in weights),
        "integrate": not all(is_varied),
        "integrate_each": any(is_varied),
        "integrate_constant": is_varied == [False] and network.coding.is_constant and layers[0].wiring is None,
    }
    return {name: f"sen_{name}" for name, is_needed in conditions.items() if is_needed}


def _lower_layer(network: Network, index: int, arena: Arena, delays: str, share: Share) -> LoweredLayer:
    layer = network.layers[index]
    n_out, n_in = layer.weight.shape
    is_spiked, where = network.gives_spikes(index), f"layer {index}"
    # a leaky integrator with one beta is linear: it multiplies once, the weighted sum over all steps
    meets_spikes = is_spiked and not (isinstance(layer.neuron, LeakyIntegrator) and network.has_summed_readout)
    wiring: LoweredWiring | None = None
    terms: tuple[tuple[Weights, ...], ...] = ()
    members: Members = {"n_in": n_in, "n_out": n_out}
    if layer.is_instant:
        terms = _lower_terms(layer, index, meets_spikes)
        members |= {"terms": f"layer{index}_terms", "term_count": len(terms)}
    else:
        wiring = lower_wiring(layer, Place(f"layer{index}", where, is_spiked), delays, arena, share)
        members["wiring"] = f"&{wiring.symbol}"
    if layer.bias is not None:
        members["bias"] = Constant(f"layer{index}_bias", layer.bias, f"layer {index}: bias [{n_out}]")
        members["bias_dtype"] = dtype(layer.bias)
    if network.is_spiking or index < len(network.layers) - 1:  # the last layer of a perceptron writes to the caller's y
        members["out"] = arena.take(f"layer {index}: output", n_out)
    members |= lower_neuron(layer.neuron, where, n_out, arena)
    if layer.neuron.role == "readout" and network.has_summed_readout:
        members["total"] = arena.take(f"{where}: weighted inputs", n_in)
    return LoweredLayer(layer, terms, members, wiring)


def _lower_terms(layer: Layer, index: int, meets_spikes: bool) -> tuple[tuple[Weights, ...], ...]:
    operators = list(leaves(layer.weight))
    return tuple(
        lower(
            operator, Place(f"layer{index}{f'_term{t}' if len(operators) > 1 else ''}", f"layer {index}", meets_spikes)
        )
        for t, operator in enumerate(operators)
    )
