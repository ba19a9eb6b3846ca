"""Networks that cover all weight forms of exported C."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from sen_edge.passes.quantize import to_float16, to_int8, to_int8_weights
from sen_exporters.c.exporter import CExporter, COptions
from sen_runtime.ir.delays import ConstantDelay, SpatialDelay, StoredDelay
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import OUTPUT_ACTIVATIONS, Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, WeightOperator
from tests.exporters.test_neuron_parameters import make
from tests.support.networks import KINDS, exact_wired_network, random_input, random_network, random_operator
from tests.support.scalings import scaled

STORAGES: dict[str, Callable[[Network], Network]] = {
    "float32": lambda network: network,
    "float16": to_float16,
    "int8": to_int8_weights,
}
#: Seeds of small networks with delays, recurrent synapses and int8 weights.
DELAYED = (10, 12)
#: Inputs, and neurons of each layer: small enough for the 8 KB of RAM of an ATmega2560.
N_IN, WIDTH = 12, 8


def write(network: Network, name: str, folder: Path, weights: str = "array") -> Path:
    """Export a network; the folder `folder/name` with the C files."""
    return CExporter().export(network, COptions(name=name, weights=weights)).write(folder).parent


def sources(folder: Path) -> list[Path]:
    """C and assembly files of an export."""
    return [*sorted(folder.glob("*.c")), *sorted(folder.glob("*.S"))]


def every_form() -> dict[str, Network]:
    """A perceptron, a spiking network, an int8 network whose sums exceed 16 bits, scaling, and coded inputs."""
    rng = np.random.default_rng(0)

    def sparse(block: tuple[int, int]) -> Sparse:
        kept = rng.random((WIDTH, WIDTH)) < 0.7
        return Sparse.from_dense((rng.normal(0, 0.4, (WIDTH, WIDTH)) * kept).astype(np.float32), block)

    def kind(name: str, n_in: int = WIDTH) -> WeightOperator:
        return random_operator(rng, WIDTH, n_in, name)

    perceptron: list[tuple[WeightOperator, str]] = [
        (kind("dense", N_IN), "float32"),
        (kind("dense"), "float16"),
        (kind("dense"), "int8"),
        (sparse((1, 1)), "float32"),
        (sparse((2, 3)), "float16"),
        (sparse((1, 1)), "int8"),
        (sparse((1, 4)), "int8"),
        (sparse((2, 3)), "int8"),
        (kind("low_rank"), "float32"),
        (kind("sum"), "int8"),
        (kind("coordinates"), "float32"),
        (kind("coordinates"), "float16"),
    ]
    spiking: list[tuple[WeightOperator, str]] = [
        (kind("dense", N_IN), "int8"),
        *((kind(name), storage) for name, storage in product(("dense", "sparse"), STORAGES)),
        (kind("sum"), "float32"),
        (kind("coordinates"), "float32"),
    ]
    lif = [Lif(0.9, 0.3)] * (len(spiking) - 1)
    layers = _layers(rng, spiking, [*lif, LeakyIntegrator(0.9)])
    return {
        "perceptron": Network(_layers(rng, perceptron, [Identity()] * len(perceptron))),
        "spiking": Network(layers, timesteps=4),
        "extremes": _extremes(rng),
        "softmax": _scaled("softmax"),
        "sigmoid": _scaled("sigmoid", spiking=True, readout="spike_count"),
        **{coding: _coded(coding) for coding in ("rate", "delta")},
        "integers": _integers(),
        "int4": _int4(),
        "integers_spiking": _integers(spiking=True, input_coding="spikes"),
        **{f"delays_{seed}": exact_wired_network(np.random.default_rng(seed), coding="spikes") for seed in DELAYED},
    }


def every_delay() -> list[Network]:
    """Networks with every type of weights, sums and delays, which take more RAM than small boards have."""
    rng, shape = np.random.default_rng(0), (4, 300)
    source, target = (rng.normal(size=(n, 3)).astype(np.float32) for n in shape[::-1])
    spatial = SpatialDelay(source, target, limit=9, overflow="clamp")
    stored = [StoredDelay(np.full(shape, steps, dtype)) for steps, dtype in ((1, np.uint8), (300, np.uint16))]
    int8 = [Dense(np.full(shape, value, np.int8), np.ones(1, np.float32)) for value in (1, 127)]
    pairs: list[tuple[WeightOperator, Any]] = [
        *product([Dense(rng.normal(size=shape).astype(np.float32)), *int8], [ConstantDelay(2), *stored, spatial]),
        (Coordinates(source, target, np.ones(shape[1], np.float32)), spatial),
        *((Sparse.from_dense(np.eye(*shape, dtype=np.float32)), ConstantDelay(steps)) for steps in (2, 20_000)),
    ]
    layers = [Layer(weight, None, Lif(0.9), delay=delay) for weight, delay in pairs]
    return [Network((layer,), 4, "spikes", "spike_count") for layer in layers]


def _integers(**given: Any) -> Network:
    """Every weight form of int8 activations in turn."""
    rng = np.random.default_rng(0)
    kinds = ("dense", "low_rank", "sparse", "blocks", "nested_sum")
    parts = [random_network(rng, kinds=(kind,), sizes=(WIDTH, WIDTH, WIDTH), **given) for kind in kinds]
    layers = [part.layers[0] for part in parts] + [parts[0].layers[1]]
    network = replace(parts[0], layers=tuple(layers))
    return to_int8(network, random_input(rng, network, 64))


def _int4() -> Network:
    """More than two groups of columns, and more rows than a word has."""
    rng = np.random.default_rng(0)
    network = random_network(rng, kinds=("dense",), sizes=(130, WIDTH + 1, 4))
    return to_int8(network, random_input(rng, network, 64), bits=4)


def _coded(coding: str) -> Network:
    """Inputs that become spikes, and neurons that differ."""
    network = make((N_IN, WIDTH, 4), "mean_membrane")
    return replace(network, input_coding=coding, delta=0.3 if coding == "delta" else 0.0)


def _scaled(activation: str, **given: object) -> Network:
    rng = np.random.default_rng(0)
    network = random_network(rng, kinds=("dense",), sizes=(N_IN, WIDTH, 4), metadata={"input_range": "-99 99"}, **given)
    return scaled(rng, network, activation)


def single_forms() -> dict[str, Network]:
    """One form in each, by name: a function that one of them leaves unused is a warning."""
    return {
        f"{kind}_{storage}{'_spiking' * spiking}": STORAGES[storage](
            random_network(np.random.default_rng(0), kinds=(kind,), sizes=(N_IN, WIDTH, 4), spiking=spiking)
        )
        for kind, storage, spiking in product(KINDS, STORAGES, (False, True))
        if (kind, storage) != ("coordinates", "int8")
    } | {f"{activation}_scaled": _scaled(activation) for activation in OUTPUT_ACTIVATIONS}


def _layers(
    rng: np.random.Generator, stored: Sequence[tuple[WeightOperator, str]], neurons: Sequence[Identity | Lif]
) -> tuple[Layer, ...]:
    """Layers with biases, each in its own storage."""
    found = []
    for (weight, storage), neuron in zip(stored, neurons, strict=True):
        layer = Layer(weight, rng.normal(0, 0.1, weight.shape[0]).astype(np.float32), Identity())
        converted = STORAGES[storage](Network((layer,))).layers[0]
        found.append(Layer(converted.weight, converted.bias, neuron))
    return tuple(found)


def _extremes(rng: np.random.Generator) -> Network:
    """Weights and inputs of about 127 steps: four products add up to more than 16 bits hold."""
    scale = np.full(1, 1 / (127 * WIDTH), np.float32)

    def weights(n_in: int) -> np.ndarray:
        return rng.integers(115, 128, (WIDTH, n_in)).astype(np.int8)

    blocks = Sparse.from_dense(np.ones((WIDTH, WIDTH), np.float32), (1, 4))
    values = weights(WIDTH).reshape(blocks.values.shape)
    values.ravel()[0] = -128  # which streams do not hold: sen_sparse_1x4_int8 reads it
    operators: list[WeightOperator] = [
        Dense(weights(N_IN), scale),
        Sparse(values, blocks.columns, blocks.row_starts, blocks.shape, blocks.block, scale),
        LowRank(weights(WIDTH), weights(WIDTH), scale, scale),
        Dense(weights(WIDTH), scale),
    ]
    layers = tuple(Layer(operator, None, Relu()) for operator in operators)
    return Network(layers, metadata={"input_range": "0.9 1"})
