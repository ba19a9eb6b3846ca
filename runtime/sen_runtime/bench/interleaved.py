"""Latency of several loops side by side, in randomised turns, so that drift affects all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

#: `loop(n)` makes n calls of the measured function; `loop(0)` costs the overhead of a sample.
Loop = Callable[[int], object]

#: Length of a turn: far above the clock's resolution, far below a scheduler's time slice.
TURN_NS = 1_000_000
#: Max share of a sample's overhead, the reading of the clock included.
OVERHEAD_SHARE = 0.005
#: Rows whose call times differ by at most this factor have the same number of calls in a sample.
ALIKE = 1.5
WARM_UP_ROUNDS = 5
EMPTY_TRIES = 101
#: Successive readings of the clock that give one duration.
READINGS = 10
#: A sample is tried this often, or for this long but a few times at least; once where it takes long.
MAX_TRIES, TRIES_NS, MIN_TRIES, LONG_NS = 15, 100_000_000, 4, 200_000_000


@dataclass(frozen=True)
class Timed:
    """A loop, its calls in a sample and samples in a turn; `before` is called before each sample and not timed."""

    loop: Loop
    calls: int
    samples: int
    before: Callable[[], object] | None = None


@dataclass(frozen=True)
class Latencies:
    """Mean latency of each turn in microseconds `[rounds]`, by name; a round takes a few milliseconds."""

    blocks_us: Mapping[str, NDArray[np.float64]]

    def median_us(self, name: str) -> float:
        """Median latency of one call, microseconds."""
        return float(np.median(self.blocks_us[name]))

    def ratio(self, name: str, baseline: str) -> float:
        """Median over the rounds of `name` / `baseline`."""
        return float(np.median(self.blocks_us[name] / self.blocks_us[baseline]))


def interleaved(calls: Mapping[str, Callable[[], object]], seconds: float = 1.0, seed: int = 0) -> Latencies:
    """Measure calls side by side, in an order drawn for every round, for about `seconds` in total."""
    return side_by_side({name: repeated([call]) for name, call in calls.items()}, seconds, seed)


def side_by_side(loops: Mapping[str, Loop], seconds: float, seed: int = 0) -> Latencies:
    """Measure loops side by side; see `interleaved`."""
    timed, rng = calibrate(loops), random.Random(seed)
    for _ in range(WARM_UP_ROUNDS):
        one_round(timed, rng)
    blocks: dict[str, list[float]] = {name: [] for name in loops}
    end = time.perf_counter() + seconds
    while True:
        for name, times_ns in one_round(timed, rng).items():
            blocks[name].append(sum(times_ns) / len(times_ns) / timed[name].calls / 1000)
        if time.perf_counter() >= end:
            return Latencies({name: np.array(values) for name, values in blocks.items()})


def repeated(calls: Sequence[Callable[[], object]]) -> Loop:
    """A loop in Python over calls that take turns."""
    turns = cycle(calls)

    def loop(n: int) -> None:
        for call in islice(turns, n):
            call()

    return loop


def one_round(timed: Mapping[str, Timed], rng: random.Random) -> dict[str, list[int]]:
    """Take a turn of each loop, in a random order; return nanoseconds of its samples."""
    order = list(timed)
    rng.shuffle(order)
    times_ns = {name: turn(timed[name]) for name in order}
    return {name: times_ns[name] for name in timed}


def turn(timed: Timed) -> list[int]:
    """Nanoseconds of each sample `[samples]`, of `calls` calls each.

    The first sample of a turn is not kept: it finds the caches as the other loops left them. With `before` all are.
    """
    clock, loop, calls, before = time.perf_counter_ns, timed.loop, timed.calls, timed.before
    times_ns = []
    if before is None:
        loop(calls)
    for _ in range(timed.samples):
        if before is not None:
            before()
        start = clock()
        loop(calls)
        times_ns.append(clock() - start)
    return times_ns


def calibrate(loops: Mapping[str, Loop]) -> dict[str, Timed]:
    """Choose the calls of a sample, a power of two, so that they outweigh its overhead.

    Loops of about the same call time get the same number: else the overhead would differ by a factor of two between
    them, by chance and for the whole run, which is more than the intervals of their ratio.
    """
    found = {name: _calibrate(loop) for name, loop in loops.items()}
    result: dict[str, Timed] = {}
    max_calls, since_ns = 0, 0.0
    for name in sorted(found, key=lambda name: found[name][1]):
        calls, call_ns = found[name]
        if calls >= max_calls or call_ns > ALIKE * since_ns:
            max_calls, since_ns = calls, call_ns
        samples = max(1, round(TURN_NS / (max_calls * call_ns)))
        result[name] = Timed(loops[name], max_calls, samples)
    return {name: result[name] for name in loops}


def _calibrate(loop: Loop) -> tuple[int, float]:
    """Calls that a sample needs, and nanoseconds of one."""
    min_ns, calls = empty_ns(loop) / OVERHEAD_SHARE, 1
    while (elapsed_ns := _fastest_ns(loop, calls)) < min_ns:
        calls *= 2
    return calls, elapsed_ns / calls


def _fastest_ns(loop: Loop, calls: int) -> int:
    """The fastest of some samples: on a busy machine most of them may be interrupted."""
    found: list[int] = []
    while len(found) < MIN_TRIES or (len(found) < MAX_TRIES and sum(found) < TRIES_NS):
        found += turn(Timed(loop, calls, 1))
        if found[-1] > LONG_NS:
            break
    return min(found)


def empty_ns(loop: Loop) -> float:
    """Median duration of a sample without calls: reading the clock twice, and entering the loop."""
    return float(np.median(turn(Timed(loop, 0, EMPTY_TRIES))))


def loop_ns() -> float:
    """Duration of one turn of a loop in Python with an empty call."""
    timed = calibrate({"empty": repeated([lambda: None])})["empty"]
    return float(np.median([min(turn(timed)) for _ in range(MIN_TRIES)])) / timed.calls


def clock_figures(readings_ns: Sequence[int]) -> dict[str, float]:
    """Resolution of the clock, and median duration of reading it, from many successive readings."""
    steps = np.diff(np.array(readings_ns))
    series = np.diff(np.array(readings_ns)[::READINGS]) / READINGS
    return {"resolution_ns": int(min(steps[steps > 0], default=1)), "timer_ns": abs(float(np.median(series)))}


def read_clock() -> list[int]:
    """Successive readings of the clock, nanoseconds."""
    clock = time.perf_counter_ns
    return [clock() for _ in range(EMPTY_TRIES * READINGS)]
