"""Load test: arrivals, one queue, latency from the scheduled arrival, and what cannot be sustained."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_runtime.bench import measure, memory, record, server, text
from sen_runtime.bench.plan import BenchRequest
from sen_runtime.errors import UsageError
from sen_runtime.memory_limits import MemoryLimitError
from tests.support import bench_record
from tests.support.bench import Clock, Machine, small_network, write

#: Of a call; and of a turn of the loop that waits for a query.
SERVICE_NS, POLL_NS = 1_000_000, 5_000


def served(monkeypatch: pytest.MonkeyPatch, rate: float, seconds: float, *service_ns: int) -> tuple[Any, Any]:
    """Arrivals and ends of a test whose calls take these times in turn, on a clock of its own."""
    clock = Clock().install(monkeypatch)
    calls = [lambda ns=ns: clock.loop(ns)(1) for ns in service_ns]
    arrivals_ns = server.draw_arrivals(rate, seconds, seed=3)

    def poll() -> bool:
        clock.now_ns += POLL_NS
        return False

    return arrivals_ns, server.serve(calls, arrivals_ns, round(1.1e9 * seconds), poll)


def queue(arrivals_ns: np.ndarray, *service_ns: int) -> np.ndarray:
    """Ends of service in a queue, computed one after the other."""
    ends, last = [], 0
    for index, arrival in enumerate(arrivals_ns):
        last = max(arrival, last) + service_ns[index % len(service_ns)]
        ends.append(last)
    return np.array(ends)


def test_arrivals_are_those_of_a_poisson_process() -> None:
    arrivals = server.draw_arrivals(1000.0, 20.0, seed=1)
    assert len(arrivals) == 20_000 and np.all(np.diff(arrivals) >= 0)
    assert arrivals[0] >= 0 and arrivals[-1] < 20e9
    gaps = np.diff(arrivals) / 1e6
    assert gaps.mean() == pytest.approx(1.0, rel=0.01) and gaps.std() == pytest.approx(1.0, rel=0.05)
    assert np.array_equal(arrivals, server.draw_arrivals(1000.0, 20.0, seed=1))
    assert not np.array_equal(arrivals, server.draw_arrivals(1000.0, 20.0, seed=2))


@pytest.mark.parametrize("service_ns", [(SERVICE_NS,), (SERVICE_NS, 3 * SERVICE_NS, SERVICE_NS // 10)])
def test_queries_are_answered_in_order(monkeypatch: pytest.MonkeyPatch, service_ns: tuple[int, ...]) -> None:
    arrivals, ends = served(monkeypatch, 500.0, 2.0, *service_ns)
    np.testing.assert_allclose(ends, queue(arrivals, *service_ns), atol=SERVICE_NS)


def test_latencies_are_those_of_queueing_theory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean wait of random arrivals and constant service at half load: half a service (Pollaczek and Khinchine)."""
    arrivals, ends = served(monkeypatch, 500.0, 20.0, SERVICE_NS)
    found = server.figures(arrivals, ends, 500.0, 20.0)
    assert found["utilization"] == pytest.approx(0.5, rel=0.02)
    assert found["latency_us"]["mean"] == pytest.approx(1500, rel=0.1)
    assert (found["queries"], found["unanswered"], found["overloaded"]) == (10_000, 0, False)
    assert found["answered_per_s"] == pytest.approx(500, rel=0.01)
    assert list(server.warnings(found)) == []


def test_a_pause_counts_for_all_queries_that_arrive_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pause = 500 * SERVICE_NS
    arrivals, ends = served(monkeypatch, 100.0, 10.0, *[SERVICE_NS] * 499, pause, *[SERVICE_NS] * 500)
    found = server.figures(arrivals, ends, 100.0, 10.0)
    late = np.mean(ends - arrivals > 10 * SERVICE_NS)
    assert 0.04 < late < 0.07  # 500 ms of 10 s, and not one query of a thousand
    assert found["latency_us"]["p99"] > 300_000 and found["latency_us"]["p50"] < 1200
    assert not found["overloaded"]


