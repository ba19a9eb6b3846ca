"""Time of a row in batches: the C library compared with litert and onnxruntime, and claims about it.

    python benchmarks/batch.py [--write]

The engines take turns, one thread each; inputs have no zeros. Times are those of the thread alone, comparable on a busy
machine. `--write` writes the table to docs/reference/c-library.md. Exit code 3: a claim fails.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from networks import dense, low_rank, perceptron, sparse
from numpy.typing import NDArray
from pages import write_section

from sen_edge.passes.quantize import to_int8_weights
from sen_exporters.onnx.exporter import OnnxExporter
from sen_exporters.tflite.exporter import TfliteExporter
from sen_exporters.tflite.graph import TfliteOptions
from sen_runtime import format as image
from sen_runtime.engines import litert, native, onnxruntime
from sen_runtime.ir.network import Network
from sen_runtime.streams import suppress_announcements

PAGE = Path(__file__).parents[1] / "docs/reference/c-library.md"
BATCHES = (1, 8, 64, 256)
SMALL, LARGE = (784, 512, 10), (4096, 4096, 4096, 10)
#: Min ratio of the faster of the other engines' time to ours in batches, by layer sizes of a dense float32 network.
CLAIMS = {SMALL: 1.0, LARGE: 0.9}
SECONDS, SECONDS_OF_LARGE, MIN_ROUNDS = 3.0, 15.0, 7

Calls = dict[str, Callable[[], object]]


def networks(rng: np.random.Generator) -> Mapping[str, tuple[Network, bool]]:
    """Networks by name, and whether the other engines run them too."""
    small, large = perceptron(rng, SMALL, dense), perceptron(rng, LARGE, dense)
    unstructured = perceptron(rng, SMALL, partial(sparse, block=(1, 1)))
    return {
        name(SMALL): (small, True),
        name(LARGE): (large, True),
        f"{name(SMALL)}, rank 32": (perceptron(rng, SMALL, low_rank), True),
        f"{name(SMALL)}, int8": (to_int8_weights(small), False),
        f"{name(SMALL)}, unstructured": (unstructured, False),
        f"{name(SMALL)}, int8 unstructured": (to_int8_weights(unstructured), False),
    }


def name(sizes: tuple[int, ...]) -> str:
    """Return layer sizes as text."""
    return "-".join(map(str, sizes))


def calls(network: Network, has_others: bool, rows: int, rng: np.random.Generator) -> Calls:
    """Load a network in its engines; one call each for a batch of `rows`, and a loop over them in the C library."""
    x = rng.random((rows, network.layer_sizes[0]), np.float32)
    session = native.load(image.dumps(network))
    found: Calls = {"native": partial(session.run, x), "row by row": partial(session.bare_loop(x), rows)}
    if has_others:
        inner: Any = onnxruntime.load(OnnxExporter().export(network, OnnxExporter.Options()).main).session
        found["onnxruntime"] = partial(inner.run, ["output"], {"input": x})
        with suppress_announcements():
            interpreter = litert.ENGINE.load(TfliteExporter().export(network, TfliteOptions()).main)
            found["litert"] = interpreter.bare_call(x)
            found["litert"]()
    return found


def measure(found: Calls, seconds: float) -> dict[str, NDArray[np.float64]]:
    """Return microseconds of each call in each round, in an order drawn for every round, for about `seconds`."""
    rng, end = random.Random(0), time.monotonic() + seconds
    measured: dict[str, list[float]] = {engine: [] for engine in found}
    while time.monotonic() < end or len(measured["native"]) < MIN_ROUNDS:
        for engine in rng.sample(sorted(found), len(found)):
            start = time.thread_time_ns()
            found[engine]()
            measured[engine].append((time.thread_time_ns() - start) / 1000)
    return {engine: np.array(us) for engine, us in measured.items()}


def report(rng: np.random.Generator) -> tuple[list[str], bool]:
    """Measure; return Markdown lines and whether every claim holds."""
    kernels = native.load(image.dumps(perceptron(rng, (1, 1), dense))).kernels
    lines = [
        f"`python benchmarks/batch.py --write`, kernels {kernels}; times of the others relative to the C library.",
        "",
        "| network | batch | us per row | row by row | onnxruntime | litert |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    holds = True
    for label, (network, has_others) in networks(rng).items():
        for rows in BATCHES:
            seconds = SECONDS_OF_LARGE if label == name(LARGE) else SECONDS
            us = measure(calls(network, has_others, rows, rng), seconds)
            ratio = {engine: float(np.median(each / us["native"])) for engine, each in us.items()}
            others = [ratio[engine] for engine in ("onnxruntime", "litert") if has_others]
            cells = [f"{ratio['row by row']:.2f}", *(f"{each:.2f}" for each in others)] + [""] * (2 - len(others))
            lines.append(f"| {label} | {rows} | {np.median(us['native']) / rows:.1f} | {' | '.join(cells)} |")
            for sizes, least in CLAIMS.items():
                holds &= label != name(sizes) or rows == 1 or min(others) >= least
            print(lines[-1], flush=True)
    return lines, holds


def main(arguments: list[str]) -> int:
    """Measure, print, and write the page with `--write`."""
    lines, holds = report(np.random.default_rng(0))
    print("\n".join(lines[:2]), "\nclaims hold" if holds else "\na claim fails: " + repr(CLAIMS))
    if arguments == ["--write"]:
        write_section(PAGE, lines, "batches")
    return 0 if holds else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
