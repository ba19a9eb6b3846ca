"""The measuring itself, on loops that the test makes up."""

import os
import signal
import time
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from sen_runtime.bench import rounds
from sen_runtime.bench.interleaved import Loop
from sen_runtime.bench.rounds import Measured, Options, Samples, measure_rounds
from sen_runtime.errors import EngineError


def busy(us: float) -> Loop:
    """A loop whose calls take so many microseconds."""

    def loop(n: int) -> None:
        end = time.perf_counter_ns() + n * 1000 * us
        while time.perf_counter_ns() < end:
            pass

    return loop


class Rows:
    """Opens loops, and counts how often."""

    def __init__(self, times_us: Mapping[str, float]) -> None:
        self.times_us = times_us
        self.opened: list[str] = []

    def openers(self) -> dict[str, Callable[[], Loop]]:
        def opener(name: str) -> Callable[[], Loop]:
            def opened() -> Loop:
                self.opened.append(name)
                return busy(self.times_us[name])

            return opened

        return {name: opener(name) for name in self.times_us}


def measured(options: Options, rows: Rows | None = None) -> Measured:
    return measure_rounds((rows or Rows({"a": 20.0, "b": 40.0})).openers(), options)


def test_models_are_loaded_again_and_again_in_another_order() -> None:
    rows = Rows({"a": 20.0, "b": 40.0, "c": 30.0})
    found = measured(Options(0.8, 0), rows)
    assert found.is_complete and len(found.loads) >= 2 and min(found.loads) >= 1
    times = [rows.opened[start : start + 3] for start in range(0, len(rows.opened), 3)]
    assert len(times) == len(found.loads) + 1  # one to calibrate
    assert all(sorted(names) == ["a", "b", "c"] for names in times)
    assert len({tuple(names) for names in times}) > 1
    assert {name: len(us) for name, us in found.turns_us.items()} == dict.fromkeys("abc", found.n_rounds)
    ratios = np.array(found.turns_us["b"]) / np.array(found.turns_us["a"])
    assert 1.5 < np.median(ratios) < 2.5


def test_what_is_slow_gets_some_rounds_all_the_same() -> None:
    found = measured(Options(0.01, 0), Rows({"slow": 2000.0}))
    assert found.n_rounds == rounds.LEAST_ROUNDS and found.loads == [20]
    assert len(found.samples["slow"].all()) == 20


def test_loading_takes_no_longer_than_measuring() -> None:
    rows = Rows({"a": 20.0})
    openers = {"a": lambda: (time.sleep(0.03), rows.openers()["a"]())[1]}
    found = measure_rounds(openers, Options(0.5, 0))
    assert len(found.loads) <= 16


def test_each_second_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "WATCH_S", 0.1)
    seen: list[tuple[float, Mapping[str, float]]] = []
    measured(Options(0.6, 0, watch=lambda t_s, us: seen.append((t_s, us))))
    assert len(seen) >= 2
    assert [t_s for t_s, _ in seen] == sorted(t_s for t_s, _ in seen)
    assert all(set(us) == {"a", "b"} and us["a"] >= 20 and us["b"] >= 40 for _, us in seen)


def test_before_each_sample_something_may_happen() -> None:
    happened: list[int] = []
    found = measured(Options(0.2, 0, before=lambda: happened.append(1)))
    assert {timed.calls for timed in found.timed.values()} == {1}
    n_samples = sum(len(found.samples[name].all()) for name in "ab")
    assert len(happened) >= n_samples > 0


def test_spans_are_when_rounds_were() -> None:
    start = time.time()
    found = measured(Options(0.2, 0, keep_spans=True))
    assert len(found.spans) == found.n_rounds
    assert all(start <= begin < end <= time.time() for begin, end in found.spans)
    assert measured(Options(0.1, 0)).spans == []


def interrupting(monkeypatch: pytest.MonkeyPatch, at_round: int, times: int = 1) -> None:
    """Ctrl-C in the middle of a round that is kept."""
    true_round, seen = rounds.one_round, []
    true_load = rounds._loaded_anew

    def loaded(*arguments: object) -> object:
        found = true_load(*arguments)
        seen.append(0)  # rounds count from here
        return found

    def one_round(*arguments: object) -> object:
        if seen:
            seen.append(1)
            if sum(seen) == at_round:
                for _ in range(times):
                    os.kill(os.getpid(), signal.SIGINT)
        return true_round(*arguments)

    monkeypatch.setattr(rounds, "_loaded_anew", loaded)
    monkeypatch.setattr(rounds, "one_round", one_round)


def test_an_interrupt_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupting(monkeypatch, 5)
    before = signal.getsignal(signal.SIGINT)
    found = measured(Options(30.0, 0))
    assert not found.is_complete and found.n_rounds == 5
    assert {len(us) for us in found.turns_us.values()} == {5}
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupting(monkeypatch, 5, times=2)
    with pytest.raises(KeyboardInterrupt):
        measured(Options(30.0, 0))


def test_an_engine_that_fails_to_load_again_ends_the_run() -> None:
    times: list[int] = []

    def opener() -> Loop:
        times.append(1)
        if len(times) == 3:
            raise EngineError("out of memory")
        return busy(20.0)

    with pytest.raises(EngineError):
        measure_rounds({"a": opener}, Options(1.0, 0))


def test_many_samples_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "MOST_SAMPLES", 64)
    samples = Samples()
    for turn in range(1000):
        samples.add(np.full(4, float(turn)))
    kept = samples.all()
    assert 32 <= len(kept) <= 64
    steps = set(np.diff(kept[::4]).tolist())
    assert len(steps) == 1 and kept[0] == 0 and kept[-1] > 900
