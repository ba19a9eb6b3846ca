"""Comparison of two records."""

import copy
import json
from dataclasses import asdict

import numpy as np
import pytest

from sen_runtime.bench import statistics
from sen_runtime.bench.compare import MIN_TURNS, CompareError, cliffs_delta, compare, table
from sen_runtime.task import ACCURACY, ERROR, Metric
from tests.support import records


def other(record, index=None, **changes):
    """A copy with changes to the record, or to one of its rows."""
    changed = copy.deepcopy(record)
    (changed if index is None else changed["rows"][index]).update(changes)
    return changed


def slowed(record, factor, seed=1):
    medians = [row["latency_us"]["median"] * factor for row in record["rows"]]
    return records.record(medians, [row["name"] for row in record["rows"]], seed=seed)


def test_a_slower_artifact_is_found():
    a = records.record((42.0, 58.0), records.NAMES[:2], seed=1)
    b = records.record((42.0, 63.8), records.NAMES[:2], seed=2)
    found = compare(a, b)
    same, slow = found.rows
    assert same.low < 1 < same.high
    assert same.verdict == "no difference seen"
    assert 1.09 < slow.low < slow.ratio < slow.high < 1.11
    assert slow.effect > 0.9
    assert [row.outcome(0.05) for row in found.rows] == ["passed", "regression"] and slow.outcome(0.15) == "passed"
    assert compare(b, a).rows[1].verdict == "faster"
    assert slow.a_us == np.median(a["rows"][1]["turns_us"])


def autocorrelated(rng, median, n=500):
    """Latencies whose neighbours share two thirds of their deviation."""
    noise, value = rng.normal(0, 0.02, n), 0.0
    series = []
    for step in noise:
        value = 0.67 * value + step
        series.append(median * (1 + value))
    return np.array(series)


def test_intervals_hold_what_is_true_of_series_that_wander():
    rng = np.random.default_rng(3)
    names = records.NAMES[:1]
    held, gated = 0, 0
    for _ in range(40):
        a, b = records.record((42.0,), names), records.record((42.0,), names)
        a["rows"][0]["turns_us"] = autocorrelated(rng, 42.0).tolist()
        b["rows"][0]["turns_us"] = autocorrelated(rng, 42.0).tolist()
        found = compare(a, b)
        held += found.rows[0].low <= 1 <= found.rows[0].high
        gated += found.rows[0].outcome(0.05) == "regression"
    assert held >= 34  # 38 are expected; drawn one by one, some 26
    assert gated == 0


def test_noise_alone_is_no_regression_but_is_undecided():
    rng = np.random.default_rng(0)
    a, b = records.record((42.0,), records.NAMES[:1]), records.record((42.0,), records.NAMES[:1])
    a["rows"][0]["turns_us"] = rng.lognormal(3.7, 0.8, 40).tolist()
    b["rows"][0]["turns_us"] = rng.lognormal(3.75, 0.8, 40).tolist()
    found = compare(a, b)
    assert [row.outcome(0.05) for row in found.rows] == ["undecided"]
    assert "undecided" in table(found, 0.05)
    assert "undecided" not in table(found)


def test_rows_of_only_one_record_are_named():
    a = records.record((42.0, 58.0), records.NAMES[:2])
    b = records.record((42.0, 11.0), (records.NAMES[0], records.NAMES[2]))
    found = compare(a, b)
    assert (found.only_in_a, found.only_in_b) == ([records.NAMES[1]], [records.NAMES[2]])
    assert f"only in the second record: {records.NAMES[2]}" in table(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda r: other(r, device=records.device("Raspberry Pi 5 Model B Rev 1.0")), "model", id="model"),
        pytest.param(lambda r: other(r, device=records.device(cpu="Cortex-A76")), "processor", id="cpu"),
        pytest.param(lambda r: other(r, device={**records.device(), "architecture": "armv7l"}), "kernel", id="arch"),
        pytest.param(lambda r: other(r, 1, n_in=65), r"n_in.*\b64\b.*\b65\b", id="inputs"),
        pytest.param(lambda r: other(r, 1, engine="native"), r"engine.*litert.*native", id="engine"),
        pytest.param(lambda r: other(r, 1, threads=4), r"threads.*\b1\b.*\b4\b", id="threads"),
        pytest.param(lambda r: other(r, 1, batch=8), r"batch.*\b1\b.*\b8\b", id="batch"),
        pytest.param(lambda r: other(r, status="interrupted"), "interrupted", id="interrupted"),
        pytest.param(lambda r: other(r, valid=False, invalid_because=["hot"]), r"\bhot\b", id="invalid"),
        pytest.param(lambda r: other(r, valid=False), "valid", id="invalid without a reason"),
    ],
)
def test_incomparable_records_need_a_flag(change, message):
    a = records.record()
    b = change(records.record(seed=1))
    with pytest.raises(CompareError, match=message) as refused:
        compare(a, b)
    assert "--allow-different" in refused.value.hint
    found = compare(a, b, allow_different=True)
    assert len(found.rows) == 3
    assert len(found.notes) == 1


