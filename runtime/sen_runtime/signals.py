"""Requests to end: SIGTERM and SIGHUP interrupt a command as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

REQUESTS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
#: A closing terminal sends SIGHUP twice, and the second must not interrupt the clean-up.
REPEATED_S = 2.0


@contextmanager
def requests_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt in the main thread on SIGTERM and SIGHUP; signals that are handled or ignored stay so."""
    if threading.current_thread() is not threading.main_thread():  # where no handler can be set
        yield
        return
    last = float("-inf")

    def interrupt(*_: object) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before > REPEATED_S:
            raise KeyboardInterrupt

    handled = [request for request in REQUESTS if signal.getsignal(request) is signal.SIG_DFL]
    for request in handled:
        signal.signal(request, interrupt)
    try:
        yield
    finally:
        for request in handled:
            signal.signal(request, signal.SIG_DFL)
