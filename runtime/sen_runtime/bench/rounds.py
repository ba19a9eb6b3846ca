"""The measuring itself: load all models, warm up, let them take turns, load them anew, and so on until time is up.

Where a model happens to lie in memory can change its latency by several percent, for as long as it lies there: two
sessions on one file differ by more than the noise of either. So models are loaded many times within a run, each time
to another place, and the interval of a ratio counts the loads and not only the rounds.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sen_runtime.bench.interleaved import TURN_NS, Loop, Timed, calibrated, one_round
from sen_runtime.signals import defer_interrupts

Floats = NDArray[np.float64]
#: Loads a model and gives the loop to time.
Opener = Callable[[], Loop]

#: Models are loaded at most so often, and all loading takes at most as long as measuring; so many rounds follow each.
MOST_LOADS, ROUNDS_PER_LOAD = 40, 10
#: Rounds after each loading that are not kept.
SETTLING_ROUNDS = 3
#: Warm: the medians of two windows of so many rounds differ by less than this share, in every row.
WINDOW_ROUNDS, STABLE_SHARE = 10, 0.02
#: Warming up takes at most so many seconds, and this share of the time to measure.
MOST_WARM_UP_S, WARM_UP_SHARE = 3.0, 0.3
LEAST_ROUNDS = 20
#: Of more samples than these an even choice is kept, turn by turn.
MOST_SAMPLES = 1 << 18
#: Between looks at the machine, seconds.
WATCH_S = 1.0
#: Up to so many bytes lie between the places of two models.
MOST_PAD_BYTES = 1 << 18


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        seconds: for how long; loading and warming up come on top.
        seed: of the orders and places.
        before: what happens before each sample, which then is one call; None to let calls follow each other.
        watch: called about each second with the seconds since the start and the medians of that second by name
            (microseconds), while the core is still busy.
        keep_spans: note when each round began and ended.
    """

    seconds: float
    seed: int
    before: Callable[[], object] | None = None
    watch: Callable[[float, Mapping[str, float]], None] = lambda t_s, latency_us: None
    keep_spans: bool = False


class Samples:
    """Samples of one row: all, or an even choice of turns where they are many."""

    def __init__(self) -> None:
        self._turns: list[Floats] = []
        self._seen, self._step = 0, 1

    def add(self, turn_us: Floats) -> None:
        """Take the samples of the next turn, or leave them out."""
        if self._seen % self._step == 0:
            self._turns.append(turn_us)
            if len(self._turns) * len(turn_us) > MOST_SAMPLES:
                self._turns, self._step = self._turns[::2], 2 * self._step
        self._seen += 1

    def all(self) -> Floats:
        """What was kept `[n]`."""
        return np.concatenate(self._turns)


@dataclass
class Measured:
    """What was measured.

    Attributes:
        timed: how each row was timed, with the loop of the last load.
        samples: per name.
        turns_us: per name, the median of each turn `[rounds]`.
        loads: rounds between one loading of the models and the next.
        spans: when each round began and ended, seconds since 1970.
        is_complete: whether it was not interrupted.
    """

    timed: dict[str, Timed]
    samples: dict[str, Samples] = field(default_factory=dict)
    turns_us: dict[str, list[float]] = field(default_factory=dict)
    loads: list[int] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)
    is_complete: bool = True

    @property
    def n_rounds(self) -> int:
        """Rounds that are complete."""
        return sum(self.loads)


def measure_rounds(openers: Mapping[str, Opener], options: Options) -> Measured:
    """Measure rows side by side; Ctrl-C, SIGTERM or SIGHUP ends it after the round that runs.

    Raises:
        KeyboardInterrupt: before the first round, or a second time.
        SenError: what loading raises.
    """
    rng = random.Random(options.seed)
    gc.collect()
    gc.disable()  # a collection in the middle of a sample would count as the model's
    try:
        timed = _timed({name: opener() for name, opener in openers.items()}, options.before)
        round_s = _warm_up(timed, rng, min(MOST_WARM_UP_S, WARM_UP_SHARE * options.seconds))
        start = time.perf_counter()
        timed, pads = _loaded_anew(timed, openers, rng)
        load_s = time.perf_counter() - start
        most = options.seconds / max(load_s, ROUNDS_PER_LOAD * round_s)
        n_loads = max(1, min(MOST_LOADS, int(most)))
        result = Measured(timed, {name: Samples() for name in openers}, {name: [] for name in openers})
        with defer_interrupts() as is_interrupted:
            watcher = _Watcher(options, time.perf_counter())
            for load in range(n_loads):
                if load:
                    result.timed, pads = _loaded_anew(result.timed, openers, rng)
                least = LEAST_ROUNDS if load == n_loads - 1 else 1
                end = time.perf_counter() + options.seconds / n_loads
                if not _rounds_until(end, least, result, rng, options, watcher, is_interrupted):
                    result.is_complete = False
                    break
        del pads  # which kept the models apart
        return result
    finally:
        gc.enable()