def test_different_cores_are_noted():
    a, b = records.record(), records.record()
    a["settings"]["cpus"], b["settings"]["cpus"] = None, [2, 3]
    assert any(note.endswith(": any / 2,3") for note in compare(a, b).notes)


def test_what_may_differ_is_noted():
    a = records.record()
    b = other(other(records.record(seed=1), 0, sha256="f" * 64), 0, engine_version="2.0")
    b["device"]["kernel"] = "6.12"
    found = compare(a, b)
    artifact, engine = found.rows[0].notes
    assert artifact.endswith(f": {a['rows'][0]['sha256'][:16]} / ffffffffffffffff") and engine.endswith("1.32.0 / 2.0")
    assert len(found.notes) == 1 and found.notes[0].endswith("6.6.31+rpt-rpi-v8 / 6.12")


def test_machines_that_do_not_say_what_they_are():
    a = other(records.record(), device=records.device("unavailable"))
    known = records.record()
    assert compare(a, a).notes and not compare(known, known).notes


@pytest.mark.parametrize(
    ("turns", "message"),
    [([], r"\b0 turns"), ([42.0] * (MIN_TURNS - 1), "19 turns"), ([42.0] * 30 + [0.0], r"\b0\b")],
)
def test_turns_that_say_too_little(turns, message):
    with pytest.raises(CompareError, match=message):
        compare(records.record(), other(records.record(), 0, turns_us=turns))


def test_nothing_in_common():
    a, b = records.record((1.0,), ("a.sen native 1",)), records.record((1.0,), ("b.sen native 1",))
    with pytest.raises(CompareError, match=r"'a\.sen native 1'.*'b\.sen native 1'"):
        compare(a, b)
    with pytest.raises(CompareError, match=r"none.*'b\.sen native 1'"):
        compare(records.record((), ()), b, allow_different=True)


def test_a_gate_fails_where_a_row_is_slower_missing_or_if_strict_undecided():
    a = records.record((42.0, 58.0, 11.0), seed=1)
    b = records.record((42.0, 58.0), records.NAMES[:2], seed=2)
    assert [failure.split(":")[0] for failure in compare(a, b).failures(0.05)] == ["missing"]
    assert compare(b, a).failures(0.05, strict=True) == []  # a new row is no failure
    noisy = other(b, 0, turns_us=np.random.default_rng(0).lognormal(3.74, 0.8, 40).tolist())
    found = compare(b, noisy)
    assert found.rows[0].outcome(0.05) == "undecided" and found.failures(0.05) == []
    assert [failure.split(":")[0] for failure in found.failures(0.05, strict=True)] == ["undecided"]
    found = compare(a, slowed(b, 1.2))
    kinds = [failure.split(":")[0] for failure in found.failures(0.05, strict=True)]
    assert kinds == ["regression", "regression", "missing"]
    told = json.loads(json.dumps(found.to_dict(0.05), allow_nan=False))
    assert [row["outcome"] for row in told["rows"]] == ["regression"] * 2
    assert told["gate"]["max_regression"] == 0.05 and not told["gate"]["passed"] and len(told["gate"]["failures"]) == 3
    assert compare(b, b).to_dict(0.05)["gate"]["passed"] and compare(b, b).to_dict()["gate"] is None