def test_a_rate_that_cannot_be_sustained(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals, ends = served(monkeypatch, 2000.0, 1.0, SERVICE_NS)
    found = server.figures(arrivals, ends, 2000.0, 1.0)
    assert found["overloaded"] and found["utilization"] == pytest.approx(2, rel=0.01)
    assert found["queries"] == 2000 and found["unanswered"] == 2000 - len(ends) and 1090 <= len(ends) <= 1110
    assert found["answered_per_s"] == pytest.approx(1000, rel=0.01)
    assert found["latency_us"]["max"] > 0.5e6  # of queries that still wait
    assert [kind for kind, _ in server.warnings(found)] == ["overloaded"]


def test_a_queue_that_grows_slowly_is_an_overload(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals, ends = served(monkeypatch, 1030.0, 1.0, SERVICE_NS)
    found = server.figures(arrivals, ends, 1030.0, 1.0)
    assert found["unanswered"] == 0 and found["overloaded"]


def test_an_interrupt_ends_a_test_between_queries_and_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen = Clock().install(monkeypatch), list[int]()
    call: Callable[[], object] = lambda: seen.append(clock.now_ns)  # noqa: E731
    for interrupted in (lambda: len(seen) >= server.WARM_UP_CALLS + 3, lambda: clock.now_ns > 10_000):
        seen.clear()
        ends = server.serve([call], np.array([1, 2, 3, 4, 10**15]), 10**16, interrupted)
        assert len(ends) in (3, 4)


def test_each_row_is_tested_under_the_same_arrivals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sen_runtime.bench.measure.CALL_SECONDS", 0.01)
    monkeypatch.setattr(memory, "MIN_BYTES", 1 << 20)
    given = []
    true_serve = server.serve

    def serve(calls: Any, arrivals_ns: Any, *others: Any) -> Any:
        given.append((len(calls), arrivals_ns))
        return true_serve(calls, arrivals_ns, *others)

    monkeypatch.setattr(server, "serve", serve)
    paths = tuple(write(tmp_path, name, small_network()) for name in ("net.sen", "net.onnx"))
    request = BenchRequest(paths, batches=(1, 16), seconds=0.4, rate=1000.0)
    found = measure.run(request, device=Machine()).record
    record.check(found)
    bench_record.check(found)
    assert [calls for calls, _ in given] == [64, 4, 64, 4]
    assert all(np.array_equal(arrivals, given[0][1]) for _, arrivals in given)
    for row in found["rows"]:
        result = row["server"]
        assert (result["rate_per_s"], result["seconds"], result["queries"]) == (1000, 0.1, 100)
        latency = [result["latency_us"][name] for name in ("p50", "p90", "p99", "p99_9", "max")]
        assert latency == sorted(latency) and latency[0] > 0
        assert "few-queries" in [each["kind"] for each in row["warnings"]]
    for index, row in enumerate(found["rows"]):
        row["server"]["overloaded"] = index == 1
    lines = text.table(found, 200).splitlines()
    title = next(index for index, line in enumerate(lines) if line.startswith("server: 1000 queries/s"))
    assert lines[title - 1] == "" and len(lines) == title + 6
    assert [line.endswith("OVERLOADED") for line in lines[title + 2 :]] == [False, True, False, False]


def test_an_interrupt_keeps_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = []

    def serve(calls: Any, arrivals_ns: Any, limit_ns: int, is_interrupted: Callable[[], bool]) -> Any:
        tests.append(1)
        if len(tests) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            while not is_interrupted():
                pass
        return arrivals_ns + 1000

    monkeypatch.setattr(server, "serve", serve)
    paths = tuple(write(tmp_path, name, small_network()) for name in ("net.sen", "net.onnx", "net2.onnx"))
    found = measure.run(BenchRequest(paths, seconds=0.3, rate=2000.0), device=Machine()).record
    record.check(found)
    assert (found["status"], len(tests)) == ("interrupted", 2)
    assert ["server" in row for row in found["rows"]] == [True, False, False]
    assert all(row["n_samples"] > 0 for row in found["rows"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"rate": 0.0}, "--rate is 0", id="none"),
        pytest.param({"rate": -5.0}, "--rate is -5", id="negative"),
        pytest.param({"rate": float("nan")}, "--rate is nan", id="no number"),
        pytest.param({"rate": float("inf")}, "--rate is inf", id="infinite"),
        pytest.param({"rate": 1_000_001.0}, r"--rate is 1,000,001.*\b1,000,000\b", id="too many"),
        pytest.param({"rate": 5.0, "cold_cache": True}, "--rate.*--cold-cache", id="cold cache"),
        pytest.param({"rate": 5.0, "energy": Path("m.csv")}, "--rate.*--energy", id="energy"),
        pytest.param({"rate": 9.0}, r"--rate 9/s.*\b90\b.*\b100\b", id="few queries"),
        pytest.param({"rate": 19.0, "batches": (1, 8)}, r"--rate 19/s.*\b95\b.*\b100\b", id="few queries of two"),
    ],
)
def test_usage(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = write(tmp_path, "net.sen", small_network())
    with pytest.raises(UsageError, match=message) as found:
        measure.run(BenchRequest((path,), **options), device=Machine())
    assert found.value.exit_code == 2


def test_queries_beyond_the_memory_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "net.sen", small_network())
    with pytest.raises(MemoryLimitError, match="--rate"):
        measure.run(BenchRequest((path,), seconds=1e9, rate=1e6), device=Machine())
