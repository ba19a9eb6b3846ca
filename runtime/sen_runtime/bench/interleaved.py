"""Latency of several callables side by side, in randomised turns, so that drift hits all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A block of calls lasts about this long: far above the clock's resolution, far below a scheduler's patience.
BLOCK_NS = 1_000_000
WARM_UP_ROUNDS = 5
CALIBRATION_TRIES = 5


@dataclass(frozen=True)
class Latencies:
    """What was measured.

    Attributes:
        blocks_us: per name, the mean latency of each block in microseconds `[rounds]`; round r of all names
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
    repeats = {name: _repeats(call) for name, call in calls.items()}
    for _ in range(WARM_UP_ROUNDS):
        for name, call in calls.items():
            _block_us(call, repeats[name])
    order, rng = list(calls), random.Random(seed)
    blocks: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not blocks[order[0]]:
        rng.shuffle(order)
        for name in order:
            blocks[name].append(_block_us(calls[name], repeats[name]))
    return Latencies({name: np.array(values) for name, values in blocks.items()})


def _repeats(call: Callable[[], object]) -> int:
    """Calls that make a block of about BLOCK_NS, by the fastest of some tries: an interruption would make it short."""
    repeats = 1
    while True:
        elapsed_ns = min(_block_us(call, repeats) for _ in range(CALIBRATION_TRIES)) * 1000 * repeats
        if elapsed_ns >= BLOCK_NS / 2:
            return max(1, round(repeats * BLOCK_NS / elapsed_ns))
        repeats *= 2


def _block_us(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(repeats):
        call()
    return (time.perf_counter_ns() - start) / repeats / 1000
