"""Load test of a row: queries arrive at random at a given rate, the scenario "server" of MLPerf Inference.

Arrivals are those of a Poisson process with a given number of queries: independent and uniform in time. One caller
answers them in order. A latency counts from the scheduled arrival, so queries that wait behind a slow one count as slow
as well.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.bench import loops
from sen_runtime.bench.plan import BenchRequest
from sen_runtime.bench.rows import FloatArray, Row
from sen_runtime.engines import Session
from sen_runtime.errors import UsageError
from sen_runtime.figures import UNITS_OF_TIME, aligned, significant, unit_of_time
from sen_runtime.memory_limits import require
from sen_runtime.untrusted import printable

Nanoseconds = NDArray[np.int64]
Call = Callable[[], object]

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9}
#: Queries of a row, at least; and for p99.9.
MIN_QUERIES, ENOUGH_QUERIES = 100, 1000
#: Time to answer the queries that wait after the last arrival, as share of the test.
DRAIN_SHARE = 0.1
WARM_UP_CALLS = 10
QUERY_BYTES = 32


def check_queries(request: BenchRequest, n_rows: int) -> None:
    """Refuse a rate that gives each row too few queries, or more than fit into the memory."""
    if request.rate is None:
        return
    seconds = request.seconds / n_rows
    queries = request.rate * seconds
    if queries < MIN_QUERIES:
        found = f"--rate {request.rate:g}/s gives a row {queries:.3g} queries in its {seconds:.3g} s"
        raise UsageError(f"{found}; expected at least {MIN_QUERIES}", "measure longer (--seconds)")
    require(round(queries * QUERY_BYTES), f"--rate {request.rate:g}/s for {seconds:g} s")


def load_tests(
    request: BenchRequest,
    rows: Sequence[tuple[Row, Session]],
    inputs: FloatArray,
    is_interrupted: Callable[[], bool],
    progress: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Results of the rows by name, under the same arrivals; without the rows after an interrupt, and that in it."""
    results = dict[str, dict[str, Any]]()
    if request.rate is None:
        return results
    seconds = request.seconds / len(rows)
    arrivals_ns = draw_arrivals(request.rate, seconds, request.seed)
    for row, session in rows:
        progress(f"load test of {row.name}, {request.rate:g} queries/s")
        calls = [loops.call_of(session, x) for x in loops.batches(inputs, row.batch)]
        ends_ns = serve(calls, arrivals_ns, round(1e9 * seconds * (1 + DRAIN_SHARE)), is_interrupted)
        if is_interrupted():
            break
        results[row.name] = figures(arrivals_ns, ends_ns, request.rate, seconds)
    return results


def draw_arrivals(rate: float, seconds: float, seed: int) -> Nanoseconds:
    """Ascending times of arrival `[queries]`."""
    times = np.random.default_rng(seed).random(round(rate * seconds))
    times.sort()
    return (1e9 * seconds * times).astype(np.int64)


def serve(
    calls: Sequence[Call], arrivals_ns: Nanoseconds, limit_ns: int, is_interrupted: Callable[[], bool]
) -> Nanoseconds:
    """Answer queries one after the other, until the limit; times at which they were answered `[answered]`.

    Between queries the clock is polled: the processor does not sleep.
    """
    for call in islice(cycle(calls), WARM_UP_CALLS):
        call()
    clock, ends_ns, count = time.perf_counter_ns, np.zeros(len(arrivals_ns), np.int64), 0
    gc.collect()
    gc.disable()  # a collection would count as the model's
    try:
        start = clock()
        for arrival, call in zip(arrivals_ns.data, cycle(calls)):
            now = clock() - start
            while now < arrival and not is_interrupted():
                now = clock() - start
            if (count and now > limit_ns) or is_interrupted():
                break
            call()
            ends_ns[count] = clock() - start
            count += 1
    finally:
        gc.enable()
    return ends_ns[:count]


def figures(arrivals_ns: Nanoseconds, ends_ns: Nanoseconds, rate: float, seconds: float) -> dict[str, Any]:
    """The result of a load test in the record.

    The queue grows without bound if the mean time of service is longer than that between arrivals. Queries that were
    not answered count with their time in the queue until the end.
    """
    answered, last_ns = len(ends_ns), max(int(1e9 * seconds), int(ends_ns[-1]))
    begins_ns = np.maximum(arrivals_ns[:answered], np.concatenate([[0], ends_ns[:-1]]))
    utilization = rate * float(np.mean(ends_ns - begins_ns)) / 1e9
    waiting_ns = last_ns - arrivals_ns[answered:]
    latency_us = np.concatenate([ends_ns - arrivals_ns[:answered], waiting_ns]) / 1000
    percentiles = np.percentile(latency_us, list(PERCENTILES.values())).tolist()
    return {
        "rate_per_s": rate,
        "seconds": seconds,
        "queries": len(arrivals_ns),
        "unanswered": len(waiting_ns),
        "answered_per_s": 1e9 * answered / last_ns,
        "utilization": utilization,
        "overloaded": utilization >= 1 or len(waiting_ns) > 0,
        "latency_us": {
            "mean": float(latency_us.mean()),
            **dict(zip(PERCENTILES, percentiles)),
            "max": float(latency_us.max()),
        },
    }


def warnings(found: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Warnings about a result, with their kinds."""
    if found is None:
        return
    if found["overloaded"]:
        yield (
            "overloaded",
            f"{found['rate_per_s']:g} queries/s cannot be sustained: {found['answered_per_s']:.4g}/s were answered, "
            f"{found['unanswered']} of {found['queries']} queries still waited at the end",
        )
    if found["queries"] < ENOUGH_QUERIES:
        yield "few-queries", f"{found['queries']} queries are few: p99.9 needs at least {ENOUGH_QUERIES}"


def table(record: Mapping[str, Any]) -> list[str]:
    """Lines of a table of the rows that have a result, for a terminal."""
    rows = [row for row in record["rows"] if "server" in row]
    if not rows:
        return []
    unit = unit_of_time(row["server"]["latency_us"]["p50"] for row in rows)
    headings = [name.replace("_", ".") for name in PERCENTILES]
    cells = [["row", "answered/s", "busy %", *(f"{name} {unit}" for name in (*headings, "max"))]]
    for row in rows:
        found = row["server"]
        times = [significant(found["latency_us"][name] * UNITS_OF_TIME[unit]) for name in (*PERCENTILES, "max")]
        busy = f"{100 * min(1.0, found['utilization']):.1f}"
        cells.append([printable(row["name"]), significant(found["answered_per_s"]), busy, *times])
    marks = ["", *("  OVERLOADED" if row["server"]["overloaded"] else "" for row in rows)]
    rate = rows[0]["server"]["rate_per_s"]
    title = f"server: {rate:g} queries/s at random; latency from the scheduled arrival, with the time in the queue"
    return [title, *(line + mark for line, mark in zip(aligned(cells), marks))]
