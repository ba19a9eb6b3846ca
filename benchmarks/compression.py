"""Accuracy that compression keeps on MNIST, and what it makes of time and memory.

    python benchmarks/compression.py [--write] [--seeds 0,1,2] [--data-dir DIR]

Networks are trained for each seed (seed 0: the shipped checkpoints), compressed in every way that docs/results claims
something of, and tested once each. What is done is kept in out/compression, so that a run goes on where it was. With
`--write` the tables go into docs/results/compression.md. Exit status 1 if a claim fails.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sen_edge import checkpoint as checkpoints
from sen_edge import datasets
from sen_edge.cli.console import quiet_engines
from sen_edge.compress import CompressionWarning, PruneRequest, Tuning, distil, factorize, finetune, prune
from sen_edge.compress.cost import measure
from sen_edge.compress.finetune import coordinate_recipe, free_recipe, thinned
from sen_edge.compress.free import FreeNetwork
from sen_edge.compress.patterns import Pattern
from sen_edge.config import SpatialConfig, SpikingConfig
from sen_edge.fitting import Recipe, Run, label_loss, one_cycle, prepare, run_epoch, steps_per_epoch, suggested_recipe
from sen_edge.precompute import precompute
from sen_edge.quantize import to_int8_weights
from sen_edge.train import suggested_spiking, train
from sen_runtime import reference
from sen_runtime.network import Identity, Layer, Network, Relu
from sen_runtime.operators import Dense

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/results/compression.md"
CACHE = ROOT / "out/compression"
SHIPPED = ROOT / "examples/checkpoints"
START, END = "<!-- measured: start -->", "<!-- measured: end -->"
SIZES = (784, 512, 10)
CALIBRATION, INT8_INPUTS, CHUNK = 20_000, 2048, 1000
SECONDS = 10.0
#: Sparsities at which both kinds of network are compared.
SHARES = (0.8, 0.9, 0.95)
#: Recipe of the fully connected networks, which have no coordinates and learn sooner; epochs of training afterwards.
DENSE_LEARNING_RATE, DENSE_EPOCHS = 1e-3, 30
TUNED_EPOCHS, DISTILLED_EPOCHS = 12, 8


@dataclass(frozen=True)
class Row:
    """A way to compress a network: which one, how, and the most points that it may lose, where something is claimed."""

    name: str
    base: str
    compress: Callable[[Bench, str], Network]
    most: float | None = None


class Bench:
    """One seed: its networks, and the results that are known."""

    def __init__(self, seed: int, dataset: datasets.Dataset) -> None:
        self.seed, self.dataset = seed, dataset
        self.folder = CACHE / str(seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.calibration = thinned(dataset.train_inputs, len(dataset.train_labels) // 3)[:CALIBRATION]

    def path(self, base: str) -> Path:
        """The trained checkpoint of a spatially embedded network."""
        path = self.folder / f"{base}.pt"
        if self.seed == 0 and not path.exists():
            shutil.copy(SHIPPED / f"mnist-{base}.pt", path)
        if not path.exists():
            config = SpatialConfig(
                SIZES,
                dimensions=3 if base == "mlp-d3" else 32,
                layer_spacing=0.1,
                spiking=SpikingConfig(**suggested_spiking(self.dataset)) if base == "snn-d32" else None,
            )
            recipe = replace(suggested_recipe(config.dimensions, self.dataset), seed=self.seed)
            print(f"seed {self.seed}: training {base}", file=sys.stderr)
            train(config, self.dataset, recipe, out=path, replace=True)
        return path

    def checkpoint(self, base: str) -> checkpoints.Checkpoint:
        """The trained spatially embedded network."""
        return checkpoints.load(self.path(base))

    def network(self, base: str) -> Network:
        """The trained network with its weights written out."""
        if base == "dense":
            return self.fully_connected()
        return precompute(checkpoints.to_network(self.checkpoint(base)))

    def fully_connected(self) -> Network:
        """784-512-10 with free weights, trained on the same data."""
        path = self.folder / "dense.npz"
        if not path.exists():
            print(f"seed {self.seed}: training the fully connected network", file=sys.stderr)
            np.savez(path, *_arrays(_train_dense(self.dataset, self.seed)))
        with np.load(path) as arrays:
            w1, b1, w2, b2 = (arrays[name] for name in arrays.files)
        return Network((Layer(Dense(w1), b1, Relu()), Layer(Dense(w2), b2, Identity())))

    def accuracy(self, network: Network) -> float:
        """On the test data, in percent."""
        x, y = self.dataset.test_inputs, self.dataset.test_labels
        found = [reference.run(network, x[i : i + CHUNK], np.float32).argmax(1) for i in range(0, len(y), CHUNK)]
        return float(100 * np.mean(np.concatenate(found) == y))

    def result(self, row: Row) -> dict[str, Any]:
        """Figures of a row, from the cache if they are there."""
        path = self.folder / f"{row.name}.json"
        if not path.exists():
            began = time.perf_counter()
            network = row.compress(self, row.base)
            seconds = time.perf_counter() - began
            figures = {
                "before": self.accuracy(self.network(row.base)),
                "after": self.accuracy(precompute(network)),
                "macs": network.macs,
                "bytes": network.nbytes,
                "seconds": seconds,
                "load": Path("/proc/loadavg").read_text().split()[0] if Path("/proc/loadavg").exists() else "?",
            }
            path.write_text(json.dumps(figures))
            print(f"seed {self.seed}: {row.name}: {figures}", file=sys.stderr)
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def _arrays(network: Network) -> list[Any]:
    return [array for layer in network.layers for array in (layer.weight.to_dense(), layer.bias)]


def _train_dense(dataset: datasets.Dataset, seed: int) -> Network:
    recipe = replace(
        suggested_recipe(32, dataset),
        epochs=DENSE_EPOCHS,
        learning_rate=DENSE_LEARNING_RATE,
        second_moment=0.999,
        seed=seed,
    )
    rng = np.random.default_rng(seed)
    layers = [
        Layer(
            Dense((rng.standard_normal((n_out, n_in)) * (2 / n_in) ** 0.5).astype(np.float32)),
            np.zeros(n_out, np.float32),
            Relu() if n_out != SIZES[-1] else Identity(),
        )
        for n_in, n_out in pairwise(SIZES)
    ]
    module = FreeNetwork(Network(tuple(layers)))
    examples = prepare(dataset, recipe)
    steps = recipe.epochs * steps_per_epoch(examples, recipe)
    run = Run(module, *one_cycle(list(module.parameters()), recipe, steps), torch.Generator().manual_seed(seed))
    while run.epoch < recipe.epochs:
        run_epoch(run, examples, recipe, label_loss, lambda _: None)
    return module.stored()


def pruned(bench: Bench, base: str, **request: Any) -> Network:
    """One shot, with calibration inputs alone."""
    return prune(bench.network(base), calibration=bench.calibration, **request)


def factorized(bench: Bench, base: str, **request: Any) -> Network:
    """Low rank, or low rank and a sparse near field, with calibration inputs alone."""
    return factorize(bench.network(base), calibration=bench.calibration, **request)


def int8(bench: Bench, base: str, **request: Any) -> Network:
    """Low rank with int8 weights."""
    network = factorized(bench, base, **request)
    return to_int8_weights(network, calibration=thinned(bench.calibration, INT8_INPUTS))


def tuned(bench: Bench, base: str, pattern: str = "unstructured", sparsity: float = 0.9) -> Network:
    """Coordinates trained under a pattern: still a SEN."""
    checkpoint = bench.checkpoint(base)
    recipe = coordinate_recipe(suggested_recipe(checkpoint.config.dimensions, bench.dataset))
    request = PruneRequest(sparsity, pattern=Pattern.parse(pattern))
    return finetune(checkpoint, bench.dataset, request, replace(recipe, epochs=TUNED_EPOCHS, seed=bench.seed)).network


def distilled(bench: Bench, base: str, start: Callable[[Bench, str], Network]) -> Network:
    """Free weights trained towards the original network's outputs, without labels but for the choice of the epoch."""
    recipe: Recipe = replace(free_recipe(suggested_recipe(32, bench.dataset)), epochs=DISTILLED_EPOCHS, seed=bench.seed)
    original = bench.network(base)
    return distil(start(bench, base), original, bench.dataset, recipe, Tuning(distillation=1.0)).network


