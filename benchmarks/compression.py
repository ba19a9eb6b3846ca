"""Accuracy, time and memory of compression on MNIST, and claims about them.

    python benchmarks/compression.py [--write] [--seeds 0,1,2] [--data-dir DIR]

Networks are trained for each seed (seed 0: the shipped checkpoints), compressed by every row of `compression_rows`, and
tested once each. Results are cached in out/compression, so an interrupted run resumes; delete that folder to repeat the
measurement. `--write` writes the tables to docs/results/compression.md. Exit code 3: a claim fails.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from compression_rows import CACHE, PAIRS, ROOT, ROWS, SMALL, Bench, Row, all_rows, cached, int8
from numpy.typing import NDArray
from pages import write_section

from sen_edge.compression.moments import CompressionWarning
from sen_edge.compression.prune import prune
from sen_edge.data import datasets
from sen_exporters.tflite.exporter import TfliteExporter
from sen_runtime import format as image
from sen_runtime.bench.interleaved import interleaved
from sen_runtime.data.subsample import subsample
from sen_runtime.engines import litert, native
from sen_runtime.engines.native import NativeSession
from sen_runtime.engines.tflite import TfliteSession
from sen_runtime.streams import suppress_announcements

FloatArray = NDArray[np.float32]

PAGE = ROOT / "docs/results/compression.md"
#: Number of inputs that a latency measurement alternates between, and its duration.
N_TURNS, SECONDS = 64, 20.0
#: Min speedup over the dense float32 export on litert; max time of second-order pruning.
MIN_RATIO, MAX_SECONDS = 5.0, 15.0
#: Name of the baseline.
DENSE = "dense"
#: Layers of 65,536 x 65,536: form, radius of the discs in layer spacings, max relative error, max seconds, max GiB,
#: min compression ratio.
LARGE = (("low-rank", 5, 1e-3, 60, 2, 1), ("hierarchical", 50, 1e-2, 300, 4, 20))
#: Output of benchmarks/far_field.py.
FAR_FIELD_OUTPUT = r"radius [\d.]+: ([\d.]+) s, peak ([\d.]+) GiB, .*relative error ([\d.e-]+) .* 1/(\d+)"


def verdict(holds: bool) -> str:
    """Format the result of a claim."""
    return "pass" if holds else "FAIL"


def load_average() -> float:
    """Return the load average of the last minute."""
    return round(os.getloadavg()[0], 1)


def accuracy_lines(benches: list[Bench]) -> tuple[list[str], bool]:
    """Format one Markdown line per row over all seeds; return them and whether all claims hold."""
    lines = [
        "| method | before | after | drop, mean (range) | max drop | MACs left | weights, kB |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    holds = True
    for row in ROWS:
        found = [bench.result(row) for bench in benches]
        drops = [each["before"] - each["after"] for each in found]
        claim = ""
        if row.max_drop is not None:
            fits = round(float(np.mean(drops)), 6) <= row.max_drop
            holds &= fits
            claim = f"{row.max_drop:g}: {verdict(fits)}"
        before, after = mean(found, "before"), mean(found, "after")
        macs, kilobytes = mean(found, "macs") / found[0]["of_macs"], mean(found, "bytes") / 1000
        lines.append(
            f"| {row.name.replace('%', ' %')} | {before:.2f} | {after:.2f} "
            f"| {np.mean(drops):.2f} ({min(drops):.2f} to {max(drops):.2f}) "
            f"| {claim} | {100 * macs:.1f} % | {kilobytes:.0f} |"
        )
    return lines, holds


def mean(found: Iterable[dict[str, Any]], name: str) -> float:
    """Return the mean of one figure over the seeds."""
    return float(np.mean([each[name] for each in found]))


def comparison_lines(benches: list[Bench]) -> list[str]:
    """Compare spatially embedded and fully connected networks with equal density and compression method."""
    lines = [
        "| density | method | SEN | fully connected | difference | parameters, SEN | parameters, fully connected |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    originals = [np.mean([bench.original_accuracy(base) for bench in benches]) for base in ("mlp-d32", "dense")]
    learned = benches[0].checkpoint("mlp-d32").n_parameters
    n_dense = sum(layer.weight.macs + layer.weight.shape[0] for layer in benches[0].network("dense").layers)
    rows = [("100 %", "none", *originals, learned, n_dense)]
    for pair in PAIRS:
        sides = [[bench.result(row) for bench in benches] for row in (pair.spatial, pair.dense)]
        accuracies, numbers = ([mean(side, name) for side in sides] for name in ("after", "numbers"))
        rows.append((f"{100 * (1 - pair.sparsity):.0f} %", pair.method, *accuracies, *numbers))
    for density, method, spatial, dense, n_spatial, n_fully_connected in rows:
        lines.append(
            f"| {density} | {method} | {spatial:.2f} | {dense:.2f} | {spatial - dense:+.2f} | {n_spatial:,.0f} | "
            f"{n_fully_connected:,.0f} |"
        )
    return lines


def alternate(session: NativeSession | TfliteSession, x: FloatArray) -> Callable[[], object]:
    """Return a call that runs the next row of `x [rows, n_in]` through the engine's own API."""
    turns = cycle([session.bare_call(x[row : row + 1]) for row in range(len(x))])

    def call(_: object = session) -> object:  # keeps the session and its memory alive
        return next(turns)()

    return call


