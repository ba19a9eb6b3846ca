"""Standard streams of a command that tolerate closed, broken and full targets, and announcements of native libraries.

Output files do not depend on stdout; the exit code does not depend on stderr. A closed stream acts as /dev/null. A
broken pipe is no error. Any other failure of stdout loses output, and `finish` reports it. Characters missing in the
encoding are escaped.
"""

from __future__ import annotations

import errno
import faulthandler
import io
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, TextIO

from sen_runtime.errors import EXIT_FAILED

ENCODING = "utf-8"
#: Descriptor of native code.
STDERR = 2


class _Raw(io.RawIOBase):
    """Raw stream that ignores failed writes.

    Attributes:
        failure: first failure, or None.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, data: Any) -> int:
        try:
            return self._stream.write(data)
        except OSError as error:
            self.failure = self.failure or error
            return len(data)


class Stream(io.TextIOWrapper):
    """Text stream whose writes never raise."""

    def __init__(self, stream: IO[bytes], encoding: str = ENCODING, *, line_buffering: bool = True) -> None:
        self.raw = _Raw(stream)
        buffer = io.BufferedWriter(self.raw)
        super().__init__(buffer, encoding, errors="backslashreplace", line_buffering=line_buffering)


def protect() -> None:
    """Replace stdout and stderr by a `Stream` each; keep streams that a caller replaced.

    Closed standard descriptors are opened first, so no file gets a descriptor that native code writes to.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # lowest free descriptor
    for name in ("stdout", "stderr"):
        current = getattr(sys, name)
        if current is getattr(sys, f"__{name}__") and not isinstance(current, Stream):
            setattr(sys, name, _wrap(current, line_buffering=name == "stderr"))


def is_animated(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that moves its cursor; color settings do not matter."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def duplicate_stderr() -> TextIO:
    """Return a new stream on the present stderr; stderr itself if it is no file."""
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, io.UnsupportedOperation):
        return sys.stderr
    return Stream(io.FileIO(descriptor, "w"), sys.stderr.encoding)


def finish(code: int) -> int:
    """Flush stdout and return the exit code; 1 instead of 0 if output is lost."""
    sys.stdout.flush()
    failure = sys.stdout.raw.failure if isinstance(sys.stdout, Stream) else None
    if failure is None or failure.errno == errno.EPIPE:
        return code
    sys.stderr.write(f"error: cannot write to stdout: {failure.strerror}; output files are not affected\n")
    return code or EXIT_FAILED


def _wrap(stream: TextIO | None, *, line_buffering: bool) -> Stream:
    if stream is None:
        return Stream(io.FileIO(os.devnull, "w"))
    stream.flush()
    raw = getattr(stream.buffer, "raw", stream.buffer)
    return Stream(raw, stream.encoding, line_buffering=line_buffering or stream.isatty())


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
