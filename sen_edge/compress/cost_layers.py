"""What a cost model is measured with: each layer of a network alone, in every form that an engine has a product for.

What a product takes depends on what it multiplies: the C library leaves out inputs that are 0, and its kernels like
some patterns of zeros better than others. So a layer gets the inputs that it has in the network, and its zeros are
where they do least harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sen_edge.compress.moments import sensitivities
from sen_edge.compress.patterns import Pattern
from sen_edge.compress.quadratic import Quadratic
from sen_edge.errors import DataError, UsageError
from sen_edge.passes.materialize import precompute
from sen_edge.passes.quantize import to_int8_weights
from sen_edge.passes.sparse_layout import BLOCKS
from sen_runtime import reference
from sen_runtime.ir.network import Identity, Layer, Lif, Network
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, WeightOperator

FloatArray = NDArray[np.float32]
#: Form and dtype.
Product = tuple[str, str]

#: Forms of a product: those of `Sparse` weights go by their blocks.
FORMS = ("dense", "low-rank", *(f"{rows}x{columns}" for rows, columns in BLOCKS))
DTYPES = ("float32", "int8")
#: Products that engines have. Others are dense ones there, zeros written out; and what onnxruntime can compute from
#: weights alone, such as their values from int8, it computes when it loads.
PRODUCTS: dict[str, tuple[Product, ...]] = {
    "native": tuple(product(FORMS, DTYPES)),
    "onnxruntime": (("dense", "float32"), ("low-rank", "float32")),
    "litert": (*product(("dense", "low-rank"), DTYPES), ("1x4", "float32")),
}
#: Of the inputs that are given, so many say how active each layer is, and so many are measured with.
SAMPLES, ROWS = 256, 8
#: Least and greatest density of sparse weights.
DENSITIES = (0.01, 0.5)


@dataclass(frozen=True, eq=False)
class Place:
    """A layer, or all layers of one shape that are multiplied alike.

    Attributes:
        layer: the first of them.
        timesteps: T where it is multiplied with spikes, in every step; 0 where once for an inference.
        x: what arrives there, `[rows, n_in]`, or spikes `[rows, T, n_in]`.
        energy: `[n_out, n_in]`, what the variance of the network's outputs owes to each synapse alone.
    """

    layer: Layer
    timesteps: int
    x: FloatArray
    energy: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int]:
        """`(n_out, n_in)`."""
        return self.layer.weight.shape

    @property
    def per_step(self) -> bool:
        """Whether it is multiplied in every time step."""
        return self.timesteps > 0

    @property
    def name(self) -> str:
        """What tells it from the other places of a network."""
        return f"{self.shape[0]}x{self.shape[1]}{' per step' if self.per_step else ''}"

    def network(self, weight: WeightOperator) -> Network:
        """Such a layer alone, with other weights: of its first neurons, or of all."""
        bias = None if self.layer.bias is None else self.layer.bias[: weight.shape[0]]
        if self.per_step:
            return Network((Layer(weight, bias, self.layer.neuron),), self.timesteps, "spikes", "spike_count")
        return Network((Layer(weight, bias, Identity()),))

    def idle(self) -> Network:
        """The same without a product to speak of: one input."""
        rows = self.shape[0] if self.per_step else 1
        return self.network(Dense(np.zeros((rows, 1), np.float32)))

    def weights(self, form: str, n_sizes: int, rng: np.random.Generator) -> list[WeightOperator]:
        """Weights of a form in some sizes: dense for the first neurons, factors up to the rank that saves nothing."""
        n_out, n_in = self.shape
        # Sizes are powers of two: in between some kernels are as slow as for the next of them, or slower.
        if form == "low-rank":
            ranks = np.geomspace(1, max(1, n_out * n_in // (n_out + n_in)), n_sizes)
            return [factors(n_out, n_in, rank, rng) for rank in sorted({1 << int(np.log2(rank)) for rank in ranks})]
        w = self.layer.weight.to_dense()
        if form == "dense":
            bits = (n_out - 1).bit_length()
            return [*(Dense(w[: 1 << k]) for k in range(max(0, bits - n_sizes + 1), bits)), Dense(w)]
        pattern, found = Pattern.parse(form), {}
        for density in np.geomspace(*DENSITIES, n_sizes):
            kept = max(round(density * w.size), pattern.block[0] * pattern.block[1])
            sparse = Sparse.from_dense(np.where(pattern.select(self.energy, kept), w, np.float32(0)), pattern.block)
            if sparse.macs:  # else its neurons are dead, and engines refuse weights without a value
                found[sparse.macs] = sparse
        return list(found.values())


@dataclass(frozen=True, eq=False)
class Point:
    """What a network of one layer stands for.

    Attributes:
        place: of the layer.
        form: of its weights, one of `FORMS`.
        dtype: of them, one of `DTYPES`.
        macs: multiply-accumulates of one product.
    """

    place: Place
    form: str
    dtype: str
    macs: int

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{self.place.name} {self.form} {self.dtype} {self.macs}"


def places(network: Network, x: FloatArray, seed: int) -> list[Place]:
    """The distinct places of a network of dense weights, for its inputs `x [rows, n_in]` or `[rows, T, n_in]`."""
    inputs, _ = reference.layer_inputs(network, x)
    outputs = sensitivities(network, x, seed)
    alike: dict[tuple[tuple[int, int], bool], list[int]] = {}
    for index, layer in enumerate(network.layers):
        alike.setdefault((layer.weight.shape, is_per_step(network, index)), []).append(index)
    found = []
    for (_, per_step), indices in alike.items():
        layer, arrived = network.layers[indices[0]], np.concatenate([inputs[index] for index in indices])
        weight = layer.weight.to_dense().astype(np.float64)
        problem = Quadratic.of(weight, arrived.var(axis=0, dtype=np.float64), np.diag(outputs[indices[0]]))
        if per_step:
            arrived = np.concatenate([_trains(inputs[index], network.timesteps) for index in indices])
        timesteps = network.timesteps if per_step else 0
        found.append(Place(layer, timesteps, some(arrived, ROWS), problem.weight**2))
    return found


def _trains(x: FloatArray, timesteps: int) -> FloatArray:
    """Spikes `[rows, T, n]` of `[T * rows, n]`, whose first rows are those of the first step."""
    return x.reshape(timesteps, -1, x.shape[-1]).swapaxes(0, 1)


def is_per_step(network: Network, index: int) -> bool:
    """Whether a layer is multiplied in every time step, with spikes: not a constant input, and not a linear readout."""
    return isinstance(network.layers[index].neuron, Lif) and (index > 0 or network.input_coding == "spikes")


def points(
    found: Sequence[Place], products: Sequence[Product], n_sizes: int, rng: np.random.Generator
) -> Iterator[tuple[Point, Network]]:
    """Every place with every product in some sizes, as a network of one layer."""
    for place in found:
        for form, dtype in products:
            for weight in place.weights(form, n_sizes, rng):
                alone = place.network(weight)
                network = alone if dtype == "float32" else to_int8_weights(alone)
                yield Point(place, form, dtype, weight.macs), network


def factors(n_out: int, n_in: int, rank: int, rng: np.random.Generator) -> LowRank:
    """Random factors whose products are about as large as their inputs."""
    left = rng.standard_normal((n_out, rank), np.float32) / np.float32(rank**0.5)
    right = rng.standard_normal((rank, n_in), np.float32) / np.float32(n_in**0.5)
    return LowRank(left, right)


def written_out(network: Network) -> Network:
    """The network with dense float32 weights, whatever stands for them."""
    computed = precompute(network)
    return replace(computed, layers=tuple(replace(one, weight=Dense(one.weight.to_dense())) for one in computed.layers))


def with_rank_one(network: Network, rng: np.random.Generator) -> Network:
    """The network with the least weights that every engine has a product for."""
    layers = [replace(layer, weight=factors(*layer.weight.shape, 1, rng)) for layer in network.layers]
    return replace(network, layers=tuple(layers))


def neurons_alone(network: Network, count: int) -> Network:
    """So many of the network's spiking neurons, with one input between them."""
    neuron = next(layer.neuron for layer in network.layers if isinstance(layer.neuron, Lif))
    layer = Layer(Dense(np.zeros((count, 1), np.float32)), None, neuron)
    return Network((layer,), network.timesteps, readout="spike_count")


