"""From files to a record: load, compare, measure side by side, and write down what was found.

The record is described in docs/reference/bench.md and, for programs, in record.schema.json.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import sen_runtime
from sen_runtime.bench import agreement, interleaved, loops, memory, statistics
from sen_runtime.bench.coldstart import ColdStart, cold_start
from sen_runtime.bench.inputs import N_INPUTS, Data, fitting, random_inputs, read_data, some
from sen_runtime.bench.plan import BenchRequest, RowPlan, count_nonzero, plan, reads_all_weights, stored_dtype
from sen_runtime.bench.record import SCHEMA
from sen_runtime.bench.rounds import Measured, Options, measure_rounds
from sen_runtime.engines import Session, engine
from sen_runtime.engines.steps import timesteps_of
from sen_runtime.errors import SenError, UsageError
from sen_runtime.network import input_range_of

FloatArray = NDArray[np.float32]
Progress = Callable[[str], None]
Load = Callable[[RowPlan], Session]

#: Of more turns than these an even choice goes into the record.
MOST_TURNS = 2000
#: Of more labelled examples than these an even choice is classified, so many at once.
MOST_LABELLED, LABELLED_ROWS = 10_000, 256
#: How long the call through Python is measured beside the engine's own loop, seconds.
CALL_SECONDS = 0.3
#: A part of a call that is not the model's is named if it is larger than this share.
NAMED_OVERHEAD = 0.02


class Device(Protocol):
    """The machine; `sen_runtime.device`, or what a test puts in its place."""

    def describe(self) -> dict[str, Any]:
        """What does not change."""

    def state(self) -> dict[str, Any]:
        """What does: clocks, temperature, throttling."""

    def changes(
        self, before: Mapping[str, Any], after: Mapping[str, Any], during: Sequence[Mapping[str, Any]] = ()
    ) -> list[str]:
        """Sentences about what happened and makes a run invalid."""

    def cpu_mhz(self) -> float | None:
        """Clock of the fastest core."""

    def celsius(self) -> float | None:
        """Temperature."""


@dataclass(frozen=True, eq=False)
class Row:
    """A row that is loaded.

    Attributes:
        plan: what it is.
        session: of the first load.
        properties: metadata of the file.
        dtype: what it stores.
        timesteps: of a spiking network; else 0.
        cold: its cold start.
    """

    plan: RowPlan
    session: Session
    properties: Mapping[str, str]
    dtype: str
    timesteps: int
    cold: ColdStart

    @property
    def name(self) -> str:
        """Unique in the run."""
        return self.plan.name


@dataclass(frozen=True)
class Run:
    """A record, and when its rounds were.

    Attributes:
        record: see docs/reference/bench.md.
        spans: of each round the beginning, the end (seconds since 1970) and the inferences of the first row; of a run
            whose energy is measured.
    """

    record: dict[str, Any]
    spans: tuple[tuple[float, float, int], ...]


def load_session(row: RowPlan) -> Session:
    """The engine's session; the file is named where it refuses it.

    Raises:
        SenError: what the engine raised.
    """
    try:
        return engine(row.engine).load(row.artifact.path, row.threads)
    except SenError as error:
        if row.artifact.path.name not in error.message:
            error.message = f"{row.artifact.path}: {error.message}"
        raise


def measure(request: BenchRequest, *, progress: Progress = lambda stage: None) -> dict[str, Any]:
    """The record of a run; see `run`."""
    return run(request, progress=progress).record


def run(
    request: BenchRequest,
    *,
    progress: Progress = lambda stage: None,
    device: Device | None = None,
    load: Load = load_session,
) -> Run:
    """Measure what is asked for.

    Args:
        request: what, and how.
        progress: told what is being done.
        device: the machine; `sen_runtime.device` if None.
        load: loads a row; for tests and benchmarks of the benchmark.

    Raises:
        UsageError: the request contradicts itself; the files take inputs of different shapes.
        BenchError, DataError: a file cannot be read, or data do not fit.
        ImageError, EngineError: a file is damaged, or an engine refuses it or dies of it.
        MissingExtraError: an engine is not installed.
        KeyboardInterrupt: before anything was measured.
    """
    rows = plan(request)
    if request.energy is not None and len(rows) != 1:
        raise UsageError(
            f"there are {len(rows)} rows, which alternate every millisecond: a meter cannot tell them apart",
            "measure energy in a run of its own for each: one file, one --engine, one number of --threads",
        )
    data = None if request.data is None else read_data(request.data)
    if device is None:
        device = importlib.import_module("sen_runtime.device")
    with _pinned(request.cpu) as is_verified:
        return _run(request, rows, data, device, load, progress, is_verified)


def _run(
    request: BenchRequest,
    plans: Sequence[RowPlan],
    data: Data | None,
    device: Device,
    load: Load,
    progress: Progress,
    is_verified: bool,
) -> Run:
    facts, created = device.describe(), datetime.now(timezone.utc)
    rows = [_loaded(each, load, progress) for each in plans]
    shape = _common_shape(rows)
    if data is not None and request.data is not None:
        fitting(data, request.data, shape, rows[0].plan.artifact.path.name)
    inputs = _inputs(request, rows, shape, data, facts)
    progress("comparing outputs")
    judged = _judged(rows, inputs[:N_INPUTS], has_data=data is not None)
    accuracies = [_accuracy(row.session, data) for row in rows]
    bandwidths = memory.bandwidth(facts)
    clock = {
        "resolution_ns": interleaved.resolution_ns(),
        "timer_ns": interleaved.timer_ns(),
        "loop_ns": interleaved.loop_ns(),
    }
    before, watched = device.state(), _Watched(device, progress, request)
    openers = {row.name: partial(_open, row.plan, load, inputs) for row in rows}
    progress("warming up")
    measured = measure_rounds(
        openers,
        Options(
            request.seconds,
            request.seed,
            before=memory.sweep(facts) if request.cold_cache else None,
            watch=watched,
            keep_spans=request.energy is not None,
        ),
    )
    after = device.state()
    throttled = device.changes(before, after, watched.states)
    call_us = {row.name: _call_us(row.session, inputs, measured) for row in rows}
    figures = [
        _row(row, request, measured, rows[0].name, clock["loop_ns"], call_us[row.name], bandwidths, facts)
        for row in rows
    ]
    for each, (found, warned), accuracy in zip(figures, judged, accuracies):
        each.update(agreement=found, accuracy_percent=accuracy, warnings=[*warned, *each["warnings"]])
    wrong = [_wrong(each) for each in figures if each["agreement"] and not each["agreement"]["matches"]]
    record = {
        "schema": SCHEMA,
        "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "tool": {"name": "sen-runtime", "version": sen_runtime.__version__},
        "command": list(request.command),
        "status": "complete" if measured.is_complete else "interrupted",
        "valid": not (wrong or throttled),
        "invalid_because": [*wrong, *throttled],
        "settings": {
            "seconds": float(request.seconds),
            "seed": request.seed,
            "inputs": "cold-cache" if request.cold_cache else "random" if data is None else "data",
            "n_inputs": len(inputs),
            "cpus": None if request.cpu is None else [request.cpu],
            "cpus_verified": is_verified,
            "turn_ns": interleaved.TURN_NS,
            "loads": measured.loads,
        },
        "clock": clock,
        "device": {**facts, "before": before, "after": after, "throttled_during": throttled},
        "bandwidth": bandwidths,
        "rows": figures,
        "sustained": watched.samples if request.sustained else None,
        "energy": None,
    }
    return Run(record, _spans(measured, rows[0]))


class _Watched:
    """What is noted about each second."""

    def __init__(self, device: Device, progress: Progress, request: BenchRequest) -> None:
        self._device, self._progress, self._request = device, progress, request
        self.states: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []

    def __call__(self, t_s: float, latency_us: Mapping[str, float]) -> None:
        self.states.append(self._device.state())
        self._progress(f"measuring, {t_s:.0f} of {self._request.seconds:g} s")
        if self._request.sustained:
            mhz, celsius = self._device.cpu_mhz(), self._device.celsius()
            self.samples.append({"t_s": t_s, "latency_us": dict(latency_us), "mhz": mhz, "celsius": celsius})


@contextmanager
def _pinned(cpu: int | None) -> Iterator[bool]:
    """Run on one core; whether that is so, as the system says, which is True too where nothing was asked."""
    if cpu is None:
        yield True
        return
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("this system does not let a program choose its core", "leave out --cpu")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {cpu})
    except (OSError, ValueError, OverflowError):
        allowed = ", ".join(map(str, sorted(before)))
        raise UsageError(f"--cpu {cpu}: this process may run on {allowed}") from None
    try:
        yield os.sched_getaffinity(0) == {cpu}
    finally:
        os.sched_setaffinity(0, before)


def _loaded(row: RowPlan, load: Load, progress: Progress) -> Row:
    """A row, first in a process of its own, which also shows whether the engine survives the file."""
    progress(f"loading {row.name}")
    cold = cold_start(row.artifact.path, row.engine, row.threads)
    session, network = load(row), row.artifact.network
    properties = getattr(session, "properties", row.artifact.properties)
    timesteps = getattr(session, "timesteps", None)
    if timesteps is None:
        timesteps = timesteps_of(properties) if network is None else network.timesteps
    dtype = "unknown" if network is None else stored_dtype(network)
    return Row(row, session, properties, properties.get("dtype", dtype), timesteps, cold)


def _open(row: RowPlan, load: Load, inputs: FloatArray) -> interleaved.Loop:
    """A new session, on inputs that lie somewhere else too."""
    return loops.loop_over(load(row), inputs.copy())


def _common_shape(rows: Sequence[Row]) -> tuple[int, ...]:
    first = rows[0]
    for row in rows[1:]:
        if row.session.input_shape != first.session.input_shape:
            shapes = [list(each.session.input_shape) for each in (first, row)]
            raise UsageError(
                f"{first.plan.artifact.path.name} takes inputs of shape {shapes[0]}, "
                f"{row.plan.artifact.path.name} of {shapes[1]}; expected the same",
                "measure them in runs of their own",
            )
    return first.session.input_shape


def _inputs(
    request: BenchRequest, rows: Sequence[Row], shape: tuple[int, ...], data: Data | None, facts: Mapping[str, Any]
) -> FloatArray:
    if data is not None:
        return some(data)
    properties = next((row.properties for row in rows if "input_range" in row.properties), {})
    n = memory.cold_inputs(4 * int(np.prod(shape)), facts) if request.cold_cache else N_INPUTS
    return random_inputs(shape, n, request.seed, *input_range_of(properties))


def _judged(
    rows: Sequence[Row], inputs: FloatArray, *, has_data: bool
) -> list[tuple[dict[str, Any] | None, list[dict[str, str]]]]:
    """Of each row what its outputs are beside the first row's that should have the same, and what cannot be said."""
    outputs = [loops.outputs(row.session, inputs) for row in rows]
    origins = [agreement.origin(row.properties) for row in rows]
    result: list[tuple[dict[str, Any] | None, list[dict[str, str]]]] = []
    for index, row in enumerate(rows):
        same = (other for other in range(index) if None in (origins[index], origins[other], origins[0])
                or origins[other] == origins[index])
        to = next(same, index)
        tolerance = agreement.tolerance_for((row.dtype, rows[to].dtype), is_spiking=row.timesteps > 0)
        found = agreement.compare(outputs[index], outputs[to], rows[to].name, tolerance)
        is_finite = bool(np.all(np.isfinite(outputs[index])))
        if to == index:
            note = "" if index == 0 else _other_model(outputs[index], outputs[0], rows[0].name)
        else:
            note = "" if has_data or "int8" not in (row.dtype, rows[to].dtype) else _not_calibrated(found)
        if is_finite and (to == index or (note and outputs[index].shape == outputs[to].shape)):
            result.append((None, [{"kind": "not-compared", "message": note}] if note else []))
        else:
            result.append((found, []))
    return result


