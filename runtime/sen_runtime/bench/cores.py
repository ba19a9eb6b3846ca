"""Cores of this machine, the big ones first, and pinning the process to some of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Union

from sen_runtime.errors import UsageError

#: In place of numbers: the cores of the highest capacity.
BIG = "big"
#: Numbers of cores, or `BIG`; None for any core.
Cpus = Union[tuple[int, ...], str, None]


class Core(NamedTuple):
    """A core that this process may run on; what the system does not tell is None."""

    core: int
    capacity: int | None  # instructions per second relative to the fastest core of the machine, which has 1024
    max_mhz: float | None

    @property
    def speed(self) -> float:
        """Capacity, or else clock; only for comparing cores of one machine."""
        return self.capacity or self.max_mhz or 0.0


def usable() -> list[int]:
    """Numbers of the cores that this process may run on; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def describe(root: Path = Path("/")) -> list[Core]:
    """The usable cores, the fastest first."""
    found = []
    for number in usable():
        folder = root / f"sys/devices/system/cpu/cpu{number}"
        khz = _number(folder / "cpufreq/cpuinfo_max_freq")
        found.append(Core(number, _number(folder / "cpu_capacity"), None if khz is None else khz / 1000))
    return sorted(found, key=lambda core: (-core.speed, core.core))


def listing(cores: Sequence[Core]) -> str:
    """Cores as text, those of one kind together."""
    parts = []
    for (_, capacity, max_mhz), group in groupby(cores, key=lambda core: core._replace(core=0)):
        facts = [f"capacity {capacity}"] if capacity else []
        facts += [f"{max_mhz:g} MHz"] if max_mhz else []
        parts.append(f"{ranges([core.core for core in group])} ({', '.join(facts) or 'unavailable'})")
    return ", ".join(parts)


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as text: "0-3, 6"."""
    runs = [list(run) for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0][1]}-{run[-1][1]}" if len(run) > 1 else str(run[0][1]) for run in runs)


def words(cpus: tuple[int, ...] | str) -> str:
    """Cores as the option `--cpu` takes them."""
    return cpus if isinstance(cpus, str) else ",".join(map(str, cpus))


def resolve(cpus: Cpus, root: Path = Path("/")) -> tuple[int, ...] | None:
    """Numbers of the cores to run on, ascending; None for any.

    Raises:
        UsageError: a core does not exist or is not for this process, or the system does not let a process choose.
    """
    if cpus is None:
        return None
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("this system does not let a program choose its cores", "leave out --cpu")
    if isinstance(cpus, str):
        if cpus != BIG:
            raise UsageError(f"--cpu is {cpus!r}; expected numbers, or {BIG}")
        cores = describe(root)
        return tuple(sorted(core.core for core in cores if core.speed == cores[0].speed))
    absent = [cpu for cpu in cpus if cpu not in usable()]
    if absent:
        raise UsageError(f"--cpu {absent[0]}: this process may run on {ranges(usable())}")
    return tuple(sorted(set(cpus)))


@contextmanager
def pinned(cpus: Sequence[int] | None) -> Iterator[bool]:
    """Run on some cores, where they are asked for; yields whether the system confirms it."""
    if cpus is None:
        yield True
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield os.sched_getaffinity(0) == set(cpus)
    finally:
        os.sched_setaffinity(0, before)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdecimal() and len(text) < 16 else None