def spiking_neurons(network: Network) -> int:
    """Number of neurons that spike."""
    return sum(layer.weight.shape[0] for layer in network.layers if isinstance(layer.neuron, Lif))


def some(x: FloatArray, count: int) -> FloatArray:
    """At most so many rows of `x [rows, ...]`, evenly spread."""
    chosen: FloatArray = x[np.linspace(0, len(x) - 1, min(count, len(x))).round().astype(int)]
    return chosen


def check_inputs(network: Network, x: FloatArray) -> FloatArray:
    """Inputs in float32.

    Raises:
        NetworkError: they have another shape than the network takes.
        DataError: there are none.
    """
    reference.check_input(network, x.shape)
    if not len(x):
        raise DataError("there are no inputs to measure with", hint="one is enough; some are better")
    return np.asarray(x, np.float32)


def products_of(engine: str, forms: Sequence[str], dtypes: Sequence[str]) -> list[Product]:
    """Products of an engine among forms and dtypes, and those that it cannot do without.

    Raises:
        UsageError: no such form or dtype.
    """
    for what, names, choices in (("form", forms, FORMS), ("dtype", dtypes, DTYPES)):
        if unknown := [name for name in names if name not in choices]:
            raise UsageError(f"{what} is {unknown[0]!r}; expected some of {', '.join(choices)}")
    forms, dtypes = ("dense", "low-rank", *forms), ("float32", *dtypes)
    return [(form, dtype) for form, dtype in PRODUCTS[engine] if form in forms and dtype in dtypes]


def product_of(leaf: WeightOperator, engine: str, *, blocks: bool) -> tuple[str, str, int]:
    """Form, dtype and multiply-accumulates of what an engine multiplies for weights.

    Args:
        leaf: of a layer's weights.
        engine: that multiplies.
        blocks: whether sparse weights were exported as 1x4 blocks, for an engine that has to be told.

    Raises:
        UsageError: weights that are given by coordinates.
    """
    if isinstance(leaf, Coordinates):
        raise UsageError("latency of coordinates is not predicted", hint="precompute the network first")
    if isinstance(leaf, LowRank):
        form, stored, macs = "low-rank", leaf.left, leaf.macs
    elif isinstance(leaf, Sparse) and (blocks or engine == "native"):
        form = "1x4" if blocks else f"{leaf.block[0]}x{leaf.block[1]}"
        stored, macs = leaf.values, leaf.macs
    else:
        form, macs = "dense", leaf.shape[0] * leaf.shape[1]
        stored = next(leaf.weight_arrays())
    return form, "float32" if engine == "onnxruntime" else stored.dtype.name, macs