def _other_model(actual: FloatArray, expected: FloatArray, to: str) -> str:
    beside = ""
    if actual.shape == expected.shape:
        beside = f"; the greatest output is the same for {100 * np.mean(actual.argmax(1) == expected.argmax(1)):.3g} %"
    return f"made from another checkpoint than {to}, or compressed otherwise, so outputs are not judged{beside}"


def _not_calibrated(found: Mapping[str, Any]) -> str:
    return (
        f"int8 ranges hold for inputs like those they were calibrated with: outputs are judged with --data only (on "
        f"random inputs the greatest output is that of {found['to']} for {found['argmax_percent']:.3g} %)"
    )


def _wrong(row: Mapping[str, Any]) -> str:
    found = row["agreement"]
    if found["max_error"] is None:
        return f"{row['name']}: outputs are not finite numbers, or not as many as those of {found['to']}"
    return (
        f"{row['name']}: outputs differ from those of {found['to']} by up to {found['max_error_over_std']:.3g} standard "
        f"deviations; the greatest is the same for {found['argmax_percent']:.3g} % of the inputs"
    )


def _accuracy(session: Session, data: Data | None) -> float | None:
    if data is None or data.labels is None:
        return None
    kept = np.linspace(0, len(data.x) - 1, min(MOST_LABELLED, len(data.x))).astype(int)
    right = 0
    for start in range(0, len(kept), LABELLED_ROWS):
        part = kept[start : start + LABELLED_ROWS]
        x = data.x[part]
        found = loops.outputs(session, x) if session.batch_size else session.run(x)
        right += int(np.sum(found.argmax(axis=1) == data.labels[part]))
    return 100 * right / len(kept)


