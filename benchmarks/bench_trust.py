"""Can the benchmark be believed? The same artifact twice, one slowed by 10 % on purpose, and a loop in C beside it.

    python benchmarks/bench_trust.py [--runs 20] [--seconds 3]

Of each engine: in how many runs the interval of the ratio contains 1 where both rows are the same file, and lies above
1 where the second row waits a tenth of its latency longer after each call. Then what the benchmark says of a native
model of about a microsecond, beside the plainest loop in C, in turns. Exit status 3 if a claim fails.
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
from sen_runtime.bench.inputs import N_INPUTS, random_inputs
from sen_runtime.bench.interleaved import Loop, calibrate, side_by_side, turn
from sen_runtime.bench.loops import loop_over
from sen_runtime.bench.rounds import Options, measure_rounds
from sen_runtime.engines import Session, litert, native, onnxruntime
from sen_runtime.ir.network import Network
from sen_runtime.quiet import suppress_announcements

FloatArray = NDArray[np.float32]

SOURCE = Path(__file__).with_name("bench_loop.c")
SIZES, TINY_SIZES = (784, 256, 10), (256, 160, 10)
#: Of 20 runs at least so many; in proportion for other numbers.
LEAST_SHARE = 18 / 20
SLOWED, WITHIN = 0.1, 0.1
ROUNDS = 400


def sessions(sizes: tuple[int, ...]) -> Mapping[str, Callable[[], Session]]:
    """What loads a network of these sizes in each engine."""
    network = perceptron(np.random.default_rng(0), sizes, dense)
    sen = image.dumps(network)
    onnx, tflite = (each().export(network, each.Options()).main for each in (OnnxExporter, TfliteExporter))
    return {
        "native": partial(native.load, sen),
        "onnxruntime": partial(onnxruntime.load, onnx),
        "litert": partial(litert.ENGINE.load, tflite),
    }


def opened(load: Callable[[], Session], inputs: FloatArray, extra_ns: float = 0.0) -> Loop:
    """A new session's loop, which waits so much longer after each call."""
    with suppress_announcements():
        loop = loop_over(load(), inputs.copy())
    if extra_ns == 0:
        return loop

    def slowed(n: int) -> None:
        loop(n)
        end = time.perf_counter_ns() + n * extra_ns
        while time.perf_counter_ns() < end:
            pass

    return slowed


def interval(first: Callable[[], Loop], second: Callable[[], Loop], seconds: float, seed: int) -> Mapping[str, float]:
    """What the benchmark says of two rows."""
    measured = measure_rounds({"first": first, "second": second}, Options(seconds, seed))
    turns = {name: np.array(values) for name, values in measured.turns_us.items()}
    return statistics.ratio(turns["second"], turns["first"], measured.loads, seed)


def count(name: str, load: Callable[[], Session], sizes: tuple[int, ...], runs: int, seconds: float) -> bool:
    """Both tests of one engine: prints a line for each, and says whether both pass."""
    inputs = random_inputs((sizes[0],), N_INPUTS, 0, 0.0, 1.0)
    same = partial(opened, load, inputs)
    extra_ns = 1000 * SLOWED * side_by_side({"loop": same()}, 1.0).median_us("loop")
    right = {"same": 0, "slowed": 0}
    widths = []
    for seed in range(runs):
        found = interval(same, same, seconds, seed)
        right["same"] += found["low"] <= 1 <= found["high"]
        widths.append(found["high"] / found["low"] - 1)
        right["slowed"] += interval(same, partial(same, extra_ns), seconds, seed)["low"] > 1
    width = f"{100 * np.median(widths):.2g} % wide"
    for test, what in (("same", f"the interval, {width}, contains 1"), ("slowed", "the interval lies above 1")):
        result = "pass" if right[test] >= LEAST_SHARE * runs else "FAIL"
        print(f"| {name} | {test} | {what} | {right[test]} of {runs} | {result} |", flush=True)
    return min(right.values()) >= LEAST_SHARE * runs


def c_loop() -> Any:
    """`loop_ns` of bench_loop.c."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "loop.so"
        subprocess.run(["cc", "-std=c99", "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(library)], check=True)
        function = ctypes.CDLL(str(library)).loop_ns
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    function.restype, function.argtypes = ctypes.c_double, [pointer] * 4 + [size] * 3
    return function


def overhead(network: Network) -> tuple[float, float]:
    """Nanoseconds of a call: as the benchmark has it, and in the loop in C; medians of turns that alternate."""
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
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    print("| artifact | test | claim | measured | result |\n| --- | --- | --- | ---: | --- |")
    holds = True
    for sizes in (SIZES, TINY_SIZES):
        for engine, load in sessions(sizes).items():
            name = f"{engine}, {'-'.join(map(str, sizes))}"
            holds &= count(name, load, sizes, options.runs, options.seconds)
    found, plain = overhead(perceptron(np.random.default_rng(0), TINY_SIZES, dense))
    is_near = abs(found / plain - 1) <= WITHIN
    claim = f"within {100 * WITHIN:g} % of {plain:.0f} ns, a loop in C"
    print(
        f"| native, {'-'.join(map(str, TINY_SIZES))} | overhead | {claim} | {found:.0f} ns | "
        f"{'pass' if is_near else 'FAIL'} |"
    )
    return 0 if holds and is_near else 3


if __name__ == "__main__":
    sys.exit(main())
