"""Native libraries announce themselves on stderr; this keeps them from it."""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: The descriptor that native code writes to.
STDERR = 2


def is_announcement(line: bytes) -> bool:
    """Whether a line that a native library wrote is information, not a warning or an error."""
    return line.startswith(b"INFO: ")


@contextmanager
def quiet_engines() -> Iterator[None]:
    """Keep native libraries from announcing themselves on stderr; what is more than information is passed on.

    What they write comes at the end. Should one die, Python's own report of that is not held back.
    """
    try:
        saved = os.dup(STDERR)
    except OSError:  # there is no stderr to keep clean
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
            for line in captured:
                if not is_announcement(line):
                    with suppress(OSError):  # stderr may be closed or full
                        os.write(STDERR, line)
