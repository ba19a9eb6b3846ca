"""A row of a benchmark, and its figures in the record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.bench import memory, statistics
from sen_runtime.bench.bootstrap import even_choice
from sen_runtime.bench.coldstart import ColdStart
from sen_runtime.bench.plan import RowPlan, reads_all_weights
from sen_runtime.bench.rounds import Measured

FloatArray = NDArray[np.float32]

#: Turns in the record; of more an even choice.
MAX_TURNS = 2000
#: Overheads above this share of a call are named.
NAMED_OVERHEAD = 0.02


@dataclass(frozen=True, eq=False)
class Row:
    """A row that was loaded.

    Attributes:
        plan: name, artifact, engine and threads.
        n_in: size of an input (of a time step of a spike train).
        outputs: of the common inputs `[n, n_out]`.
        properties: metadata of the file.
        dtype: of the stored weights.
        timesteps: of a spiking network; else 0.
        cold: its cold start.
        kernels, arena_bytes: of the native engine.
        rows_per_call: batch size of the model.
        has_c_loop: whether the loop over the calls is in C.
        call_us: duration of a call through Python, beyond the engine's own loop.
        accuracy_percent: on labelled data.
    """

    plan: RowPlan
    n_in: int
    outputs: FloatArray
    properties: Mapping[str, str]
    dtype: str
    timesteps: int
    cold: ColdStart
    kernels: str | None = None
    arena_bytes: int | None = None
    rows_per_call: int = 1
    has_c_loop: bool = True
    call_us: float | None = None
    accuracy_percent: float | None = None

    @property
    def name(self) -> str:
        """Unique in the run."""
        return self.plan.name


@dataclass(frozen=True)
class Context:
    """Inputs of the figures of all rows.

    Attributes:
        measured: samples and turns.
        first: baseline of the ratios.
        loop_ns: duration of one turn of a loop in Python.
        bandwidth: bytes/ns that a core reads, see `memory.bandwidth`.
        device: facts about the machine.
        cores: usable by the process.
        seed: of the resampling.
        cold_cache: whether caches were emptied before each sample.
        raw: keep all samples.
    """

    measured: Measured
    first: Row
    loop_ns: float
    bandwidth: Mapping[str, float | None]
    device: Mapping[str, Any]
    cores: int
    seed: int
    cold_cache: bool
    raw: bool


def figures(row: Row, context: Context) -> dict[str, Any]:
    """The row in the record, without `agreement`."""
    artifact, measured = row.plan.artifact, context.measured
    samples_us = measured.samples[row.name].all() / row.rows_per_call
    turns_us = _turns_us(row, measured)
    latency_us, network = statistics.summary(samples_us), artifact.network
    median = latency_us["median"]
    return {
        "name": row.name,
        "file": artifact.path.name,
        "sha256": artifact.sha256,
        "bytes": artifact.size,
        "engine": row.plan.engine,
        "engine_version": row.plan.version,
        "kernels": row.kernels,
        "threads": row.plan.threads,
        "n_in": row.n_in,
        "n_out": row.outputs.shape[1],
        "timesteps": row.timesteps,
        "load_us": row.cold.load_us,
        "first_us": row.cold.first_us,
        "calls_per_sample": measured.calls[row.name],
        "n_samples": len(samples_us),
        "latency_us": latency_us,
        "step_us": median / row.timesteps if row.timesteps else None,
        "call_us": row.call_us,
        "throughput_per_s": 1e6 / latency_us["mean"],
        "ratio": _ratio(row, turns_us, context),
        "accuracy_percent": row.accuracy_percent,
        "macs": _property(row, "macs") if network is None else network.macs,
        "nnz": _property(row, "nnz") if network is None else network.nnz,
        "rss_growth_bytes": row.cold.rss_growth_bytes,
        "arena_bytes": row.arena_bytes,
        **_traffic(row, median, context.bandwidth),
        "energy_uj": None,
        "warnings": [
            *statistics.warnings(samples_us, turns_us, len(measured.loads)),
            *(memory.cold_warning(context.device) if context.cold_cache else []),
            *_overhead_warnings(row, median, context),
            *_thread_warnings(row.plan.threads, context.cores),
        ],
        "histogram": statistics.histogram(samples_us),
        **({"samples_us": samples_us.tolist()} if context.raw else {}),
        "turns_us": turns_us[even_choice(len(turns_us), MAX_TURNS)].tolist(),
    }


def _property(row: Row, name: str) -> int | None:
    """A number in the metadata of sen-edge; None in other files."""
    found = row.properties.get(name, "")
    return int(found) if re.fullmatch("[0-9]{1,15}", found) else None


def _turns_us(row: Row, measured: Measured) -> NDArray[np.float64]:
    return np.array(measured.turns_us[row.name]) / row.rows_per_call


def _ratio(row: Row, turns_us: NDArray[np.float64], context: Context) -> dict[str, Any] | None:
    if row is context.first:
        return None
    measured = context.measured
    found = statistics.ratio(turns_us, _turns_us(context.first, measured), measured.loads, context.seed)
    return {"to": context.first.name, **found}


def _traffic(row: Row, median_us: float, bandwidth: Mapping[str, float | None]) -> dict[str, Any]:
    """Bytes of weights, how fast they are read, and the share of the bandwidth."""
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


def _overhead_warnings(row: Row, median_us: float, context: Context) -> list[dict[str, str]]:
    """The parts of the latency that are not the model's; they are not subtracted."""
    call_ns = 1000 * median_us * row.rows_per_call
    overhead_ns = context.measured.overhead_ns.get(row.name, 0.0)
    costs = {"reading the clock and entering the loop": overhead_ns / context.measured.calls[row.name]}
    if not row.has_c_loop:
        costs["the loop in Python"] = context.loop_ns
    found = [
        {
            "kind": "overhead",
            "message": f"{part} takes {cost:.3g} ns of each call, {100 * cost / call_ns:.2g} %, which is included",
        }
        for part, cost in costs.items()
        if cost > NAMED_OVERHEAD * call_ns
    ]
    if row.rows_per_call > 1:
        message = f"the model takes {row.rows_per_call} inputs in a call; the latency is that of a call, divided"
        found.append({"kind": "batch", "message": message})
    return found


def _thread_warnings(threads: int, cores: int) -> list[dict[str, str]]:
    if threads <= cores:
        return []
    message = (
        f"{threads} threads share {cores} {'core' if cores == 1 else 'cores'}: latency and ratio depend on the "
        "scheduler and do not transfer to a machine with more cores"
    )
    return [{"kind": "threads", "message": message}]
