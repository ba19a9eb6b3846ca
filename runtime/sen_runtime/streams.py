"""Standard streams of a command: what a terminal, a pipe or a full disk does to them changes no result.

Output files do not depend on stdout, and the exit code does not depend on stderr. A stream that is closed counts as
/dev/null. A pipe whose reader ended has been read as far as its reader wanted. Any other failure of stdout loses a
result, so that `finish` reports it. Characters that the encoding lacks are written as escapes.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import IO, Any, TextIO

from sen_runtime.errors import EXIT_FAILED

ENCODING = "utf-8"


class _Raw(io.RawIOBase):
    """A raw stream whose failed writes count as done.

    Attributes:
        failure: the first one, or None.
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
    """A text stream on which writing never fails."""

    def __init__(self, stream: IO[bytes], encoding: str = ENCODING, *, line_buffering: bool = True) -> None:
        self._raw = _Raw(stream)
        buffer = io.BufferedWriter(self._raw)
        super().__init__(buffer, encoding, errors="backslashreplace", line_buffering=line_buffering)

    @property
    def failure(self) -> OSError | None:
        """The first write that failed, or None."""
        return self._raw.failure


def protect() -> None:
    """Replace the process's stdout and stderr by a `Stream` each; streams that a caller put in place are kept.

    Closed standard descriptors are opened first: a file must not get their numbers, on which native code writes.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name in ("stdout", "stderr"):
        current = getattr(sys, name)
        if current is getattr(sys, f"__{name}__") and not isinstance(current, Stream):
            setattr(sys, name, _protected(current, line_buffering=name == "stderr"))


def duplicate_stderr() -> TextIO:
    """A stream of its own on what stderr is now; stderr itself where that is no file."""
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, io.UnsupportedOperation):
        return sys.stderr
    return Stream(io.FileIO(descriptor, "w"), sys.stderr.encoding)


def finish(code: int) -> int:
    """Flush stdout; the exit code, which is 1 instead of 0 where output is lost."""
    sys.stdout.flush()
    failure = sys.stdout.failure if isinstance(sys.stdout, Stream) else None
    if failure is None or failure.errno == errno.EPIPE:
        return code
    sys.stderr.write(f"error: cannot write to stdout: {failure.strerror}; output files are not affected\n")
    return code or EXIT_FAILED


def _protected(stream: TextIO | None, *, line_buffering: bool) -> Stream:
    if stream is None:
        return Stream(io.FileIO(os.devnull, "w"))
    stream.flush()
    raw = getattr(stream.buffer, "raw", stream.buffer)
    return Stream(raw, stream.encoding, line_buffering=line_buffering or stream.isatty())
