"""Engines in a worker process, so a crash of an engine does not end the calling process.

Each process has at most one worker. It starts with the first request, restarts after a crash, and ends with its parent,
even a killed one, because its stdin ends.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from sen_runtime.engines import Model
from sen_runtime.engines.session import Array
from sen_runtime.errors import EngineCrashError, EngineError, MissingExtraError
from sen_runtime.quiet import STDERR, is_announcement
from sen_runtime.untrusted import printable
from sen_runtime.worker.frames import decode_error, receive, send

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {} import main; main(*sys.argv[2:])"
#: Time for a worker to end by itself.
GRACE_S = 2.0


class WorkerSession:
    """A model loaded in the worker.

    Attributes:
        engine: name of the engine.
        batch_size: fixed batch, or None.
    """

    def __init__(self, process: _Process, number: int, batch_size: int | None, engine: str, what: str) -> None:
        self._process, self._number, self._what = process, number, what
        self.engine, self.batch_size = engine, batch_size

    def run(self, x: Array) -> Array:
        """Return outputs `[batch, n_out]`.

        Raises:
            EngineCrashError: the engine crashed.
            EngineError: the engine refuses the input.
        """
        return self._call("run", {"x": x})["output"]

    def run_all(self, x: Array) -> dict[str, Array]:
        """Return the outputs, and `layerN/activation` of every visible hidden layer; raises as `run`."""
        return self._call("run_all", {"x": x})

    def close(self) -> None:
        """Release the model."""
        if self._process.is_alive:
            self._call("close")

    def _call(self, command: str, arrays: Mapping[str, Array] | None = None) -> dict[str, Array]:
        request = {"command": command, "session": self._number}
        return self._process.call(f"while it ran {self._what} in {self.engine}", request, arrays)[1]

    def __enter__(self) -> WorkerSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Process:
    """A running worker."""

    def __init__(self) -> None:
        self.path = list(sys.path)
        self._lock = threading.Lock()
        self._folder = tempfile.mkdtemp(prefix="sen-edge-")  # engines may leave files after a crash
        self._errors = cast(BinaryIO, open(os.path.join(self._folder, "stderr"), "a+b"))  # noqa: PTH118, PTH123, SIM115
        try:
            self._process = subprocess.Popen(
                command("sen_runtime.worker.child", self.path),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, "TMPDIR": self._folder},
                start_new_session=True,  # Ctrl-C is for the parent
            )
        except OSError:
            self._remove()
            raise

    @property
    def is_alive(self) -> bool:
        """Whether it accepts requests."""
        return not self._errors.closed and self._process.poll() is None

    def call(
        self, doing: str, request: Mapping[str, Any], arrays: Mapping[str, Array] | None = None
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Send a request and return the response.

        Args:
            doing: end of a crash message, such as "while it loaded net.tflite".
            request: plain values.
            arrays: of the request.
        """
        with self._lock:
            try:
                send(cast(BinaryIO, self._process.stdin), request, arrays)
                answer, results = receive(cast(BinaryIO, self._process.stdout))
            except (OSError, EOFError, ValueError):
                raise self._crash(doing) from None
            except BaseException:  # the pending response would be read as another's
                self.end(at_once=True)
                raise
            self._forward_output()
        if "error" in answer:
            raise decode_error(answer["error"])
        return answer, results

    def end(self, *, at_once: bool = False) -> None:
        """End the process and remove its files."""
        if self._errors.closed:
            return
        if at_once:
            self._process.kill()
        with suppress(OSError):  # the process ended early
            cast(BinaryIO, self._process.stdin).close()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        cast(BinaryIO, self._process.stdout).close()
        self._remove()

    def abandon(self) -> None:
        """Close the streams without ending the process."""
        self._errors.close()
        for stream in (self._process.stdin, self._process.stdout):
            cast(Any, stream).raw.close()  # buffered data belong to the parent

    def _crash(self, doing: str) -> EngineCrashError:
        if self._errors.closed:
            return EngineCrashError("the engine's process has ended", "load the model again")
        self._process.kill()
        code = self._process.wait()
        error = crash_error(code, self._read_output(), doing)
        self.end()
        return error

    def _forward_output(self) -> None:
        """Write the output of engines to stderr, except announcements."""
        for line in self._read_output():
            if not is_announcement(line):
                try:
                    os.write(STDERR, line)
                except OSError:  # closed or full
                    return

    def _read_output(self) -> list[bytes]:
        self._errors.seek(0)
        lines = [line for line in self._errors if line.strip()]
        self._errors.truncate(0)
        return lines

    def _remove(self) -> None:
        self._errors.close()
        shutil.rmtree(self._folder, ignore_errors=True)


