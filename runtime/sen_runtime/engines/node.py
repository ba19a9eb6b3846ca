"""WebAssembly modules in Node.js, with the loader of the export: a process for each session.

A module of sen-edge imports nothing, so it can only compute; its memory is limited, and a request has a time limit.
Latencies include the transfer to the process, tens of microseconds.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import tempfile
import weakref
from contextlib import ExitStack, suppress
from importlib.resources import as_file, files
from itertools import accumulate
from threading import Timer
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import ArrayLike

from sen_runtime.engines import Engine
from sen_runtime.engines.session import Array, Float32Array, Model, Session, read_model, to_float32
from sen_runtime.engines.wasm_file import read
from sen_runtime.errors import EngineError, MissingExtraError
from sen_runtime.ir.network import MAX_TIMESTEPS
from sen_runtime.memory_limits import require
from sen_runtime.untrusted import load_json, printable

MIN_VERSION = (16, 4)  # the first with SIMD
#: Seconds that a request may take, and rows of one request.
LIMIT_S, ROWS = 60.0, 16
#: Bytes of an answer that is no array: sizes, or the text of an error.
MAX_TEXT = 1 << 20
#: Requests of worker.mjs.
LOAD, RUN, TRACE, RESET, STEP, FINISH = range(6)
_WORDS = struct.Struct("<II")
_NEEDED = f"Node.js {'.'.join(map(str, MIN_VERSION))} or later"
_HINT = f"install {_NEEDED}, such as the Debian package nodejs"


class NodeSession(Session):
    """A module in a process of Node.js."""

    def __init__(self, module: bytes, *, allow_nonfinite: bool) -> None:
        """Start the process and load a module.

        Raises:
            EngineError: the module is damaged, or not one of sen-edge.
            MissingExtraError: Node.js is missing, or too old.
        """
        file = read(module)
        version()
        require(file.memory_bytes, "the memory of the WebAssembly module")
        closing = ExitStack()
        self._close = weakref.finalize(self, closing.close)  # of a session that is not closed, too
        try:
            self._process, self._errors = _start(closing, allow_nonfinite=allow_nonfinite)
            sizes = _Sizes(self._request(LOAD, module, MAX_TEXT))
        except BaseException:
            self._close()
            raise
        super().__init__(sizes.input_shape, allow_nonfinite=allow_nonfinite)
        self.timesteps, self._sizes, self.properties = sizes.timesteps, sizes, file.properties

    def _release(self) -> None:
        self._close()

    def finish(self, readout: ArrayLike) -> Array:
        """Outputs `[n_out]` of `run` from the mean, the last or the sum of the values of `step`, by the readout.

        Raises:
            EngineError: not `[n_out]` numbers, the network does not run step by step, or the session is closed.
        """
        y = to_float32(readout)
        with self._turn:
            self._check_steps()
            return self._floats(FINISH, y, self._sizes.n_out)

    def _run(self, rows: Float32Array) -> Array:
        n_out = self._sizes.n_out
        parts = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
        found = [self._floats(RUN, part, len(part) * n_out) for part in parts]
        outputs: Array = np.concatenate([*found, np.empty(0, np.float32)]).reshape(len(rows), n_out)
        return outputs

    def _run_all(self, rows: Float32Array) -> dict[str, Array]:
        sizes = (self._sizes.n_out, *self._sizes.hidden)
        names = ["output", *(f"layer{index}/activation" for index in range(len(sizes) - 1))]
        traces = np.stack([self._floats(TRACE, row, sum(sizes)) for row in rows])
        return dict(zip(names, np.split(traces, list(accumulate(sizes))[:-1], axis=1)))

    def _step(self, row: Float32Array) -> Array:
        return self._floats(STEP, row, self._sizes.n_out)

    def _reset(self) -> None:
        self._floats(RESET, np.empty(0, np.float32), 0)

    def _floats(self, code: int, values: Float32Array, size: int) -> Float32Array:
        answer = self._request(code, values.astype("<f4").tobytes(), 4 * size)
        if len(answer) != 4 * size:
            raise EngineError(f"the module gives {len(answer) // 4} values; expected {size}", "export the model again")
        found: Float32Array = np.frombuffer(answer, "<f4").astype(np.float32)
        return found

    def _request(self, code: int, content: bytes, max_bytes: int) -> bytes:
        """Return the answer of the process, at most `max_bytes`; the process is killed after `LIMIT_S`."""
        stdin, stdout = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)
        timer = Timer(LIMIT_S, self._process.kill)
        timer.start()
        try:
            count = len(content) if code == LOAD else len(content) // 4
            stdin.write(_WORDS.pack(code, count) + content)
            stdin.flush()
            status, size = _WORDS.unpack(stdout.read(_WORDS.size))
            if size > max(max_bytes, MAX_TEXT):
                raise EngineError(f"the answer of node has {size:,} bytes; expected {max_bytes:,}")
            answer = stdout.read(size)
            if len(answer) < size:
                raise EOFError
        except (OSError, EOFError, struct.error):
            raise self._failure(is_late=timer.finished.is_set()) from None
        finally:
            timer.cancel()
        if status:
            raise EngineError(f"node: {printable(answer.decode(errors='replace'), 300)}")
        return answer

    def _failure(self, *, is_late: bool) -> EngineError:
        """Error of a process that has ended."""
        if is_late:
            return EngineError(f"node was stopped: the module took more than {LIMIT_S:g} s", "export the model again")
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line for line in self._errors.read(MAX_TEXT).decode(errors="replace").splitlines() if line.strip()]
        last = printable(lines[-1], 200) if lines else "no output"
        return EngineError(f"node ended with exit code {code} while it ran the module: {last}")


def _start(closing: ExitStack, *, allow_nonfinite: bool) -> tuple[subprocess.Popen[bytes], BinaryIO]:
    """Start a process; returns it and its stderr. `closing` ends it."""
    folder = closing.enter_context(as_file(files("sen_runtime") / "js"))
    errors = closing.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    try:
        process = subprocess.Popen(
            ["node", str(folder / "worker.mjs"), "allow-nonfinite" if allow_nonfinite else ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for this process
        )
    except OSError as error:
        raise EngineError(f"node does not start: {error.strerror}", _HINT) from error
    closing.callback(_end, process)
    return process, cast(BinaryIO, errors)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        with suppress(OSError):  # a request that was not sent
            cast(BinaryIO, stream).close()


class _Sizes:
    """Sizes of a network, from the first answer of the process."""

    def __init__(self, text: bytes) -> None:
        found = load_json(text, "the answer of node", error=EngineError)

        def number(value: Any) -> int:
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
                raise EngineError(f"the module has a size of {json.dumps(value)[:30]}", "export the model again")
            return value

        self.n_out, self.timesteps = number(found["outputLength"]), number(found["timesteps"])
        self.hidden = [number(size) for size in found["hidden"]]
        features, length = number(found["features"]), number(found["inputLength"])
        self.input_shape = (self.timesteps, features) if found["isSequence"] else (features,)
        if self.timesteps > MAX_TIMESTEPS or int(np.prod(self.input_shape)) != length:
            raise EngineError(f"the module takes {length} values in {self.timesteps} steps of {features}")


def load(model: Model, threads: int = 1, *, allow_nonfinite: bool = False) -> NodeSession:
    """A session on a `.wasm` file that `sen-edge export --to wasm` wrote; `threads` has no effect.

    Raises:
        EngineError: the module is damaged, or not one of sen-edge.
        MissingExtraError: Node.js is missing, or too old.
    """
    return NodeSession(read_model(model), allow_nonfinite=allow_nonfinite)


def version() -> str:
    """Version of Node.js.

    Raises:
        MissingExtraError: it is missing, or too old for SIMD.
    """
    if shutil.which("node") is None:
        raise MissingExtraError("Node.js", _HINT)
    try:
        run = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"node does not start: {error}", _HINT) from error
    found = re.match(r"v(\d+)\.(\d+)\.\d+", run.stdout)
    if found is None or (int(found[1]), int(found[2])) < MIN_VERSION:
        raise MissingExtraError(f"{_NEEDED} (found {printable(run.stdout.strip(), 30) or 'no version'})", _HINT)
    return found[0][1:]


ENGINE = Engine("node", (".wasm",), load, version, is_on_demand=True)
