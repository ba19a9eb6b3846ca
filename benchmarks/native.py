"""Latency of the C library compared with litert and onnxruntime, and claims about it.

    python benchmarks/native.py [--write]

One interleaved run, one thread, one input of one row. Two latencies are measured: "run" copies the input in and the
output out through the engine's own API without checks; "kernel" is a call with the input already in place, minus the
same call of an empty network. `--write` writes the tables to docs/reference/c-library.md. Exit code 3: a claim fails.
"""

from __future__ import annotations

import sys
import timeit
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from networks import SIZES, SPIKING_SIZES, TIMESTEPS, dense, low_rank, normal, perceptron, sparse
from numpy.typing import NDArray
from pages import write_section

from sen_edge.passes.quantize import to_int8, to_int8_weights
from sen_exporters.onnx.exporter import OnnxExporter
from sen_exporters.tflite.exporter import TfliteExporter
from sen_exporters.tflite.graph import TfliteOptions
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.bench import device
from sen_runtime.bench.interleaved import Latencies, interleaved
from sen_runtime.bench.memory import bandwidth
from sen_runtime.engines import litert, native, onnxruntime
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif
from sen_runtime.ir.operators import Dense
from sen_runtime.streams import suppress_announcements

FloatArray = NDArray[np.float32]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reference/c-library.md"
SECONDS, PIXELS = 40.0, 0.2
EMPTY = "empty network"
#: Faster row, slower row, min ratio of their latencies, kind of latency.
CLAIMS = (
    ("native, dense", "litert, dense", 1.0, "run"),
    ("native, dense", "onnxruntime, dense", 1.2, "run"),
    ("native, unstructured", "litert, dense", 2.0, "run"),
    ("native, 16x1 blocks", "litert, dense", 7.0, "run"),
    ("native, 16x1 blocks", "litert, 1x4 blocks", 3.0, "run"),
    ("native, int8 unstructured", "litert, int8", 2.5, "run"),
    ("native, int8 unstructured", "litert, int8", 2.5, "kernel"),
    ("native, rank 32", "litert, dense", 6.0, "run"),
    ("native, rank 32", "litert, rank 32", 1.3, "run"),
    ("native, int8 rank 32", "litert, int8", 8.0, "kernel"),
    ("native, int8 rank 32", "litert, dense", 28.0, "kernel"),
    ("native, int8 rank 32", "litert, int8", 4.0, "run"),
    ("native, dense, 80 % zero inputs", "native, dense", 2.0, "run"),
    ("native, spiking", "litert, spiking", 7.0, "run"),
    ("native, spiking", "litert, spiking", 7.0, "kernel"),
    ("native, spiking", "onnxruntime, spiking", 25.0, "run"),
    ("native, spiking", "onnxruntime, spiking", 25.0, "kernel"),
)
#: Max latency of a call of an empty network.
MAX_OVERHEAD_US = 1.5


@dataclass(frozen=True)
class Case:
    """Network, its input, and the engines that run it in addition to the C library."""

    name: str
    network: Network
    x: FloatArray
    engines: tuple[str, ...] = ()
    options: TfliteOptions = TfliteOptions()  # noqa: RUF009 - frozen


@dataclass(frozen=True)
class Row:
    """The two measured calls, and the bytes of weights that one inference reads, if known."""

    run: Callable[[], object]
    invoke: Callable[[], object]
    bytes_read: float | None = None


def spiking(rng: np.random.Generator) -> Network:
    """Build 784-256-10 with T = 25, with weights scaled so that about one neuron in eight spikes per step."""
    n_in, n_hidden, n_out = SPIKING_SIZES
    hidden = Layer(Dense(np.float32(1.3) * normal(rng, n_hidden, n_in)), None, Lif(beta=0.9, threshold=1.0))
    return Network((hidden, Layer(Dense(normal(rng, n_out, n_hidden)), None, LeakyIntegrator(0.9))), TIMESTEPS)


