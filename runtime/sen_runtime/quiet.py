"""Suppression of announcements that native libraries write to stderr."""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

#: Descriptor of native code.
STDERR = 2


def is_announcement(line: bytes) -> bool:
    """Return whether a line of a native library is information, not a warning or an error."""
    return line.startswith(b"INFO: ")


def forward(lines: Iterable[bytes]) -> None:
    """Write lines to stderr, except announcements."""
    with suppress(OSError):  # stderr may be closed or full
        for line in lines:
            if not is_announcement(line):
                os.write(STDERR, line)


@contextmanager
def suppress_announcements() -> Iterator[None]:
    """Capture stderr of native libraries; pass on all lines but announcements at the end.

    The report of `faulthandler` on a crash is not captured.
    """
    try:
        saved = os.dup(STDERR)
    except OSError:  # stderr is closed
        yield
        return
    with tempfile.TemporaryFile() as captured, open(saved, "wb", closefd=True) as own:  # noqa: PTH123 - a descriptor
        sys.stderr.flush()
        os.dup2(captured.fileno(), STDERR)
        was_enabled = faulthandler.is_enabled()
        faulthandler.enable(own)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, STDERR)
            faulthandler.disable()
            if was_enabled:
                faulthandler.enable(STDERR)
            captured.seek(0)
            forward(captured)
