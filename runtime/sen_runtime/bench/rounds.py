"""Measure rows side by side: load all models, warm up, take turns, load them again, and so on until time is up.

The address of a model can change its latency by several percent for as long as it is loaded: two sessions on one file
differ by more than the noise of either. So models are loaded many times within a run, each time at another address, and
the interval of a ratio counts the loads and not only the rounds.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sen_runtime.bench.interleaved import Loop, Timed, calibrate, empty_ns, one_round
from sen_runtime.signals import defer_interrupts

Floats = NDArray[np.float64]
#: Loads a model and returns the loop to time.
Opener = Callable[[], Loop]

#: Max loads in a run; they take at most as long as measuring, and at least this many rounds follow each.
MAX_LOADS, ROUNDS_PER_LOAD = 40, 10
#: Rounds after each load that are not kept.
SETTLING_ROUNDS = 3
#: Duration of the warm-up: max seconds, and share of the time to measure.
MAX_WARM_UP_S, WARM_UP_SHARE = 1.0, 0.1
MIN_ROUNDS = 20
#: Samples that are kept of a row.
MAX_SAMPLES = 1 << 18
#: Seconds between calls of `watch`.
WATCH_S = 1.0
#: Bytes between two models.
MAX_PAD_BYTES = 1 << 18


@dataclass
class Measured:
    """Samples of a run, by name.

    Attributes:
        calls: of a sample.
        overhead_ns: of a sample without calls.
        turns_us: median of each turn `[rounds]`.
        loads: rounds between one load of the models and the next.
        spans: begin and end of each round (seconds since 1970), and its calls, if asked for.
        is_complete: False if interrupted.
    """

    calls: Mapping[str, int]
    overhead_ns: Mapping[str, float] = field(default_factory=dict)
    turns_us: dict[str, list[float]] = field(default_factory=dict)
    loads: list[int] = field(default_factory=list)
    spans: list[tuple[float, float, int]] = field(default_factory=list)
    is_complete: bool = True
    _kept: list[dict[str, Floats]] = field(default_factory=list)
    _step: int = 1

    @property
    def n_rounds(self) -> int:
        """Complete rounds."""
        return sum(self.loads)

    def turns(self, name: str) -> Floats:
        """Median of each turn of a row, microseconds `[rounds]`."""
        return np.array(self.turns_us[name])

    def samples(self, name: str) -> Floats:
        """Samples of a row, microseconds `[n]`: all, or those of every k-th round beyond `MAX_SAMPLES`."""
        return np.concatenate([turns[name] for turns in self._kept])

    def add_round(self, times_ns: Mapping[str, Sequence[int]]) -> None:
        """Add a turn of each row: nanoseconds of its samples."""
        turns = {name: np.array(values, np.float64) / (1000 * self.calls[name]) for name, values in times_ns.items()}
        for name, turn_us in turns.items():
            self.turns_us.setdefault(name, []).append(float(np.median(turn_us)))
        if self.n_rounds % self._step == 0:
            self._kept.append(turns)
            if len(self._kept) * max(map(len, turns.values())) > MAX_SAMPLES:
                self._kept, self._step = self._kept[::2], 2 * self._step
        self.loads[-1] += 1


def measure_rounds(
    openers: Mapping[str, Opener],
    seconds: float,
    seed: int,
    *,
    before: Callable[[], object] | None = None,
    watch: Callable[[float, Mapping[str, float]], None] = lambda t_s, latency_us: None,
    keep_spans: bool = False,
) -> Measured:
    """Measure rows side by side; Ctrl-C, SIGTERM or SIGHUP ends it after the current round.

    Args:
        openers: rows by name.
        seconds: duration, without loading and warm-up.
        seed: of orders and addresses.
        before: called before each sample, which then is one call; None to let calls follow each other.
        watch: called about each second with the seconds since the start and the medians of that second by name
            (microseconds), while the core is still busy.
        keep_spans: keep begin, end and calls of each round.

    Raises:
        KeyboardInterrupt: before the first round, or a second time.
        SenError: from loading.
    """
    rng = random.Random(seed)
    gc.collect()
    gc.disable()  # a collection within a sample would count as the model's
    try:
        loops = {name: opener() for name, opener in openers.items()}
        timed = {name: Timed(loop, 1, 1, before) for name, loop in loops.items()} if before else calibrate(loops)
        end = time.perf_counter() + min(MAX_WARM_UP_S, WARM_UP_SHARE * seconds)
        while time.perf_counter() < end:
            one_round(timed, rng)
        result, spent_s = Measured({name: each.calls for name, each in timed.items()}), 0.0
        with defer_interrupts() as is_interrupted:
            start = watched = time.perf_counter()
            since = 0
            while result.is_complete and (result.n_rounds < MIN_ROUNDS or spent_s < seconds):
                begin = time.perf_counter()
                timed, pads = _load_again(timed, openers, rng)
                loaded, used_s = time.perf_counter(), 0.0
                slot_s = min(seconds, max(loaded - begin, seconds / MAX_LOADS))
                result.loads.append(0)
                while result.is_complete and (used_s < slot_s or result.loads[-1] < ROUNDS_PER_LOAD):
                    _measure_round(timed, result, rng, keep_span=keep_spans)
                    now = time.perf_counter()
                    used_s = now - loaded
                    if now >= watched + WATCH_S:
                        watch(now - start, {name: float(np.median(us[since:])) for name, us in result.turns_us.items()})
                        watched, since = now, result.n_rounds
                    result.is_complete = not is_interrupted()
                spent_s += used_s
        del pads  # kept the models apart
        result.overhead_ns = {name: empty_ns(each.loop) for name, each in timed.items()}
        return result
    finally:
        gc.enable()


def _measure_round(timed: Mapping[str, Timed], result: Measured, rng: random.Random, *, keep_span: bool) -> None:
    began = time.time()
    times_ns = one_round(timed, rng)
    if keep_span:
        calls = sum(each.calls * (each.samples + (each.before is None)) for each in timed.values())
        result.spans.append((began, time.time(), calls))
    result.add_round(times_ns)


def _load_again(
    timed: Mapping[str, Timed], openers: Mapping[str, Opener], rng: random.Random
) -> tuple[dict[str, Timed], list[object]]:
    """Load the rows in another order and with gaps between them, while the old ones still exist."""
    order, pads, fresh = list(openers), list[object](), dict(timed)
    rng.shuffle(order)
    for name in order:
        pads.append(bytearray(rng.randrange(MAX_PAD_BYTES)))
        fresh[name] = replace(timed[name], loop=openers[name]())
    for _ in range(SETTLING_ROUNDS):
        one_round(fresh, rng)
    return fresh, pads
