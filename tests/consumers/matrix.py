"""Run exported files in tools: one process per tool, started again after a crash or a time-out."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from tests.consumers import cases
from tests.consumers.cases import Case
from tests.consumers.forms import FORMS
from tests.consumers.tools import ENVIRONMENTS, HERE, TOOLS, Tool

#: Seconds for one file, with the start of the tool.
LIMIT_S = 120
#: Lines that state why a tool refuses a file, in order of preference.
TELLING = (
    re.compile(r"not (yet )?(support|implement)|unsupported|no support|didn't find", re.I),
    re.compile(r"error|fail", re.I),
)
#: Time stamps and source locations.
NOISE = re.compile(r"^\[[\d:]+\]\s*|\S*:\d+:?\s+")
MAX_TEXT = 130


@dataclass(frozen=True)
class Cell:
    """What a tool did with a file.

    Attributes:
        status: "yes", "wrong", "refused" or "crash", of which a time-out is one.
        error: max error over the mean standard deviation of an output, of "yes" and "wrong".
        text: why it refused; or what a tool says that computes nothing.
    """

    status: str
    error: float | None = None
    text: str = ""


def run_all(folder: Path) -> dict[Tool, dict[str, Cell]]:
    """Export every form into `folder`, and run the files in every tool: the cells of each by the name of the form."""
    batches = {(tool.target, tool.batch_size) for tool in TOOLS}
    built = {
        (target, batch): [cases.build(form, folder, batch) for form in FORMS if form.target == target]
        for target, batch in sorted(batches, key=str)
    }
    files = [built[tool.target, tool.batch_size] for tool in TOOLS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda tool, each: run(tool, each, folder), TOOLS, files)
    return {
        tool: {case.form.name: cell for case, cell in zip(each, cells, strict=True)}
        for tool, each, cells in zip(TOOLS, files, results, strict=True)
    }


def run(tool: Tool, files: Sequence[Case], folder: Path) -> list[Cell]:
    """Run files in a tool, which works and logs in `folder`."""
    cells: list[Cell] = []
    while len(cells) < len(files):
        with _Adapter(tool, folder) as adapter:
            for case in files[len(cells) :]:
                cells.append(_judge(case, adapter.ask(case.job)))
                if cells[-1].status == "crash":
                    break
    return cells


class _Adapter(AbstractContextManager["_Adapter"]):
    """The process of a tool."""

    def __init__(self, tool: Tool, folder: Path) -> None:
        end, answers = os.pipe()
        self._log = (folder / f"{tool.adapter}-{tool.environment}-{tool.target}.log").open("a+b")
        self._process = subprocess.Popen(
            [*tool.command, str(answers)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(HERE), "NODE_PATH": str(ENVIRONMENTS / "web" / "node_modules")},
            pass_fds=[answers],
        )
        os.close(answers)
        self._answers = os.fdopen(end, encoding="utf-8")

    def ask(self, job: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the answer to a job, or None after a crash or a time-out."""
        assert self._process.stdin is not None
        start = self._log.seek(0, os.SEEK_END)
        with suppress(BrokenPipeError):  # there is no answer then
            self._process.stdin.write(f"{json.dumps(job)}\n".encode())
            self._process.stdin.flush()
        ready, _, _ = select.select([self._answers], [], [], LIMIT_S)
        line = self._answers.readline() if ready else ""
        if not line:
            return None
        answer = cast("dict[str, Any]", json.loads(line))
        if "refused" in answer:
            self._log.seek(start)
            logged = self._log.read().decode(errors="replace").splitlines()
            answer["refused"] = _reason(answer["refused"], logged)
        return answer

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()
        self._answers.close()
        self._log.close()


def _reason(raised: list[str], logged: list[str]) -> str:
    """Choose the line that tells most, of an error message and of a log."""
    lines = [*raised, *logged]
    telling = [line for pattern in TELLING for line in lines if pattern.search(line.partition("Error:")[2] or line)]
    return NOISE.sub("", (telling or lines)[0]).strip()[:MAX_TEXT]


def _judge(case: Case, answer: Mapping[str, Any] | None) -> Cell:
    if answer is None:
        return Cell("crash")
    if "y" in answer:
        error = case.error(np.array(answer["y"], np.float64))
        return Cell("yes" if error <= case.form.limit else "wrong", error)
    return Cell("yes", text=answer["note"]) if "note" in answer else Cell("refused", text=answer["refused"])
