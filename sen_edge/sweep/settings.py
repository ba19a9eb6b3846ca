"""The settings of one trial: plain values that say all of it, and what torch and the passes take of them.

Nothing is left to a default that could change: what a sweep file does not name is filled in, so that two files that
come to the same settings share the trial.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sen_edge.compress.finetune import check_sparsity
from sen_edge.compress.patterns import Pattern
from sen_edge.compress.request import CompressRequest, PruneRequest, RankRequest, Tuning
from sen_edge.data.datasets import Dataset
from sen_edge.errors import UsageError
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.sweep.keys import CONFIG, KEYS, RECIPE, SPATIAL, SPIKING
from sen_edge.training.dense_baseline import conventional_recipe
from sen_edge.training.loop import Recipe, suggested_recipe
from sen_edge.training.train import suggested_spiking

#: Goes into the hash: a change in what settings mean begins new trials.
VERSION = 2
#: What `sen-edge train` and `sen-edge compress` take where nothing is said.
TRAINING_DEFAULTS: Mapping[str, Any] = {
    "arch": "mlp",
    "weights": "positions",
    "hidden": (512,),
    "dims": 32,
    "layer_spacing": 0.1,
}
COMPRESSION_DEFAULTS: Mapping[str, Any] = {
    "criterion": "second-order",
    "pattern": "unstructured",
    "near": 0.0,
    "epochs": 0,
    "as_checkpoint": False,
    **{name: value for name, value in asdict(Tuning()).items() if name != "temperature"},
}
#: Keys that go only with one of others.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "criterion": ("sparsity", "threshold"),
    "scope": ("sparsity", "threshold"),
    "near": ("rank", "macs", "error"),
    "ramp": ("as_checkpoint",),
    "distillation": ("epochs",),
    "patience": ("epochs",),
}

Settings = Mapping[str, Any]


def settings_of(
    training: Mapping[str, Any],
    compression: Mapping[str, Any],
    seed: int,
    dataset: Dataset,
    place: Mapping[str, Any],
) -> dict[str, Any]:
    """Settings of a trial, checked.

    Args:
        training: values by the keys of [training].
        compression: values by the keys of [compression]; empty for none.
        seed: of training and compression.
        dataset: what is learned.
        place: where a worker finds it: arguments of `sen_edge.data.datasets.load`.

    Raises:
        SenError: values are out of range, or contradict each other.
    """
    config, recipe = _config(training, dataset), _recipe(training, dataset, seed)
    weights = training.get("weights", TRAINING_DEFAULTS["weights"])
    values = None
    if weights == "free":
        _refuse_spatial(training, compression)
    if compression:
        _refuse_useless(compression)
        values = {**dict.fromkeys(KEYS["compression"]), **COMPRESSION_DEFAULTS, **compression}
        _check_compression(request_of(values, seed), weights, config, is_tuned=values["as_checkpoint"])
    settings = {
        "version": VERSION,
        "data": {**place, "sha256": dataset.content_sha256},
        "weights": weights,
        "config": config.to_dict(),
        "recipe": asdict(recipe),
        "compression": values,
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings, allow_nan=False))  # as they are read from a file again
    return plain


def trial_id(settings: Settings) -> str:
    """Name of a trial: a hash of its settings, of the data by what they are and not by where."""
    what = {**settings, "data": {name: settings["data"][name] for name in ("sha256", "spikes")}}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def config_of(settings: Settings) -> SpatialConfig:
    """The network's configuration."""
    return SpatialConfig.from_dict(settings["config"])


def recipe_of(settings: Settings) -> Recipe:
    """The training's recipe."""
    return Recipe(**settings["recipe"])


def request_of(values: Mapping[str, Any], seed: int) -> CompressRequest:
    """The request that values of [compression] make, all keys given.

    Raises:
        UsageError: they contradict each other.
    """
    pattern = Pattern.parse(values["pattern"])
    layers = None if values["layers"] is None else tuple(values["layers"])
    ranks = {name: values[name] for name in ("rank", "macs", "error")}
    prune = rank = None
    if values["sparsity"] is not None or values["threshold"] is not None or pattern.group is not None:
        prune = PruneRequest(
            values["sparsity"], values["threshold"], values["criterion"], values["pattern"], values["scope"], layers
        )
    if any(value is not None for value in ranks.values()):
        rank = RankRequest(**ranks, near=values["near"], pattern=values["pattern"], layers=layers)
    tuning = Tuning(ramp=values["ramp"], distillation=values["distillation"], patience=values["patience"])
    return CompressRequest(prune, rank, values["hierarchical"], None, values["epochs"], tuning, seed)


def place_of(name: str, data_dir: Path | None, *, spikes: bool) -> dict[str, Any]:
    """Where data are, as settings hold it."""
    return {"name": name, "data_dir": None if data_dir is None else str(data_dir), "spikes": spikes}


def _config(training: Mapping[str, Any], dataset: Dataset) -> SpatialConfig:
    values = {**TRAINING_DEFAULTS, **training}
    spiking = {name: values[name] for name in SPIKING if name in values}
    if values["arch"] == "mlp" and spiking:
        raise UsageError(f"{next(iter(spiking))} is for spiking networks", hint='set arch = "snn"')
    return SpatialConfig(
        layer_sizes=(dataset.n_in, *values["hidden"], dataset.n_classes),
        dimensions=values["dims"],
        **{name: values[name] for name in CONFIG if name in values},
        input_range=dataset.input_range,
        spiking=None if values["arch"] == "mlp" else SpikingConfig(**{**suggested_spiking(dataset), **spiking}),
    )


def _recipe(training: Mapping[str, Any], dataset: Dataset, seed: int) -> Recipe:
    dimensions = training.get("dims", TRAINING_DEFAULTS["dims"])
    suggested = suggested_recipe(dimensions, dataset, training.get("exponent", 1.0))
    if training.get("weights") == "free":
        suggested = conventional_recipe(suggested)
    return replace(suggested, seed=seed, **{name: training[name] for name in RECIPE if name in training})


def _refuse_spatial(training: Mapping[str, Any], compression: Mapping[str, Any]) -> None:
    """What only networks with positions have."""
    found = [name for name in training if name in SPATIAL]
    if compression.get("criterion") == "distance":
        found.append("criterion = distance")
    if found:
        raise UsageError(f"{found[0]} is for networks with positions", hint='set weights = "positions"')


def _check_compression(request: CompressRequest, weights: str, config: SpatialConfig, *, is_tuned: bool) -> None:
    """What would fail only once a network is trained."""
    n_layers = len(config.layer_sizes) - 1
    for part in (request.prune, request.rank):
        for index in () if part is None else part.layers or ():
            if index >= n_layers:
                raise UsageError(f"there is no layer {index}; expected 0 to {n_layers - 1}")
    if weights == "free" and request.hierarchical_error is not None:
        raise UsageError("hierarchical is for networks with positions", hint='set weights = "positions"')
    if weights == "free" and is_tuned and not request.epochs:
        raise UsageError(
            "as_checkpoint trains the weights of a conventional network under its pattern, and epochs are 0",
            hint="set epochs, or leave as_checkpoint out",
        )
    if is_tuned and request.epochs:
        if request.prune is None:
            raise UsageError("as_checkpoint with epochs needs a sparsity", hint="leave as_checkpoint out")
        check_sparsity(request.prune)


def _refuse_useless(compression: Mapping[str, Any]) -> None:
    for name, others in NEEDS.items():
        given = [compression.get(other) for other in others]
        if name in compression and all(value is None or value is False for value in given):
            raise UsageError(f"{name} has no use here", hint=f"add {' or '.join(others)}")
