"""Latency of the C library beside litert and onnxruntime, and the claims that rest on it.

    python benchmarks/native.py [--write]

One interleaved run, one thread, one input of one row, calls from Python included. `--write` puts the table into
docs/reference/c-library.md. Exit status 1 if a claim fails.
"""

from __future__ import annotations

import sys
import timeit
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sen_edge import checkpoint
from sen_edge.cli.console import quiet_engines
from sen_edge.precompute import precompute
from sen_exporters.base import ExportOptions
from sen_exporters.onnx import OnnxExporter
from sen_exporters.tflite import TfliteExporter
from sen_runtime import image, reference
from sen_runtime.bench.interleaved import Latencies, interleaved
from sen_runtime.engines import native, onnxruntime
from sen_runtime.engines.tflite import litert
from sen_runtime.network import Identity, Layer, Network, Relu
from sen_runtime.operators import Dense, LowRank, Sparse, WeightOperator

FloatArray = NDArray[np.float32]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reference/c-library.md"
START, END = "<!-- measured: start -->", "<!-- measured: end -->"
SECONDS, SIZES, DENSITY, RANK = 20.0, (784, 512, 256, 10), 0.1, 32
#: Who is how many times faster than whom, at least.
CLAIMS = (
    ("native, dense", "litert, dense", 0.9),
    ("native, dense", "onnxruntime, dense", 1.1),
    ("native, dense, 80 % zero inputs", "native, dense", 2.0),
    ("native, rank 32", "litert, dense", 4.0),
    ("native, 16x1 blocks", "litert, dense", 5.0),
    ("native, spiking", "litert, spiking", 3.0),
)


def network(rng: np.random.Generator, hidden: Callable[[int, int], WeightOperator]) -> Network:
    """784-512-256-10, the hidden layers' weights from `hidden(n_out, n_in)`."""
    layers = []
    for index, (n_in, n_out) in enumerate(pairwise(SIZES)):
        is_last = index == len(SIZES) - 2
        weight = Dense(_normal(rng, n_out, n_in)) if is_last else hidden(n_out, n_in)
        layers.append(Layer(weight, rng.random(n_out, np.float32), Identity() if is_last else Relu()))
    return Network(tuple(layers))


def _normal(rng: np.random.Generator, n_out: int, n_in: int) -> FloatArray:
    return rng.standard_normal((n_out, n_in), np.float32) * np.float32(n_in**-0.5)


def _sparse(rng: np.random.Generator, block: tuple[int, int], n_out: int, n_in: int) -> Sparse:
    kept = rng.random((-(-n_out // block[0]), -(-n_in // block[1]))) < DENSITY
    mask = np.repeat(np.repeat(kept, block[0], axis=0), block[1], axis=1)[:n_out, :n_in]
    return Sparse.from_dense(_normal(rng, n_out, n_in) * mask / np.float32(DENSITY**0.5), block)


def _low_rank(rng: np.random.Generator, n_out: int, n_in: int) -> LowRank:
    return LowRank(_normal(rng, n_out, RANK), _normal(rng, RANK, n_in))


def calls(rng: np.random.Generator) -> Mapping[str, Callable[[], object]]:
    """What is measured, by name; each was compared with the reference."""
    full = rng.random((1, SIZES[0]), np.float32)
    pixels = full * (rng.random(full.shape) < 0.2)
    dense = network(rng, lambda n_out, n_in: Dense(_normal(rng, n_out, n_in)))
    low_rank = network(rng, partial(_low_rank, rng))
    blocks = {block: network(rng, partial(_sparse, rng, block)) for block in ((1, 1), (16, 1), (8, 1), (1, 4))}
    snn = precompute(checkpoint.to_network(checkpoint.load(ROOT / "examples/checkpoints/mnist-snn-d32.pt")))
    found: dict[str, Callable[[], object]] = {}
    for name, net, x in (
        ("dense", dense, full),
        ("dense, 80 % zero inputs", dense, pixels),
        ("rank 32", low_rank, full),
        ("unstructured", blocks[1, 1], full),
        ("16x1 blocks", blocks[16, 1], full),
        ("8x1 blocks", blocks[8, 1], full),
        ("1x4 blocks", blocks[1, 4], full),
        ("spiking", snn, pixels),
    ):
        session = native.load(image.dumps(net))
        expected = reference.run(net, x)
        if np.abs(session.run(x) - expected).max() > 1e-3 * np.abs(expected).max():
            raise SystemExit(f"native, {name}: wrong outputs")
        found[f"native, {name}"] = partial(session.run, x)
    in_place = native.load(image.dumps(dense), pack=False)
    found["native, dense in place"] = partial(in_place.run, full)
    for name, net, x, options in (
        ("dense", dense, full, ExportOptions()),
        ("rank 32", low_rank, full, ExportOptions()),
        ("1x4 blocks", blocks[1, 4], full, ExportOptions(sparse_format="block")),
        ("spiking", snn, pixels, ExportOptions()),
    ):
        with quiet_engines():
            found[f"litert, {name}"] = litert.load(TfliteExporter().export(net, options).main).bare_call(x)
        if name != "1x4 blocks":
            session_ort = onnxruntime.load(OnnxExporter().export(net, ExportOptions()).main)
            found[f"onnxruntime, {name}"] = partial(session_ort.run, x)
    return found


def overhead() -> tuple[float, float]:
    """Microseconds of `run` and of `invoke` on a network of one neuron."""
    tiny = native.load(image.dumps(Network((Layer(Dense(np.ones((1, 1), np.float32)), None, Identity()),))))
    x = np.ones((1, 1), np.float32)
    run, invoke = (
        min(timeit.repeat(call, number=20_000, repeat=5)) / 20_000 for call in (partial(tiny.run, x), tiny.invoke)
    )
    return 1e6 * run, 1e6 * invoke


def report(measured: Latencies, names: list[str]) -> tuple[list[str], bool]:
    """Lines of Markdown, and whether every claim holds."""
    first = "litert, dense"
    run, invoke = overhead()
    kernels = native.load(image.dumps(Network((Layer(Dense(np.ones((1, 1), np.float32)), None, Identity()),)))).kernels
    lines = [
        f"`python benchmarks/native.py --write`, kernels {kernels}, {len(measured.blocks_us[first])} rounds. "
        f"A call of an empty model costs {run:.2f} us through `run`, {invoke:.2f} us through `invoke`.",
        "",
        f"| 784-512-256-10 (spiking: mnist-snn-d32, T = 10) | ratio to {first} |",
        "| --- | ---: |",
        *(f"| {name} | {measured.ratio(name, first):.2f} |" for name in names),
        "",
        "| claim | measured | result |",
        "| --- | ---: | --- |",
    ]
    holds = True
    for fast, slow, least in CLAIMS:
        times = 1 / measured.ratio(fast, slow)
        holds &= times >= least
        result = "pass" if times >= least else "FAIL"
        lines.append(f"| {fast}: at least {least:g} times as fast as {slow} | {times:.1f} | {result} |")
    return lines, holds


def main(arguments: list[str]) -> int:
    """Measure, print, and write the page if asked to."""
    found = calls(np.random.default_rng(0))
    lines, holds = report(interleaved(found, SECONDS), list(found))
    print("\n".join(lines))
    if arguments == ["--write"]:
        before, _, rest = PAGE.read_text().partition(START)
        PAGE.write_text("\n".join([before + START, "", *lines, "", END + rest.partition(END)[2]]))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
