"""Run files in an engine for `arm.py`, which counts the instructions; runs on the emulated board.

`python arm_device.py JOBS`: JOBS is a JSON list of jobs with the keys "engine", "file", "inputs", "outputs", "calls",
"is_in_c" and "options". The system call getppid marks four points of each job: before and after `calls` calls of an
empty function, and of `run`; or before and after one row in a loop in C, and `calls` rows more.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sen_runtime.engines import engine

WARM_UP = 3


def loop(rows: Sequence[Any], call: Callable[[Any], object], calls: int) -> None:
    """Call with the rows in turn."""
    for index in range(calls):
        call(rows[index % len(rows)])


def nothing(row: Any) -> None:
    """Take a row."""


def main(jobs: Path) -> None:
    """Run all jobs, and store the outputs of each."""
    gc.disable()
    for job in json.loads(jobs.read_text(encoding="utf-8")):
        x = np.load(job["inputs"], allow_pickle=False)
        rows = [x[index : index + 1].copy() for index in range(len(x))]
        session = engine(job["engine"]).load(Path(job["file"]), **job["options"])
        np.save(job["outputs"], np.concatenate([session.run(row) for row in rows]), allow_pickle=False)
        calls = job["calls"]
        if job["is_in_c"]:
            run = session.bare_loop(np.concatenate([x] * (1 + calls // len(x))))  # type: ignore[attr-defined]
            loops = [(run, 1), (run, 1 + calls)]
        else:
            loops = [(partial(loop, rows, call), calls) for call in (nothing, session.run)]
        for measured, n in loops:
            measured(WARM_UP)
            os.getppid()
            measured(n)
            os.getppid()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
