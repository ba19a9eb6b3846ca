"""Records of trials. Workers import this module first, so it does not import torch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import sen_edge
from sen_runtime.errors import SenError

#: Settings -> figures.
Trial = Callable[[Mapping[str, Any]], dict[str, Any]]
Record = Mapping[str, Any]
#: By the names of the trials.
Records = Mapping[str, Record]


def make_record(trial: Trial, settings: Mapping[str, Any]) -> Record:
    """Run a trial: its figures or its error, seconds, process and versions."""
    start = time.monotonic()
    try:
        figures, error = trial(settings), None
    except SenError as reason:
        figures, error = None, reason.message
    except Exception as reason:  # the other trials go on
        figures, error = None, f"{type(reason).__name__}: {reason}"
    return {**make_failure(error), "figures": figures, "seconds": time.monotonic() - start, "pid": os.getpid()}


def make_failure(error: str | None) -> Record:
    """Record of a trial that ended with its process."""
    versions = {"sen_edge": sen_edge.__version__, "torch": version("torch")}
    return {"figures": None, "error": error, "seconds": None, "pid": None, **versions}