def _timed(loops: Mapping[str, Loop], before: Callable[[], object] | None) -> dict[str, Timed]:
    if before is None:
        return calibrated(loops)
    empty_ns = _duration_ns(before)
    return {
        name: Timed(loop, 1, max(1, round(TURN_NS / (empty_ns + _duration_ns(partial(loop, 1))))), before)
        for name, loop in loops.items()
    }


def _duration_ns(call: Callable[[], object]) -> int:
    found = []
    for _ in range(3):
        start = time.perf_counter_ns()
        call()
        found.append(time.perf_counter_ns() - start)
    return min(found)


def _warm_up(timed: Mapping[str, Timed], rng: random.Random, limit_s: float) -> float:
    """Take turns until all rows are stable or time is up; the seconds that a round took at the end."""
    start = time.perf_counter()
    before: dict[str, float] = {}
    while True:
        window: dict[str, list[float]] = {name: [] for name in timed}
        begin = time.perf_counter()
        for n_rounds in range(1, WINDOW_ROUNDS + 1):
            for name, times_ns in one_round(timed, rng).items():
                window[name].append(float(np.median(times_ns)))
            now = time.perf_counter()
            if now - start >= limit_s:
                return (now - begin) / n_rounds
        medians = {name: float(np.median(values)) for name, values in window.items()}
        if before and all(abs(medians[name] / before[name] - 1) < STABLE_SHARE for name in medians):
            return (now - begin) / n_rounds
        before = medians


def _loaded_anew(
    timed: Mapping[str, Timed], openers: Mapping[str, Opener], rng: random.Random
) -> tuple[dict[str, Timed], list[object]]:
    """The same rows loaded again, in another order and with gaps between them, while the old ones are still there."""
    order, pads, loops = list(openers), list[object](), dict[str, Loop]()
    rng.shuffle(order)
    for name in order:
        pads.append(bytearray(rng.randrange(MOST_PAD_BYTES)))
        loops[name] = openers[name]()
    fresh = {name: replace(timed[name], loop=loops[name]) for name in openers}
    for _ in range(SETTLING_ROUNDS):
        one_round(fresh, rng)
    return fresh, pads


class _Watcher:
    """Calls `watch` about each second with the medians of that second."""

    def __init__(self, options: Options, start: float) -> None:
        self.start = start
        self._watch = options.watch
        self._next = start + WATCH_S
        self._since = 0

    def look(self, turns_us: Mapping[str, list[float]]) -> None:
        now = time.perf_counter()
        if now < self._next:
            return
        self._watch(now - self.start, {name: float(np.median(us[self._since :])) for name, us in turns_us.items()})
        self._next, self._since = now + WATCH_S, len(next(iter(turns_us.values())))


def _rounds_until(
    end: float,
    least: int,
    result: Measured,
    rng: random.Random,
    options: Options,
    watcher: _Watcher,
    is_interrupted: Callable[[], bool],
) -> bool:
    """Rounds until `end`, and until there are at least `least` in all; False if interrupted."""
    result.loads.append(0)
    while True:
        began = time.time()
        times_ns = one_round(result.timed, rng)
        if options.keep_spans:
            result.spans.append((began, time.time()))
        for name, values in times_ns.items():
            turn_us = np.array(values, np.float64) / (1000 * result.timed[name].calls)
            result.samples[name].add(turn_us)
            result.turns_us[name].append(float(np.median(turn_us)))
        result.loads[-1] += 1
        watcher.look(result.turns_us)
        if is_interrupted():
            return False
        if time.perf_counter() >= end and result.n_rounds >= least:
            return True
