"""A row that is loaded, and its figures."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.accuracy import correct
from sen_runtime.bench import interleaved, loops, memory, statistics
from sen_runtime.bench.bootstrap import even_choice
from sen_runtime.bench.coldstart import ColdStart
from sen_runtime.bench.inputs import N_INPUTS
from sen_runtime.bench.plan import RowPlan, reads_all_weights
from sen_runtime.bench.rounds import Measured
from sen_runtime.data import Examples
from sen_runtime.engines import Session

FloatArray = NDArray[np.float32]

#: Of more turns than these an even choice goes into the record.
MOST_TURNS = 2000
#: Of more labelled examples than these an even choice is classified, so many at once.
MOST_LABELLED, LABELLED_ROWS = 10_000, 256
#: How long the call through Python is measured beside the engine's own loop, seconds.
CALL_SECONDS = 0.3
#: A part of a call that is not the model's is named if it is larger than this share.
NAMED_OVERHEAD = 0.02


@dataclass(frozen=True, eq=False)
class Row:
    """A row that is loaded.

    Attributes:
        plan: what it is.
        session: of the first load.
        n_out: values of an output.
        properties: metadata of the file.
        dtype: what it stores.
        timesteps: of a spiking network; else 0.
        cold: its cold start.
    """

    plan: RowPlan
    session: Session
    n_out: int
    properties: Mapping[str, str]
    dtype: str
    timesteps: int
    cold: ColdStart

    @property
    def name(self) -> str:
        """Unique in the run."""
        return self.plan.name


@dataclass(frozen=True)
class Context:
    """What the figures of all rows rest on.

    Attributes:
        measured: samples and turns of all rows.
        first: the row that the others are compared with.
        loop_ns: what one turn of a loop in Python costs.
        bandwidth: bytes/ns that a core reads, see `memory.bandwidth`.
        device: what the machine is.
        seed: of the resampling.
        cold_cache: whether caches were emptied before each sample.
        raw: keep all samples.
    """

    measured: Measured
    first: Row
    loop_ns: float
    bandwidth: Mapping[str, float | None]
    device: Mapping[str, Any]
    seed: int
    cold_cache: bool
    raw: bool


def accuracy_percent(session: Session, data: Examples | None) -> float | None:
    """Share of labelled examples whose greatest output is the right one; None without labels."""
    if data is None or data.labels is None:
        return None
    kept = even_choice(len(data.inputs), MOST_LABELLED)
    right = 0
    for start in range(0, len(kept), LABELLED_ROWS):
        part = kept[start : start + LABELLED_ROWS]
        x = data.inputs[part]
        found = loops.outputs(session, x) if session.batch_size else session.run(x)
        right += int(np.sum(correct(found, data.labels[part])))
    return 100 * right / len(kept)


def call_us(session: Session, inputs: FloatArray, measured: Measured) -> float | None:
    """What the call through Python costs beside the engine's own loop; None where it has none."""
    if not hasattr(session, "bare_loop") or not measured.is_complete:
        return None
    few = inputs[:N_INPUTS]
    calls = interleaved.repeated([loops.call_of(session, batch) for batch in loops.batches(few, 1)])
    found = interleaved.side_by_side({"loop": loops.loop_over(session, few), "call": calls}, CALL_SECONDS)
    return max(0.0, float(np.median(found.blocks_us["call"] - found.blocks_us["loop"])))


