"""Networks that `instructions.py` measures: the shipped ones, and random ones in two shapes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from networks import Hidden, dense, normal, perceptron, sparse
from numpy.typing import NDArray
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

import sen_edge
from sen_edge.data.calibration import load_calibration
from sen_edge.data.datasets import load_test
from sen_edge.errors import DataError
from sen_edge.passes.materialize import materialize
from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Coordinates, Dense, LowRank

FloatArray = NDArray[np.float32]

ROOT = Path(__file__).parents[1]
CHECKPOINTS = ROOT / "examples/checkpoints"
#: Images that are counted, and for calibration; side of a digit, and of an image.
IMAGES, CALIBRATION, DIGIT, SIDE = 10, 128, 20, 28
#: Strokes are cut off below this brightness: 17 % of the pixels are not 0, as in MNIST.
DARK = 0.5
#: Inputs of random networks.
ROWS, NOISE_CALIBRATION = 2, 64
SMALL, TALL, AUTOENCODER = (64, 48, 10), (784, 512, 256, 10), (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)
STROKES, MNIST, NOISE = "784-512-10, digits", "784-512-10, MNIST", "784-512-256-10, no zeros"
POSITIONS, ANOMALY = "64-48-10", "640-128x4-8-128x4-640"
#: Share of hidden neurons that are not 0, as in the shipped network.
ACTIVE = 0.35
#: Rank of the factors of the autoencoder.
ANOMALY_RANK = 16


@dataclass(frozen=True)
class Form:
    """Form of a network.

    Attributes:
        shape: of the network, and kind of the inputs.
        name: of the form and its type.
        inputs: `[rows, n_in]`.
    """

    shape: str
    name: str
    network: Network
    inputs: FloatArray

    @property
    def is_integer(self) -> bool:
        """Whether activations are int8."""
        return self.network.input_grid is not None


def forms() -> Iterator[Form]:
    """Yield all forms: those of the shipped network first."""
    images, calibration = np.split(digits(IMAGES + CALIBRATION), [IMAGES])
    yield from _typed(STROKES, _shipped(calibration), images, calibration)
    if mnist := _mnist():
        for name, network in _shipped(mnist[1]).items():
            yield Form(MNIST, f"{name}, int8", to_int8(network, mnist[1]), mnist[0])
    spiking = materialize(sen_edge.load(CHECKPOINTS / "mnist-snn-d32-e6.pt").network)
    yield Form(STROKES, "spiking, T = 10, float32", spiking, images)
    yield Form(STROKES, "spiking, T = 10, int8", to_int8(spiking, calibration), images)
    rng = np.random.default_rng(0)
    noise = rng.uniform(-1, 1, (NOISE_CALIBRATION, TALL[0])).astype(np.float32)
    whole = perceptron(rng, TALL, dense)
    whole = _quiet(whole, noise)
    yield Form(NOISE, "dense, int8", to_int8(whole, noise), noise[:ROWS])
    yield Form(NOISE, "dense, int8 weights", to_int8_weights(whole), noise[:ROWS])
    positions = perceptron(rng, SMALL, _coordinates)
    yield Form(POSITIONS, "coordinates, float32", positions, rng.random((1, SMALL[0]), np.float32))
    samples = rng.standard_normal((NOISE_CALIBRATION, AUTOENCODER[0]), np.float32)
    for name, hidden in (
        ("dense", dense),
        (f"rank {ANOMALY_RANK}", _low_rank),
        ("1x4 blocks, 90 %", partial(sparse, block=(1, 4))),
    ):
        network = _autoencoder(rng, hidden)
        yield Form(ANOMALY, f"{name}, int8", to_int8(network, samples), samples[:ROWS])


def digits(count: int) -> FloatArray:
    """First digits of scikit-learn as images `[count, 784]` as of MNIST, in steps of 1/255, at random places."""
    rng = np.random.default_rng(0)
    images = np.zeros((count, SIDE, SIDE), np.float32)
    for image, small in zip(images, load_digits().images / 16, strict=False):
        strokes = (zoom(small, DIGIT / len(small), order=1) - DARK).clip(0) / (1 - DARK)
        row, column = rng.integers(0, SIDE - DIGIT + 1, 2)
        image[row : row + DIGIT, column : column + DIGIT] = np.rint(255 * strokes)
    return images.reshape(len(images), -1) / np.float32(255)


def _mnist() -> tuple[FloatArray, FloatArray] | None:
    """Test and training images of MNIST, as many as digits; None where it is not on this machine."""
    network = sen_edge.load(CHECKPOINTS / "mnist-mlp-d32-e6.pt").network
    try:
        images = load_test("mnist", None, network).inputs[:IMAGES]
        return np.asarray(images), load_calibration("mnist", None, network, CALIBRATION).inputs
    except DataError:
        return None


def _shipped(calibration: FloatArray) -> dict[str, Network]:
    """Dense and compressed forms of the shipped perceptron, by name."""
    model = sen_edge.load(CHECKPOINTS / "mnist-mlp-d32-e6.pt")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "calibration.npz")
        np.savez(path, x=calibration)
        compress = partial(sen_edge.compress, model, calibration=path)
        return {
            "dense": materialize(model.network),
            "rank 32": compress(rank=32).network,
            "1x4 blocks, 90 %": compress(sparsity=0.9, pattern="1x4").network,
            "unstructured, 90 %": compress(sparsity=0.9).network,
        }


def _typed(shape: str, networks: dict[str, Network], inputs: FloatArray, calibration: FloatArray) -> Iterator[Form]:
    yield Form(shape, "dense, int4", to_int8(networks["dense"], calibration, bits=4), inputs)
    for name, network in networks.items():
        yield Form(shape, f"{name}, int8", to_int8(network, calibration), inputs)
    for name, network in networks.items():
        yield Form(shape, f"{name}, int8 weights", to_int8_weights(network), inputs)
    for name, network in networks.items():
        yield Form(shape, f"{name}, float32", network, inputs)


def _quiet(network: Network, inputs: FloatArray) -> Network:
    """The same with biases such that `ACTIVE` of the hidden neurons are not 0."""
    layers, x = [], inputs
    for layer in network.layers[:-1]:
        sums = x @ layer.weight.to_dense().T
        bias = np.full(sums.shape[1], -np.quantile(sums, 1 - ACTIVE), np.float32)
        layers.append(replace(layer, bias=bias))
        x = (sums + bias).clip(0)
    return replace(network, layers=(*layers, network.layers[-1]))


def _autoencoder(rng: np.random.Generator, kind: Hidden) -> Network:
    """All layers with weights from `kind(rng, n_out, n_in)`."""
    whole = perceptron(rng, AUTOENCODER, kind)
    last = whole.layers[-1]
    return replace(whole, layers=(*whole.layers[:-1], replace(last, weight=kind(rng, *last.weight.shape))))


def _coordinates(rng: np.random.Generator, n_out: int, n_in: int) -> Coordinates:
    source, target = (2 * rng.random((n, 3), np.float32) - 1 for n in (n_in, n_out))
    source[:, 2], target[:, 2] = 0, 2  # two planes, so that no two neurons coincide
    return Coordinates(source, target, 2 * rng.random(n_in, np.float32) - 1, gain=4 * n_in**-0.5, exponent=2.0)


def _low_rank(rng: np.random.Generator, n_out: int, n_in: int) -> Dense | LowRank:
    if ANOMALY_RANK * (n_in + n_out) >= n_in * n_out:
        return dense(rng, n_out, n_in)
    return LowRank(normal(rng, n_out, ANOMALY_RANK), normal(rng, ANOMALY_RANK, n_in))
