"""False positive rate, detection rate and overhead of the benchmark.

    python benchmarks/bench_trust.py [--runs 20] [--seconds 3]

For each engine, two rows of the same file are measured in every run: once unmodified, where the interval of the ratio
must contain 1, and once with the second row delayed by 10 % of its latency after each call, where the interval must lie
above 1. The overhead is the benchmark's latency of a native model of about 1 us relative to a loop in C, measured in
alternation. Exit code 3: a claim fails.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from networks import dense, perceptron
from numpy.typing import NDArray

from sen_exporters.onnx.exporter import OnnxExporter
from sen_exporters.tflite.exporter import TfliteExporter
from sen_runtime import format as image
from sen_runtime.bench import statistics
from sen_runtime.bench.interleaved import Loop, calibrate, side_by_side, turn
from sen_runtime.bench.loops import N_INPUTS, loop_over, random_inputs
from sen_runtime.bench.rounds import measure_rounds
from sen_runtime.engines import Session, litert, native, onnxruntime
from sen_runtime.ir.network import Network
from sen_runtime.streams import suppress_announcements

FloatArray = NDArray[np.float32]

SOURCE = Path(__file__).with_name("bench_loop.c")
SIZES, TINY_SIZES = (784, 256, 10), (256, 160, 10)
#: Min share of runs with the expected interval.
MIN_SHARE = 18 / 20
#: Relative delay of the slowed row, and max relative overhead.
DELAY, MAX_OVERHEAD = 0.1, 0.1
ROUNDS = 400


def loaders(sizes: tuple[int, ...]) -> Mapping[str, Callable[[], Session]]:
    """Return, by engine, a function that loads a network with these layer sizes."""
    network = perceptron(np.random.default_rng(0), sizes, dense)
    sen = image.dumps(network)
    onnx, tflite = (each().export(network, each.Options()).main for each in (OnnxExporter, TfliteExporter))
    return {
        "native": partial(native.load, sen),
        "onnxruntime": partial(onnxruntime.load, onnx),
        "litert": partial(litert.ENGINE.load, tflite),
    }


def open_loop(load: Callable[[], Session], inputs: FloatArray, extra_ns: float = 0.0) -> Loop:
    """Load a session and return its loop, delayed by `extra_ns` per call."""
    with suppress_announcements():
        loop = loop_over(load(), inputs.copy())
    if extra_ns == 0:
        return loop

    def delayed(n: int) -> None:
        loop(n)
        end = time.perf_counter_ns() + n * extra_ns
        while time.perf_counter_ns() < end:
            pass

    return delayed


def interval(first: Callable[[], Loop], second: Callable[[], Loop], seconds: float, seed: int) -> Mapping[str, float]:
    """Measure two rows; return median and interval of the ratio of their latencies."""
    measured = measure_rounds({"first": first, "second": second}, seconds, seed)
    turns = {name: np.array(values) for name, values in measured.turns_us.items()}
    return statistics.ratio(turns["second"], turns["first"], measured.loads, seed)


def check_engine(name: str, load: Callable[[], Session], sizes: tuple[int, ...], runs: int, seconds: float) -> bool:
    """Run both tests of one engine, print a line for each, and return whether both pass."""
    inputs = random_inputs((sizes[0],), N_INPUTS, 0, 0.0, 1.0)
    same = partial(open_loop, load, inputs)
    extra_ns = 1000 * DELAY * side_by_side({"loop": same()}, 1.0).median_us("loop")
    right = {"same": 0, "delayed": 0}
    widths = []
    for seed in range(runs):
        found = interval(same, same, seconds, seed)
        right["same"] += found["low"] <= 1 <= found["high"]
        widths.append(found["high"] / found["low"] - 1)
        right["delayed"] += interval(same, partial(same, extra_ns), seconds, seed)["low"] > 1
    width = f"{100 * np.median(widths):.2g} % wide"
    for test, claim in (("same", f"the interval, {width}, contains 1"), ("delayed", "the interval lies above 1")):
        result = "pass" if right[test] >= MIN_SHARE * runs else "FAIL"
        print(f"| {name} | {test} | {claim} | {right[test]} of {runs} | {result} |", flush=True)
    return min(right.values()) >= MIN_SHARE * runs


def c_loop() -> Any:
    """Compile bench_loop.c and return its `loop_ns`."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "loop.so"
        subprocess.run(["cc", "-std=c99", "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(library)], check=True)
        function = ctypes.CDLL(str(library)).loop_ns
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    function.restype, function.argtypes = ctypes.c_double, [pointer] * 4 + [size] * 3
    return function


def overhead(network: Network) -> tuple[float, float]:
    """Return the latency of a call in ns by the benchmark and by the C loop: medians of alternating turns."""
    inputs, loop_ns = random_inputs((network.n_in,), N_INPUTS, 0, 0.0, 1.0), c_loop()
    session = native.load(image.dumps(network))
    timed = calibrate({"benchmark": loop_over(session, inputs)})["benchmark"]
    run, output = ctypes.cast(session._library.sen_run, ctypes.c_void_p), session.output.ctypes.data
    benchmark, plain = [], []
    for _ in range(ROUNDS):
        benchmark.append(float(np.median(turn(timed))) / timed.calls)
        each = partial(loop_ns, run, session._model, inputs.ctypes.data, output, network.n_in, N_INPUTS, timed.calls)
        each()
        plain.append(float(np.median([each() for _ in range(timed.samples)])))
    return float(np.median(benchmark)), float(np.median(plain))


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    print("| artifact | test | claim | measured | result |\n| --- | --- | --- | ---: | --- |")
    holds = True
    for sizes in (SIZES, TINY_SIZES):
        for engine, load in loaders(sizes).items():
            name = f"{engine}, {'-'.join(map(str, sizes))}"
            holds &= check_engine(name, load, sizes, options.runs, options.seconds)
    found, plain = overhead(perceptron(np.random.default_rng(0), TINY_SIZES, dense))
    is_within = abs(found / plain - 1) <= MAX_OVERHEAD
    claim = f"within {100 * MAX_OVERHEAD:g} % of the loop in C, {plain:.0f} ns"
    print(
        f"| native, {'-'.join(map(str, TINY_SIZES))} | overhead | {claim} | {found:.0f} ns | "
        f"{'pass' if is_within else 'FAIL'} |"
    )
    return 0 if holds and is_within else 3


if __name__ == "__main__":
    sys.exit(main())
