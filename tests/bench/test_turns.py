"""Calibration, turns and rounds, with a simulated clock."""

import random
from collections.abc import Callable

import numpy as np
import pytest

from sen_runtime.bench import interleaved
from sen_runtime.bench.interleaved import Timed, calibrate, one_round, repeated, turn
from tests.support.bench import Clock

READING_NS = 50


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(READING_NS).install(monkeypatch)


@pytest.mark.parametrize(
    ("call_ns", "entering_ns", "calls"),
    [
        pytest.param(20_000, 0, 1, id="reading the clock is less than 0.5 %"),
        pytest.param(1_000, 0, 16, id="10 calls would do"),
        pytest.param(1_000, 550, 128, id="120 calls would do"),
        pytest.param(50_000_000, 0, 1, id="slow"),
    ],
)
def test_sample_is_longer_than_its_overhead(clock: Clock, call_ns: int, entering_ns: int, calls: int) -> None:
    timed = calibrate({"it": clock.loop(call_ns, entering_ns)})["it"]
    assert timed.calls == calls
    sample_ns = turn(timed)[0]
    assert (sample_ns - calls * call_ns) / sample_ns <= 0.005
    assert timed.samples == max(1, round(1_000_000 / sample_ns))


def test_rows_that_take_about_as_long_have_as_many_calls_in_a_sample(clock: Clock) -> None:
    times = {"far": 9_000, "a": 1_200, "b": 1_300, "d": 2_400, "c": 1_700}
    found = calibrate({name: clock.loop(call_ns) for name, call_ns in times.items()})
    assert list(found) == list(times)
    assert {name: timed.calls for name, timed in found.items()} == {"far": 2, "a": 16, "b": 16, "c": 16, "d": 8}
    assert found["c"].samples == round(1_000_000 / (16 * 1_700 + 50))


def test_an_interruption_does_not_make_samples_short(clock: Clock) -> None:
    loop, seen = clock.loop(1_000), []

    def interrupted(n: int) -> None:
        seen.append(n)
        loop(n)
        if n and len(seen) % 3 == 0:
            clock.now_ns += 4_000_000

    assert calibrate({"it": interrupted})["it"].calls == 16


def test_not_even_many_long_interruptions(clock: Clock) -> None:
    loop, rng = clock.loop(1_000), random.Random(1)

    def interrupted(n: int) -> None:
        loop(n)
        if n and rng.random() < 0.4:
            clock.now_ns += 15_000_000

    found = calibrate({"quiet": loop, "busy": interrupted})
    assert [(timed.calls, timed.samples) for timed in found.values()] == [(16, 62)] * 2


def test_what_takes_long_is_tried_little(clock: Clock) -> None:
    seen: list[int] = []
    loop = clock.loop(10**9)

    def slow(n: int) -> None:
        seen.append(n)
        loop(n)

    calibrate({"it": slow})
    assert sum(seen) <= 2


def test_a_turn_leaves_out_its_first_sample(clock: Clock) -> None:
    costs = [9_000, 100, 200, 300]

    def loop(n: int) -> None:
        clock.now_ns += n * costs.pop(0)

    assert turn(Timed(loop, 2, 3)) == [2 * 100 + 50, 2 * 200 + 50, 2 * 300 + 50]


def test_what_happens_before_a_sample_is_not_timed(clock: Clock) -> None:
    happened: list[str] = []

    def before() -> None:
        happened.append("before")
        clock.now_ns += 10**9

    def loop(n: int) -> None:
        happened.append("call")
        clock.now_ns += n * 700

    assert turn(Timed(loop, 1, 2, before)) == [750, 750]
    assert happened == ["before", "call"] * 2


def test_calls_take_turns() -> None:
    seen: list[int] = []
    loop = repeated([lambda i=i: seen.append(i) for i in range(3)])
    loop(4)
    loop(0)
    loop(3)
    assert seen == [0, 1, 2, 0, 1, 2, 0]


def test_each_round_has_a_new_order(clock: Clock) -> None:
    orders, current = set(), []

    def noting(name: str) -> Callable[[int], None]:
        return lambda n: current.append(name)

    timed = {name: Timed(noting(name), 1, 1) for name in "abc"}
    rng = random.Random(0)
    for _ in range(50):
        current.clear()
        assert list(one_round(timed, rng)) == ["a", "b", "c"]
        orders.add("".join(current[::2]))
    assert len(orders) == 6


def test_interleaved_gives_the_mean_of_each_turn(clock: Clock) -> None:
    def call(ns: int) -> Callable[[], None]:
        def made() -> None:
            clock.now_ns += ns

        return made

    found = interleaved.interleaved({"fast": call(10_000), "slow": call(30_000)}, 0.05)
    assert len(found.blocks_us["fast"]) == len(found.blocks_us["slow"]) > 5
    np.testing.assert_allclose(found.blocks_us["slow"], 30.05)
    assert found.ratio("slow", "fast") == pytest.approx(30.05 / 10.05, rel=0.01)
    assert found.median_us("slow") == pytest.approx(30.05)


def test_the_clock_and_the_loop_are_measured(clock: Clock) -> None:
    figures = interleaved.clock_figures(interleaved.read_clock())
    assert figures == {"resolution_ns": READING_NS, "timer_ns": READING_NS}
    assert interleaved.empty_ns(clock.loop(0, 30)) == READING_NS + 30


def test_a_loop_in_python_costs_something() -> None:
    assert interleaved.loop_ns() > 0