def cases(rng: np.random.Generator) -> list[Case]:
    """Build all cases."""
    full = rng.random((1, SIZES[0]), np.float32)
    pixels = full * (rng.random(full.shape) < PIXELS)
    whole, factors = perceptron(rng, SIZES, dense), perceptron(rng, SIZES, low_rank)
    blocks = {
        block: perceptron(rng, SIZES, partial(sparse, block=block)) for block in ((1, 1), (16, 1), (8, 1), (1, 4))
    }
    others = ("litert", "onnxruntime")
    return [
        Case("dense", whole, full, others),
        Case("dense, 80 % zero inputs", whole, pixels),
        Case("rank 32", factors, full, others),
        Case("unstructured", blocks[1, 1], full),
        Case("16x1 blocks", blocks[16, 1], full),
        Case("8x1 blocks", blocks[8, 1], full),
        Case("1x4 blocks", blocks[1, 4], full, ("litert",), TfliteOptions(sparse_format="block")),
        Case("int8", to_int8_weights(whole), full),
        Case("int8 rank 32", to_int8_weights(factors), full),
        Case("int8 unstructured", to_int8_weights(blocks[1, 1]), full),
        Case("int8 16x1 blocks", to_int8_weights(blocks[16, 1]), full),
        Case("int8 1x4 blocks", to_int8_weights(blocks[1, 4]), full),
        Case("spiking", spiking(rng), pixels, others),
        Case(EMPTY, empty_network(), np.ones((1, 1), np.float32), others),
    ]


def rows(found: list[Case], rng: np.random.Generator) -> Mapping[str, Row]:
    """Load every case in its engines, and compare the native outputs with the reference."""
    result: dict[str, Row] = {}
    for case in found:
        result[f"native, {case.name}"] = _native(case)
    for case in found:
        if "litert" in case.engines:
            result[f"litert, {case.name}"] = _litert(TfliteExporter().export(case.network, case.options).main, case.x)
        if "onnxruntime" in case.engines:
            result[f"onnxruntime, {case.name}"] = _onnxruntime(case)
    calibration = rng.random((64, SIZES[0]), np.float32)
    for name in ("dense", "rank 32"):
        case = next(case for case in found if case.name == name)
        static = TfliteExporter().export(to_int8(case.network, calibration), TfliteOptions()).main
        result[f"litert, int8{'' if name == 'dense' else ' ' + name}"] = _litert(static, case.x)
    return result


def _native(case: Case) -> Row:
    data = image.dumps(case.network)
    session, in_place = native.load(data), native.load(data, pack=False)
    expected = reference.run(case.network, case.x)
    tolerance = 0.05 if "int8" in case.name else 1e-3
    if np.abs(session.run(case.x) - expected).max() > tolerance * np.abs(expected).max():
        raise SystemExit(f"native, {case.name}: wrong outputs")
    session.input[...] = case.x[0]
    weights = max(case.network.nbytes, session.arena_bytes - in_place.arena_bytes)
    if "spiking" in case.name or "zero inputs" in case.name:
        weights = round(weights * float(np.mean(case.x != 0)))
    return Row(session.bare_call(case.x), session.invoke, weights)


def _litert(data: bytes, x: FloatArray) -> Row:
    with suppress_announcements():
        session = litert.ENGINE.load(data)
        call = session.bare_call(x)
        call()
    return Row(call, session.interpreter.invoke)


def _onnxruntime(case: Case) -> Row:
    session = onnxruntime.load(OnnxExporter().export(case.network, OnnxExporter.Options()).main)
    inner: Any = session.session
    binding = inner.io_binding()
    binding.bind_cpu_input("input", case.x)
    binding.bind_output("output")
    return Row(partial(inner.run, ["output"], {"input": case.x}), partial(inner.run_with_iobinding, binding))


def empty_network() -> Network:
    """Build a network of one neuron with one input, whose latency is the overhead of a call."""
    return Network((Layer(Dense(np.ones((1, 1), np.float32)), None, Identity()),))


def overhead() -> tuple[float, float]:
    """Return the latency in us of `run` and of `invoke` of the empty network."""
    tiny, x = native.load(image.dumps(empty_network())), np.ones((1, 1), np.float32)
    calls = (partial(tiny.run, x), tiny.invoke)
    run, invoke = (min(timeit.repeat(call, number=20_000, repeat=5)) / 20_000 for call in calls)
    return 1e6 * run, 1e6 * invoke


