"""Evaluate the observations of a run: judge outputs and machine, and compute the figures of the record.

The observations come from a run in this process (`measure.py`), or from a file of `sen_bench` (`raw.py`). The record is
described in docs/reference/bench.md and in record.schema.json.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from sen_runtime.bench import memory, server, statistics, throttle
from sen_runtime.bench.interleaved import TURN_NS
from sen_runtime.bench.judge import judge, wrong
from sen_runtime.bench.loops import N_INPUTS
from sen_runtime.bench.plan import reads_all_weights
from sen_runtime.bench.record import SCHEMA, is_wrong
from sen_runtime.bench.rows import Observations, Row
from sen_runtime.bench.statistics import Floats, even_choice
from sen_runtime.task import ACCURACY

#: Turns in the record; of more an even choice.
MAX_TURNS = 2000
#: Overheads above this share of a call are named.
NAMED_OVERHEAD = 0.02


def evaluate(seen: Observations) -> dict[str, Any]:
    """Return the record of a run."""
    request = seen.request
    before, *during, after = seen.states
    throttled = throttle.changes(before, after, during)
    judged = judge(seen.rows, seen.inputs[:N_INPUTS], has_data=seen.data is not None)
    rows = [_figures(row, seen, agreement, note) for row, (agreement, note) in zip(seen.rows, judged)]
    rows[0]["warnings"] += seen.warnings
    reasons = [wrong(row) for row in rows if is_wrong(row)] + throttled
    return {
        "schema": SCHEMA,
        "created": seen.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "tool": dict(zip(("name", "version"), seen.tool)),
        "command": list(request.command),
        "status": "complete" if seen.measured.is_complete else "interrupted",
        "valid": not reasons,
        "invalid_because": reasons,
        "settings": {
            "seconds": float(request.seconds),
            "seed": request.seed,
            "inputs": "cold-cache" if request.cold_cache else "random" if seen.data is None else "data",
            "n_inputs": len(seen.inputs),
            "data": seen.data,
            "cpus": None if request.cpus is None else list(request.cpus),
            "cpus_verified": seen.cpus_verified,
            "turn_ns": TURN_NS,
            "loads": list(seen.measured.loads),
        },
        "clock": dict(seen.clock),
        "device": {**seen.device, "before": before, "after": after, "throttled_during": throttled},
        "bandwidth": dict(seen.bandwidth),
        "left_out": [asdict(each) for each in seen.left_out],
        "rows": rows,
        "sustained": seen.sustained,
        "energy": None,
    }


def _figures(row: Row, seen: Observations, agreement: dict[str, Any] | None, note: str) -> dict[str, Any]:
    """The row in the record; `note` says why its outputs are not judged."""
    artifact, measured = row.plan.artifact, seen.measured
    samples_us, turns_us = measured.samples(row.name), measured.turns(row.name)
    latency_us, network = statistics.summary(samples_us), artifact.network
    median = latency_us["median"]
    warnings = [
        ("not-compared", note),
        *statistics.warnings(samples_us, turns_us, len(measured.loads)).items(),
        ("cold-cache-small", memory.cold_warning(seen.device, seen.swept_bytes) if seen.request.cold_cache else ""),
        *_overheads(row, median, seen),
        *server.warnings(seen.servers.get(row.name)),
    ]
    return {
        "name": row.name,
        "file": artifact.path.name,
        "sha256": artifact.sha256,
        "bytes": artifact.size,
        "engine": row.plan.engine,
        "engine_version": row.plan.version,
        "kernels": row.kernels,
        "threads": row.plan.threads,
        "batch": row.batch,
        "n_in": row.input_shape[-1],
        "n_out": row.outputs.shape[1],
        "timesteps": row.timesteps,
        "load_us": row.cold.load_us,
        "first_us": row.cold.first_us,
        "calls_per_sample": measured.calls[row.name],
        "n_samples": len(samples_us),
        "latency_us": latency_us,
        "step_us": median / row.timesteps if row.timesteps else None,
        "call_us": row.call_us,
        "throughput_per_s": 1e6 * row.batch / latency_us["mean"],
        "ratio": _ratio(row, turns_us, seen),
        "accuracy_percent": row.score[1] if row.score is not None and row.score[0] == ACCURACY else None,
        "macs": _property(row, "macs") if network is None else network.macs,
        "nnz": _property(row, "nnz") if network is None else network.nnz,
        "rss_growth_bytes": row.cold.rss_growth_bytes,
        "arena_bytes": row.arena_bytes,
        **_traffic(row, median, seen),
        "energy_uj": None,
        "warnings": [{"kind": kind, "message": message} for kind, message in warnings if message],
        "histogram": statistics.histogram(samples_us),
        **({"samples_us": samples_us.tolist()} if seen.request.raw else {}),
        "turns_us": turns_us[even_choice(len(turns_us), MAX_TURNS)].tolist(),
        "agreement": agreement,
        **({"server": seen.servers[row.name]} if row.name in seen.servers else {}),
        "score": _score(row),
    }


def _score(row: Row) -> dict[str, Any] | None:
    """The score in the record; its value is None where it is not finite."""
    if row.score is None:
        return None
    metric, value = row.score
    return {**asdict(metric), "value": value if math.isfinite(value) else None}


def _property(row: Row, name: str) -> int | None:
    """A number in the metadata of sen-edge; None in other files."""
    found = row.properties.get(name, "")
    return int(found) if re.fullmatch("[0-9]{1,15}", found) else None


def _ratio(row: Row, turns_us: Floats, seen: Observations) -> dict[str, Any] | None:
    """Time of an input over that of the first row."""
    first, measured = seen.rows[0], seen.measured
    if row is first:
        return None
    times = turns_us / row.batch, measured.turns(first.name) / first.batch
    return {"to": first.name, **statistics.ratio(*times, measured.loads, seen.request.seed)}


def _traffic(row: Row, median_us: float, seen: Observations) -> dict[str, Any]:
    """Bytes of weights, how fast they are read, and the share of the bandwidth."""
    network = row.plan.artifact.network
    reads_once = network is not None and row.batch == 1 and reads_all_weights(network)
    speed = network.nbytes / median_us / 1000 if network is not None and reads_once else None
    traffic = {"weight_bytes": None if network is None else network.nbytes, "bytes_per_ns": speed}
    for name in ("l2", "memory"):
        limit = seen.bandwidth[f"{name}_bytes_per_ns"]
        traffic[f"share_of_{name}"] = None if speed is None or limit is None else speed / limit
    return traffic


def _overheads(row: Row, median_us: float, seen: Observations) -> Iterator[tuple[str, str]]:
    """Warnings, with their kinds, about parts of the latency that are not the model's; they are not subtracted."""
    call_ns, measured = 1000 * median_us, seen.measured
    costs = {
        "reading the clock and entering the loop": measured.overhead_ns.get(row.name, 0.0) / measured.calls[row.name],
        "the loop in Python": 0.0 if row.has_c_loop else seen.clock["loop_ns"],
    }
    for part, cost in costs.items():
        if cost > NAMED_OVERHEAD * call_ns:
            share = f"{100 * cost / call_ns:.2g} %"
            yield "overhead", f"{part} takes {cost:.3g} ns of each call, {share}, which is included"
    if row.is_batch_fixed and seen.request.batches != (row.batch,):
        yield "batch", f"the file has a fixed batch of {row.batch}, which was measured; --batch has no effect on it"
    threads, cores = row.plan.threads, seen.cores
    if threads > cores:
        shared = f"{cores} {'core' if cores == 1 else 'cores'}"
        yield (
            "threads",
            f"{threads} threads share {shared}: latency and ratio depend on the scheduler and do not transfer to a "
            "machine with more cores",
        )
