"""Networks, compression methods and cached results of benchmarks/compression.py."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sen_edge.compression.finetune import distil, finetune, finetune_recipe, free_recipe
from sen_edge.compression.lowrank import factorize
from sen_edge.compression.prune import prune
from sen_edge.compression.request import CompressRequest, Tuning
from sen_edge.data.datasets import Dataset
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.model.parameters import Checkpoint
from sen_edge.passes.materialize import materialize
from sen_edge.passes.quantize import to_int8_weights
from sen_edge.training.recipe import suggested_recipe
from sen_edge.training.train import suggested_spiking, train, train_conventional
from sen_runtime.data.subsample import subsample
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Relu
from sen_runtime.ir.operators import Dense
from sen_runtime.scores import network_scores
from sen_runtime.task import ACCURACY

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "out/compression"
SHIPPED = ROOT / "examples/checkpoints"
SIZES = (784, 512, 10)
#: Number of unlabelled training inputs for one-shot methods, and for the rounding of int8 weights.
N_CALIBRATION, N_INT8_INPUTS = 20_000, 2048
#: Epochs of training after compression.
TUNED_EPOCHS, DISTILLED_EPOCHS = 20, 10
#: Recipe of the fully connected networks, which need fewer epochs than coordinates.
DENSE_EPOCHS, DENSE_LEARNING_RATE, DENSE_SECOND_MOMENT = 30, 1e-3, 0.999

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """Network, compression method and claim.

    Attributes:
        name: first column of the table.
        base: network: "mlp-d32", "mlp-d3", "snn-d32" or "dense".
        method: key of `METHODS`.
        options: arguments of the method; with seed and network they determine the result.
        max_drop: max mean loss of test accuracy in points; None without a claim.
    """

    name: str
    base: str
    method: str
    options: Options = field(default_factory=dict)
    max_drop: float | None = None

    def path(self, seed: int) -> Path:
        """Return the path of the cached result."""
        content = json.dumps([self.base, self.method, self.options, seed, N_CALIBRATION], sort_keys=True)
        slug = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return CACHE / str(seed) / f"{slug}.{hashlib.sha256(content.encode()).hexdigest()[:10]}.json"


def cached(path: Path, compute: Callable[[], Any]) -> Any:
    """Return the JSON content of `path`; compute and write it if the file is missing."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = compute()
        print(f"{path.parent.name}/{path.stem}: {found}", file=sys.stderr, flush=True)
        path.write_text(json.dumps(found))
    return json.loads(path.read_text())


