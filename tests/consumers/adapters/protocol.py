"""What every adapter does: read jobs from stdin, and write answers to the file descriptor of its argument.

Both are JSON, one per line. Stdout and stderr are a log, for tools print there.

A job has the path of a `model`; its `inputs` and `outputs` in the order of the file, each with `name`, `dtype`, `size`
and `zero_point`, with which a state starts; `steps` of a step model, else 0; a fixed `batch_size`, or null; `x`, the
rows of the first input, as stored.

An answer is one of `y` (the first output as stored, `[steps or 1, rows, n_out]`), `note` (of a tool that computes
nothing) and `refused` (lines that say why).
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

#: Computes the arrays of all outputs from those of all inputs.
Function = Callable[[list[np.ndarray]], list[np.ndarray]]


class Note(Exception):
    """An answer of a tool that computes nothing."""


def serve(load: Callable[[dict[str, Any]], Function], max_rows: int | None = None) -> None:
    """Answer all jobs; `load` returns a job's model, which is called with at most `max_rows` rows."""
    answers = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8")
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer: dict[str, Any] = {"y": _run(load(job), job, max_rows)}
        except Note as note:
            answer = {"note": str(note)}
        except BaseException as error:  # of any kind: a tool may exit, too
            answer = {"refused": _reasons(error)}
        print(json.dumps(answer), file=answers, flush=True)


def run_session(session: Any, job: dict[str, Any]) -> Function:
    """Call a session that has the interface of onnxruntime."""
    names, outputs = ([each["name"] for each in job[side]] for side in ("inputs", "outputs"))
    return lambda arrays: session.run(outputs, dict(zip(names, arrays, strict=True)))


def _reasons(error: BaseException | None) -> list[str]:
    """The lines of an error and of its causes."""
    lines: list[str] = []
    while error is not None:
        lines += f"{type(error).__name__}: {error}".splitlines()
        error = error.__cause__ or error.__context__
    return lines


def _run(function: Function, job: dict[str, Any], max_rows: int | None) -> list[Any]:
    first, *states = job["inputs"]
    x = np.array(job["x"], first["dtype"])
    rows = job["batch_size"] or max_rows or len(x)
    parts = []
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        state = [np.full((rows, each["size"]), each["zero_point"], each["dtype"]) for each in states]
        outputs = []
        for _ in range(job["steps"] or 1):
            y, *state = (np.array(each) for each in function([part, *state]))
            outputs.append(y.reshape(rows, -1))
        parts.append(np.array(outputs))
    joined: list[Any] = np.concatenate(parts, axis=1).tolist()
    return joined
