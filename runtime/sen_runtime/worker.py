"""Engines in a worker process, so a crash of an engine does not end the calling process.

Each process has at most one worker that loads models. It starts with the first request, restarts after a crash, and
ends with its parent, even a killed one, because its stdin ends. Requests and answers are pickled: the worker has the
rights of its parent, so that an engine in it is trusted as much as one in the parent.
"""

from __future__ import annotations

import atexit
import itertools
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
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from sen_runtime import engines
from sen_runtime.engines import Model, Session
from sen_runtime.engines.session import Array
from sen_runtime.errors import EngineCrashError, EngineError, MissingExtraError, SenError
from sen_runtime.memory_limits import allocation_failure
from sen_runtime.streams import forward, is_announcement
from sen_runtime.untrusted import printable

T = TypeVar("T")

#: Starts with exactly the import path of the parent: without the current folder and user site.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from sen_runtime.worker import serve; serve()"
#: Time for a worker to end by itself.
GRACE_S = 2.0

# --- in the calling process ----------------------------------------------------------------------


class WorkerSession(AbstractContextManager["WorkerSession"]):
    """A model loaded in the worker.

    Attributes:
        engine: name of the engine.
        batch_size: fixed batch, or None.
    """

    def __init__(self, process: Process, number: int, batch_size: int | None, engine: str, what: str) -> None:
        self._process, self._number, self._what = process, number, what
        self.engine, self.batch_size, self._is_closed = engine, batch_size, False

    def run(self, x: Array) -> Array:
        """Return outputs `[batch, n_out]`; an `EngineCrashError` if the engine crashed, as `run_all`."""
        return cast(Array, self._call("run", x))

    def run_all(self, x: Array) -> dict[str, Array]:
        """Return the outputs, and `layerN/activation` of every visible hidden layer."""
        return cast("dict[str, Array]", self._call("run_all", x))

    def close(self) -> None:
        """Release the model; a second call does nothing."""
        if not self._is_closed and self._process.is_alive:
            self._call("close")
        self._is_closed = True

    def _call(self, method: str, *arguments: Any) -> Any:
        if self._is_closed:
            raise EngineError(f"the session of {self._what} is closed", "load the model again")
        doing = f"while it ran {self._what} in {self.engine}"
        return self._process.call(doing, _use_session, self._number, method, *arguments)

    def __exit__(self, *_: object) -> None:
        self.close()


class Process:
    """A worker process that calls functions."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        """Start the process; with `is_quiet` the output of engines is dropped, instead of written to stderr."""
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
        """Call a function, of a module that the process can import, and return its result.

        Args:
            doing: end of a crash message, such as "while it loaded net.tflite".
            function: raises subclasses of `SenError`.
            arguments: of the function.
            limit_s: seconds after which the process is killed, which counts as a crash.

        Raises:
            EngineCrashError: the process ended; the message has its last line.
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
        self._await_end()
        self._answers.close()
        self._errors.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def abandon(self) -> None:
        """Close the streams without ending the process."""
        self._errors.close()
        for stream in (self._requests, self._answers):
            cast(Any, stream).raw.close()  # buffered data belong to the parent

    def _await_end(self) -> int:
        """Return the exit code; kill the process after `GRACE_S`."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(GRACE_S)
        self._process.kill()
        return self._process.wait()

    def _crash(self, doing: str) -> EngineCrashError:
        if self._errors.closed:
            return EngineCrashError("the engine's process has ended", "load the model again")
        code = self._await_end()  # the pipe closes before the process has ended
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
    """Load a model, a path or bytes, in an engine, in the worker; messages call it `what`."""
    process, given = _worker(), model if isinstance(model, bytes) else Path(model).absolute()
    try:
        number, batch_size = process.call(f"while it loaded {what}", _load_session, engine, given)
    except EngineCrashError as error:
        raise EngineCrashError(f"{engine}: {error.message}", error.hint) from None
    return WorkerSession(process, number, batch_size, engine, what)


def versions(names: Sequence[str]) -> tuple[dict[str, str], dict[str, MissingExtraError]]:
    """Return the versions of installed engines, and the errors of missing ones."""
    return _worker().call(f"while {' or '.join(names)} was imported", _find_versions, list(names))


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

# --- in the worker -------------------------------------------------------------------------------

#: Loaded models by number, which is never one of a closed session.
_sessions: dict[int, Session] = {}
_numbers = itertools.count(1)


def _find_versions(names: Sequence[str]) -> tuple[dict[str, str], dict[str, MissingExtraError]]:
    missing = engines.missing(names)
    return {name: engines.engine(name).version() for name in names if name not in missing}, missing


def _load_session(engine: str, model: Model) -> tuple[int, int | None]:
    """Load a model; return its number and batch size."""
    session = engines.engine(engine).load(model)
    number = next(_numbers)
    _sessions[number] = session
    return number, session.batch_size


def _use_session(number: int, method: str, *arguments: Any) -> Any:
    session = _sessions.pop(number) if method == "close" else _sessions[number]
    return getattr(session, method)(*arguments)


def serve() -> None:
    """Call functions until stdin ends; output of engines goes to stderr.

    A request is the environment, a function and its arguments; the response is the result, or None and the error.
    """
    requests, answers = _take_standard_streams()
    while True:
        try:
            environment, function, arguments = pickle.load(requests)  # noqa: S301 - from the parent
            environment["TMPDIR"] = os.environ["TMPDIR"]  # of this process
            for name in set(os.environ) - set(environment):
                del os.environ[name]
            os.environ.update(environment)
            answers.write(pickle.dumps(_call(function, arguments), pickle.HIGHEST_PROTOCOL))
            answers.flush()
        except (EOFError, OSError):  # the parent ended
            os._exit(0)  # without destructors of engines


def _call(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, SenError | None]:
    try:
        return function(*arguments), None
    except SenError as error:
        return None, error
    except Exception as error:  # third-party code
        return None, allocation_failure(error) or EngineError(f"{type(error).__name__}: {error}")


def _take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return the streams of requests and responses; redirect descriptors 0 and 1 to /dev/null and stderr."""
    sys.stdout.flush()
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return requests, answers
