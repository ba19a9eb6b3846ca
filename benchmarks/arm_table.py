"""Counts of `arm.py` by board and job: arm.json, and the tables of docs/reference/arm.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from arm_forms import CALLS, GOALS, SHIPPED
from pages import write_section

from tests.arm.boards import ARMV7, BOARDS

PATH = Path(__file__).with_name("arm.json")
PAGE = Path(__file__).parents[1] / "docs/reference/arm.md"
#: Name of the native engine when C calls it.
FROM_C = "C"
#: Max ratio of the goals of 32 bits to those of a Cortex-A72.
ARMV7_FACTOR = 1.6


class Job(NamedTuple):
    """One measurement."""

    size: str
    form: str
    inputs: str
    engine: str

    def __str__(self) -> str:
        return ", ".join(self)

    @classmethod
    def parse(cls, text: str) -> Job:
        """Return the job of a string; the name of a form may have commas."""
        size, *form, inputs, engine = text.split(", ")
        return cls(size, ", ".join(form), inputs, engine)


Counts = Mapping[Job, int]


@dataclass(frozen=True)
class Table:
    """Measured counts.

    Attributes:
        compilers: version by board.
        counts: by board and job.
    """

    compilers: Mapping[str, str]
    counts: Mapping[str, Counts]

    @classmethod
    def read(cls) -> Table:
        """Read the file."""
        stored = json.loads(PATH.read_text(encoding="utf-8"))
        counts = {
            board: {Job.parse(job): count for job, count in counts.items()}
            for board, counts in stored["counts"].items()
        }
        return cls(stored["compilers"], counts)

    def write(self) -> None:
        """Replace the file."""
        counts = {board: {str(job): count for job, count in counts.items()} for board, counts in self.counts.items()}
        text = json.dumps({"compilers": self.compilers, "counts": counts}, indent=1)
        PATH.write_text(f"{text}\n", encoding="utf-8")

    def merge(self, board: str, compiler: str, size: str, counts: Counts) -> Table:
        """Replace the counts of a board and size; drop the board's counts with another compiler."""
        kept = self.counts.get(board, {}) if self.compilers.get(board) == compiler else {}
        merged = {**{job: count for job, count in kept.items() if job.size != size}, **counts}
        ordered = {job: count for each in CALLS for job, count in merged.items() if job.size == each}
        boards = {**self.counts, board: ordered}
        return replace(
            self,
            compilers={**self.compilers, board: compiler},
            counts={name: boards[name] for name in BOARDS if name in boards},
        )


def write_page(table: Table) -> None:
    """Replace the tables of the page."""
    versions = ", ".join(dict.fromkeys(table.compilers.values()))
    lines = [f"The C library was compiled by gcc {versions}.", ""]
    lines += [line for size in CALLS for line in section(table, size)]
    write_section(PAGE, lines[:-1])


def section(table: Table, size: str) -> list[str]:
    """Format the tables of a size, one for each board, as Markdown lines."""
    lines = [f"### {size}", ""]
    for board, counts in table.counts.items():
        mine = {job: count for job, count in counts.items() if job.size == size}
        if mine:
            lines += [f"#### {name_of(board)}", "", *rows(board, mine), ""]
        for job, count in mine.items():
            if job.engine == FROM_C:
                more = mine[job._replace(engine="native")] - count
                lines += [
                    f"{job.form}, {job.inputs}: a call from Python takes {more:,} instructions more than from C.",
                    "",
                ]
    return lines


def name_of(board: str) -> str:
    """Name a board and its processor."""
    pi = BOARDS[board]
    bits = ", 32 bits" if pi.architecture is ARMV7 else ""
    return f"{pi.title.partition(' Model')[0]}{bits} ({pi.cpu.title()})"


def rows(board: str, counts: Counts) -> list[str]:
    """Format the counts of a board and size; those of the shipped networks with their goals."""
    size = next(iter(counts)).size
    engines = dict.fromkeys(job.engine for job in counts if job.engine != FROM_C)
    columns = [(inputs, engine) for inputs in dict.fromkeys(job.inputs for job in counts) for engine in engines]
    titles = [*(["goal"] if size == SHIPPED else []), *(": ".join(column) for column in columns)]
    lines = [f"| form | {' | '.join(titles)} |", f"| --- |{' ---: |' * len(titles)}"]
    for form in dict.fromkeys(job.form for job in counts):
        values = [counts.get(Job(size, form, *column)) for column in columns]
        if size == SHIPPED:
            values.insert(0, goal(board, form))
        lines.append(f"| {form} | {' | '.join('' if value is None else f'{value:,}' for value in values)} |")
    return lines


def goal(board: str, form: str) -> int | None:
    """Return the goal of a form: of the Cortex-A72 but for the Cortex-A76, and for 32 bits `ARMV7_FACTOR` times it."""
    narrow, wide = GOALS[form]
    if BOARDS[board].architecture is ARMV7:
        return round(ARMV7_FACTOR * narrow)
    return wide if BOARDS[board].cpu == "cortex-a76" else narrow
