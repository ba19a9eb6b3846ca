"""Profile of the rows of a benchmark: time of each layer, and hardware counters; measured after the latencies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sen_runtime.bench import perf
from sen_runtime.bench.loops import FloatArray, loop_over
from sen_runtime.bench.plan import RowPlan
from sen_runtime.engines import LayerTime, Session, engine
from sen_runtime.errors import SenError
from sen_runtime.figures import aligned, significant, size
from sen_runtime.streams import suppress_announcements
from sen_runtime.untrusted import printable

#: Duration of a loop whose events are counted, microseconds.
COUNTED_US = 1e5
HEADINGS = ("layer", "us", "share %", "MACs", "weights", "bytes/ns", "% of L2", "% of memory")


def add_profiles(
    record: Mapping[str, Any],
    rows: Sequence[tuple[RowPlan, Session]],
    inputs: FloatArray,
    progress: Callable[[str], None] = lambda stage: None,
) -> dict[str, Any]:
    """Return the record with the profile of each row on `inputs [n, ...]`; an interrupt ends it after the latencies."""
    measured = list[dict[str, Any]]()
    for row, (plan, session) in zip(record["rows"], rows):
        progress(f"profiling {plan.name}")
        try:
            layers = _layers(plan, session, inputs, record["bandwidth"])
            profile = {**layers, "counters": _counters(session, inputs, row)}
        except KeyboardInterrupt:
            return {**record, "status": "interrupted", "rows": [*measured, *record["rows"][len(measured) :]]}
        measured.append({**row, "profile": profile})
    return {**record, "rows": measured}


def _layers(
    plan: RowPlan, session: Session, inputs: FloatArray, bandwidth: Mapping[str, float | None]
) -> dict[str, Any]:
    run = engine(plan.engine).profile
    if run is None:
        return {"unavailable": f"the engine {plan.engine} has no profiler", "layers": []}
    if plan.batch != (session.batch_size or 1):
        return {"unavailable": f"layers are profiled for one input; the row has {plan.batch}", "layers": []}
    try:
        with suppress_announcements():
            found = run(plan.artifact.path, inputs, plan.threads)
    except (SenError, AttributeError) as error:  # a library without sen_profile
        return {"unavailable": printable(str(error)), "layers": []}
    total_us = sum(layer.us for layer in found) or 1.0
    return {"unavailable": None, "layers": [_figures(layer, total_us, bandwidth) for layer in found]}


def _figures(layer: LayerTime, total_us: float, bandwidth: Mapping[str, float | None]) -> dict[str, Any]:
    is_known = layer.reads_weights_once and layer.weight_bytes is not None and layer.us > 0
    speed = (layer.weight_bytes or 0) / layer.us / 1000 if is_known else None
    limits = {name: bandwidth[f"{name}_bytes_per_ns"] for name in ("l2", "memory")}
    return {
        "name": layer.name,
        "us": layer.us,
        "share": layer.us / total_us,
        "macs": layer.macs,
        "weight_bytes": layer.weight_bytes,
        "bytes_per_ns": speed,
        **{f"share_of_{name}": None if not (speed and limit) else speed / limit for name, limit in limits.items()},
    }


def _counters(session: Session, inputs: FloatArray, row: Mapping[str, Any]) -> dict[str, Any]:
    """Events of an inference; of one thread, so only rows with one have them."""
    nothing = dict.fromkeys(perf.EVENTS)
    if row["threads"] > 1:
        return {"unavailable": f"counters are those of one thread; the row has {row['threads']}", **nothing}
    loop = loop_over(session, inputs, row["batch"])
    calls = max(1, int(COUNTED_US / row["latency_us"]["median"]))
    loop(calls // 10 + 1)
    try:
        found = perf.count(lambda: loop(calls))
    except perf.CountersError as error:
        return {"unavailable": error.message, **nothing}
    return {"unavailable": None, **{name: n if n is None else n / (calls * row["batch"]) for name, n in found.items()}}


def table(record: Mapping[str, Any]) -> str:
    """Profiles of the rows that have one, for a terminal."""
    parts = [_table(row) for row in record["rows"] if "profile" in row]
    return "\n\n".join(parts) + "\n" if parts else ""


def _table(row: Mapping[str, Any]) -> str:
    profile, title = row["profile"], printable(f"profile of {row['name']}")
    lines = [f"{title}: unavailable ({profile['unavailable']})"]
    if profile["unavailable"] is None:
        total = sum(layer["us"] for layer in profile["layers"])
        median = row["latency_us"]["median"] / row["batch"]
        lines = [
            f"{title}: the layers take {significant(total)} us, the median time of an input is {significant(median)} us"
        ]
        lines += aligned([HEADINGS, *map(cells, profile["layers"])])
    return "\n".join([*lines, counter_line(profile["counters"])])


def cells(layer: Mapping[str, Any]) -> tuple[str, ...]:
    """Figures of a layer under `HEADINGS`."""

    def show(key: str, text: Callable[[Any], str], factor: float = 1) -> str:
        return "-" if layer[key] is None else text(layer[key] * factor)

    return (
        printable(layer["name"]),
        significant(layer["us"]),
        f"{100 * layer['share']:.1f}",
        show("macs", "{:,}".format),
        show("weight_bytes", size),
        show("bytes_per_ns", significant),
        show("share_of_l2", "{:.0f}".format, 100),
        show("share_of_memory", "{:.0f}".format, 100),
    )


def counter_line(counters: Mapping[str, Any]) -> str:
    """Hardware counters of an inference, or why they are unavailable."""
    if counters["unavailable"] is not None:
        return f"counters: unavailable ({printable(counters['unavailable'])})"
    known = {name.replace("_", " "): counters[name] for name in perf.EVENTS if counters[name] is not None}
    return "an inference: " + ", ".join(f"{count:,.0f} {name}" for name, count in known.items())
