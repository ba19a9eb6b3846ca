"""Calls of the program on the device through the system's OpenSSH.

Keys, agent and configuration are the user's. `ssh` never asks for anything, and host keys are always checked. One
connection is made, and shared by all calls to the host; where it is lost, the next call makes its own.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

from sen_edge.remote.agent import EXIT_TIMEOUT, GRACE_S, MARK
from sen_runtime.errors import SenError

#: Exit status of `ssh` where the connection itself failed.
EXIT_CONNECTION = 255
INTERRUPTED = "interrupted"
POLL_S = 0.05
#: Of a socket, which takes 104 bytes, of which `ssh` needs some while it makes it.
LONGEST_PATH = 80
LAST_LINES = 8
#: Of a line that is shown, and of what a device may answer, bytes.
LONGEST_LINE, MOST_BYTES = 1 << 16, 1 << 30
READY = "--- sen-edge: connected ---"
#: Seconds for a connection; seconds between signs of life, and how many may be missed.
CONNECT_S, ALIVE_S, MISSED = 15, 10, 3
OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": CONNECT_S,
    "ServerAliveInterval": ALIVE_S,
    "ServerAliveCountMax": MISSED,
    "LogLevel": "ERROR",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
}


class StageError(SenError):
    """A host could not be reached, or what was asked of it failed.

    Attributes:
        lines: the last lines of its standard error.
    """

    def __init__(self, message: str, hint: str = "", lines: Sequence[str] = ()) -> None:
        super().__init__(message, hint)
        self.lines = tuple(lines)


@dataclass(frozen=True)
class Link:
    """A way to a host.

    Attributes:
        address: of the host.
        options: command-line options for `ssh`.
        stop: set when the user wants everything to end.
        deadline: when, by the monotonic clock, the host has had its time.
    """

    address: str
    options: tuple[str, ...]
    stop: threading.Event
    deadline: float

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self.deadline - time.monotonic())


@dataclass(frozen=True)
class Reply:
    """What a call left behind.

    Attributes:
        code: exit status.
        output: what was written to standard output after the mark; None where the program never began.
        lines: last lines of standard error.
        cut: why it was ended from here: "", "timeout" or "interrupted".
    """

    code: int
    output: bytes | None
    lines: tuple[str, ...]
    cut: str = ""


@contextmanager
def connected(
    address: str, folder: Path, config: Path | None, *, stop: threading.Event, timeout_s: float
) -> Iterator[Link]:
    """Connect, and share the connection until the end.

    Args:
        address: of the host.
        folder: a private one, for the socket of the shared connection.
        config: instead of the user's ssh configuration.
        stop: see `Link`.
        timeout_s: seconds for all that is done on the host.

    Raises:
        StageError: no connection; why, and the next step.
    """
    options = [] if config is None else ["-F", str(config)]
    for name, value in OPTIONS.items():
        options += ["-o", f"{name}={value}"]
    link = Link(address, tuple(options), stop, time.monotonic() + timeout_s)
    path = str(folder / "s")
    if os.name == "posix" and len(path) <= LONGEST_PATH:  # elsewhere every call makes a connection of its own
        shared = ("-o", f'ControlPath="{path.replace("%", "%%")}"', "-o", "ControlPersist=no")
        link = replace(link, options=(*link.options, *shared))
    command = ["ssh", *link.options, "-o", "ControlMaster=yes", "--", address, f"echo '{READY}'; read nothing"]
    process = _start(command)
    try:
        _await_connection(process, link)
        yield link
    finally:
        _end(process)


def call(
    link: Link,
    python: str,
    function: str,
    arguments: Sequence[object],
    *,
    chunks: Iterable[bytes] | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> Reply:
    """Call a function of the agent.

    Args:
        link: to the host.
        python: interpreter there; `~/` at its start is the home there.
        function: name in `agent`.
        arguments: of it.
        chunks: what it reads from standard input.
        on_line: takes each line of its standard error, as it comes.
    """
    command = _command(python, function, arguments)
    process = _start(["ssh", *link.options, "-o", "ControlMaster=no", "--", link.address, command])
    read, last = bytearray(), deque[str](maxlen=LAST_LINES)

    def keep(line: str) -> None:
        last.append(line)
        on_line(line)

    readers = [_read_lines(process.stderr, keep), _read_bytes(process.stdout, read)]
    if chunks is not None:
        _feed(process.stdin, chunks)
    cut = ""
    while process.poll() is None and not cut:
        cut = INTERRUPTED if link.stop.is_set() else "timeout" if link.remaining_s == 0 else ""
        if not cut:
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
    if cut and chunks is None:  # the other side sees the end of its input, and may say what it has
        _close(process.stdin)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S + 1)
    _end(process)
    for reader in readers:
        reader.join(GRACE_S)
    _, mark, output = bytes(read).partition(MARK.encode() + b"\n")
    if process.returncode == EXIT_TIMEOUT and mark:
        cut = cut or "timeout"
    return Reply(process.returncode, output if mark else None, tuple(last), cut)


def _command(python: str, function: str, arguments: Sequence[object]) -> str:
    """What the shell on the host is given; everything that is not ours is quoted."""
    source = (files("sen_edge.remote") / "agent.py").read_text(encoding="utf-8")
    home, path = ('"$HOME"/', python[2:]) if python.startswith("~/") else ("", python)
    words = ["-I", "-c", source, function, json.dumps(list(arguments))]
    return f"exec {home}{shlex.quote(path)} {shlex.join(words)}"


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """A process that the terminal's Ctrl-C does not reach: we end it ourselves."""
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def _await_connection(process: subprocess.Popen[bytes], link: Link) -> None:
    said: deque[str] = deque(maxlen=2 * LAST_LINES)  # a changed host key takes fifteen
    ready = threading.Event()
    errors = _read_lines(process.stderr, said.append)
    _read_lines(process.stdout, lambda line: ready.set() if line == READY else None)
    while not ready.wait(POLL_S):
        if process.poll() is not None:
            errors.join(GRACE_S)
            raise connection_error(link.address, tuple(said))
        if link.stop.is_set():
            raise StageError(INTERRUPTED)
        if link.remaining_s == 0:
            raise StageError("no connection in the time that the host has", lines=tuple(said))


