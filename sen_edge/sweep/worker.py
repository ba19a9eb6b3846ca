"""Runs in each process of a local cluster when it begins, so that the cluster ends without noise."""

from __future__ import annotations

import logging
import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """The hook that Dask calls.

    Ctrl-C in a terminal reaches workers too, and is not for them: who started the cluster ends them. And a heartbeat
    may find the scheduler closed already; a worker that has lost it for another reason ends by itself, and says so.
    """
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("distributed.worker").addFilter(_is_no_heartbeat)


def _is_no_heartbeat(record: logging.LogRecord) -> bool:
    return "scheduler during heartbeat" not in record.getMessage()
