"""Cold start: time and memory of the first load and the first inference, in another process.

An engine that crashes on the file ends that process, not the benchmark.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sen_runtime import worker
from sen_runtime.bench.inputs import random_inputs
from sen_runtime.bench.memory import peak_bytes
from sen_runtime.engines import engine
from sen_runtime.errors import EngineCrashError, EngineError, SenError
from sen_runtime.memory_limits import allocation_failure
from sen_runtime.worker.frames import decode_error, encode_error

#: Far beyond the load time of a model for a small board.
LIMIT_SECONDS = 120.0
CLEAR = Path("/proc/self/clear_refs")
#: Written to `CLEAR`: resets the peak of the resident memory.
RESET_PEAK = "5"


@dataclass(frozen=True)
class ColdStart:
    """Figures of a cold start.

    Attributes:
        load_us: loading the model, without importing the engine's library.
        first_us: the first inference, on one input (a batch, where the model has a fixed one).
        rss_growth_bytes: growth of the peak of the resident memory in both; None where it is not known.
    """

    load_us: float
    first_us: float
    rss_growth_bytes: int | None


def cold_start(path: Path, engine_name: str, threads: int, limit_seconds: float = LIMIT_SECONDS) -> ColdStart:
    """Load a model for the first time and run it once, in a child process.

    Raises:
        SenError: from the engine.
        EngineCrashError: the engine crashed.
        EngineError: it took longer than `limit_seconds`.
    """
    arguments = (str(path.absolute()), engine_name, str(threads))
    try:
        done = subprocess.run(
            worker.command(__name__, sys.path, *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EngineError(
            f"{path}: the engine {engine_name} did not load it and run it once within {limit_seconds:g} s"
        ) from None
    except OSError as error:
        raise EngineError(f"cannot start {sys.executable}: {error.strerror}") from error
    try:
        answer = json.loads(done.stdout.decode("utf-8", "replace").strip().splitlines()[-1])
    except (ValueError, IndexError):
        crash = worker.crash_error(
            done.returncode, done.stderr.splitlines(), f"while it loaded {path.name} or ran it once"
        )
        raise EngineCrashError(f"{engine_name}: {crash.message}") from None
    if "error" in answer:
        raise decode_error(answer["error"])
    return ColdStart(**answer)


def _reset_peak() -> None:
    with suppress(OSError):  # on an old kernel the peak includes the import of the library
        CLEAR.write_text(RESET_PEAK)


def _measure(path: Path, engine_name: str, threads: int) -> dict[str, Any]:
    found = engine(engine_name)
    found.version()  # imports the library
    _reset_peak()
    before = peak_bytes()
    start = time.perf_counter_ns()
    session = found.load(path, threads)
    loaded = time.perf_counter_ns()
    x = random_inputs(session.input_shape, session.batch_size or 1, 0, 0.0, 1.0)
    begin = time.perf_counter_ns()
    session.run(x)
    end = time.perf_counter_ns()
    after = peak_bytes()
    growth = None if before is None or after is None else max(0, after - before)
    return {"load_us": (loaded - start) / 1000, "first_us": (end - begin) / 1000, "rss_growth_bytes": growth}


def main(path: str, engine_name: str, threads: str) -> None:
    """In the child: print the figures, or the error, as JSON in the last line."""
    try:
        answer = _measure(Path(path), engine_name, int(threads))
    except SenError as error:
        answer = {"error": encode_error(error)}
    except Exception as error:  # from an engine on a file of another format
        failed = EngineError(f"{engine_name} failed: {type(error).__name__}: {error}")
        answer = {"error": encode_error(allocation_failure(error) or failed)}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