def _call_us(session: Session, inputs: FloatArray, measured: Measured) -> float | None:
    """What the call through Python costs beside the engine's own loop; None where it has none."""
    if not hasattr(session, "bare_loop") or not measured.is_complete:
        return None
    few = inputs[:N_INPUTS]
    calls = interleaved.repeated([loops.call_of(session, batch) for batch in loops.batches(few, 1)])
    found = interleaved.side_by_side({"loop": loops.loop_over(session, few), "call": calls}, CALL_SECONDS)
    return max(0.0, float(np.median(found.blocks_us["call"] - found.blocks_us["loop"])))


def _row(
    row: Row,
    request: BenchRequest,
    measured: Measured,
    first: str,
    loop_ns: float,
    call_us: float | None,
    bandwidths: Mapping[str, float | None],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """A row of the record, but for what its outputs are."""
    artifact, rows_per_call, timed = row.plan.artifact, loops.rows_per_call(row.session), measured.timed[row.name]
    samples_us = measured.samples[row.name].all() / rows_per_call
    turns = {name: np.array(measured.turns_us[name]) for name in (row.name, first)}
    turns_us = turns[row.name] / rows_per_call
    latency_us = statistics.summary(samples_us)
    network, median = artifact.network, latency_us["median"]
    weight_bytes = None if network is None else network.nbytes
    bytes_per_ns = weight_bytes / median / 1000 if weight_bytes and network and reads_all_weights(network) else None
    kept = np.linspace(0, len(turns_us) - 1, min(MOST_TURNS, len(turns_us))).astype(int)
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
        "n_out": int(loops.outputs(row.session, np.zeros((1, *row.session.input_shape), np.float32)).shape[1]),
        "timesteps": row.timesteps,
        "load_us": row.cold.load_us,
        "first_us": row.cold.first_us,
        "calls_per_sample": timed.calls,
        "n_samples": len(samples_us),
        "latency_us": latency_us,
        "step_us": median / row.timesteps if row.timesteps else None,
        "call_us": call_us,
        "throughput_per_s": 1e6 / latency_us["mean"],
        "ratio": None if row.name == first else {"to": first, **_ratio(turns, row.name, first, measured, request.seed)},
        "macs": None if network is None else network.macs,
        "nnz": None if network is None else count_nonzero(network),
        "weight_bytes": weight_bytes,
        "rss_growth_bytes": row.cold.rss_growth_bytes,
        "arena_bytes": getattr(row.session, "arena_bytes", None),
        "bytes_per_ns": bytes_per_ns,
        "share_of_l2": _share(bytes_per_ns, bandwidths["l2_bytes_per_ns"]),
        "share_of_memory": _share(bytes_per_ns, bandwidths["memory_bytes_per_ns"]),
        "energy_uj": None,
        "warnings": [
            *statistics.warnings(samples_us, turns_us),
            *(memory.cold_warning(facts) if request.cold_cache else []),
            *_overheads(row, timed, median, loop_ns, rows_per_call),
        ],
        "histogram": statistics.histogram(samples_us),
        **({"samples_us": samples_us.tolist()} if request.raw else {}),
        "turns_us": turns_us[kept].tolist(),
    }


def _ratio(
    turns: Mapping[str, NDArray[np.float64]], name: str, first: str, measured: Measured, seed: int
) -> dict[str, float]:
    return statistics.ratio(turns[name], turns[first], measured.loads, seed)


def _share(value: float | None, whole: float | None) -> float | None:
    return None if value is None or whole is None else value / whole


def _overheads(
    row: Row, timed: interleaved.Timed, median_us: float, loop_ns: float, rows_per_call: int
) -> list[dict[str, str]]:
    """What is in the latency beside the model, where it is worth a word; it is not subtracted."""
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


def _spans(measured: Measured, row: Row) -> tuple[tuple[float, float, int], ...]:
    """Each round with the inferences of the first row in it: those of the sample that is not kept as well."""
    timed = measured.timed[row.name]
    calls = timed.calls * (timed.samples + (timed.before is None)) * loops.rows_per_call(row.session)
    return tuple((start, end, calls) for start, end in measured.spans)