def test_as_json_and_text():
    a, b = records.record(), slowed(records.record(), 1.2)
    found = compare(a, b)
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["schema"] == "sen-edge/bench-comparison/1"
    assert [row["verdict"] for row in again["rows"]] == ["slower"] * 3
    assert again["rows"][0]["ratio"] == found.rows[0].ratio
    lines = table(found, 0.05).splitlines()
    assert [line.split()[-1] for line in lines[1:4]] == ["REGRESSION"] * 3
    assert "REGRESSION" not in table(found, 0.5)


def test_constant_turns_have_an_interval_of_no_width():
    a = other(records.record(), 0, turns_us=[42.0] * 50)
    row = compare(a, a).rows[0]
    assert (row.ratio, row.low, row.high, row.effect) == (1.0, 1.0, 1.0, 0.0)


def test_the_two_sides_are_drawn_independently():
    row = compare(records.record(), records.record()).rows[0]
    assert row.ratio == 1
    assert row.low < 1 < row.high


def test_cliffs_delta_against_all_pairs():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 30).astype(float), rng.integers(1, 7, 20).astype(float)
    expected = np.mean([np.sign(y - x) for x in a for y in b])
    assert cliffs_delta(a, b) == pytest.approx(expected)
    assert cliffs_delta(np.array([1.0, 2.0]), np.array([3.0])) == 1


def test_bootstrap_is_the_same_every_time_and_in_any_chunks(monkeypatch):
    series = np.random.default_rng(0).gamma(2, 1, 101)
    sizes = statistics.sizes_of_loads(None, 101)
    once = statistics.medians(series, sizes, seed=5)
    assert once.shape == (statistics.RESAMPLES,)
    assert np.array_equal(once, statistics.medians(series, sizes, seed=5))
    monkeypatch.setattr(statistics, "CHUNK", 1000)
    assert statistics.medians(series, sizes, seed=5).shape == (statistics.RESAMPLES,)


def test_loads_of_which_too_little_is_known_are_one_group():
    assert statistics.sizes_of_loads([10] * 8, 80).tolist() == [10] * 8
    assert statistics.sizes_of_loads([40] * 8, 80).tolist() == [10] * 8  # every fourth round is kept
    for loads, n in (([20, 30, 50], 100), ([10] * 8, 90), (None, 70)):
        assert statistics.sizes_of_loads(loads, n).tolist() == [n]


def test_records_whose_loads_differ_are_less_sure_of_a_ratio():
    """Of two runs of one program, in which every load is a few percent slower or faster than the others."""
    rng = np.random.default_rng(4)
    turns = [
        np.concatenate([rng.normal(10 * slow, 0.01, 25) for slow in rng.normal(1, 0.03, 40)]).tolist() for _ in "ab"
    ]
    known = [records.record((10.0,), ("net.sen native 1",)) for _ in "ab"]
    for each, values in zip(known, turns, strict=True):
        each["rows"][0]["turns_us"] = values
    (blind,) = compare(*known).rows
    for each in known:
        each["settings"] = {**each["settings"], "loads": [25] * 40}
    (row,) = compare(*known).rows
    assert row.ratio == blind.ratio and row.low <= 1 <= row.high
    assert row.high - row.low > 1.2 * (blind.high - blind.low)


def test_warm_and_cold_caches_are_not_compared():
    warm, cold = records.record(), records.record()
    cold["settings"] = {**cold["settings"], "inputs": "cold-cache", "n_inputs": 1000}
    with pytest.raises(CompareError, match=r"random.*cold-cache"):
        compare(warm, cold)
    notes = compare(warm, cold, allow_different=True).notes
    assert any(note.endswith(": 64 / 1000") for note in notes)


def test_other_inputs_are_noted():
    drawn, given = records.record(), records.record()
    given["settings"] = {**given["settings"], "inputs": "data"}
    assert any(note.endswith(": random / data") for note in compare(drawn, given).notes)


@pytest.mark.parametrize(
    ("metric", "values", "word"), [(ACCURACY, (97.0, 96.0), "worse"), (ERROR, (0.3, 0.2), "better")]
)
def test_a_change_of_the_score_is_noted(metric: Metric, values: tuple[float, float], word: str) -> None:
    a, b = records.record(), records.record()
    for made, value in zip((a, b), values, strict=True):
        made["rows"][0]["score"] = {**asdict(metric), "value": value}
    notes = compare(a, b).rows[0].notes
    assert any(metric.name in note and word in note for note in notes) and not compare(a, a).rows[0].notes
