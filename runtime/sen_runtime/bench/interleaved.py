"""Latency of several loops side by side, in randomised turns, so that drift hits all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

#: `loop(n)` makes n calls of what is measured; `loop(0)` costs what a sample costs beside them.
Loop = Callable[[int], object]

#: A turn lasts about this long: far above the clock's resolution, far below a scheduler's patience.
TURN_NS = 1_000_000
#: What a sample costs beside its calls, the reading of the clock included, is at most this share of it.
OVERHEAD_SHARE = 0.005
#: Rows whose calls take as long, up to this factor, have as many of them in a sample.
ALIKE = 1.5
WARM_UP_ROUNDS = 5
EMPTY_TRIES = 101
#: A sample is tried so often, or for so long but some times at least; once where it takes so long that nothing matters.
MOST_TRIES, TRIES_NS, LEAST_TRIES, LONG_NS = 15, 100_000_000, 4, 200_000_000


@dataclass(frozen=True)
class Timed:
    """A loop, and how it is timed.

    Attributes:
        loop: what is measured.
        calls: of the loop in one sample.
        samples: in one turn.
        before: what happens before each sample and is not timed, such as emptying the cache.
    """

    loop: Loop
    calls: int
    samples: int
    before: Callable[[], object] | None = None


@dataclass(frozen=True)
class Latencies:
    """What was measured.

    Attributes:
        blocks_us: per name, the mean latency of each turn in microseconds `[rounds]`; round r of all names
            was measured within a few milliseconds.
    """

    blocks_us: Mapping[str, NDArray[np.float64]]

    def median_us(self, name: str) -> float:
        """Median latency of one call, microseconds."""
        return float(np.median(self.blocks_us[name]))

    def ratio(self, name: str, baseline: str) -> float:
        """Median over the rounds of `name` / `baseline`: each pair was measured together."""
        return float(np.median(self.blocks_us[name] / self.blocks_us[baseline]))


def interleaved(calls: Mapping[str, Callable[[], object]], seconds: float = 1.0, seed: int = 0) -> Latencies:
    """Call each in turn, in an order drawn anew every round, for about `seconds` in total."""
    return side_by_side({name: repeated([call]) for name, call in calls.items()}, seconds, seed)


def side_by_side(loops: Mapping[str, Loop], seconds: float, seed: int = 0) -> Latencies:
    """The same for loops."""
    timed, rng = calibrated(loops), random.Random(seed)
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
    """A turn of each, in an order drawn anew: nanoseconds of its samples."""
    order = list(timed)
    rng.shuffle(order)
    times_ns = {name: turn(timed[name]) for name in order}
    return {name: times_ns[name] for name in timed}


def turn(timed: Timed) -> list[int]:
    """Nanoseconds of each sample `[samples]`, of `calls` calls each.

    The first sample of a turn is not kept: it finds the caches as the others left them. Where something happens before
    each sample, it is that which decides what a sample finds.
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
        end = clock()
        times_ns.append(end - start)
    return times_ns


def calibrated(loops: Mapping[str, Loop]) -> dict[str, Timed]:
    """So many calls in a sample, a power of two, that they outweigh what a sample costs beside them.

    Loops that take about as long get the same number. Else what little the clock costs would be twice as much of one as
    of the other, by chance and for the whole run: more than what intervals of their ratio leave open.
    """
    found = {name: _calibrated(loop) for name, loop in loops.items()}
    result: dict[str, Timed] = {}
    most_calls, since_ns = 0, 0.0
    for name in sorted(found, key=lambda name: found[name][1]):
        calls, call_ns = found[name]
        if calls >= most_calls or call_ns > ALIKE * since_ns:
            most_calls, since_ns = calls, call_ns
        samples = max(1, round(TURN_NS / (most_calls * call_ns)))
        result[name] = Timed(loops[name], most_calls, samples)
    return {name: result[name] for name in loops}


def _calibrated(loop: Loop) -> tuple[int, float]:
    """Calls that a sample needs, and nanoseconds of one."""
    least_ns = empty_ns(loop) / OVERHEAD_SHARE
    calls = 1
    while True:
        elapsed_ns = _fastest_ns(loop, calls)
        if elapsed_ns >= least_ns:
            return calls, elapsed_ns / calls
        calls *= 2


def _fastest_ns(loop: Loop, calls: int) -> int:
    """A sample, the fastest of some: on a busy machine most of them may be interrupted."""
    found: list[int] = []
    while len(found) < LEAST_TRIES or (len(found) < MOST_TRIES and sum(found) < TRIES_NS):
        found += turn(Timed(loop, calls, 1))
        if found[-1] > LONG_NS:
            break
    return min(found)


def empty_ns(loop: Loop) -> float:
    """Median of what a sample without calls takes: reading the clock twice, and entering the loop."""
    return float(np.median(turn(Timed(loop, 0, EMPTY_TRIES))))


def timer_ns() -> float:
    """What reading the clock costs: the median time from one reading to the next, through ten of them."""
    clock, found = time.perf_counter_ns, []
    for _ in range(EMPTY_TRIES):
        start = clock()
        for _ in range(10):
            clock()
        found.append((clock() - start) / 11)
    return float(np.median(found))


def loop_ns() -> float:
    """What one turn of a loop in Python costs with a call that does nothing."""
    timed = calibrated({"empty": repeated([lambda: None])})["empty"]
    return float(np.median([min(turn(timed)) for _ in range(LEAST_TRIES)])) / timed.calls


def resolution_ns() -> int:
    """The smallest step of the clock that shows in a thousand pairs of readings, at least 1."""
    clock = time.perf_counter_ns
    steps = [abs(clock() - clock()) for _ in range(1000)]
    return max(1, min((step for step in steps if step), default=1))
