"""File size, load time and latency of ONNX files of every form in onnxruntime, compared with those of another version.

    python benchmarks/onnx_forms.py write NEW      # in this checkout, and with this file in another: write OLD
    python benchmarks/onnx_forms.py compare OLD NEW

One interleaved run, one thread, one input. Ratios are NEW / OLD. Exit code 3: the latency of a form is above
`MAX_RATIO` times that of the other version.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
from networks import SIZES, SPIKING_SIZES, TIMESTEPS, dense, low_rank, normal, perceptron, sparse

from sen_edge.passes.quantize import to_float16, to_int8_weights
from sen_exporters.onnx.exporter import OnnxExporter
from sen_runtime.bench.interleaved import interleaved
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from sen_runtime.ir.operators import Coordinates, Dense
from sen_runtime.ir.standardization import Standardization

MAX_RATIO = 1.05
SECONDS, ROUNDS, PIXELS = 8.0, 9, 0.2
EXPORTER = OnnxExporter()


def spatial(rng: np.random.Generator, d: int, exponent: float) -> Network:
    """Build 784-512-10 from positions."""
    sizes, positions = (784, 512, 10), []
    for index, n in enumerate(sizes):
        positions.append(rng.normal(0, 1, (n, d)).astype(np.float32))
        positions[-1][:, -1] = index
    layers = []
    for (source, target), n_in in zip(pairwise(positions), sizes, strict=False):
        mask = rng.uniform(-1, 1, n_in).astype(np.float32)
        weight = Coordinates(source, target, mask, gain=n_in**-0.5, exponent=exponent)
        layers.append(Layer(weight, rng.random(len(target), np.float32), Relu()))
    return Network((layers[0], Layer(layers[1].weight, layers[1].bias, Identity())))


def spiking(rng: np.random.Generator, reset: str) -> Network:
    """Build 784-256-10 of which about one neuron in eight spikes per step."""
    n_in, n_hidden, n_out = SPIKING_SIZES
    hidden = Layer(Dense(np.float32(1.3) * normal(rng, n_hidden, n_in)), None, Lif(0.9, 1.0, reset))
    return Network((hidden, Layer(Dense(normal(rng, n_out, n_hidden)), None, LeakyIntegrator(0.9))), TIMESTEPS)


def networks(rng: np.random.Generator) -> dict[str, tuple[Network, dict[str, str]]]:
    """Build a network, and choose options, for each form."""
    whole, factors = perceptron(rng, SIZES, dense), perceptron(rng, SIZES, low_rank)
    blocks = {block: perceptron(rng, SIZES, partial(sparse, block=block)) for block in ((1, 1), (1, 4), (16, 1))}
    scaling = Standardization(rng.random(SIZES[0], np.float32), rng.random(SIZES[0], np.float32) + np.float32(0.5))
    plain = {
        "dense": whole,
        "float16": to_float16(whole),
        "int8-dynamic": to_int8_weights(whole),
        "rank 32": factors,
        "sparse 90 %": blocks[1, 1],
        "sparse 90 %, float16": to_float16(blocks[1, 1]),
        "sparse 90 %, int8-dynamic": to_int8_weights(blocks[1, 1]),
        "1x4 blocks": blocks[1, 4],
        "16x1 blocks": blocks[16, 1],
        "coordinates, d = 3, e = 1": spatial(rng, 3, 1.0),
        "coordinates, d = 32, e = 6": spatial(rng, 32, 6.0),
        "preprocess node": Network(whole.layers, input_scaling=scaling),
    }
    forms: dict[str, tuple[Network, dict[str, str]]] = {name: (network, {}) for name, network in plain.items()}
    forms["sparse 90 %, zeros stored"] = (blocks[1, 1], {"sparse_format": "dense"})
    for form in ("unrolled", "scan", "step"):
        for reset in ("subtract", "zero"):
            forms[f"spiking, {form}, reset {reset}"] = (spiking(rng, reset), {"snn": form})
    return forms


def write(folder: Path) -> None:
    """Write the files of all forms."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (network, options) in networks(np.random.default_rng(0)).items():
        artifact = EXPORTER.export(network, EXPORTER.Options(**options))  # type: ignore[arg-type]  # names of forms
        (folder / f"{name}.onnx").write_bytes(artifact.main)


@dataclass
class Row:
    """Bytes of a file; of each round milliseconds of a load, median microseconds, ratio to the other version."""

    size: int
    load_ms: list[float] = field(default_factory=list)
    us: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)


def load(path: Path, row: Row) -> partial[object]:
    """Load a file; return a call of its session with one input."""
    options, rng = onnxruntime.SessionOptions(), np.random.default_rng(0)
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    row.load_ms.append(1000 * (time.perf_counter() - start))
    feeds = {each.name: np.zeros((1, each.shape[1]), np.float32) for each in session.get_inputs()}
    feeds["input"] = (rng.random((1, SIZES[0])) * (rng.random((1, SIZES[0])) < PIXELS)).astype(np.float32)
    return partial(session.run, None, feeds)


def compare(old: Path, new: Path) -> bool:
    """Print a row for each file of both folders; return whether no latency is above the limit.

    Every round loads all files again, because the latency of a session depends on where its weights are.
    """
    names = sorted(path.name for path in new.iterdir() if (old / path.name).exists())
    rows = {folder / name: Row((folder / name).stat().st_size) for name in names for folder in (old, new)}
    for number in range(ROUNDS):
        calls = {str(path): load(path, row) for path, row in rows.items()}
        measured = interleaved(calls, SECONDS, seed=number)
        for path, row in rows.items():
            row.us.append(measured.median_us(str(path)))
            row.ratios.append(measured.ratio(str(path), str(old / path.name)))
    print(f"onnxruntime {onnxruntime.__version__}")
    print("| form | bytes | before | load ms | before | us | before | ratio |\n| --- |" + " ---: |" * 7)
    for name in names:
        now, before = rows[new / name], rows[old / name]
        columns = [
            *(f"{each.size:,}" for each in (now, before)),
            *(f"{min(each.load_ms):.1f}" for each in (now, before)),
            *(f"{median(each.us):.1f}" for each in (now, before)),
            f"{median(now.ratios):.3f}",
        ]
        print(f"| {Path(name).stem} | {' | '.join(columns)} |")
    return max(median(rows[new / name].ratios) for name in names) <= MAX_RATIO


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    else:
        sys.exit(0 if compare(Path(sys.argv[2]), Path(sys.argv[3])) else 3)