_running: _Process | None = None
_starting = threading.Lock()


def load(engine: str, model: Model, what: str) -> WorkerSession:
    """Load a model in an engine, in the worker.

    Args:
        engine: name of the engine.
        model: path, or bytes.
        what: name of the model for messages.

    Raises:
        EngineCrashError: the engine crashed; the message has its last line.
        SenError: from the engine's `load`.
    """
    request: dict[str, Any] = {"command": "load", "engine": engine, "environment": _environment()}
    arrays = {}
    if isinstance(model, bytes):
        arrays["model"] = np.frombuffer(model, np.uint8)
    else:
        request["path"] = str(Path(model).absolute())
    process = _worker()
    try:
        answer, _ = process.call(f"while it loaded {what}", request, arrays)
    except EngineCrashError as error:
        raise EngineCrashError(f"{engine}: {error.message}", error.hint) from None
    return WorkerSession(process, answer["session"], answer["batch_size"], engine, what)


def versions(names: Sequence[str]) -> tuple[dict[str, str], dict[str, MissingExtraError]]:
    """Return the versions of installed engines, and the errors of missing ones.

    Raises:
        EngineError: an engine does not exist, or does not load.
    """
    request = {"command": "versions", "names": list(names), "environment": _environment()}
    answer, _ = _worker().call(f"while {' or '.join(names)} was imported", request)
    missing = {name: cast(MissingExtraError, decode_error(error)) for name, error in answer["missing"].items()}
    return answer["versions"], missing


def _environment() -> dict[str, str]:
    """Return the environment without the temporary folder, which the worker replaces."""
    return {name: value for name, value in os.environ.items() if name != "TMPDIR"}


def _worker() -> _Process:
    """Return the worker; start it if there is none or the import path changed."""
    global _running  # noqa: PLW0603 - one per process
    with _starting:
        if _running is not None and (not _running.is_alive or _running.path != sys.path):
            _running.end()
            _running = None
        if _running is None:
            try:
                _running = _Process()
            except OSError as error:
                raise EngineError(
                    f"cannot start the engine process: {error.strerror}",
                    "set the environment variable TMPDIR to a writable folder",
                ) from error
        return _running


def _close() -> None:
    global _running  # noqa: PLW0603
    if _running is not None:
        _running.end()
        _running = None


def _forget() -> None:
    """Abandon the worker in a fork: it belongs to the parent, and ends with the parent's streams."""
    global _starting  # noqa: PLW0603
    _starting = threading.Lock()
    if _running is not None:
        _running.abandon()


def command(module: str, path: Sequence[str], *arguments: str) -> list[str]:
    """Return the command line of a process that calls `main` of a module.

    Its import path is exactly `path`: without the current folder and user site.
    """
    return [sys.executable, "-I", "-c", _START.format(module), json.dumps(path), *arguments]


def crash_error(code: int, printed: Sequence[bytes], doing: str) -> EngineCrashError:
    """Return the error of an engine that ended its process with an exit status and this output on stderr."""
    lines = [line for line in printed if line.strip() and not is_announcement(line)]
    last = printable(lines[-1].decode(errors="replace").strip(), 200) if lines else "no output"
    return EngineCrashError(f"the engine crashed ({_describe_status(code)}) {doing}: {last}")


def _describe_status(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"{name}, possibly out of memory" if name == "SIGKILL" else name


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
