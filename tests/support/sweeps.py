"""Trials for workers in tests, without torch; some fail."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sen_edge.sweep.file import trial_id

Settings = Mapping[str, Any]


def quick(settings: Settings) -> dict[str, Any]:
    """Figures that follow from the settings."""
    exponent, seed = settings["training"]["exponent"], settings["training"]["seed"]
    accuracy = 90 - 10 * (exponent - 1.3) ** 2 + seed / 100 - settings["training"]["dims"] / 10
    return {
        "validation_accuracy": accuracy,
        "test_accuracy": 100 - accuracy,  # a ranking by it would be the reverse
        "best_epoch": 1,
        "parameters": 100,
        "macs": 1000,
        "weight_bytes": 400,
    }


def first_alone(settings: Settings) -> dict[str, Any]:
    """The first trial ends; the others take longer than any test."""
    if settings["training"]["exponent"] != 1.0 or settings["training"]["seed"] != 0:
        time.sleep(300)
    return quick(settings)


def uneven(settings: Settings) -> dict[str, Any]:
    """The first seed takes longest, so that trials end in another order than they begin."""
    time.sleep(0.2 if settings["training"]["seed"] == 0 else 0.0)
    return quick(settings)


def is_marked(settings: Settings) -> bool:
    return bool(settings["training"]["exponent"] == 2.0 and settings["training"]["seed"] == 0)


def fails(settings: Settings) -> dict[str, Any]:
    """One of them."""
    if is_marked(settings):
        raise RuntimeError("no luck")
    return quick(settings)


def waits_to_be_killed(settings: Settings) -> dict[str, Any]:
    """One of them, in the first process that runs it; `data_dir` is where the test looks for its number."""
    marker = Path(settings["data"]["data_dir"]) / f"{trial_id(settings)}.pid"
    if is_marked(settings) and not marker.exists():
        marker.with_suffix(".part").write_text(str(os.getpid()))
        marker.with_suffix(".part").rename(marker)
        time.sleep(300)
    return quick(settings)


def kills_its_worker(settings: Settings) -> dict[str, Any]:
    """One of them, each time; it leaves a file for each."""
    if is_marked(settings):
        (Path(settings["data"]["data_dir"]) / f"{os.getpid()}.died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return quick(settings)
