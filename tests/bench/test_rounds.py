"""Rounds of a measurement, on artificial loops."""

import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from sen_runtime.bench import rounds
from sen_runtime.bench.interleaved import Loop
from sen_runtime.bench.rounds import Measured, measure_rounds
from sen_runtime.errors import EngineError
from tests.support.bench import Clock


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time passes only in the loops, so that nothing depends on the load of the machine."""
    return Clock().install(monkeypatch)


class Rows:
    """Opens loops, and counts how often."""

    def __init__(self, clock: Clock, times_us: Mapping[str, float]) -> None:
        self.clock, self.times_us = clock, times_us
        self.opened: list[str] = []

    def openers(self) -> dict[str, Callable[[], Loop]]:
        def opener(name: str) -> Callable[[], Loop]:
            def opened() -> Loop:
                self.opened.append(name)
                return self.clock.loop(round(1000 * self.times_us[name]))

            return opened

        return {name: opener(name) for name in self.times_us}


def measured(clock: Clock, seconds: float, seed: int, **options: Any) -> Measured:
    return measure_rounds(Rows(clock, {"a": 20.0, "b": 40.0}).openers(), seconds, seed, **options)


def test_models_are_loaded_again_and_again_in_another_order(clock: Clock) -> None:
    rows = Rows(clock, {"a": 20.0, "b": 40.0, "c": 30.0})
    found = measure_rounds(rows.openers(), 0.8, 0)
    assert found.is_complete and len(found.loads) >= 2 and min(found.loads) >= 1
    times = [rows.opened[start : start + 3] for start in range(0, len(rows.opened), 3)]
    assert len(times) == len(found.loads) + 1  # one to calibrate
    assert all(sorted(names) == ["a", "b", "c"] for names in times)
    assert len({tuple(names) for names in times}) > 1
    assert {name: len(us) for name, us in found.turns_us.items()} == dict.fromkeys("abc", found.n_rounds)
    ratios = np.array(found.turns_us["b"]) / np.array(found.turns_us["a"])
    assert np.median(ratios) == pytest.approx(2, rel=0.01)


def test_what_is_slow_gets_some_rounds_all_the_same(clock: Clock) -> None:
    found = measure_rounds(Rows(clock, {"slow": 2000.0}).openers(), 0.01, 0)
    assert found.n_rounds == rounds.MIN_ROUNDS and found.loads == [10, 10]
    assert len(found.samples("slow")) == 20


def test_loading_takes_no_longer_than_measuring(clock: Clock) -> None:
    def opener() -> Loop:
        clock.now_ns += 30_000_000
        return clock.loop(20_000)

    assert 8 <= len(measure_rounds({"a": opener}, 0.5, 0).loads) <= 16


def test_each_second_is_recorded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "WATCH_S", 0.1)
    seen: list[tuple[float, Mapping[str, float]]] = []
    measured(clock, 0.6, 0, watch=lambda t_s, us: seen.append((t_s, us)))
    assert len(seen) >= 2
    assert [t_s for t_s, _ in seen] == sorted(t_s for t_s, _ in seen)
    assert all(set(us) == {"a", "b"} and us["a"] >= 20 and us["b"] >= 40 for _, us in seen)


def test_before_each_sample_something_may_happen(clock: Clock) -> None:
    happened: list[int] = []
    found = measured(clock, 0.2, 0, before=lambda: happened.append(1))
    assert set(found.calls.values()) == {1}
    n_samples = sum(len(found.samples(name)) for name in "ab")
    assert len(happened) >= n_samples > 0


def test_spans_are_when_rounds_were(clock: Clock) -> None:
    start = clock.read_s()
    found = measured(clock, 0.2, 0, keep_spans=True)
    assert len(found.spans) == found.n_rounds
    assert all(start <= begin < end <= clock.read_s() for begin, end, _ in found.spans)
    assert measured(clock, 0.1, 0).spans == []


def interrupting(monkeypatch: pytest.MonkeyPatch, at_round: int, *numbers: signal.Signals) -> None:
    """A signal in the middle of a round that is kept."""
    true_round, seen = rounds.one_round, []
    true_load = rounds._load_again

    def loaded(*arguments: object) -> object:
        found = true_load(*arguments)
        seen.append(0)  # rounds count from here
        return found

    def one_round(*arguments: object) -> object:
        if seen:
            seen.append(1)
            if sum(seen) == at_round:
                for number in numbers:
                    os.kill(os.getpid(), number)
        return true_round(*arguments)

    monkeypatch.setattr(rounds, "_load_again", loaded)
    monkeypatch.setattr(rounds, "one_round", one_round)


@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGHUP,), (signal.SIGHUP, signal.SIGHUP)],  # a terminal that closes
    ids=str,
)
def test_a_signal_keeps_what_was_measured(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, numbers: tuple[signal.Signals, ...]
) -> None:
    interrupting(monkeypatch, 5, *numbers)
    before = {number: signal.getsignal(number) for number in numbers}
    found = measured(clock, 30.0, 0)
    assert not found.is_complete and found.n_rounds == 5
    assert {len(us) for us in found.turns_us.values()} == {5}
    assert {number: signal.getsignal(number) for number in numbers} == before


def test_a_signal_that_is_ignored_stays_so(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupting(monkeypatch, 5, signal.SIGHUP)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        assert measured(clock, 0.3, 0).is_complete
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_interrupt_is_one(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupting(monkeypatch, 5, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        measured(clock, 30.0, 0)


def test_an_engine_that_fails_to_load_again_ends_the_run(clock: Clock) -> None:
    times: list[int] = []

    def opener() -> Loop:
        times.append(1)
        if len(times) == 3:
            raise EngineError("out of memory")
        return clock.loop(20_000)

    with pytest.raises(EngineError):
        measure_rounds({"a": opener}, 1.0, 0)


def test_many_samples_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "MAX_SAMPLES", 64)
    found = Measured({"a": 1, "b": 1}, loads=[0])
    for turn in range(1000):
        found.add_round({"a": [1000 * turn] * 4, "b": [1000]})
    kept = found.samples("a")
    assert len(found.samples("b")) == len(kept) // 4 and len(found.turns("a")) == 1000
    assert 32 <= len(kept) <= 64
    steps = set(np.diff(kept[::4]).tolist())
    assert len(steps) == 1 and kept[0] == 0 and kept[-1] > 900
