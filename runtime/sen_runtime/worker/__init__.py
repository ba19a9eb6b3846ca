"""Engines in a worker process, so a crash of an engine does not end the calling process.

Each process has at most one worker that loads models. It starts with the first request, restarts after a crash, and
ends with its parent, even a killed one, because its stdin ends. Requests and answers are pickled: the worker has the
rights of its parent, so that an engine in it is trusted as much as one in the parent.
"""

from __future__ import annotations

import atexit
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from sen_runtime.engines import Model
from sen_runtime.engines.session import Array
from sen_runtime.errors import EngineCrashError, EngineError, MissingExtraError
from sen_runtime.quiet import forward, is_announcement
from sen_runtime.untrusted import printable
from sen_runtime.worker import child

T = TypeVar("T")

#: Starts with exactly the import path of the parent: without the current folder and user site.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from sen_runtime.worker.child import main; main()"
#: Time for a worker to end by itself.
GRACE_S = 2.0


class WorkerSession:
    """A model loaded in the worker.

    Attributes:
        engine: name of the engine.
        batch_size: fixed batch, or None.
    """

    def __init__(self, process: Process, number: int, batch_size: int | None, engine: str, what: str) -> None:
        self._process, self._number, self._what = process, number, what
        self.engine, self.batch_size, self._is_closed = engine, batch_size, False

    def run(self, x: Array) -> Array:
        """Return outputs `[batch, n_out]`.

        Raises:
            EngineCrashError: the engine crashed.
            EngineError: the engine refuses the input.
        """
        return self._call(child.run, x)

    def run_all(self, x: Array) -> dict[str, Array]:
        """Return the outputs, and `layerN/activation` of every visible hidden layer; raises as `run`."""
        return self._call(child.run_all, x)

    def close(self) -> None:
        """Release the model; a second call does nothing."""
        if not self._is_closed and self._process.is_alive:
            self._call(child.close)
        self._is_closed = True

    def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        if self._is_closed:
            raise EngineError(f"the session of {self._what} is closed", "load the model again")
        return self._process.call(f"while it ran {self._what} in {self.engine}", function, self._number, *arguments)

    def __enter__(self) -> WorkerSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Process:
    """A worker process that calls functions."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        """Start the process.

        Args:
            is_quiet: drop the output of engines, instead of writing it to stderr.

        Raises:
            EngineError: it cannot be started.
        """
        self.path = list(sys.path)
        self._lock, self._is_quiet = threading.Lock(), is_quiet
        folder: Path | None = None
        try:
            self._folder = folder = Path(tempfile.mkdtemp(prefix="sen-edge-"))  # engines may leave files after a crash
            self._errors = (self._folder / "stderr").open("a+b")
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _START, json.dumps(self.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, "TMPDIR": str(self._folder)},
                start_new_session=True,  # Ctrl-C is for the parent
            )
        except OSError as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            raise EngineError(
                f"cannot start the engine process: {error.strerror}",
                "set the environment variable TMPDIR to a writable folder",
            ) from error
        self._requests, self._answers = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)

    @property
    def is_alive(self) -> bool:
        """Whether it accepts requests."""
        return not self._errors.closed and self._process.poll() is None

    def call(self, doing: str, function: Callable[..., T], *arguments: Any, limit_s: float | None = None) -> T:
        """Call a function of a module in the process, and return its result.

        Args:
            doing: end of a crash message, such as "while it loaded net.tflite".
            function: of a module that the process can import.
            arguments: of the function.
            limit_s: seconds after which the process is killed, which counts as a crash.

        Raises:
            EngineCrashError: the process ended; the message has its last line.
            SenError: from the function.
        """
        timer = threading.Timer(limit_s or 0, self._process.kill)
        with self._lock:
            try:
                if limit_s is not None:
                    timer.start()
                request = (dict(os.environ), function, arguments)
                self._requests.write(pickle.dumps(request, pickle.HIGHEST_PROTOCOL))
                self._requests.flush()
                result, error = pickle.load(self._answers)  # noqa: S301 - see the module's docstring
            except (OSError, EOFError, ValueError, pickle.UnpicklingError):
                raise self._crash(doing) from None
            except BaseException:  # the pending response would be read as another's
                self.end(at_once=True)
                raise
            finally:
                timer.cancel()
            output = self._read_output()
            if not self._is_quiet:
                forward(output)
        if error is not None:
            raise error
        return cast(T, result)

    def end(self, *, at_once: bool = False) -> None:
        """End the process and remove its files."""
        if self._errors.closed:
            return
        if at_once:
            self._process.kill()
        with suppress(OSError):  # the process ended early
            self._requests.close()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._errors.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def abandon(self) -> None:
        """Close the streams without ending the process."""
        self._errors.close()
        for stream in (self._requests, self._answers):
            cast(Any, stream).raw.close()  # buffered data belong to the parent

    def _crash(self, doing: str) -> EngineCrashError:
        if self._errors.closed:
            return EngineCrashError("the engine's process has ended", "load the model again")
        with suppress(subprocess.TimeoutExpired):  # the pipe closes before the process has ended
            self._process.wait(GRACE_S)
        self._process.kill()
        code = self._process.wait()
        lines = [line for line in self._read_output() if not is_announcement(line)]
        self.end()
        last = printable(lines[-1].decode(errors="replace").strip(), 200) if lines else "no output"
        return EngineCrashError(f"the engine crashed ({_describe_status(code)}) {doing}: {last}")

    def _read_output(self) -> list[bytes]:
        self._errors.seek(0)
        lines = [line for line in self._errors if line.strip()]
        self._errors.truncate(0)
        return lines


_running: Process | None = None
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
    process, given = _worker(), model if isinstance(model, bytes) else Path(model).absolute()
    try:
        number, batch_size = process.call(f"while it loaded {what}", child.load, engine, given)
    except EngineCrashError as error:
        raise EngineCrashError(f"{engine}: {error.message}", error.hint) from None
    return WorkerSession(process, number, batch_size, engine, what)


def versions(names: Sequence[str]) -> tuple[dict[str, str], dict[str, MissingExtraError]]:
    """Return the versions of installed engines, and the errors of missing ones.

    Raises:
        EngineError: an engine does not exist, or does not load.
    """
    return _worker().call(f"while {' or '.join(names)} was imported", child.versions, list(names))


def _worker() -> Process:
    """Return the worker; start it if there is none or the import path changed."""
    global _running  # noqa: PLW0603 - one per process
    with _starting:
        if _running is not None and (not _running.is_alive or _running.path != sys.path):
            _close()
        if _running is None:
            _running = Process()
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


def _describe_status(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"{name}, possibly out of memory" if name == "SIGKILL" else name


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
