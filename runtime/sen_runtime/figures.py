"""Format figures for people: four significant digits, and one unit for a column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, floor, log, log10

DIGITS = 4
#: Unit -> how many of it a microsecond has, shortest first.
UNITS_OF_TIME = {"ns": 1e3, "us": 1.0, "ms": 1e-3, "s": 1e-6}
MAX_SIZE = 10**300
UNITS_OF_SIZE = ("B", "KiB", "MiB", "GiB", "TiB")


def significant(value: float) -> str:
    """Rounded to `DIGITS` significant digits, without an exponent: 0.8 is "0.8000", 12345 is "12350"."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{DIGITS - 1}e}")
    return f"{rounded:.{max(0, DIGITS - 1 - floor(log10(abs(rounded))))}f}"


def unit_of_time(latencies_us: Iterable[float]) -> str:
    """The unit that puts the geometric mean of a column between 1 and 1000, or nearest to that."""
    logs = [log(latency) for latency in latencies_us if latency > 0]
    middle = exp(sum(logs) / len(logs)) if logs else 1.0
    fitting = [unit for unit, per_us in UNITS_OF_TIME.items() if middle * per_us >= 1]
    return fitting[-1] if fitting else "ns"


def size(count: float) -> str:
    """Bytes in the largest unit below them: "2.044 MiB"."""
    value, unit = float(min(count, MAX_SIZE)), 0
    while abs(value) >= 1024 and unit + 1 < len(UNITS_OF_SIZE):
        value, unit = value / 1024, unit + 1
    return f"{significant(value) if unit else int(value)} {UNITS_OF_SIZE[unit]}"


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    first, *others = widths
    return [
        "  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(figures, others))])
        for name, *figures in cells
    ]
