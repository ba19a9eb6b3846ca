"""Settings of one trial: plain values that its figures depend on, and the requests that they make.

Values that a sweep file does not name are filled in, so that two files with equal settings share the trial.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sen_edge.data.datasets import Dataset
from sen_edge.schema import SchemaError
from sen_edge.sweep.file import Compression, Sweep
from sen_edge.training.request import TrainRequest

#: Tables `data` (arguments of `sen_edge.data.datasets.load`, and `sha256`), `training` and `compression`.
Settings = Mapping[str, Any]


def settings_of(sweep: Sweep, values: Mapping[str, Any], seed: int, dataset: Dataset) -> Settings:
    """Settings of a trial; their values may contradict each other."""
    tables = {table: dict(fixed) for table, fixed in sweep.fixed.items()}
    for name, value in values.items():
        table, _, key = name.partition(".")
        tables[table][key] = value
    compression = tables["compression"]
    settings = {
        "data": {
            "name": sweep.data,
            "data_dir": None if sweep.data_dir is None else str(sweep.data_dir),
            "spikes": sweep.is_spikes,
            "sha256": dataset.content_sha256,
        },
        "training": {**asdict(TrainRequest()), **tables["training"], "seed": seed},
        "compression": {**asdict(Compression()), **compression, "seed": seed} if compression else None,
    }
    plain: Settings = json.loads(json.dumps(settings))
    return plain


def trial_id(settings: Settings) -> str:
    """Name of a trial: a hash of its settings; of the data their content counts, not their place."""
    content = {**settings, "data": [settings["data"]["sha256"], settings["data"]["spikes"]]}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def requests_of(settings: Settings) -> tuple[TrainRequest, Compression | None]:
    """Requests of a trial.

    Raises:
        SchemaError: values contradict each other, or have no effect.
    """
    training, is_free = TrainRequest(**settings["training"]), settings["training"]["weights"] == "free"
    if settings["compression"] is None:
        return training, None
    request = Compression(**settings["compression"])
    if request.as_checkpoint and request.epochs:
        request.check_trainable()
    if request.layers is not None and max(request.layers) > len(training.hidden):
        raise SchemaError(f"is {max(request.layers)}; expected 0 to {len(training.hidden)}", key="layers")
    for key, is_spatial in (
        ("criterion", request.criterion == "distance"),
        ("hierarchical", request.hierarchical is not None),
        ("as_checkpoint", request.as_checkpoint and not request.epochs),
    ):
        if is_free and is_spatial:
            raise SchemaError(f"is {getattr(request, key)}, which needs weights positions, or epochs", key=key)
    return training, request if request.task else None
