"""Runs the program on a device (`agent.py`) over the system's OpenSSH, in one connection.

Keys, agent and configuration are the user's. `ssh` never prompts, and always checks host keys.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

from sen_edge.remote.agent import GRACE_S, GROUP, MARK, WORKING_FOLDERS
from sen_runtime.errors import SenError
from sen_runtime.untrusted import load_json

#: Exit statuses of a shell whose command is absent or cannot be executed.
NO_COMMAND = (126, 127)
#: Exit status of ssh itself.
LOST = 255
INTERRUPTED = "interrupted"
POLL_S = 0.05
#: Lines of standard error that are kept; a changed host key takes fifteen.
LAST_LINES = 16
#: Bytes of a line, and of a record.
MAX_LINE, MAX_RECORD = 1 << 16, 1 << 30
OPTIONS = (
    "BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=15", "ServerAliveInterval=10",
    "ServerAliveCountMax=3", "LogLevel=ERROR", "ClearAllForwardings=yes", "ForwardAgent=no", "ForwardX11=no",
    "PermitLocalCommand=no", "RemoteCommand=none", "RequestTTY=no",
)  # fmt: skip
#: Pattern in standard error -> message and hint.
EXPLANATIONS = {
    "IDENTIFICATION HAS CHANGED": (
        "host key changed",
        "if that is expected (a new memory card), remove the old key with `ssh-keygen -R HOST`, connect once with "
        "`ssh`, and compare the fingerprint; otherwise the connection may be intercepted",
    ),
    "Host key verification failed": (
        "unknown host key",
        "connect once with `ssh` and compare the fingerprint, or add the key with `ssh-keyscan`",
    ),
    r"Permission denied \(": (
        "authentication failed",
        "check that `ssh -o BatchMode=yes HOST` works: is the key there (`ssh-copy-id`), and in the agent (`ssh-add`) "
        "if it has a passphrase?",
    ),
    "Could not resolve": ("unknown host name", "check the spelling, or give its IP address"),
    "Connection refused": ("connection refused", "check that sshd runs there, and the port"),
    "timed out": ("no answer", "check that the host is on, and on this network"),
    "No route to host": ("no route to the host", "check that the host is on, and on this network"),
    "No space left|File too large|quota exceeded": ("disk full on the host", "free space in ~/.cache/sen-edge there"),
    "ensurepip": ("the host's Python cannot create virtual environments", "on Debian: sudo apt install python3-venv"),
    "the installation failed": (
        "installation of the runtime failed",
        "the host needs an index of packages, for numpy and scikit-build-core; without one, prepare an environment "
        "there and name its interpreter in the inventory: python = ...",
    ),
}


class StageError(SenError):
    """A stage failed on a host: connect, python, install, upload, measure or fetch.

    Its lines are the last ones of standard error.
    """

    def __init__(self, message: str, hint: str = "", *, stage: str, lines: Iterable[str] = ()) -> None:
        super().__init__(message, hint)
        self.stage = stage
        self.lines = tuple(lines)


@dataclass
class Call:
    """A run of the program on a device."""

    address: str
    python: str  # interpreter there; `~/` at its start is the home there
    job: Mapping[str, Any]  # see `agent`
    content: Iterable[bytes]  # the files of the job, one after the other
    config: Path | None  # ssh configuration instead of the user's
    timeout_s: float
    stop: threading.Event  # set when it is to be stopped before
    note: Callable[[str], None]  # receives progress, and standard error of the measurement, line by line
    said: dict[str, Any] = field(default_factory=dict)  # the last value of each kind that the program sent
    record: bytearray = field(default_factory=bytearray)  # output of the measurement
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))  # the last ones of standard error
    started_s: float = 0.0  # by the monotonic clock

    def run(self) -> int:
        """Exit status of the measurement, which may have been interrupted and left a record.

        Raises:
            StageError: there is no record.
        """
        self.started_s = time.monotonic()
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen(self._command(), **pipes, start_new_session=True)  # out of reach of Ctrl-C
        streams = {self._feed: process.stdin, self._read_output: process.stdout, self._read_errors: process.stderr}
        threads = [threading.Thread(target=each, args=(stream,), daemon=True) for each, stream in streams.items()]
        for thread in threads:
            thread.start()
        while process.poll() is None and not self.is_late() and not self.stop.wait(POLL_S):
            pass
        is_late = process.poll() is None and self.is_late()
        if process.poll() is None and not threads[0].is_alive():  # the device may send the record so far
            _close(process.stdin)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S + 1)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        process.kill()
        code = process.wait()
        for thread in threads:
            thread.join(GRACE_S)
        _close(process.stdin)
        return self._code(code, is_late=is_late)

    def is_late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.started_s + self.timeout_s

    def _code(self, code: int, *, is_late: bool) -> int:
        """Exit status of the measurement; `code` is that of `ssh`."""
        if self.record and not is_late and "end" in self.said:
            return int(self.said["end"])
        stage, message, hint = self.said.get("stage", "connect"), f"exit status {self.said.get('end', code)}", ""
        if self.stop.is_set():
            message = INTERRUPTED
        elif is_late:
            message, hint = "time limit exceeded", "allow more with --timeout"
        elif "error" in self.said:
            message, hint = self.said["error"]
        elif stage == "connect" and code in NO_COMMAND:
            stage, message = "python", f"no Python on the host: {self.python} does not run"
            hint = "install Python 3.9 or later there, or name its interpreter in the inventory: python = ..."
        elif stage != "connect" and "end" not in self.said:
            message, hint = "connection lost", "check that the host is on, and on this network"
            if code != LOST:
                message, hint = f"the program there was ended (exit status {code})", "its memory may be exhausted"
        elif stage != "measure":
            text = "\n".join(self.lines)
            message, hint = next(
                (each for pattern, each in EXPLANATIONS.items() if re.search(pattern, text)), (message, "")
            )
        raise StageError(message, hint, stage=stage, lines=self.lines)

    def _command(self) -> list[str]:
        """Command of `ssh`; the shell on the device cleans up if the program there is killed."""
        options = [part for option in OPTIONS for part in ("-o", option)]
        options += [] if self.config is None else ["-F", str(self.config)]
        source = (files("sen_edge.remote") / "agent.py").read_text(encoding="utf-8")
        home, path = ('"$HOME"/', self.python[2:]) if self.python.startswith("~/") else ("", self.python)
        folder = f'"$HOME"/{WORKING_FOLDERS}/{shlex.quote(self.job["run"])}'
        clean = f"[ ! -f {folder}/{GROUP} ] || kill -9 -$(cat {folder}/{GROUP}); "
        clean += "" if self.job["keep"] else f"rm -rf {folder}; "
        script = f"{home}{shlex.quote(path)} {shlex.join(['-I', '-c', source])}; code=$?; {clean}exit $code"
        return ["ssh", *options, "--", self.address, script]

    def _feed(self, stream: IO[bytes]) -> None:
        with suppress(OSError):  # the other side has gone
            stream.write(json.dumps(self.job).encode() + b"\n")
            for chunk in self.content:
                stream.write(chunk)
            stream.flush()

    def _read_output(self, stream: IO[bytes]) -> None:
        """Take the lines of the program; all others after the first of them are the record."""
        is_start = True
        with stream:
            while part := stream.readline(MAX_LINE):
                if is_start and part.startswith(MARK.encode()):
                    with suppress(SenError, TypeError, ValueError):
                        name, value = load_json(part[len(MARK) :], "answer")
                        self.said[name] = value
                        if name == "note":
                            self.note(str(value))
                elif self.said and len(self.record) < MAX_RECORD:
                    self.record += part
                is_start = part.endswith(b"\n")

    def _read_errors(self, stream: IO[bytes]) -> None:
        """Take the lines of standard error, without control characters."""
        with stream:
            while raw := stream.readline(MAX_LINE):
                for part in raw.decode(errors="replace").splitlines():
                    line = "".join(character for character in part if character.isprintable()).rstrip()
                    if line:
                        self.lines.append(line)
                        if self.said.get("stage") == "measure":
                            self.note(line)


def _close(stream: IO[bytes] | None) -> None:
    with suppress(OSError, ValueError):
        if stream is not None:
            stream.close()
