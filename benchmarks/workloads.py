"""Spatially embedded and fully connected networks on real workloads.

    python benchmarks/workloads.py [--data DIR] [--rows NAME,...] [--seeds 0,1,2] [--write]

Every workload goes through the public API: train, export to float32 and int8 with verification, bench. A finished
training or measurement is a row of benchmarks/workloads.json and is not repeated; delete rows to repeat them. Data
files come from workload_data.py. `--write` writes the tables to docs/results/workloads.md, from all rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pages import write_section
from workload_data import N_TEST, add_data_option, prepare
from workload_tables import tables

import sen_edge
from sen_edge.data import datasets
from sen_edge.data.calibration import MIN_EXAMPLES
from sen_edge.data.datasets import Dataset
from sen_edge.errors import VerificationError
from sen_edge.exporting.manifest import ExportResult
from sen_edge.model.config import SpatialConfig
from sen_edge.training import train as training
from sen_edge.training.recipe import Recipe
from sen_edge.training.request import TrainRequest
from sen_runtime import format as image
from sen_runtime import reference, task
from sen_runtime.files import write_atomic
from sen_runtime.ir.network import Network
from sen_runtime.scores import network_scores

ROOT = Path(__file__).parents[1]
ROWS, PAGE = ROOT / "benchmarks/workloads.json", ROOT / "docs/results/workloads.md"
#: Options of the spatially embedded networks; without any, those of `sen-edge train`.
SPATIAL: dict[str, dict[str, Any]] = {
    "SEN": {},
    "SEN, d = 3": {"dims": 3},
    "SEN, d = 8": {"dims": 8},
    "SEN, d = 16": {"dims": 16},
}
#: The network that is exported and measured; fully connected networks of the same layers, and of as many numbers.
EXPORTED, DENSE, SMALL = "SEN, d = 16", "dense", "dense, as many numbers"
#: Learning rates of fully connected networks: the best on held-out training data with the first seed is that of all
#: seeds. Share of these data.
DENSE_RATES, DENSE_VALIDATION = (1e-3, 2e-3, 4e-3, 8e-3), 0.25
#: Suffixes of the files that engines on this machine run; seconds of a latency measurement.
MEASURED, SECONDS = (".onnx", ".tflite", ".sen"), 10.0

Row = dict[str, Any]


@dataclass(frozen=True)
class Workload:
    """A data file and the options of `train` that the data need.

    Attributes:
        data: name in `workload_data.FILES`.
        options: task, targets and shape of the network; everything else is left to the defaults.
        forms: spatially embedded networks, of `SPATIAL`.
    """

    data: str
    options: Mapping[str, Any] = field(default_factory=dict)
    forms: tuple[str, ...] = tuple(SPATIAL)

    def request(self, **options: Any) -> TrainRequest:
        """Return the request of a training."""
        return TrainRequest(**{"standardize": True, **self.options, **options})


AUTOENCODER = (128, 128, 128, 128, 8, 128, 128, 128, 128)
FEW = ("SEN", "SEN, d = 3", EXPORTED)
WORKLOADS = {
    "wine": Workload("wine", {"target": ("cultivar",)}),
    "breast-cancer": Workload("breast-cancer", {"target": ("diagnosis",)}),
    "diabetes": Workload("diabetes", {"target": ("progression",), "task": "regression"}),
    "friedman": Workload("friedman", {"target": ("y",)}),
    "basic-motions": Workload("basic-motions"),
    "japanese-vowels": Workload("japanese-vowels"),
    "spoken-digits": Workload("spoken-digits", {"hidden": (256,)}, FEW),
    "spoken-digits-snn": Workload("spoken-digits", {"hidden": (256,), "arch": "snn"}, (EXPORTED,)),
    "spoken-digits-steps": Workload(
        "spoken-digits", {"hidden": (256,), "arch": "snn", "input_coding": "current"}, (EXPORTED,)
    ),
    "machine": Workload("machine", {"task": "reconstruction", "hidden": AUTOENCODER, "epochs": 20}, FEW),
}


def read_rows() -> list[Row]:
    """Return the rows of the file, so far."""
    rows: list[Row] = json.loads(ROWS.read_text(encoding="utf-8")) if ROWS.exists() else []
    return rows


def once(key: Row, measure: Callable[[], Row]) -> None:
    """Append the result of a measurement to the file, unless it has a row of this key."""
    if any(key.items() <= row.items() for row in read_rows()):
        return
    row = {**key, **measure()}
    print(json.dumps(row), flush=True)
    others = [each for each in read_rows() if not key.items() <= each.items()]  # of another run on the same file, too
    rows = sorted([*others, row], key=lambda each: (each["workload"], each["form"], each.get("seed", 0)))
    write_atomic(ROWS, ("[\n" + ",\n".join(json.dumps(each) for each in rows) + "\n]\n").encode())


def load(path: Path, request: TrainRequest) -> Dataset:
    """Load the data of a request."""
    return datasets.load(str(path), task=request.task, target=request.target, has_steps=request.has_steps)


def spatial_row(workload: Workload, path: Path, seed: int, options: Mapping[str, Any], out: Path) -> Row:
    """Train a spatially embedded network."""
    request = workload.request(**options, seed=seed)
    result = sen_edge.train(path, out, force=True, **dataclasses.asdict(request))
    scores = {metric.name: round(score, 4) for metric, score in result.test_scores.items()}
    network = sen_edge.load(out).network
    return _figures(scores, result.checkpoint.n_parameters, network, load(path, request))


def dense_row(workload: Workload, path: Path, seed: int, n_numbers: int | None, rate: float | None, out: Path) -> Row:
    """Train a fully connected network, of the same layers or of about `n_numbers`; without a rate, with the best."""
    request = workload.request(seed=seed, weights="free")
    dataset = load(path, request)
    config = training.config_of(request, dataset)
    if n_numbers is not None:
        config = dataclasses.replace(config, layer_sizes=narrowed(config.layer_sizes, n_numbers))
    recipe = training.recipe_of(request, dataset)
    recipe = dataclasses.replace(recipe, learning_rate=rate or best_rate(config, dataset, recipe))
    network = training.train_conventional(config, dataset, recipe).network
    out.write_bytes(image.dumps(network))
    scores = {metric.name: round(score, 4) for metric, score in network_scores(network, dataset.test).items()}
    return {**_figures(scores, count(config.layer_sizes), network, dataset), "learning_rate": recipe.learning_rate}


def best_rate(config: SpatialConfig, dataset: Dataset, recipe: Recipe) -> float:
    """Return the learning rate of `DENSE_RATES` with the best score on held-out training data."""
    metric = task.of(config.task).metric

    def loss(rate: float) -> float:
        held_out = dataclasses.replace(recipe, learning_rate=rate, validation=DENSE_VALIDATION)
        return metric.drop(0.0, training.train_conventional(config, dataset, held_out).validation_score)

    return min(DENSE_RATES, key=loss)


def _figures(scores: Mapping[str, float], numbers: int, network: Network, dataset: Dataset) -> Row:
    """Return the common part of a row; the scores of whole recordings for the machine."""
    metric = next(iter(scores))
    if network.task == task.RECONSTRUCTION:
        scores = {**scores, "ROC AUC of recordings": round(recordings_auc(network, dataset), 4)}
        metric = "ROC AUC of recordings"
    return {"metric": metric, "scores": scores, "numbers": numbers, "layers": _sizes(network)}


def _sizes(network: Network) -> list[int]:
    return [network.n_in, *(layer.weight.shape[0] for layer in network.layers)]


def recordings_auc(network: Network, dataset: Dataset) -> float:
    """Return the ROC AUC in percent of the mean error of a recording, as MLPerf Tiny scores machines."""
    scaling = network.input_scaling
    assert scaling is not None and dataset.test_targets is not None  # the workload is standardized and labelled
    n = sum(N_TEST.values())
    errors = []
    for start in range(0, len(dataset.test_inputs), 1000):
        x = np.asarray(dataset.test_inputs[start : start + 1000])
        outputs = reference.run(network, x, np.float32)
        errors.append(np.square(scaling.standardize(outputs) - scaling.standardize(x)).mean(axis=1))
    means = np.concatenate(errors).reshape(n, -1).mean(axis=1)
    labels = np.asarray(dataset.test_targets).reshape(n, -1)[:, 0]
    above: NDArray[np.float64] = (means[labels == 1][:, None] > means[labels == 0]) * 100.0
    return float(above.mean())


def count(sizes: tuple[int, ...]) -> int:
    """Return the number of weights and biases of a fully connected network."""
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))


def narrowed(sizes: tuple[int, ...], n_numbers: int) -> tuple[int, ...]:
    """Return layers with hidden ones in the same proportion and about `n_numbers` weights and biases."""
    hidden = sizes[1:-1]
    candidates = [
        (sizes[0], *(max(1, round(size * width / max(hidden))) for size in hidden), sizes[-1])
        for width in range(1, 2 * max(hidden) + 1)
    ]
    return min(candidates, key=lambda found: abs(count(found) - n_numbers))


def measure(name: str, workload: Workload, path: Path, seeds: list[int], work: Path) -> None:
    """Train all forms of a workload for all seeds, then export and measure those of the first seed."""
    for seed in seeds:
        for form in workload.forms:
            out, key = model_path(work, name, form, seed), {"workload": name, "form": form, "seed": seed}
            once(key, partial(spatial_row, workload, path, seed, SPATIAL[form], out))
        numbers = next(row["numbers"] for row in read_rows() if (row["workload"], row["form"]) == (name, EXPORTED))
        for form, n_numbers in ((DENSE, None), (SMALL, numbers)):
            out, key = model_path(work, name, form, seed), {"workload": name, "form": form, "seed": seed}
            first = {**key, "seed": seeds[0]}
            rate = next((row["learning_rate"] for row in read_rows() if first.items() <= row.items()), None)
            once(key, partial(dense_row, workload, path, seed, n_numbers, rate, out))
    found = {form: model_path(work, name, form, seeds[0]) for form in (EXPORTED, DENSE, SMALL)}
    if all(path.exists() for path in found.values()):
        once({"workload": name, "form": "exports"}, partial(exports, workload, path, found, work / name))


def model_path(work: Path, name: str, form: str, seed: int) -> Path:
    """Return the path of a trained network."""
    stem = "".join(letter for letter in f"{name}-{form}-{seed}" if letter.isalnum() or letter == "-")
    return work / f"{stem}{'.pt' if form in SPATIAL else '.sen'}"


def exports(workload: Workload, path: Path, models: Mapping[str, Path], out: Path) -> Row:
    """Export models to float32 and int8, verify them, and measure their latencies in one interleaved run."""
    rows: Row = {}
    names: dict[Path, str] = {}
    n_training = len(load(path, workload.request()).train_inputs)
    is_calibrated = "input_coding" not in workload.options and n_training >= MIN_EXAMPLES
    for index, (form, model) in enumerate(models.items()):
        plain = {"data": path, "force": True, "name": f"model{index}"}
        results = {"float32": sen_edge.export(model, out, to=["tflite", "onnx", "sen", "c"], **plain)}
        if is_calibrated:
            small = {**plain, "dtype": "int8", "calibration": path, "name": f"model{index}-int8"}
            try:
                results["int8"] = sen_edge.export(model, out, to="tflite", **small)
            except VerificationError as error:
                print(f"{model.name}: {error.message}", flush=True)
        if form in SPATIAL:
            positions = {**plain, "weights": "coordinates", "name": f"model{index}-coordinates"}
            results["coordinates"] = sen_edge.export(model, out, to="sen", **positions)
        rows[form] = {kind: {"scores": _scores(each), "bytes": _bytes(each)} for kind, each in results.items()}
        if is_calibrated and "int8" not in results:
            rows[form]["int8"] = None  # refused
        for kind in ("float32", "int8"):
            files = results[kind].files if kind in results else ()
            names |= {file: f"{form}, {kind}" for file in files if file.suffix in MEASURED}
    record = sen_edge.bench(list(names), seconds=SECONDS)
    by_file = {file.name: name for file, name in names.items()}
    latencies = [
        [by_file[row["name"].split(" ")[0]], row["engine"], round(row["latency_us"]["median"], 4)]
        for row in record.rows
    ]
    return {"exports": rows, "latencies_us": latencies, "load": round(os.getloadavg()[0], 1)}


def _scores(result: ExportResult) -> dict[str, float]:
    """Return the first score of the model, and of each target in each engine."""
    found = {}
    for artifact in result.artifacts:
        for each in artifact["verification"]:
            first = each["data"]["scores"][0]
            found["model"] = round(first["model"], 4)
            found[f"{artifact['target']}, {each['engine']}"] = round(first["artifact"], 4)
    return found


def _bytes(result: ExportResult) -> dict[str, int]:
    """Return the size of the main file by target; of a C export, of the source."""
    return {each["target"]: next(iter(each["files"].values()))["bytes"] for each in result.artifacts}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_option(parser, WORKLOADS)
    parser.add_argument("--seeds", default="0,1,2", metavar="N,...")
    parser.add_argument("--work", type=Path, help="Folder that keeps the trained networks.")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as scratch:
        for name in filter(None, options.rows.split(",")):
            workload = WORKLOADS[name]
            path, seeds = prepare(workload.data, options.data), [int(seed) for seed in options.seeds.split(",")]
            measure(name, workload, path, seeds, options.work or Path(scratch))
    if options.write:
        write_section(PAGE, tables(read_rows(), WORKLOADS, (*SPATIAL, DENSE, SMALL), DENSE))


if __name__ == "__main__":
    main()
