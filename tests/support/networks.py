"""Random operators and networks for the tests of every engine, format and exporter."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf

import numpy as np

from sen_runtime.engines import Session
from sen_runtime.ir.delays import ConstantDelay, Delay, SpatialDelay, StoredDelay
from sen_runtime.ir.layer import Layer, Recurrence
from sen_runtime.ir.network import Network, map_weights
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, RefractoryLif, Relu
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, Sum, WeightOperator

#: Kinds of `random_operator`.
KINDS = ("coordinates", "dense", "sparse", "blocks", "low_rank", "sum", "nested_sum")
#: Block sizes that "blocks" draws from; most do not divide most shapes.
BLOCKS = ((1, 4), (16, 1), (2, 3), (4, 4))


def random_operator(
    rng: np.random.Generator, n_out: int, n_in: int, kind: str, dtype: type[np.floating] = np.float32
) -> WeightOperator:
    """Weights of order 1 / sqrt(n_in), so that activations neither die nor explode."""

    def normal(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * n_in**-0.5).astype(dtype)

    if kind == "coordinates":
        return _coordinates(rng, n_out, n_in, dtype)
    if kind == "dense":
        return Dense(normal(n_out, n_in))
    if kind in ("sparse", "blocks"):
        block = (1, 1) if kind == "sparse" else BLOCKS[rng.integers(len(BLOCKS))]
        kept = rng.random((-(-n_out // block[0]), -(-n_in // block[1]))) < 0.4
        mask = np.repeat(np.repeat(kept, block[0], axis=0), block[1], axis=1)[:n_out, :n_in]
        return Sparse.from_dense(normal(n_out, n_in) * mask.astype(dtype), block)
    if kind == "low_rank":
        rank = int(rng.integers(1, 4))
        return LowRank(normal(n_out, rank), normal(rank, n_in))
    left = "low_rank" if kind == "sum" else "sum"
    return Sum(random_operator(rng, n_out, n_in, left, dtype), random_operator(rng, n_out, n_in, "sparse", dtype))


def _coordinates(rng: np.random.Generator, n_out: int, n_in: int, dtype: type[np.floating]) -> Coordinates:
    """Two clouds on parallel planes at distance 2: no two neurons coincide, in float16 neither."""
    d = int(rng.integers(1, 5))
    source, target = rng.uniform(-1, 1, (n_in, d)), rng.uniform(-1, 1, (n_out, d))
    source[:, -1], target[:, -1] = 0, 2
    source, target = source.astype(dtype), target.astype(dtype)
    return Coordinates(
        source,
        target,
        rng.uniform(-1, 1, n_in).astype(dtype),
        gain=float(rng.uniform(1, 3)) * n_in**-0.5,
        exponent=float(rng.choice([1.0, 1.5, 2.0])),
        min_distance=float(rng.choice([0.0, 0.01])),
        max_distance=radius(source, target, rng.uniform(0.3, 0.9)) if rng.random() < 0.5 else inf,
    )


def radius(source: np.ndarray, target: np.ndarray, quantile: float) -> float:
    """About this quantile of the distances, in the widest gap thereabouts: no engine's rounding decides a pair.

    Infinite where all distances are much the same.
    """
    differences = target.astype(np.float64)[:, None] - source.astype(np.float64)
    distances = np.sort(np.sqrt((differences**2).sum(-1)), axis=None)
    at = int(quantile * (len(distances) - 1))
    near = distances[max(0, at - 10) : at + 11]
    if len(near) < 2 or np.max(np.diff(near)) < 1e-5:
        return inf
    widest = int(np.argmax(np.diff(near)))
    return float((near[widest] + near[widest + 1]) / 2)


def random_network(
    rng: np.random.Generator,
    *,
    spiking: bool = False,
    kinds: tuple[str, ...] = KINDS,
    sizes: tuple[int, ...] | None = None,
    timesteps: int = 5,
    input_coding: str = "direct",
    readout: str = "mean_membrane",
    reset: str = "subtract",
    reset_delay: bool = True,
    dtype: type[np.floating] = np.float32,
    metadata: dict[str, str] | None = None,
) -> Network:
    """A network whose layers draw their operator from `kinds`, with and without biases.

    Args:
        rng: source of everything random.
        spiking: whether neurons spike; `timesteps`, `input_coding`, `readout`, `reset` and `reset_delay` are of
            such networks.
        kinds: of `random_operator`.
        sizes: neurons per layer, input first; drawn if None: 1 to 3 layers of 1 to 20 neurons.
        timesteps: steps T.
        input_coding: "direct" or "spikes".
        readout: "mean_membrane", "last_membrane" or "spike_count".
        reset: "subtract" or "zero".
        reset_delay: of `Lif`.
        dtype: np.float32 or np.float16 storage.
        metadata: of the network.
    """
    if sizes is None:
        sizes = tuple(int(n) for n in rng.integers(1, 21, rng.integers(2, 5)))
    layers = []
    for index, (n_in, n_out) in enumerate(pairwise(sizes)):
        last = index == len(sizes) - 2
        if not spiking:
            neuron = Identity() if last else Relu()
        elif last and readout != "spike_count":
            neuron = LeakyIntegrator(float(rng.uniform(0.5, 1)))
        else:
            neuron = Lif(float(rng.uniform(0.5, 1)), float(rng.uniform(0.2, 0.6)), reset, reset_delay)
        weight = random_operator(rng, n_out, n_in, str(rng.choice(kinds)), dtype)
        bias = rng.normal(0, 0.3, n_out).astype(dtype) if rng.random() < 0.7 else None
        layers.append(Layer(weight, bias, neuron))
    if not spiking:
        return Network(tuple(layers), metadata=metadata or {})
    return Network(tuple(layers), timesteps, input_coding, readout, metadata or {})


def by_source(network: Network) -> Network:
    """The network, with its sparse weights by source."""
    return map_weights(network, lambda leaf: replace(leaf, order="sources") if isinstance(leaf, Sparse) else leaf)


def random_input(rng: np.random.Generator, network: Network, batch: int = 3) -> np.ndarray:
    """`[batch, n_in]` float32, or `[batch, T, n_in]` spikes, as the network takes them."""
    if network.input_coding == "spikes":
        return (rng.random((batch, network.timesteps, network.n_in)) < 0.5).astype(np.float32)
    return rng.uniform(0, 1, (batch, network.n_in)).astype(np.float32)


def read_out(network: Network, steps: Sequence[np.ndarray]) -> np.ndarray:
    """Readout of the outputs of all time steps."""
    if network.readout == "last_membrane":
        return steps[-1]
    return (np.mean if network.readout == "mean_membrane" else np.sum)(steps, axis=0)


def stream(session: Session, network: Network, x: np.ndarray) -> np.ndarray:
    """Readout of one input that is fed step by step."""
    session.reset()
    return read_out(network, [session.step(x[t] if x.ndim == 2 else x) for t in range(network.timesteps)])


def exact_wired_network(
    rng: np.random.Generator,
    sizes: tuple[int, ...] = (7, 6, 3),
    readout: str | None = None,
    coding: str | None = None,
) -> Network:
    """A spiking network of 8 steps with delays, recurrence and synaptic currents, whose values float32 holds exactly.

    Numbers are multiples of 1/4, decays 1/2, so sums are the same in any order and with fused operations. Types of
    weights and delays and neurons are drawn, and coding and readout if None.
    """
    readout = readout or str(rng.choice(["spike_count", "mean_membrane", "last_membrane"]))
    layers = []
    for index, (n_in, n_out) in enumerate(pairwise(sizes)):
        is_last = index == len(sizes) - 2
        refractory, plain = (
            RefractoryLif(0.5, 0.5),
            Lif(0.5, 0.5, str(rng.choice(["zero", "subtract"])), bool(rng.integers(2))),
        )
        neuron = LeakyIntegrator(0.5) if is_last and readout != "spike_count" else (plain, refractory)[rng.integers(2)]
        synapse = float(rng.choice([0.0, 0.5]))
        delay = None if rng.random() < 0.2 else random_delay(rng, n_out, n_in)
        has_recurrence = neuron.role == "spiking" and rng.random() < 0.7
        # int8 weights of other layers multiply inputs that are rounded
        is_int8 = bool(delay or synapse or has_recurrence) and rng.random() < 0.4
        recurrent = None
        if has_recurrence:
            own = _quarters(rng, n_out, n_out, is_int8=is_int8)
            recurrent = Recurrence(own, random_delay(rng, n_out, n_out, 1))
        weight = _quarters(rng, n_out, n_in, is_int8=is_int8)
        bias = rng.integers(-2, 3, n_out).astype(np.float32) / 4 if rng.random() < 0.5 else None
        layers.append(Layer(weight, bias, neuron, delay=delay, recurrent=recurrent, synapse=synapse))
    coding = coding or str(rng.choice(["direct", "spikes", "current"]))
    decay = 0.5 if readout == "mean_membrane" and rng.random() < 0.5 else 1.0
    return Network(tuple(layers), 8, coding, readout, readout_decay=decay)


def _quarters(rng: np.random.Generator, n_out: int, n_in: int, *, is_int8: bool) -> WeightOperator:
    steps = rng.integers(-4, 5, (n_out, n_in))
    if is_int8:
        return Dense(steps.astype(np.int8), np.full(n_out if rng.random() < 0.8 else 1, 0.25, np.float32))
    dense = (steps / 4).astype(rng.choice([np.float32, np.float16]))
    if rng.random() < 0.7:
        return Dense(dense)
    kept = rng.random((n_out, n_in)) < rng.choice([0.3, 0.9])  # in lists, and not
    sparse = Sparse.from_dense(dense * kept.astype(dense.dtype), (1, 1))
    return replace(sparse, order=str(rng.choice(["rows", "sources"])))


def random_delay(rng: np.random.Generator, n_out: int, n_in: int, shortest: int = 0) -> Delay:
    """Delays of any kind from `shortest` steps on, few of them longer than 8."""
    kind = rng.choice(["constant", "stored", "long", "error", "clamp", "wrap"])
    if kind == "constant":
        return ConstantDelay(shortest + int(rng.integers(5)))
    if kind in ("stored", "long"):
        steps = rng.integers(shortest, 7, (n_out, n_in))
        steps[0, 0] = 300 if kind == "long" else 9
        return StoredDelay(steps.astype(np.uint16 if kind == "long" else np.uint8))
    d = int(rng.integers(1, 5))
    source, target = (rng.normal(size=(n, d)).astype(np.float32) for n in (n_in, n_out))
    limit = {"error": 99, "clamp": 4, "wrap": 3}[kind]
    return SpatialDelay(source, target, 1.5, 0.01, limit, str(kind), shortest)
