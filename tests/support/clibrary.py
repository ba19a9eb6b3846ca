"""The C library built by CMake, and images that cover all of its kernels."""

import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from sen_edge.errors import DataError
from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_runtime import format as image
from sen_runtime.ir.delays import SpatialDelay, StoredDelay
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Relu
from sen_runtime.ir.operators import Dense, Sparse
from tests.support.networks import KINDS, by_source, exact_wired_network, random_input, random_network
from tests.support.scalings import scaled

LIBRARY = Path(__file__).parents[2] / "runtime/sen_runtime/c"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]


def compile_c(compiler: str, *arguments: object) -> None:
    done = subprocess.run([compiler, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def cmake_library(folder: Path, *settings: str) -> Path:
    """libsen.a with the kernels of every instruction set."""
    return cmake_target("sen", folder, *settings) / "libsen.a"


def cmake_target(target: str, folder: Path, *settings: str) -> Path:
    """The folder, where a target of the library's CMakeLists.txt is built without a warning."""
    build = ["cmake", "--build", folder, "-j2", "--target", target]
    for command in (["cmake", "-S", LIBRARY, "-B", folder, *settings], build):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stdout + done.stderr
    return folder


def thin_network(block: tuple[int, int]) -> Network:
    """Few weights: some kernels store them by source then. The last blocks of rows, or of 3 columns, are not whole."""
    rng = np.random.default_rng(0)
    layers = []
    for n_in, n_out in ((64, 100), (100, 85)):
        kept = rng.random((-(-n_out // block[0]), -(-n_in // block[1]))) < 0.05
        mask = np.repeat(np.repeat(kept, block[0], axis=0), block[1], axis=1)[:n_out, :n_in]
        layers.append(
            Layer(Sparse.from_dense(rng.standard_normal((n_out, n_in), np.float32) * mask, block), None, Relu())
        )
    return Network(tuple(layers))


#: Targets and the longest delay: blocks of targets whole and not, delays of one and two bytes, over 2^16 elements.
RINGS = ((16, 9), (17, 255), (33, 256), (257, 255))


def delayed_networks() -> Iterator[Network]:
    """A layer with delays of each kind, and sums of float32 and of int8."""
    rng = np.random.default_rng(0)
    for n_out, longest in RINGS:
        shape = (n_out, 2)
        source, target = (rng.standard_normal((n, 2 + n_out % 2), np.float32) for n in shape[::-1])
        steps = rng.integers(0, longest + 1, shape)
        steps[0, 0] = longest
        stored = StoredDelay(steps.astype(np.uint8 if longest < 256 else np.uint16))
        spatial = SpatialDelay(source, target, longest / 4, 0.01, longest, "clamp")
        float32 = Dense(rng.standard_normal(shape, np.float32))
        int8 = Dense(rng.integers(-127, 128, shape).astype(np.int8), np.ones(1, np.float32))
        for (weight, coding), delay in product(((float32, "direct"), (int8, "spikes")), (stored, spatial)):
            layer = Layer(weight, None, LeakyIntegrator(0.5), delay=delay)
            yield Network((layer,), longest + 4, coding, "mean_membrane")


def of_all_magnitudes(rng: np.random.Generator, network: Network) -> list[Network]:
    """The first layer of an int8 network with and without ReLU, its rows scaled so that many outputs are subnormal."""
    first = network.layers[0].weight
    assert isinstance(first, Dense | Sparse) and first.scale is not None
    factors = (10.0 ** rng.uniform(-38, 0, first.shape[0])).astype(np.float32)
    operator = replace(first, scale=first.scale * factors)
    bias = (rng.standard_normal(len(factors)) * factors).astype(np.float32)
    return [Network((Layer(operator, bias, neuron),)) for neuron in (Relu(), Identity())]


def write_comparisons(folder: Path) -> list[tuple[Path, str]]:
    """Files of images, and how far the outputs of two kernels may lie apart: int8 not at all, spikes may flip."""
    rng = np.random.default_rng(0)
    files: dict[str, list[bytes]] = {"1e-5": [], "0": [], "100": []}
    for kind in KINDS:
        for sizes in ((1, 1), (3, 2), (65, 70, 33, 5), (200, 130, 17)):
            dtype = rng.choice([np.float32, np.float16])
            files["1e-5"].append(image.dumps(random_network(rng, kinds=(kind,), sizes=sizes, dtype=dtype)))
            network = random_network(rng, kinds=(kind,), sizes=sizes)
            coding = str(rng.choice(["direct", "spikes"]))
            train = random_network(rng, spiking=True, kinds=(kind,), sizes=sizes, input_coding=coding)
            files["100"].append(image.dumps(train))
            if kind != "coordinates":
                files["0"].append(image.dumps(to_int8_weights(network)))
                files["100"].append(image.dumps(to_int8_weights(train)))
                with suppress(DataError):  # a layer that gives zeros only
                    files["0"] += [image.dumps(to_int8(each, random_input(rng, each, 32))) for each in (network, train)]
            files["1e-5"].append(image.dumps(scaled(rng, network)))
            if kind in ("dense", "sparse", "blocks"):
                files["0"] += map(image.dumps, of_all_magnitudes(rng, to_int8_weights(network)))
            if kind in ("sparse", "blocks", "sum"):
                files["1e-5"].append(image.dumps(by_source(network)))
                files["0"].append(image.dumps(by_source(to_int8_weights(network))))
                files["100"] += [image.dumps(by_source(each)) for each in (train, to_int8_weights(train))]
    for n_in in range(1, 100):  # remainders of all vectors
        files["0"].append(image.dumps(to_int8_weights(random_network(rng, kinds=("dense",), sizes=(n_in, 3)))))
    for network in map(thin_network, ((1, 1), (1, 4), (8, 1), (16, 1), (2, 3))):
        for each in (network, by_source(network)):
            files["1e-5"].append(image.dumps(each))
        for each in (to_int8_weights(network), by_source(to_int8_weights(network))):
            files["0"].append(image.dumps(each))
    for seed in range(30):  # delays
        sizes = ((7, 6, 3), (40, 23, 5))[seed % 2]
        files["0"].append(image.dumps(exact_wired_network(np.random.default_rng(seed), sizes, coding="spikes")))
    files["0"] += map(image.dumps, delayed_networks())
    written = []
    for allowed, images in files.items():
        path = folder / f"within-{allowed}"
        path.write_bytes(b"".join(struct.pack("<I", len(data)) + data for data in images))
        written.append((path, allowed))
    return written
