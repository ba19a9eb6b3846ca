"""From files to a record: load, compare, measure side by side, and write down what was found.

The record is described in docs/reference/bench.md and, for programs, in record.schema.json.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import sen_runtime
from sen_runtime.bench import device as this_machine
from sen_runtime.bench import interleaved, loops, memory, text
from sen_runtime.bench.coldstart import cold_start
from sen_runtime.bench.energy import check_meter
from sen_runtime.bench.inputs import N_INPUTS, random_inputs, read_data, some
from sen_runtime.bench.judge import judge, wrong
from sen_runtime.bench.plan import CRASHED, BenchRequest, LeftOut, Plan, RowPlan, not_measured, plan
from sen_runtime.bench.record import SCHEMA, is_wrong
from sen_runtime.bench.rounds import Options, measure_rounds
from sen_runtime.bench.rows import Context, Row, accuracy_percent, call_us, figures, spans
from sen_runtime.data import DataFile, Examples, check_fit
from sen_runtime.engines import Session, engine
from sen_runtime.engines.steps import timesteps_of
from sen_runtime.errors import EngineCrashError, EngineError, SenError, UsageError
from sen_runtime.ir.network import DEFAULT_INPUT_RANGE, input_range_of, stored_dtype
from sen_runtime.quiet import suppress_announcements

FloatArray = NDArray[np.float32]
Progress = Callable[[str], None]
Load = Callable[[RowPlan], Session]


class Device(Protocol):
    """The machine; `sen_runtime.bench.device`, or what a test puts in its place."""

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
    with _naming(row.artifact.path), suppress_announcements():
        return engine(row.engine).load(row.artifact.path, row.threads)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors name the file that they are about."""
    try:
        yield
    except SenError as error:
        if path.name not in error.message:
            error.message = f"{path}: {error.message}"
            error.args = (error.message,)
        raise


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
        device: the machine; `sen_runtime.bench.device` if None.
        load: loads a row; for tests and benchmarks of the benchmark.

    Raises:
        UsageError: the request contradicts itself; the files take inputs of different shapes.
        BenchError, DataError, EnergyError: a file cannot be read, or data do not fit.
        ImageError, EngineError: a file is damaged, or an engine refuses it.
        EngineCrashError: the engines of all rows crash on their files.
        MissingExtraError: none of the engines is installed, or, where the request is strict, a row is left out.
        KeyboardInterrupt: before anything was measured.
    """
    planned = plan(request)
    for each in planned.left_out:
        progress(text.left_out(asdict(each)))
    if request.energy is not None and len(planned.rows) != 1:
        raise UsageError(
            f"there are {len(planned.rows)} rows, which alternate every millisecond: a meter cannot tell them apart",
            "measure energy in a run of its own for each: one file, one --engine, one number of --threads",
        )
    if request.energy is not None:
        check_meter(request.energy)
    file = None if request.data is None else DataFile(request.data)
    if device is None:
        device = this_machine
    with _pinned(request.cpu) as is_verified:
        return _run(request, planned, file, device, load, progress, is_verified)


def _run(
    request: BenchRequest,
    planned: Plan,
    file: DataFile | None,
    device: Device,
    load: Load,
    progress: Progress,
    is_verified: bool,
) -> Run:
    facts, created = device.describe(), datetime.now(timezone.utc)
    rows, left_out = _load_rows(planned, load, progress, is_strict=request.strict)
    data = _data(rows, file)
    inputs = _inputs(request, rows, facts) if data is None else some(data)
    progress("comparing outputs")
    judged = judge(rows, inputs[:N_INPUTS], has_data=data is not None)
    accuracies = [accuracy_percent(row.session, data) for row in rows]
    bandwidth, clock = memory.bandwidth(facts), _clock()
    progress("warming up")
    before, watched = device.state(), _Watched(device, progress, request)
    options = Options(
        request.seconds,
        request.seed,
        before=memory.sweep(facts) if request.cold_cache else None,
        watch=watched,
        keep_spans=request.energy is not None,
    )
    measured = measure_rounds({row.name: partial(_open, row.plan, load, inputs) for row in rows}, options)
    after = device.state()
    throttled = device.changes(before, after, watched.states)
    context = Context(
        measured, rows[0], clock["loop_ns"], bandwidth, facts, request.seed, request.cold_cache, request.raw
    )
    found = [figures(row, context, call_us(row.session, inputs, measured)) for row in rows]
    for each, (agreement, warnings), accuracy in zip(found, judged, accuracies):
        each.update(agreement=agreement, accuracy_percent=accuracy, warnings=[*warnings, *each["warnings"]])
    if data is not None:
        found[0]["warnings"] += _data_warnings(rows, data)
    reasons = [wrong(each) for each in found if is_wrong(each)] + throttled
    record = {
        "schema": SCHEMA,
        "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "tool": {"name": "sen-runtime", "version": sen_runtime.__version__},
        "command": list(request.command),
        "status": "complete" if measured.is_complete else "interrupted",
        "valid": not reasons,
        "invalid_because": reasons,
        "settings": _settings(request, len(inputs), measured.loads, data, is_verified=is_verified),
        "clock": clock,
        "device": {**facts, "before": before, "after": after, "throttled_during": throttled},
        "bandwidth": bandwidth,
        "left_out": [asdict(each) for each in left_out],
        "rows": found,
        "sustained": watched.samples if request.sustained else None,
        "energy": None,
    }
    return Run(record, spans(measured, rows[0]))


def _clock() -> dict[str, float]:
    return {
        "resolution_ns": interleaved.resolution_ns(),
        "timer_ns": interleaved.timer_ns(),
        "loop_ns": interleaved.loop_ns(),
    }


def _settings(
    request: BenchRequest, n_inputs: int, loads: Sequence[int], data: Examples | None, *, is_verified: bool
) -> dict[str, Any]:
    return {
        "seconds": float(request.seconds),
        "seed": request.seed,
        "inputs": "cold-cache" if request.cold_cache else "random" if data is None else "data",
        "n_inputs": n_inputs,
        "data": None if data is None else data.title,
        "cpus": None if request.cpu is None else [request.cpu],
        "cpus_verified": is_verified,
        "turn_ns": interleaved.TURN_NS,
        "loads": list(loads),
    }


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


def _load_rows(
    planned: Plan, load: Load, progress: Progress, *, is_strict: bool
) -> tuple[list[Row], tuple[LeftOut, ...]]:
    """Load the rows of a plan; those whose engine crashes on the file are added to those that are left out.

    Raises:
        EngineCrashError: all crash.
        MissingExtraError: the request is strict, and one crashes.
    """
    rows, left_out = list[Row](), planned.left_out
    for each in planned.rows:
        progress(f"loading {each.name}")
        try:
            rows.append(_load_row(each, load))
        except EngineCrashError as error:
            crash = LeftOut(CRASHED, each.artifact.path.name, each.engine, error.message, "")
            left_out = (*left_out, crash)
            progress(text.left_out(asdict(crash)))
            if is_strict:
                raise not_measured(left_out) from error
    if not rows:
        raise EngineCrashError(left_out[-1].reason)
    return rows, left_out


def _load_row(row: RowPlan, load: Load) -> Row:
    """Load a row: first in a process of its own, which also shows whether the engine survives the file."""
    with _naming(row.artifact.path):
        cold = cold_start(row.artifact.path, row.engine, row.threads)
        session, network = load(row), row.artifact.network
        properties = getattr(session, "properties", row.artifact.properties)
        timesteps = getattr(session, "timesteps", None)
        if timesteps is None:
            timesteps = timesteps_of(properties) if network is None else network.timesteps
        dtype = "unknown" if network is None else stored_dtype(network)
        outputs = loops.outputs(session, np.zeros((1, *session.input_shape), np.float32))
        if outputs.ndim != 2:
            raise EngineError(
                f"{row.artifact.path}: one input gives an output of shape {list(outputs.shape)}; expected [1, n]"
            )
        return Row(row, session, outputs.shape[1], properties, properties.get("dtype", dtype), timesteps, cold)


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


def _ranges(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Input ranges that the files state, each once."""
    return list(dict.fromkeys(input_range_of(row.properties) for row in rows if "input_range" in row.properties))


def _data(rows: Sequence[Row], file: DataFile | None) -> Examples | None:
    """The user's data, checked against the models."""
    if file is None:
        return None
    shape, ranges = _common_shape(rows), _ranges(rows)
    data = read_data(file, shape, ranges[0] if ranges else None, min(row.n_out for row in rows))
    for other in ranges[1:]:
        check_fit(data, shape, other)
    return data


def _data_warnings(rows: Sequence[Row], data: Examples) -> list[dict[str, str]]:
    messages = data.warnings(min(row.n_out for row in rows))
    if not _ranges(rows):
        low, high = float(data.inputs.min()), float(data.inputs.max())
        messages.append(
            f"no file states its input range; the data, from {low:g} to {high:g}, were not checked against it"
        )
    return [{"kind": "data", "message": message} for message in messages]


def _inputs(request: BenchRequest, rows: Sequence[Row], facts: Mapping[str, Any]) -> FloatArray:
    """Random inputs."""
    shape = _common_shape(rows)
    n = memory.cold_inputs(4 * int(np.prod(shape)), facts) if request.cold_cache else N_INPUTS
    low, high = (*_ranges(rows), DEFAULT_INPUT_RANGE)[0]
    return random_inputs(shape, n, request.seed, low, high)