def rows() -> list[Row]:
    """Everything that is compressed; what is claimed first."""
    near = partial(factorized, rank=8, near=0.06, layers=[0])
    sen = [
        Row("one shot 80 %", "mlp-d32", partial(pruned, sparsity=0.8), 1.0),
        Row("low rank, 10 % of the MACs", "mlp-d32", partial(factorized, macs=0.1)),
        Row("rank 8 + sparse, 10 % of the MACs", "mlp-d32", near, 0.3),
        Row("rank 8 + sparse, distilled", "mlp-d32", partial(distilled, start=near), 0.1),
        Row("low rank, distilled", "mlp-d32", partial(distilled, start=partial(factorized, macs=0.1))),
        Row("rank 40, int8 weights", "mlp-d32", partial(int8, rank=40), 0.5),
        Row("fine-tuned 90 %", "mlp-d32", tuned, 0.4),
        Row("fine-tuned 95 %", "mlp-d32", partial(tuned, sparsity=0.95), 1.0),
        Row("fine-tuned 90 % in 16x1", "mlp-d32", partial(tuned, pattern="16x1"), 0.7),
        Row("fine-tuned 90 % in 1x4", "mlp-d32", partial(tuned, pattern="1x4"), 0.7),
        Row("fine-tuned 80 %, d = 3", "mlp-d3", partial(tuned, sparsity=0.8), 1.0),
        Row("fine-tuned 90 %, spiking", "snn-d32", tuned, 0.6),
        Row("one shot 90 %", "mlp-d32", partial(pruned, sparsity=0.9)),
        Row("one shot 95 %", "mlp-d32", partial(pruned, sparsity=0.95)),
        Row("one shot 90 % in 16x1", "mlp-d32", partial(pruned, sparsity=0.9, pattern="16x1")),
        Row("one shot 90 % in 1x4", "mlp-d32", partial(pruned, sparsity=0.9, pattern="1x4")),
        Row("one shot 90 %, spiking", "snn-d32", partial(pruned, sparsity=0.9)),
    ]
    dense = [Row(f"fully connected, one shot {100 * s:.0f} %", "dense", partial(pruned, sparsity=s)) for s in SHARES]
    return [*sen, *dense]