def firing_rate(case: Case) -> float:
    """Return the share of hidden neurons that spike per step."""
    return float(np.mean(reference.trace(case.network, case.x)[0])) / case.network.timesteps


def times_us(measured: Latencies, name: str, kind: str) -> NDArray[np.float64]:
    """Return the latency in us of each round, for kind "run" or "kernel"."""
    if kind == "run":
        return measured.blocks_us[f"{name} run"]
    return (
        measured.blocks_us[f"{name} invoke"] - measured.blocks_us[f"{name.split(',', maxsplit=1)[0]}, {EMPTY} invoke"]
    )


def ratio(measured: Latencies, name: str, baseline: str, kind: str) -> float:
    """Return the median over the rounds of the ratio within a round."""
    return float(np.median(times_us(measured, name, kind) / times_us(measured, baseline, kind)))


def table(measured: Latencies, found: Mapping[str, Row], roofs: Mapping[str, float]) -> list[str]:
    """Format one Markdown line per row."""
    first = "litert, dense"
    lines = [
        f"| 784-512-256-10 (spiking: 784-256-10, T = {TIMESTEPS}) | run | kernel | weights, bytes/ns | / roof |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in found.items():
        if EMPTY in name:
            continue
        ratios = [f"{ratio(measured, name, first, kind):.3f}" for kind in ("run", "kernel")]
        speed = share = ""
        if row.bytes_read is not None:
            found_speed = row.bytes_read / float(np.median(times_us(measured, name, "kernel"))) / 1000
            speed, share = f"{found_speed:.0f}", f"{found_speed / roofs['l2_bytes_per_ns']:.0%}"
        lines.append(f"| {' | '.join([name, *ratios, speed, share])} |")
    return lines


def claims(measured: Latencies, overhead_us: float) -> tuple[list[str], bool]:
    """Format one Markdown line per claim; return them and whether all claims hold."""
    lines, holds = ["| claim | measured | result |", "| --- | ---: | --- |"], True
    for fast, slow, min_ratio, kind in CLAIMS:
        times = 1 / ratio(measured, fast, slow, kind)
        holds &= times >= min_ratio
        result = "pass" if times >= min_ratio else "FAIL"
        lines.append(f"| {fast}: at least {min_ratio:g} times as fast as {slow} ({kind}) | {times:.1f} | {result} |")
    holds &= overhead_us <= MAX_OVERHEAD_US
    result = "pass" if overhead_us <= MAX_OVERHEAD_US else "FAIL"
    lines.append(f"| call of an empty network: at most {MAX_OVERHEAD_US:g} us | {overhead_us:.2f} | {result} |")
    return lines, holds


def report(rng: np.random.Generator) -> tuple[list[str], bool]:
    """Measure; return Markdown lines and whether every claim holds."""
    found = cases(rng)
    measurable = rows(found, rng)
    calls = {f"{name} {kind}": getattr(row, kind) for name, row in measurable.items() for kind in ("run", "invoke")}
    measured = interleaved(calls, SECONDS)
    run, invoke = overhead()
    roofs = bandwidth(device.describe())
    claimed, holds = claims(measured, run)
    kernels = native.load(image.dumps(empty_network())).kernels
    rounds = len(next(iter(measured.blocks_us.values())))
    spikes = next(case for case in found if case.name == "spiking")
    lines = [
        f"`python benchmarks/native.py --write`, kernels {kernels}, {rounds} rounds; latency relative to litert, "
        f"dense. A call of an empty network takes {run:.2f} us with `run`, {invoke:.2f} us with `invoke`. Read "
        f"bandwidth: {roofs['l2_bytes_per_ns']:.0f} bytes/ns from the L2 cache (the roof), "
        f"{roofs['memory_bytes_per_ns']:.0f} from memory. {firing_rate(spikes):.0%} of the hidden neurons of the "
        "spiking network spike per step.",
        "",
        *table(measured, measurable, roofs),
        "",
        *claimed,
    ]
    return lines, holds


def main(arguments: list[str]) -> int:
    """Measure, print, and write the page with `--write`."""
    lines, holds = report(np.random.default_rng(0))
    print("\n".join(lines))
    if arguments == ["--write"]:
        write_section(PAGE, lines)
    return 0 if holds else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
