"""Cold start: time and memory of the first load and the first inference, in another process.

An engine that crashes on the file ends that process, not the benchmark.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sen_runtime.bench import memory
from sen_runtime.bench.loops import N_INPUTS, batches, random_inputs, require_batch
from sen_runtime.engines import engine
from sen_runtime.errors import EngineCrashError, EngineError
from sen_runtime.worker import Process

#: Far beyond the load time of a model for a small board.
LIMIT_SECONDS = 120.0
CLEAR = Path("/proc/self/clear_refs")
#: Written to `CLEAR`: resets the peak of the resident memory.
RESET_PEAK = "5"


class ColdStart(NamedTuple):
    """Figures of a cold start."""

    load_us: float  # without importing the engine's library
    first_us: float  # of the first inference, on one batch
    rss_growth_bytes: int | None  # of the peak of the resident memory in both; None where it is not known


def cold_start(
    path: Path, engine_name: str, threads: int, batch: int = 1, limit_seconds: float = LIMIT_SECONDS
) -> ColdStart:
    """Load a model for the first time and run it once, in a child process; a crash, or a hang, is an `EngineError`."""
    process, begin = Process(is_quiet=True), time.monotonic()
    doing = f"while it loaded {path.name} or ran it once"
    try:
        return process.call(doing, _measure, path.absolute(), engine_name, threads, batch, limit_s=limit_seconds)
    except EngineCrashError as error:
        if time.monotonic() - begin < limit_seconds:
            raise EngineCrashError(f"{engine_name}: {error.message}") from None
        message = f"{path}: the engine {engine_name} did not load it and run it once within {limit_seconds:g} s"
        raise EngineError(message) from None
    finally:
        process.end(at_once=True)


def _measure(path: Path, engine_name: str, threads: int, batch: int) -> ColdStart:
    """Measure in this process, which is a new one."""
    found = engine(engine_name)
    found.version()  # imports the library
    with suppress(OSError):  # on an old kernel the peak includes the import of the library
        CLEAR.write_text(RESET_PEAK)
    before = memory.peak_bytes()
    start = time.perf_counter_ns()
    session = found.load(path, threads)
    loaded = time.perf_counter_ns()
    batch = session.batch_size or batch
    require_batch(session.input_shape, batch)
    (x, *_) = batches(random_inputs(session.input_shape, min(batch, N_INPUTS), 0, 0.0, 1.0), batch)
    begin = time.perf_counter_ns()
    session.run(x)
    end = time.perf_counter_ns()
    growth = memory.growth(before, memory.peak_bytes())
    return ColdStart((loaded - start) / 1000, (end - begin) / 1000, growth)
