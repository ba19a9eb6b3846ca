"""Networks that `arm.py` measures: random ones in three sizes, and the shipped ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from networks import dense, normal, perceptron, sparse
from numpy.typing import NDArray

import sen_edge
from sen_edge.data import mnist
from sen_edge.errors import DataError
from sen_edge.passes.materialize import materialize
from sen_edge.passes.quantize import to_float16, to_int8, to_int8_weights
from sen_runtime.data import TEST, TRAINING
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import LeakyIntegrator, Lif
from sen_runtime.ir.operators import Coordinates, Dense, LowRank, Sparse, WeightOperator

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests is not an installed package

from tests.arm.host import drawn  # noqa: E402

FloatArray = NDArray[np.float32]

CHECKPOINTS = ROOT / "examples/checkpoints"
#: Size of the shipped networks, and of the small ones.
SHIPPED, SMALL = "784-512-10", "64-48-10"
#: Calls per measurement by size, a multiple of the inputs.
CALLS = {SHIPPED: 10, SMALL: 64, "784-512-256-10": 8, "4096-4096-10": 4}
#: Inputs, and images of MNIST as the study of the goals has them.
ROWS, MNIST_ROWS, CALIBRATION = 4, 10, 512
#: Goals of the shipped networks in instructions, on a Cortex-A72 and on a Cortex-A76.
GOALS = {
    "dense float32": (35_000, 35_000),
    "int8 weights": (30_000, 18_000),
    "full int8": (27_000, 16_000),
    "unstructured 90% float32": (35_000, 35_000),
    "unstructured 90% float32, in place": (85_000, 85_000),
    "16x1 blocks 90% float32": (22_000, 22_000),
    "rank 32 float32": (16_000, 16_000),
    "rank 32 int8": (14_000, 8_000),
    "spiking, T = 10": (45_000, 45_000),
}


@dataclass(frozen=True)
class Form:
    """A network, and how it is run.

    Attributes:
        name: in the table.
        network: to export.
        formats: of the files, in addition to the native one.
        options: of the native engine.
        batch: rows of the batches that are also measured, with noise; 0 for none.
    """

    name: str
    network: Network
    formats: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 0


@dataclass(frozen=True)
class Suite:
    """Networks of one size.

    Attributes:
        inputs: `[rows, n_in]` by kind.
    """

    size: str
    forms: Iterator[Form]
    inputs: Mapping[str, FloatArray]


def suite(size: str) -> Suite:
    """Return the networks of a size; of the shipped one with strokes where MNIST is missing."""
    n_in = int(size.split("-", maxsplit=1)[0])
    calibration = strokes(np.random.default_rng(1), 64, n_in)
    inputs = {"strokes": strokes(np.random.default_rng(2), ROWS, n_in), "noise": noise(ROWS, n_in)}
    if size != SHIPPED:
        return Suite(size, random_forms(size, calibration), inputs)
    try:
        folder = mnist.locate()
        calibration = mnist.read(folder, TRAINING).inputs[:CALIBRATION]
        inputs = {"MNIST": mnist.read(folder, TEST).inputs[:MNIST_ROWS]}
    except DataError as error:
        print(f"strokes are the inputs: {error.message}", file=sys.stderr)
        del inputs["noise"]
    return Suite(size, shipped_forms(calibration), inputs)


def strokes(rng: np.random.Generator, rows: int, n_in: int) -> FloatArray:
    """Draw images `[rows, n_in]` with lines, of which most pixels are 0."""
    return drawn(rng, rows, n_in).astype(np.float32)


def noise(rows: int, n_in: int) -> FloatArray:
    """Draw inputs `[rows, n_in]` without zeros."""
    return (0.1 + 0.9 * np.random.default_rng(2).random((rows, n_in))).astype(np.float32)


def low_rank(rng: np.random.Generator, n_out: int, n_in: int, rank: int) -> Dense | LowRank:
    """Draw factors of this rank; a dense matrix if that has fewer weights."""
    if rank * (n_in + n_out) >= n_in * n_out:
        return dense(rng, n_out, n_in)
    return LowRank(normal(rng, n_out, rank), normal(rng, rank, n_in))


def coordinates(rng: np.random.Generator, n_out: int, n_in: int) -> Coordinates:
    """Draw positions in three dimensions, on two planes."""
    source, target = (2 * rng.random((n, 3), np.float32) - 1 for n in (n_in, n_out))
    source[:, 2], target[:, 2] = 0, 2
    return Coordinates(source, target, 2 * rng.random(n_in, np.float32) - 1, gain=4 * n_in**-0.5)


def spiking(rng: np.random.Generator, sizes: tuple[int, ...], steps: int) -> Network:
    """Draw a network in which about one neuron in eight spikes per step."""
    layers = [
        Layer(Dense(np.float32(1.3) * normal(rng, n_out, n_in)), None, Lif(beta=0.9, threshold=1.0))
        for n_in, n_out in pairwise(sizes[:-1])
    ]
    last = Layer(Dense(normal(rng, sizes[-1], sizes[-2])), None, LeakyIntegrator(0.9))
    return Network((*layers, last), steps)


def random_forms(size: str, calibration: FloatArray) -> Iterator[Form]:
    """Yield all forms of a network with random weights; `calibration [n, n_in]` for int8."""
    sizes = tuple(map(int, size.split("-")))
    rng = np.random.default_rng(0)
    whole = perceptron(rng, sizes, dense)
    yield Form("dense float32", whole, ("tflite", "onnx"), batch=64)
    yield Form("dense float16", to_float16(whole), ("tflite", "onnx"))
    yield Form("int8 weights", to_int8_weights(whole), ("tflite",), batch=64)
    yield Form("full int8", to_int8(whole, calibration), ("tflite",))
    for density in (0.5, 0.2, 0.1, 0.05):
        name = f"unstructured {1 - density:.0%}"
        network = perceptron(rng, sizes, partial(sparse, density=density, block=(1, 1)))
        yield Form(f"{name} float32", network, batch=64 if density == 0.1 else 0)
        yield Form(f"{name} int8", to_int8_weights(network), batch=64 if density == 0.1 else 0)
    for block in ((16, 1), (1, 4)):
        name = f"{block[0]}x{block[1]} blocks 90%"
        network = perceptron(rng, sizes, partial(sparse, density=0.1, block=block))
        yield Form(f"{name} float32", network, batch=64)
        yield Form(f"{name} int8", to_int8_weights(network), batch=64)
    for rank in (8, 16, 32, 64):
        network = perceptron(rng, sizes, partial(low_rank, rank=rank))
        yield Form(f"rank {rank} float32", network, ("tflite", "onnx"))
        yield Form(f"rank {rank} int8", to_int8_weights(network), ("tflite",))
    yield Form("coordinates", perceptron(rng, sizes, coordinates), options={"expand": False})
    for steps in (10, 25):
        yield Form(f"spiking, T = {steps}", spiking(rng, sizes, steps), ("tflite", "onnx"))


def shipped_forms(calibration: FloatArray) -> Iterator[Form]:
    """Yield the shipped networks, the first layer compressed in one step; `calibration [n, n_in]` for that and int8."""
    whole = materialize(sen_edge.load(CHECKPOINTS / "mnist-mlp-d32-e6.pt").network)
    yield Form("dense float32", whole, ("tflite", "onnx"))
    yield Form("int8 weights", to_int8_weights(whole), ("tflite",))
    yield Form("full int8", to_int8(whole, calibration), ("tflite",))
    first, scale = whole.layers[0], np.sqrt(np.mean(calibration**2, axis=0)) + np.float32(1e-3)
    w = first.weight.to_dense()

    def compressed(weight: WeightOperator) -> Network:
        return replace(whole, layers=(replace(first, weight=weight), *whole.layers[1:]))

    pruned = compressed(Sparse.from_dense(prune(w, scale, (1, 1)), (1, 1)))
    yield Form("unstructured 90% float32", pruned)
    by_source = compressed(replace(pruned.layers[0].weight, order="sources"))
    yield Form("unstructured 90% float32, in place", by_source, options={"pack": False})
    yield Form("16x1 blocks 90% float32", compressed(Sparse.from_dense(prune(w, scale, (16, 1)), (16, 1))))
    u, s, v = np.linalg.svd(w * scale, full_matrices=False)
    factors = compressed(LowRank(u[:, :32] * s[:32], (v[:32] / scale).astype(np.float32)))
    yield Form("rank 32 float32", factors, ("tflite", "onnx"))
    yield Form("rank 32 int8", to_int8_weights(factors), ("tflite",))
    snn = materialize(sen_edge.load(CHECKPOINTS / "mnist-snn-d32-e6.pt").network)
    yield Form("spiking, T = 10", snn, ("tflite", "onnx"))


def prune(w: FloatArray, scale: FloatArray, block: tuple[int, int], density: float = 0.1) -> FloatArray:
    """Keep the blocks of `w [n_out, n_in]` with the most energy for inputs of this RMS `scale [n_in]`."""
    n_out, n_in = w.shape
    grid = (n_out // block[0], block[0], n_in // block[1], block[1])
    energy = np.square(w * scale).reshape(grid).sum(axis=(1, 3))
    kept = energy >= np.quantile(energy, 1 - density)
    return w * np.kron(kept, np.ones(block, np.float32))
