"""What it takes to start: a model's first load and first inference, and their memory, in a process of their own.

Run as a program, it is that process: `python -m sen_runtime.bench.coldstart FILE ENGINE THREADS` prints JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sen_runtime
from sen_runtime import errors
from sen_runtime.bench.inputs import random_inputs
from sen_runtime.bench.memory import peak_bytes
from sen_runtime.engines import engine
from sen_runtime.errors import EngineError, SenError
from sen_runtime.memory_limits import allocation_failure

#: Far beyond what a model that fits a small board takes to load.
LIMIT_SECONDS = 120.0
CLEAR = Path("/proc/self/clear_refs")
#: Written to `CLEAR`: the peak of the resident memory starts anew from what is resident now.
RESET_PEAK = "5"


@dataclass(frozen=True)
class ColdStart:
    """A first time.

    Attributes:
        load_us: from before the model is loaded until it can run; the engine's library is imported before that.
        first_us: the first inference, on one input (a batch, where the model has a fixed one).
        rss_growth_bytes: how far the peak of the resident memory grew in both; None where the system does not tell.
    """

    load_us: float
    first_us: float
    rss_growth_bytes: int | None


def cold_start(path: Path, engine_name: str, threads: int, limit_seconds: float = LIMIT_SECONDS) -> ColdStart:
    """Load a model for the first time and run it once, in a child process.

    Raises:
        SenError: what the engine raised; the file is named.
        EngineError: the process died, or took longer than `limit_seconds`.
    """
    what = f"{path}: the engine {engine_name}"
    command = [sys.executable, "-m", "sen_runtime.bench.coldstart", str(path.absolute()), engine_name, str(threads)]
    packages = str(Path(sen_runtime.__file__).parents[1])
    inherited = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": packages + (os.pathsep + inherited if inherited else "")}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_seconds, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"{what} did not load it and run it once within {limit_seconds:g} s") from None
    except OSError as error:
        raise EngineError(f"cannot start {sys.executable}: {error.strerror}") from error
    try:
        answer = json.loads(done.stdout.decode("utf-8", "replace").strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise EngineError(f"{what} died while it loaded it or ran it once: {_death(done)}") from None
    if "error" in answer:
        raise _as_here(path, answer)
    return ColdStart(**answer)


def _death(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        try:
            return signal.Signals(-done.returncode).name
        except ValueError:
            return f"signal {-done.returncode}"
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return f"exit status {done.returncode}" + (f", {lines[-1]}" if lines else "")


def _as_here(path: Path, answer: dict[str, Any]) -> SenError:
    """The child's error as one of this process."""
    message = answer["error"]
    if path.name not in message:
        message = f"{path}: {message}"
    error = SenError(message, answer["hint"])
    error.exit_code = answer["exit_code"]
    return error


def _reset_peak() -> None:
    with suppress(OSError):  # an old kernel: the peak then holds what importing the library took for a moment
        CLEAR.write_text(RESET_PEAK)


def _measured(path: Path, engine_name: str, threads: int) -> dict[str, Any]:
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


def _main(path: str, engine_name: str, threads: str) -> None:
    try:
        answer = _measured(Path(path), engine_name, int(threads))
    except SenError as error:
        answer = {"error": error.message, "hint": error.hint, "exit_code": error.exit_code}
    except Exception as error:  # what an engine makes of a file that is not its own
        failed = allocation_failure(error)
        message = f"{engine_name} failed: {type(error).__name__}: {error}" if failed is None else failed.message
        answer = {"error": message, "hint": "", "exit_code": errors.EXIT_FAILED}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
