"""Signal handling: SIGTERM and SIGHUP interrupt a command as Ctrl-C does.

`interrupt_on_signals` raises KeyboardInterrupt. Inside it, `defer_interrupts` lets a loop finish its present step.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
#: A closing terminal sends SIGHUP twice; the second must not interrupt the clean-up.
REPEATED_S = 2.0


class _Latest:
    """Monotonic time of the latest signal."""

    at = float("-inf")


def _is_repeated() -> bool:
    before, _Latest.at = _Latest.at, time.monotonic()
    return _Latest.at - before <= REPEATED_S


@contextmanager
def _handle(numbers: Iterable[int], handler: Callable[[int, object], None]) -> Iterator[None]:
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt in the main thread on SIGTERM and SIGHUP; keep existing handlers."""
    if threading.current_thread() is not threading.main_thread():  # handlers need the main thread
        yield
        return
    _Latest.at = float("-inf")

    def interrupt(*_: object) -> None:
        if not _is_repeated():
            raise KeyboardInterrupt

    with _handle([number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL], interrupt):
        yield


@contextmanager
def defer_interrupts() -> Iterator[Callable[[], bool]]:
    """Record Ctrl-C, SIGTERM and SIGHUP instead of raising; the returned function returns whether one arrived.

    A second one raises KeyboardInterrupt, as does the first outside the main thread. Ignored signals stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    received: list[int] = []

    def record(number: int, _: object) -> None:
        is_repeated = _is_repeated() and number != signal.SIGINT
        if received and not is_repeated:
            raise KeyboardInterrupt
        received.append(number)

    numbers = (signal.SIGINT, *SIGNALS)
    with _handle([number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN], record):
        yield lambda: bool(received)