def accuracy_lines(benches: list[Bench]) -> tuple[list[str], bool]:
    """One line of Markdown for each row over all seeds, and whether the claims hold."""
    lines = [
        "| compressed | original | compressed | drop, mean (range) | at most | MACs | bytes |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    holds = True
    for row in rows():
        found = [bench.result(row) for bench in benches]
        drops = [each["before"] - each["after"] for each in found]
        claim = ""
        if row.most is not None:
            fits = float(np.mean(drops)) <= row.most
            holds &= fits
            claim = f"{row.most:g} {'pass' if fits else 'FAIL'}"
        before, after = (np.mean([each[name] for each in found]) for name in ("before", "after"))
        lines.append(
            f"| {row.name} | {before:.2f} | {after:.2f} | {np.mean(drops):.2f} ({min(drops):.2f} to {max(drops):.2f}) "
            f"| {claim} | {found[0]['macs']:,} | {found[0]['bytes']:,} |"
        )
    return lines, holds


def comparison_lines(benches: list[Bench]) -> list[str]:
    """Spatially embedded beside fully connected networks with as many synapses left, pruned the same way."""
    by_name = {row.name: row for row in rows()}
    lines = [
        "| synapses left | SEN, one shot | fully connected, one shot | SEN ahead by |",
        "| --- | ---: | ---: | ---: |",
    ]
    for share in SHARES:
        sen, dense = (
            float(np.mean([bench.result(by_name[f"{kind}one shot {100 * share:.0f} %"])["after"] for bench in benches]))
            for kind in ("", "fully connected, ")
        )
        lines.append(f"| {1 - share:.0%} | {sen:.2f} | {dense:.2f} | {sen - dense:.2f} |")
    return lines


def speed(bench: Bench) -> tuple[list[str], bool]:
    """Low rank with int8 weights on the native engine beside the dense float32 export on litert, real inputs."""
    x = thinned(bench.dataset.test_inputs, 256)
    small = int8(bench, "mlp-d32", rank=40)
    dense = bench.network("mlp-d32")
    ratios = []
    with quiet_engines():
        for _ in range(3):  # engines take turns; each measures in blocks, in random order
            native = measure({"small": small}, "native", x, SECONDS / 6).median_us("small")
            ratios.append(measure({"dense": dense}, "litert", x, SECONDS / 6).median_us("dense") / native)
    ratio = float(np.median(ratios))
    verdict = "pass" if ratio >= 5 else "FAIL"
    line = (
        "| rank 40, int8 weights, native engine: times as fast as the dense float32 export on litert | "
        f"{ratio:.1f} | at least 5 | {verdict} |"
    )
    return [line], ratio >= 5


def second_order_seconds(bench: Bench) -> tuple[list[str], bool]:
    """Wall time of pruning the 784 x 512 layer, everything included."""
    network = bench.network("mlp-d32")
    began = time.perf_counter()
    prune(network, sparsity=0.9, layers=[0], calibration=bench.calibration)
    seconds = time.perf_counter() - began
    verdict = "pass" if seconds < 15 else "FAIL"
    what = f"second-order pruning of 784 x 512, {len(bench.calibration):,} inputs: seconds"
    return [f"| {what} | {seconds:.1f} | below 15 | {verdict} |"], seconds < 15


def report(seeds: list[int], data_dir: Path | None) -> tuple[list[str], bool]:
    """Lines of Markdown, and whether every claim holds."""
    dataset = datasets.load("mnist", data_dir)
    benches = [Bench(seed, dataset) for seed in seeds]
    for row in rows():
        for bench in benches:
            bench.result(row)
    accuracies, holds = accuracy_lines(benches)
    others = ["| claim | measured | asked | result |", "| --- | ---: | --- | --- |"]
    for part in (speed, second_order_seconds):
        lines, fits = part(benches[0])
        others += lines
        holds &= fits
    large, fits = large_layers()
    names = ", ".join(map(str, seeds))
    lines = [
        f"`python benchmarks/compression.py --write`, seeds {names}; accuracies in percent of 10,000 test images.",
        "",
        *accuracies,
        "",
        *comparison_lines(benches),
        "",
        *others,
        *large,
    ]
    return lines, holds and fits


def large_layers() -> tuple[list[str], bool]:
    """Layers of 65,536 neurons on either side, each in a process of its own, so that its memory is its own."""
    lines, holds = [], True
    for form, error, seconds, gigabytes, times in (("low-rank", 1e-3, 60, 2, 1), ("hierarchical", 1e-2, 300, 4, 20)):
        command = [sys.executable, str(ROOT / "benchmarks/far_field.py"), form]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        pattern = r"radius ([\d.]+): ([\d.]+) s, peak ([\d.]+) GiB, .*relative error ([\d.e-]+) .* 1/(\d+)"
        found = re.search(pattern, printed)
        assert found is not None, printed
        radius, took, peak, missed, smaller = map(float, found.groups())
        fits = took < seconds and peak < gigabytes and missed <= error and smaller >= times
        holds &= fits
        asked = f"{error:g}, {seconds} s, {gigabytes} GiB" + (f", {times} times" if times > 1 else "")
        lines.append(
            f"| 65,536 x 65,536, {form}, discs of radius {radius:g}: error, time, peak memory, times smaller "
            f"| {missed:.2g}, {took:.0f} s, {peak:.2f} GiB, {smaller:.0f} | {asked} | {'pass' if fits else 'FAIL'} |"
        )
    return lines, holds


def main(arguments: list[str]) -> int:
    """Compress, test, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the page")
    parser.add_argument("--seeds", default="0,1,2", help="seeds, separated by commas")
    parser.add_argument("--data-dir", type=Path, help="folder of the MNIST files")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", CompressionWarning)
    lines, holds = report(list(map(int, options.seeds.split(","))), options.data_dir)
    print("\n".join(lines))
    if options.write:
        before, _, rest = PAGE.read_text().partition(START)
        PAGE.write_text("\n".join([before + START, "", *lines, "", END + rest.partition(END)[2]]))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
