"""Saved state of a training between epochs.

The file is a plain dict of tensors and values, read by `sen_edge.model.tensor_file` without running code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from sen_edge.data.datasets import Dataset
from sen_edge.errors import CheckpointError, OutputError, UsageError
from sen_edge.model import tensor_file
from sen_edge.model.config import SpatialConfig
from sen_edge.training.loop import Best, Epoch, Recipe, Run
from sen_runtime.files import write_atomic
from sen_runtime.untrusted import printable, quote, read_regular

FORMAT = "sen-edge-training-state"
VERSION = 2
#: Exceptions of restoring a damaged state.
DAMAGE = (RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)


def state_path(out: Path) -> Path:
    """Return the path of the state for the checkpoint `out`."""
    return out.with_name(f"{out.name}.resume")


def options_of(config: SpatialConfig, dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    """Return the options that a resumed training must share with the interrupted one."""
    values = config.to_dict()
    spiking = values.pop("spiking") or {}
    return {
        **values,
        **{f"spiking {name}": value for name, value in spiking.items()},
        **asdict(recipe),
        "dataset": dataset.name,
        "content of the dataset (SHA-256)": dataset.sha256,
        "threads": torch.get_num_threads(),
    }


def save_state(run: Run, path: Path, options: Mapping[str, Any]) -> None:
    """Replace the state file."""
    buffer = BytesIO()
    state = {
        "format": FORMAT,
        "version": VERSION,
        "options": dict(options),
        "history": [vars(epoch) for epoch in run.history],
        "network": run.network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "schedule": run.schedule.state_dict(),
        "generator": run.generator.get_state(),
        "best": None if run.best is None else vars(run.best),
    }
    torch.save(state, buffer)
    try:
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def restore(run: Run, path: Path, options: Mapping[str, Any]) -> None:
    """Restore an interrupted run.

    Raises:
        CheckpointError: the file is damaged, or no state.
        UsageError: the options differ.
    """
    unreadable = f"{path} is damaged or not the state of an interrupted training"
    hint = "pass --force instead of --resume to start over"
    try:
        state = tensor_file.read(path, read_regular(path, error=CheckpointError))
    except CheckpointError as error:
        raise CheckpointError(f"{unreadable}: {error.message}", hint) from error
    try:
        if (state["format"], state["version"]) != (FORMAT, VERSION):
            raise CheckpointError(unreadable, hint)
        _check_options(path, state["options"], options)
        run.network.load_state_dict(state["network"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.schedule.load_state_dict(state["schedule"])
        run.generator.set_state(state["generator"])
        run.history = [Epoch(**figures) for figures in state["history"]]
        run.best = None if state["best"] is None else Best(**state["best"])
    except DAMAGE as error:
        raise CheckpointError(f"{unreadable}: {type(error).__name__} {printable(str(error), 200)}", hint) from error


def _check_options(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differences = [
        f"{printable(str(name), 80).replace('_', ' ')} is {quote(now.get(name))}, was {quote(before.get(name))}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]
    if differences:
        raise UsageError(
            f"{path} belongs to a training with other options: " + "; ".join(differences),
            hint="resume with the same options, or pass --force instead of --resume to start over",
        )
