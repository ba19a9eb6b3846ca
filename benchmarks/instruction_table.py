"""Tables of `instructions.py`, and its goals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from instruction_forms import MNIST, NOISE, STROKES


@dataclass(frozen=True)
class Measurement:
    """Measurement of one form.

    Attributes:
        instructions: of one inference, by core.
        m3_cycles: min and max of the estimate for Cortex-M3.
        weight_bytes: constants in flash.
        arena_bytes: RAM.
        code_bytes: flash without weights, by core.
    """

    instructions: Mapping[str, int]
    m3_cycles: list[int]
    weight_bytes: int
    arena_bytes: int
    code_bytes: Mapping[str, int]


@dataclass(frozen=True)
class Goal:
    """Upper limits of the instructions of a form by core, in thousands."""

    shape: str
    form: str
    limits: Mapping[str, int]


def _goal(shape: str, form: str, *limits: int) -> Goal:
    return Goal(shape, form, dict(zip(("M0", "M3", "M4", "M55", "RV32IMC"), limits, strict=True)))


GOALS = (
    *(
        goal
        for shape in (STROKES, MNIST)
        for goal in (
            _goal(shape, "dense, int8", 320, 145, 145, 60, 300),
            _goal(shape, "rank 32, int8", 120, 58, 45, 15, 105),
            _goal(shape, "1x4 blocks, 90 %, int8", 180, 105, 65, 21, 145),
            _goal(shape, "unstructured, 90 %, int8", 190, 110, 110, 45, 150),
        )
    ),
    _goal(NOISE, "dense, int8", 1700, 750, 500, 95, 1650),
)
#: Upper limits of the same forms on Cortex-M0, in bytes.
MAX_CODE, MAX_ARENA = 1536, 6144

Found = Mapping[str, Mapping[str, Measurement]]


def lines_of(found: Found, compilers: Mapping[str, str]) -> list[str]:
    """Format the tables as Markdown lines."""
    versions = ", ".join(f"{name} {version}" for name, version in compilers.items())
    lines = [
        f"`python benchmarks/instructions.py --write`, {versions}:",
        "instructions of one inference at -O2, estimated cycles of Cortex-M3, bytes of weights and RAM, bytes of code",
        "and constant structures, without weights, at -Os.",
        "",
    ]
    for shape, rows in found.items():
        lines += [*_table(shape, rows), ""]
    return lines + _goals(found)


def _table(shape: str, rows: Mapping[str, Measurement]) -> list[str]:
    first = next(iter(rows.values()))
    columns = [*first.instructions, "M3 cycles", "weights", "RAM", *(f"code, {core}" for core in first.code_bytes)]
    lines = [f"| {shape} | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for name, row in rows.items():
        cycles = " to ".join(f"{each / 1000:,.0f} k" for each in row.m3_cycles)
        numbers = [f"{each:,}" for each in (row.weight_bytes, row.arena_bytes, *row.code_bytes.values())]
        cells = [*(f"{each:,}" for each in row.instructions.values()), cycles, *numbers]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _limits(found: Found) -> Iterator[tuple[Goal, list[tuple[str, float, int]]]]:
    """Yield goals of measured forms, each with columns, measured values and limits."""
    for goal in GOALS:
        if row := found.get(goal.shape, {}).get(goal.form):
            columns = [(core, row.instructions[core] / 1000, limit) for core, limit in goal.limits.items()]
            columns += [("code, M0", row.code_bytes["M0"], MAX_CODE), ("RAM", row.arena_bytes, MAX_ARENA)]
            yield goal, columns


def missed(found: Found) -> set[tuple[str, str, str]]:
    """Return shape, form and column of missed goals."""
    return {
        (goal.shape, goal.form, column)
        for goal, columns in _limits(found)
        for column, value, limit in columns
        if value > limit
    }


def _goals(found: Found) -> list[str]:
    """The goals with what was measured."""
    columns = [*GOALS[0].limits, "code, M0", "RAM"]
    lines = [
        "Measured / goal: thousands of instructions, bytes of code at -Os, bytes of RAM.",
        "",
        f"| goal | {' | '.join(columns)} |",
        f"| --- |{' ---: |' * len(columns)}",
    ]
    for goal, values in _limits(found):
        cells = [
            f"{value:,{'.1f' if value % 1 else '.0f'}} / {limit:,}{' FAIL' * (value > limit)}"
            for _, value, limit in values
        ]
        lines.append(f"| {goal.shape}: {goal.form} | {' | '.join(cells)} |")
    return lines
