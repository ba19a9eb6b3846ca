"""Run files in an engine for `arm.py`, which counts the instructions; runs on the emulated board.

`python arm_device.py JOBS`: JOBS is a JSON list of jobs with the keys "engine", "file", "inputs", "outputs", "calls",
"batch" (rows of a call) and "options". The system call getppid marks points of each job: before and after `calls`
calls of an empty function, `ROUNDS` times, and the same of `run`.
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

WARM_UP, ROUNDS = 3, 3


def loop(calls: Sequence[Callable[[], object]], count: int) -> None:
    """Call functions in turn."""
    for index in range(count):
        calls[index % len(calls)]()


def nothing(row: Any) -> None:
    """Take a row."""


def main(jobs: Path) -> None:
    """Run all jobs, and store the outputs of each."""
    gc.disable()
    for job in json.loads(jobs.read_text(encoding="utf-8")):
        x = np.load(job["inputs"], allow_pickle=False)
        rows = [x[index : index + job["batch"]].copy() for index in range(0, len(x), job["batch"])]
        session = engine(job["engine"]).load(Path(job["file"]), **job["options"])
        np.save(job["outputs"], np.concatenate([session.run(row) for row in rows]), allow_pickle=False)
        run = partial(partial, session.run) if job["engine"] == "native" else session.bare_call
        for calls in ([partial(nothing, row) for row in rows], [run(row) for row in rows]):
            loop(calls, WARM_UP)
            for _ in range(ROUNDS):
                os.getppid()
                loop(calls, job["calls"])
                os.getppid()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