class Bench:
    """Data, networks and results of one seed."""

    def __init__(self, seed: int, dataset: Dataset) -> None:
        self.seed, self.dataset = seed, dataset
        self.folder = CACHE / str(seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.calibration = subsample(dataset.train_inputs, N_CALIBRATION)

    def checkpoint(self, base: str) -> Checkpoint:
        """Load the trained spatially embedded network, or train it; seed 0 is the shipped checkpoint."""
        path = self.folder / f"{base}.pt"
        if not path.exists() and self.seed == 0:
            shutil.copy(SHIPPED / f"mnist-{base}.pt", path)
        if not path.exists():
            dimensions = int(base.partition("-d")[2])
            spiking = SpikingConfig(**suggested_spiking(self.dataset)) if base.startswith("snn") else None
            config = SpatialConfig(SIZES, dimensions=dimensions, layer_spacing=0.1, spiking=spiking)
            recipe = replace(suggested_recipe(self.dataset, dimensions), seed=self.seed)
            print(f"{self.seed}: training {base}", file=sys.stderr, flush=True)
            train(config, self.dataset, recipe, out=path, replace=True)
        return checkpoints.load(path)

    def network(self, base: str) -> Network:
        """Return the trained network with materialized weights."""
        if base != "dense":
            return materialize(checkpoints.to_network(self.checkpoint(base)))
        path = self.folder / f"dense-{DENSE_EPOCHS}.npz"
        if not path.exists():
            print(f"{self.seed}: training the fully connected network", file=sys.stderr, flush=True)
            layers = train_dense(self.dataset, self.seed).layers
            np.savez(path, *(array for layer in layers for array in (layer.weight.to_dense(), layer.bias)))
        with np.load(path) as arrays:
            w1, b1, w2, b2 = (arrays[name] for name in arrays.files)
        return Network((Layer(Dense(w1), b1, Relu()), Layer(Dense(w2), b2, Identity())))

    def accuracy(self, network: Network) -> float:
        """Return the test accuracy in percent."""
        return network_scores(network, self.dataset.test)[ACCURACY]

    def original_accuracy(self, base: str) -> float:
        """Return the test accuracy of the network before compression, in percent."""
        found: float = cached(self.folder / f"original-{base}.json", lambda: self.accuracy(self.network(base)))
        return found

    def result(self, row: Row) -> dict[str, Any]:
        """Return the figures of a row: accuracy before and after, MACs, parameters, bytes."""
        found: dict[str, Any] = cached(row.path(self.seed), lambda: self._measure(row))
        return found

    def _measure(self, row: Row) -> dict[str, Any]:
        began = time.perf_counter()
        network, learned = METHODS[row.method](self, row.base, **row.options)
        seconds = time.perf_counter() - began
        biases = sum(layer.bias.size for layer in network.layers if layer.bias is not None)
        return {
            "before": self.original_accuracy(row.base),
            "after": self.accuracy(materialize(network)),
            "macs": network.macs,
            "of_macs": sum(int(np.prod(layer.weight.shape)) for layer in self.network(row.base).layers),
            "numbers": network.macs + biases if learned is None else learned,
            "bytes": network.nbytes,
            "seconds": seconds,
        }


def train_dense(dataset: Dataset, seed: int) -> Network:
    """Train 784-512-10 with free weights on the same images with the same shifts."""
    recipe = replace(suggested_recipe(dataset), epochs=DENSE_EPOCHS, seed=seed)
    recipe = replace(recipe, learning_rate=DENSE_LEARNING_RATE, second_moment=DENSE_SECOND_MOMENT)
    return train_conventional(SpatialConfig(SIZES), dataset, recipe).network


# Network, and number of parameters if it is still a SEN.
Compressed = tuple[Network, int | None]


def prune_once(bench: Bench, base: str, **request: Any) -> Compressed:
    """Prune without training."""
    return prune(bench.network(base), calibration=bench.calibration, **request), None


def factorize_once(bench: Bench, base: str, **request: Any) -> Compressed:
    """Factorize to low rank, or low rank and a sparse near field, without training."""
    return factorize(bench.network(base), calibration=bench.calibration, **request), None


def int8(bench: Bench, base: str, *, method: str, options: Options) -> Compressed:
    """Apply another method, then quantize weights to int8."""
    network, _ = METHODS[method](bench, base, **options)
    return to_int8_weights(network, calibration=subsample(bench.calibration, N_INT8_INPUTS)), None


def prune_and_tune(
    bench: Bench, base: str, *, sparsity: float, pattern: str = "unstructured", epochs: int
) -> Compressed:
    """Prune and train the coordinates; the result is still a SEN."""
    original = bench.checkpoint(base)
    recipe = finetune_recipe(suggested_recipe(bench.dataset, original.config.dimensions))
    recipe = replace(recipe, epochs=epochs, seed=bench.seed)
    found = finetune(original, bench.dataset, CompressRequest(sparsity, pattern=pattern), recipe)
    assert found.checkpoint is not None
    return found.network, found.checkpoint.n_parameters


def compress_and_distil(bench: Bench, base: str, *, method: str, options: Options, epochs: int) -> Compressed:
    """Apply another method, then distil the weights from the original network; labels only select the epoch."""
    start, _ = METHODS[method](bench, base, **options)
    recipe = free_recipe(bench.dataset, epochs, bench.seed)
    return distil(start, bench.network(base), bench.dataset, recipe, Tuning(distillation=1.0)).network, None


METHODS: dict[str, Callable[..., Compressed]] = {
    "pruned": prune_once,
    "factorized": factorize_once,
    "int8": int8,
    "tuned": prune_and_tune,
    "distilled": compress_and_distil,
}


def _tuned(name: str, sparsity: float, max_drop: float | None = None, base: str = "mlp-d32", **options: Any) -> Row:
    options = {"sparsity": sparsity, "epochs": TUNED_EPOCHS, **options}
    return Row(f"fine-tuned, {sparsity:.0%}{name}", base, "tuned", options, max_drop)


def _pruned(name: str, sparsity: float, max_drop: float | None = None, base: str = "mlp-d32", **options: Any) -> Row:
    return Row(f"one-shot, {sparsity:.0%}{name}", base, "pruned", {"sparsity": sparsity, **options}, max_drop)


def _distilled(name: str, base: str, method: str, options: Options, max_drop: float | None = None) -> Row:
    return Row(name, base, "distilled", {"method": method, "options": options, "epochs": DISTILLED_EPOCHS}, max_drop)


LOW_RANK: Options = {"macs": 0.1}
NEAR: Options = {"rank": 8, "near": 0.06, "layers": [0]}
NEAR_16: Options = {"rank": 16, "near": 0.035, "layers": [0]}

#: Networks whose latency is measured, by name of the row.
SMALL: dict[str, Options] = {
    "low rank, int8 weights": {"method": "factorized", "options": LOW_RANK},
    "rank 40, int8 weights": {"method": "factorized", "options": {"rank": 40}},
}
DISTILLED = _distilled("low rank, distilled", "mlp-d32", "factorized", LOW_RANK)

#: Rows in the order of the table.
ROWS = (
    _pruned("", 0.8, 1.0),
    _pruned("", 0.9),
    _pruned("", 0.95),
    _pruned(", 16x1 blocks", 0.9, pattern="16x1"),
    _pruned(", 1x4 blocks", 0.9, pattern="1x4"),
    _tuned("", 0.0),
    _tuned("", 0.8),
    _tuned("", 0.9, 0.4),
    _tuned("", 0.95, 1.0),
    _tuned(", 16x1 blocks", 0.9, 0.7, pattern="16x1"),
    _tuned(", 1x4 blocks", 0.9, 0.7, pattern="1x4"),
    _tuned(", spiking", 0.9, 0.6, "snn-d32"),
    _tuned(", d = 3", 0.8, 1.0, "mlp-d3"),
    Row("rank 8 + sparse", "mlp-d32", "factorized", NEAR, 0.3),
    Row("rank 16 + sparse", "mlp-d32", "factorized", NEAR_16),
    Row("low rank", "mlp-d32", "factorized", LOW_RANK),
    *(Row(name, "mlp-d32", "int8", options, 0.5) for name, options in SMALL.items()),
    _distilled("rank 8 + sparse, distilled", "mlp-d32", "factorized", NEAR, 0.1),
    DISTILLED,
    Row("low rank, distilled, int8 weights", "mlp-d32", "int8", {"method": "distilled", "options": DISTILLED.options}),
)


@dataclass(frozen=True)
class Pair:
    """SEN and fully connected network with equal density and compression method."""

    method: str
    sparsity: float
    spatial: Row
    dense: Row


def _pairs(sparsity: float) -> list[Pair]:
    magnitude = {"criterion": "magnitude"}
    second_order = _pruned(", fully connected", sparsity, base="dense")
    dense_name = f"distilled, {sparsity:.0%}, fully connected"
    return [
        Pair("one-shot, magnitude", sparsity, *_both(sparsity, magnitude)),
        Pair("one-shot, second-order", sparsity, _pruned("", sparsity), second_order),
        Pair(
            "trained after pruning",
            sparsity,
            _tuned("", sparsity),
            _distilled(dense_name, "dense", "pruned", second_order.options),
        ),
    ]


def _both(sparsity: float, options: Options) -> tuple[Row, Row]:
    return (
        _pruned(" by magnitude", sparsity, **options),
        _pruned(" by magnitude, fully connected", sparsity, base="dense", **options),
    )


PAIRS = tuple(pair for sparsity in (0.8, 0.9, 0.95) for pair in _pairs(sparsity))


def all_rows() -> list[Row]:
    """Return every distinct row, those with a claim first."""
    rows = [
        *sorted(ROWS, key=lambda row: row.max_drop is None),
        *(row for pair in PAIRS for row in (pair.spatial, pair.dense)),
    ]
    return list({row.path(0): row for row in rows}.values())