def latencies(bench: Bench) -> dict[str, Any]:
    """Measure low rank with int8 weights on the native engine, and the dense float32 export on litert, in us."""
    x = subsample(bench.dataset.test_inputs, N_TURNS)
    with suppress_announcements():
        dense = litert.ENGINE.load(TfliteExporter().export(bench.network("mlp-d32"), TfliteExporter.Options()).main)
        calls = {DENSE: alternate(dense, x)}
    for name, options in SMALL.items():
        small, _ = int8(bench, "mlp-d32", **options)
        calls[name] = alternate(native.load(image.dumps(small)), x)
    measured = interleaved(calls, SECONDS)
    return {
        "us": {name: measured.median_us(name) for name in calls},
        "ratio": {name: measured.ratio(DENSE, name) for name in SMALL},
        "load": load_average(),
    }


def pruning_seconds(bench: Bench) -> dict[str, float]:
    """Measure the wall time of second-order pruning of the 784 x 512 layer, calibration included."""
    network = bench.network("mlp-d32")
    load, began = load_average(), time.perf_counter()
    prune(network, sparsity=0.9, layers=[0], calibration=bench.calibration)
    return {"seconds": time.perf_counter() - began, "load": load}


def far_field(form: str, radius: float, tolerance: float) -> list[float]:
    """Factorize a 65,536 x 65,536 layer in a new process; return seconds, GiB, error and compression ratio."""
    command = [sys.executable, str(ROOT / "benchmarks/far_field.py"), form]
    command += ["--radius", f"{radius:g}", "--tolerance", f"{tolerance:g}"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(FAR_FIELD_OUTPUT, printed)
    if found is None:
        raise SystemExit(f"unexpected output of benchmarks/far_field.py: {printed}")
    return [*map(float, found.groups()), load_average()]


def cost_lines(bench: Bench) -> tuple[list[str], bool]:
    """Format one Markdown line per claim on time and memory; return them and whether all claims hold."""
    lines, holds = ["| claim | measured | load average | result |", "| --- | --- | ---: | --- |"], True
    speed = cached(CACHE / "machine/latencies.json", lambda: latencies(bench))
    pruning = cached(CACHE / "machine/pruning.json", lambda: pruning_seconds(bench))
    claims = [
        *(
            (
                f"{name}, native engine: at least {MIN_RATIO:g} times as fast as the dense float32 export on litert",
                f"{ratio:.1f} times ({speed['us'][name]:.1f} us and {speed['us'][DENSE]:.1f} us)",
                speed["load"],
                ratio >= MIN_RATIO,
            )
            for name, ratio in speed["ratio"].items()
        ),
        (
            f"second-order pruning of 784 x 512 from {len(bench.calibration):,} inputs: below {MAX_SECONDS:g} s",
            f"{pruning['seconds']:.1f} s",
            pruning["load"],
            pruning["seconds"] < MAX_SECONDS,
        ),
    ]
    for form, radius, max_error, max_seconds, max_gib, min_ratio in LARGE:
        path = CACHE / f"machine/{form}-{radius}-{max_error:g}.json"
        seconds, peak, error, times, load = cached(path, lambda f=form, r=radius, e=max_error: far_field(f, r, e))
        smaller = f", at least {min_ratio} times fewer bytes" if min_ratio > 1 else ""
        claims.append(
            (
                f"65,536 x 65,536, discs of radius {radius}, {form}: error at most {max_error:g}, below {max_seconds} "
                f"s and {max_gib} GiB{smaller}",
                f"{error:.2g}, {seconds:.0f} s, {peak:.2f} GiB, {times:.0f} times fewer bytes",
                load,
                error <= max_error and seconds < max_seconds and peak < max_gib and times >= min_ratio,
            )
        )
    for claim, measured, load, fits in claims:
        holds &= fits
        lines.append(f"| {claim} | {measured} | {load:.1f} | {verdict(fits)} |")
    return lines, holds


def processor() -> str:
    """Describe the machine."""
    path = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", path.read_text()) if path.exists() else []
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} threads, {platform.system()}"


def report(seeds: list[int], data_dir: Path | None) -> tuple[list[str], bool]:
    """Measure; return Markdown lines and whether every claim holds."""
    dataset = datasets.load("mnist", data_dir)
    benches = [Bench(seed, dataset) for seed in seeds]
    rows: list[Row] = all_rows()
    for row in rows:
        for bench in benches:
            bench.result(row)
    accuracies, holds = accuracy_lines(benches)
    costs, fits = cost_lines(benches[0])
    lines = [
        f"`python benchmarks/compression.py --write`, seeds {', '.join(map(str, seeds))}; {processor()}. Accuracy in "
        f"percent on {len(dataset.test_targets):,} test images, drop in points.",
        "",
        *accuracies,
        "",
        *comparison_lines(benches),
        "",
        *costs,
    ]
    return lines, holds and fits


def main(arguments: list[str]) -> int:
    """Compress, test, print, and write the page with `--write`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the page")
    parser.add_argument("--seeds", default="0,1,2", help="seeds, separated by commas")
    parser.add_argument("--data-dir", type=Path, help="folder of the MNIST files")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", CompressionWarning)
    lines, holds = report(list(map(int, options.seeds.split(","))), options.data_dir)
    print("\n".join(lines))
    if options.write:
        write_section(PAGE, lines)
    return 0 if holds else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