def figures(row: Row, context: Context, call_through_python_us: float | None) -> dict[str, Any]:
    """The row of the record, but for what its outputs are."""
    artifact, measured, timed = row.plan.artifact, context.measured, context.measured.timed[row.name]
    samples_us = measured.samples[row.name].all() / loops.rows_per_call(row.session)
    turns_us = _turns_us(row, measured)
    latency_us, network = statistics.summary(samples_us), artifact.network
    median = latency_us["median"]
    kept = even_choice(len(turns_us), MOST_TURNS)
    return {
        "name": row.name,
        "file": artifact.path.name,
        "sha256": artifact.sha256,
        "bytes": artifact.size,
        "engine": row.plan.engine,
        "engine_version": row.plan.version,
        "kernels": getattr(row.session, "kernels", None),
        "threads": row.plan.threads,
        "n_in": row.session.input_shape[-1],
        "n_out": row.n_out,
        "timesteps": row.timesteps,
        "load_us": row.cold.load_us,
        "first_us": row.cold.first_us,
        "calls_per_sample": timed.calls,
        "n_samples": len(samples_us),
        "latency_us": latency_us,
        "step_us": median / row.timesteps if row.timesteps else None,
        "call_us": call_through_python_us,
        "throughput_per_s": 1e6 / latency_us["mean"],
        "ratio": _ratio(row, turns_us, context),
        "macs": _told(row, "macs") if network is None else network.macs,
        "nnz": _told(row, "nnz") if network is None else network.nnz,
        "rss_growth_bytes": row.cold.rss_growth_bytes,
        "arena_bytes": getattr(row.session, "arena_bytes", None),
        **_traffic(row, median, context.bandwidth),
        "energy_uj": None,
        "warnings": [
            *statistics.warnings(samples_us, turns_us, len(measured.loads)),
            *(memory.cold_warning(context.device) if context.cold_cache else []),
            *_overheads(row, timed, median, context.loop_ns),
            *_threads(row.plan.threads, usable_cores()),
        ],
        "histogram": statistics.histogram(samples_us),
        **({"samples_us": samples_us.tolist()} if context.raw else {}),
        "turns_us": turns_us[kept].tolist(),
    }


def _told(row: Row, name: str) -> int | None:
    """A number in the metadata that sen-edge writes; None in other files."""
    found = row.properties.get(name, "")
    return int(found) if re.fullmatch("[0-9]{1,15}", found) else None


def _turns_us(row: Row, measured: Measured) -> NDArray[np.float64]:
    return np.array(measured.turns_us[row.name]) / loops.rows_per_call(row.session)


def _ratio(row: Row, turns_us: NDArray[np.float64], context: Context) -> dict[str, Any] | None:
    if row is context.first:
        return None
    measured = context.measured
    found = statistics.ratio(turns_us, _turns_us(context.first, measured), measured.loads, context.seed)
    return {"to": context.first.name, **found}


def _traffic(row: Row, median_us: float, bandwidth: Mapping[str, float | None]) -> dict[str, Any]:
    """Bytes of weights, how fast they are read, and what share that is of what the machine can."""
    network = row.plan.artifact.network
    speed = None
    if network is not None and reads_all_weights(network):
        speed = network.nbytes / median_us / 1000
    l2, beyond = bandwidth["l2_bytes_per_ns"], bandwidth["memory_bytes_per_ns"]
    return {
        "weight_bytes": None if network is None else network.nbytes,
        "bytes_per_ns": speed,
        "share_of_l2": None if speed is None or l2 is None else speed / l2,
        "share_of_memory": None if speed is None or beyond is None else speed / beyond,
    }


def _overheads(row: Row, timed: interleaved.Timed, median_us: float, loop_ns: float) -> list[dict[str, str]]:
    """What is in the latency beside the model, where it is worth a word; it is not subtracted."""
    rows_per_call = loops.rows_per_call(row.session)
    call_ns = 1000 * median_us * rows_per_call
    costs = {"reading the clock and entering the loop": interleaved.empty_ns(timed.loop) / timed.calls}
    if not hasattr(row.session, "bare_loop"):
        costs["the loop in Python"] = loop_ns
    found = [
        {
            "kind": "overhead",
            "message": f"{what} takes {cost:.3g} ns of each call, {100 * cost / call_ns:.2g} %, which is included",
        }
        for what, cost in costs.items()
        if cost > NAMED_OVERHEAD * call_ns
    ]
    if rows_per_call > 1:
        message = f"the model takes {rows_per_call} inputs in a call; the latency is that of a call, divided by them"
        found.append({"kind": "batch", "message": message})
    return found


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads(threads: int, cores: int) -> list[dict[str, str]]:
    if threads <= cores:
        return []
    message = (
        f"{threads} threads share {cores} {'core' if cores == 1 else 'cores'}: latency and ratio depend on the "
        "scheduler, and say nothing of a machine with more cores"
    )
    return [{"kind": "threads", "message": message}]


def spans(measured: Measured, row: Row) -> tuple[tuple[float, float, int], ...]:
    """Each round with the inferences of the first row in it: those of the sample that is not kept as well."""
    timed = measured.timed[row.name]
    calls = timed.calls * (timed.samples + (timed.before is None)) * loops.rows_per_call(row.session)
    return tuple((start, end, calls) for start, end in measured.spans)
