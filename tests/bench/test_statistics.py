"""Statistics of samples, compared with their definitions."""

import math
import re

import numpy as np
import pytest

from sen_runtime.bench import statistics


def test_summary_by_hand() -> None:
    found = statistics.summary(np.array([1.0, 2.0, 3.0, 4.0, 100.0]))
    assert (found["min"], found["median"], found["mean"], found["mad"]) == (1.0, 3.0, 22.0, 1.0)
    assert found["p90"] == pytest.approx(4 + 0.6 * 96)
    assert list(found)[4:] == ["p90", "p95", "p99", "p99_9"]
    assert statistics.summary(np.arange(1001.0))["p99_9"] == pytest.approx(999.0)


def test_histogram_leaves_out_the_longest() -> None:
    samples = np.concatenate([np.linspace(1, 2, 9990), np.full(10, 500.0)])
    found = statistics.histogram(samples)
    assert len(found["counts"]) == 60 and len(found["edges_us"]) == 61
    assert sum(found["counts"]) == 9950 and found["edges_us"][0] == 1.0 and found["edges_us"][-1] < 2


@pytest.mark.parametrize("share", [0.01, 0.03, 0.07, 0.2, 0.4])
@pytest.mark.parametrize("times", [1.7, 20.0, 500.0])
def test_outliers_leave_most_samples_more_than_one_bar(share: float, times: float) -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(10, 0.3, 4000)
    samples[: int(share * 4000)] *= times * rng.uniform(0.5, 1.5, int(share * 4000))
    found = statistics.histogram(samples)
    counts = np.array(found["counts"])
    assert counts.max() < 0.75 * counts.sum()  # of one linear bar 93 % and more
    assert sum(counts) >= 0.9 * 4000


@pytest.mark.parametrize("samples", [[3.0], [3.0] * 50, [1.0, 2.0]])
def test_histogram_of_little(samples: list[float]) -> None:
    found = statistics.histogram(np.array(samples))
    assert len(found["edges_us"]) == len(found["counts"]) + 1 and sum(found["counts"]) >= 1


def kinds(samples: np.ndarray, turns: np.ndarray | None = None) -> list[str]:
    turns = np.full(100, 10.0) if turns is None else turns
    return list(statistics.warnings(samples, turns, 40))


NORMAL = np.random.default_rng(0).normal(10, 0.2, 5000)


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(NORMAL, id="normal"),
        pytest.param(np.random.default_rng(0).uniform(9, 11, 5000), id="uniform"),
        pytest.param(10 + np.random.default_rng(0).exponential(0.5, 5000), id="exponential"),
        pytest.param(np.full(5000, 10.0), id="constant"),
        pytest.param(np.where(np.arange(5000) % 2, 10.0, 10.05), id="steps of the clock"),
    ],
)
def test_no_warning_where_all_is_well(samples: np.ndarray) -> None:
    assert kinds(samples) == []


def test_few_samples() -> None:
    assert kinds(NORMAL[:999]) == ["few-samples"]


@pytest.mark.parametrize(("n_loads", "words"), [(1, "loaded once"), (7, "loaded 7 times"), (8, "")])
def test_few_loads(n_loads: int, words: str) -> None:
    found = statistics.warnings(NORMAL, np.full(100, 10.0), n_loads)
    assert list(found) == (["few-loads"] if words else [])
    assert words in found.get("few-loads", "")


def test_outliers() -> None:
    samples = NORMAL.copy()
    samples[:80] = 40
    assert kinds(samples) == ["outliers"]
    assert "1.6 % of the samples" in statistics.warnings(samples, NORMAL[:100], 40)["outliers"]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_two_groups(share: float) -> None:
    rng = np.random.default_rng(1)
    second = rng.random(5000) < share
    samples = np.where(second, rng.normal(13, 0.2, 5000), rng.normal(10, 0.2, 5000))
    assert kinds(samples) == ["bimodal"]
    message = statistics.warnings(samples, NORMAL[:100], 40)["bimodal"]
    found = [float(value) for value in re.findall(r"around ([0-9.]+) and ([0-9.]+) us", message)[0]]
    assert found == pytest.approx([10, 13], abs=0.02) and f"({100 * second.mean():.0f} % in" in message


@pytest.mark.parametrize(("change", "word"), [(0.08, "longer"), (-0.08, "shorter")])
def test_trend(change: float, word: str) -> None:
    rng = np.random.default_rng(2)
    turns = 10 * (1 + change * np.linspace(0, 1, 500)) + rng.normal(0, 0.1, 500)
    assert kinds(NORMAL, turns) == ["trend"]
    assert word in statistics.warnings(NORMAL, turns, 40)["trend"]


