"""Runs in each process of a local cluster when it begins: Ctrl-C in a terminal reaches it too, and is not for it."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """The hook that Dask calls; the process that started the cluster ends its workers."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
