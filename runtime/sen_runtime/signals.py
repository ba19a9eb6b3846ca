"""Requests to end: SIGTERM and SIGHUP interrupt a command as Ctrl-C does.

`requests_interrupt` raises KeyboardInterrupt; within it, `noted_requests` lets a loop end where its result is whole.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

REQUESTS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
#: A closing terminal sends SIGHUP twice, and the second must not interrupt the clean-up.
REPEATED_S = 2.0


class _Latest:
    """When the latest request came, by the monotonic clock."""

    at = float("-inf")


def _is_repeated() -> bool:
    before, _Latest.at = _Latest.at, time.monotonic()
    return _Latest.at - before <= REPEATED_S


@contextmanager
def requests_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt in the main thread on SIGTERM and SIGHUP; signals that are handled or ignored stay so."""
    if threading.current_thread() is not threading.main_thread():  # where no handler can be set
        yield
        return
    _Latest.at = float("-inf")

    def interrupt(*_: object) -> None:
        if not _is_repeated():
            raise KeyboardInterrupt

    handled = [request for request in REQUESTS if signal.getsignal(request) is signal.SIG_DFL]
    for request in handled:
        signal.signal(request, interrupt)
    try:
        yield
    finally:
        for request in handled:
            signal.signal(request, signal.SIG_DFL)


@contextmanager
def noted_requests() -> Iterator[Callable[[], bool]]:
    """Note Ctrl-C, SIGTERM and SIGHUP instead of raising; the function tells whether one came.

    A second one raises KeyboardInterrupt; so does the first in a thread that is not the main one. Signals that are
    ignored stay so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    noted: list[int] = []

    def note(number: int, _: object) -> None:
        is_repeated = _is_repeated() and number != signal.SIGINT
        if noted and not is_repeated:
            raise KeyboardInterrupt
        noted.append(number)

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, *REQUESTS)}
    handled = [number for number, handler in previous.items() if handler is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, note)
    try:
        yield lambda: bool(noted)
    finally:
        for number in handled:
            signal.signal(number, previous[number])