def test_noise_and_a_bump_are_no_trend() -> None:
    rng = np.random.default_rng(3)
    assert kinds(NORMAL, rng.normal(10, 1, 500)) == []
    bump = np.where(np.abs(np.arange(500) - 250) < 60, 12.0, 10.0) + rng.normal(0, 0.05, 500)
    assert kinds(NORMAL, bump) == []


def test_student_quantile_that_widens() -> None:
    for groups, quantile in ((4, 3.18245), (10, 2.26216), (40, 2.02269)):
        expected = quantile / 1.959964 * math.sqrt(groups / (groups - 1))
        assert statistics._widening(groups) == pytest.approx(expected, rel=1e-2)
    assert statistics._widening(1) == 1.0


@pytest.mark.parametrize(
    ("n", "first", "last"),
    [
        (1, 0, 0),
        (3, 0, 2),
        (5, 0, 4),
        (6, 0, 5),
        (8, 0, 7),
        (9, 1, 7),
        (11, 1, 9),
        (17, 4, 12),
        (25, 7, 17),
        (40, 13, 26),
    ],
)
def test_order_statistics_of_the_sign_test(n: int, first: int, last: int) -> None:
    values = np.random.default_rng(0).permutation(n).astype(float)
    assert statistics._sign_interval(values) == (first, last)


def runs(
    n_runs: int, loads: int, load_spread: float, noise: float, slower: float = 0.0
) -> list[tuple[np.ndarray, ...]]:
    """Times of two rows: drift that both share, noise, and what each load of each row adds."""
    rng = np.random.default_rng(4)
    found = []
    for _ in range(n_runs):
        drift = np.exp(np.cumsum(rng.normal(0, 0.01, loads * 25)))
        rows = []
        for factor in (1.0, 1.0 + slower):
            places = np.repeat(rng.normal(0, load_spread, loads), 25)
            rows.append(factor * drift * np.exp(places + rng.normal(0, noise, loads * 25)))
        found.append(tuple(rows))
    return found


@pytest.mark.parametrize(("load_spread", "noise"), [(0.0, 0.02), (0.02, 0.01), (0.02, 0.1)])
def test_the_interval_of_equal_rows_contains_1(load_spread: float, noise: float) -> None:
    covered = 0
    for first, second in runs(60, 12, load_spread, noise):
        found = statistics.ratio(second, first, [25] * 12)
        assert found["low"] <= found["median"] <= found["high"]
        covered += found["low"] <= 1 <= found["high"]
    assert covered >= 56


def test_interval_without_loads_would_be_wrong() -> None:
    covered = 0
    for first, second in runs(60, 12, 0.02, 0.005):
        found = statistics.ratio(second, first, [300])
        covered += found["low"] <= 1 <= found["high"]
    assert covered < 50


def test_loads_that_are_much_slower_are_in_the_interval() -> None:
    rng, covered = np.random.default_rng(6), 0
    for _ in range(60):
        effects = rng.normal(0, 0.003, (2, 9)) + rng.choice([0, 0.2], (2, 9), p=[0.8, 0.2])
        first, second = np.exp(np.repeat(effects, 12, axis=1) + rng.normal(0, 0.03, (2, 108)))
        found = statistics.ratio(second, first, [12] * 9)
        covered += found["low"] <= 1 <= found["high"]
    assert covered >= 57


def test_ten_percent_are_detected() -> None:
    for first, second in runs(20, 12, 0.02, 0.05, slower=0.1):
        found = statistics.ratio(second, first, [25] * 12)
        assert found["low"] > 1 and found["median"] == pytest.approx(1.1, abs=0.04)


def test_ratio_of_many_rounds_and_uneven_loads() -> None:
    rng = np.random.default_rng(5)
    loads = [3000, 1, 2500, 900, 4000]
    first = rng.normal(10, 0.1, sum(loads))
    found = statistics.ratio(2 * first, first, loads)
    assert {name: round(value, 12) for name, value in found.items()} == {
        "median": 2.0,
        "low": 2.0,
        "high": 2.0,
        "confidence": 0.95,
    }


def test_ratio_of_one_round() -> None:
    assert statistics.ratio(np.array([3.0]), np.array([2.0]), [1])["low"] == pytest.approx(1.5)


def test_the_same_seed_gives_the_same_interval() -> None:
    first, second = runs(1, 12, 0.02, 0.05)[0]
    assert statistics.ratio(second, first, [25] * 12, 7) == statistics.ratio(second, first, [25] * 12, 7)
    assert statistics.ratio(second, first, [25] * 12, 7) != statistics.ratio(second, first, [25] * 12, 8)