def connection_error(address: str, lines: Sequence[str]) -> StageError:
    """Why there is no connection, from what `ssh` said, and the next step."""
    said = "\n".join(lines)
    for part, message, hint in (
        (
            "IDENTIFICATION HAS CHANGED",
            "the host's key is not the one you know",
            "if you know why, e.g. a new memory card, remove the old one with `ssh-keygen -R HOST`, and connect once "
            "with `ssh` to compare the new one; if not, somebody may be in between",
        ),
        (
            "Host key verification failed",
            "the host's key is not known",
            f"connect once with `ssh {address}` and compare the fingerprint, or add the key with `ssh-keyscan`",
        ),
        (
            "Permission denied",
            "the host does not let you in",
            f"see that `ssh -o BatchMode=yes {address}` works: is the key there (`ssh-copy-id`), and in the agent "
            "(`ssh-add`) if it has a passphrase?",
        ),
        ("Could not resolve", "there is no host of this name", "check the spelling, or give its IP address"),
        ("Connection refused", "nothing listens there", "is sshd running, and the port right?"),
        ("timed out", "the host does not answer", "is it on, and on this network?"),
        ("No route to host", "the host cannot be reached", "is it on, and on this network?"),
    ):
        if part in said:
            return StageError(message, hint, lines)
    return StageError("no connection", f"see what `ssh {address}` says", lines)


def _read_lines(stream: IO[bytes] | None, take: Callable[[str], object]) -> threading.Thread:
    """Give every line to `take`, with nothing in it that could steer a terminal."""

    def read() -> None:
        assert stream is not None
        with stream:
            _take_lines(stream, take)

    return _thread(read)


def _take_lines(stream: IO[bytes], take: Callable[[str], object]) -> None:
    while raw := stream.readline(LONGEST_LINE):
        for part in raw.decode("utf-8", errors="replace").splitlines():
            line = "".join(character for character in part if character.isprintable()).rstrip()
            if line:
                take(line)


def _read_bytes(stream: IO[bytes] | None, into: bytearray) -> threading.Thread:
    def read() -> None:
        assert stream is not None
        with stream:
            while block := os.read(stream.fileno(), 1 << 16):
                if len(into) <= MOST_BYTES:  # the rest is read, so that nothing waits, and not kept
                    into.extend(block)

    return _thread(read)


def _feed(stream: IO[bytes] | None, chunks: Iterable[bytes]) -> None:
    def write() -> None:
        assert stream is not None
        try:
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
        except (OSError, ValueError):  # the other side has gone, or a file here, or the call has ended
            pass
        finally:
            _close(stream)  # the other side is told that no more comes, even where a file became shorter

    _thread(write)


def _thread(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def _close(stream: IO[Any] | None) -> None:
    with suppress(OSError, ValueError):
        if stream is not None:
            stream.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _close(process.stdin)
