"""Measure files in this process: load, compute outputs, take turns.

`evaluate` makes the record of the observations.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import partial
from typing import Any, Protocol

import numpy as np

import sen_runtime
from sen_runtime.bench import device as this_machine
from sen_runtime.bench import interleaved, loops, memory, server, text, throttle
from sen_runtime.bench.cores import pinned, resolve, usable
from sen_runtime.bench.energy import Span, read_meter
from sen_runtime.bench.evaluate import evaluate
from sen_runtime.bench.loading import Load, Loaded, Progress, load_rows, load_session
from sen_runtime.bench.loops import N_INPUTS
from sen_runtime.bench.plan import BenchRequest, RowPlan, plan
from sen_runtime.bench.profile import add_profiles
from sen_runtime.bench.rounds import Measured, measure_rounds
from sen_runtime.bench.rows import FloatArray, Observations, Row, caller_scaling, input_ranges, stated_scaling
from sen_runtime.bench.statistics import even_choice
from sen_runtime.data import TEST, TRAINING, DataFile, Examples, check_fit, form_of
from sen_runtime.engines import Session
from sen_runtime.errors import UsageError
from sen_runtime.ir.network import DEFAULT_INPUT_RANGE
from sen_runtime.ir.standardization import Standardization
from sen_runtime.scores import check_shapes, scores_of
from sen_runtime.signals import defer_interrupts
from sen_runtime.task import RECONSTRUCTION, Metric, of
from sen_runtime.untrusted import listing

#: Examples that are scored, an even choice, and how many in one call.
MAX_SCORED, SCORED_ROWS = 10_000, 256
#: Duration of the measurement of a call through Python, seconds.
CALL_SECONDS = 0.3


class Device(Protocol):
    """The machine: `sen_runtime.bench.device`, or a stand-in."""

    def describe(self) -> dict[str, Any]:
        """Return the facts of the machine."""

    def state(self) -> dict[str, Any]:
        """Return clocks, temperature and throttling."""


@dataclass(frozen=True)
class Run:
    """A record (docs/reference/bench.md), and the rounds of a run whose energy is measured."""

    record: dict[str, Any]
    spans: tuple[Span, ...]


def run(
    request: BenchRequest,
    *,
    progress: Progress = lambda stage: None,
    device: Device | None = None,
    load: Load = load_session,
) -> Run:
    """Measure files side by side.

    Args:
        request: files and settings.
        progress: called with each stage.
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
    cpus = resolve(request.cpus)
    request = replace(request, cpus=cpus)
    plans, left_out = plan(request)
    for each in left_out:
        progress(text.left_out(asdict(each)))
    if request.energy is not None:
        if len(plans) != 1:
            raise UsageError(
                f"there are {len(plans)} rows, which alternate every millisecond: a meter cannot tell them apart",
                "measure energy in a separate run for each: one file, --engine, number of --threads, and --batch",
            )
        read_meter(request.energy, min_readings=0)
    server.check_queries(request, len(plans))
    file = None if request.data is None else DataFile(request.data)
    created = datetime.now(timezone.utc)
    with pinned(cpus) as is_verified:
        loaded = load_rows(plans, left_out, load, progress, is_strict=request.strict)
        data = None if file is None else _read_data([row for row, _ in loaded], file)
        seen = _observe(request, loaded, data, device or this_machine, load, progress, created)
        batch = seen.rows[0].batch
        spans = (Span(start, end, batch * calls) for start, end, calls in seen.measured.spans)
        with defer_interrupts():
            run = Run(evaluate(replace(seen, left_out=left_out, cpus_verified=is_verified)), tuple(spans))
        if request.profile and seen.measured.is_complete:
            run = replace(
                run, record=add_profiles(run.record, [(row.plan, s) for row, s in loaded], seen.inputs, progress)
            )
    return run


def _observe(
    request: BenchRequest,
    loaded: Sequence[Loaded],
    data: Examples | None,
    device: Device,
    load: Load,
    progress: Progress,
    created: datetime,
) -> Observations:
    """Run all models on the same inputs, then let them take turns."""
    facts, rows = device.describe(), [row for row, _ in loaded]
    scaling = caller_scaling(rows)
    inputs = _standardize(_choose_inputs(rows, data, request.seed), scaling)
    progress("comparing outputs")
    rows = [replace(row, outputs=loops.outputs(s, inputs, row.batch)) for row, s in loaded]
    rows = [replace(row, score=_score(row, s, data, scaling)) for row, (_, s) in zip(rows, loaded)]
    clock = {**interleaved.clock_figures(interleaved.read_clock()), "loop_ns": interleaved.loop_ns()}
    bandwidth = memory.bandwidth(facts)
    progress("warming up")
    states, sustained = [device.state()], list[dict[str, Any]]()

    def watch(t_s: float, latency_us: Mapping[str, float]) -> None:
        progress(f"measuring, {t_s:.0f} of {request.seconds:g} s")
        states.append(device.state())
        sustained.append(_moment(t_s, latency_us, states[-1]))

    measured = measure_rounds(
        {row.name: partial(_open, row.plan, load, inputs) for row in rows},
        request.seconds,
        request.seed,
        before=memory.sweep(facts) if request.cold_cache else None,
        watch=watch,
        keep_spans=request.energy is not None,
    )
    with defer_interrupts() as is_interrupted:  # an interrupt from here on must not lose the measurement
        servers = dict[str, dict[str, Any]]()
        if measured.is_complete:
            servers = server.load_tests(request, loaded, inputs, is_interrupted, progress)
            measured.is_complete = not is_interrupted()
        states.append(device.state())
        rows = [replace(row, call_us=_call_us(row, s, inputs, measured)) for row, (_, s) in zip(rows, loaded)]
    return Observations(
        tool=("sen-runtime", sen_runtime.__version__),
        request=request,
        created=created,
        inputs=inputs,
        data=None if data is None else data.title,
        rows=rows,
        measured=measured,
        clock=clock,
        bandwidth=bandwidth,
        device=facts,
        states=states,
        cores=_usable_cores(),
        swept_bytes=memory.MAX_COLD_BYTES,
        sustained=sustained if request.sustained else None,
        servers=servers,
        warnings=[] if data is None else _data_warnings(rows, data),
    )


def _moment(t_s: float, latency_us: Mapping[str, float], state: Mapping[str, Any]) -> dict[str, Any]:
    """A second of a sustained run in the record."""
    celsius = state["celsius"] if isinstance(state["celsius"], float) else None
    return {"t_s": t_s, "latency_us": dict(latency_us), "mhz": throttle.fastest_mhz(state), "celsius": celsius}


def _choose_inputs(rows: Sequence[Row], data: Examples | None, seed: int) -> FloatArray:
    """An even choice of the data; else random inputs, in the first input range that a file states."""
    if data is not None:
        return data.rows(even_choice(len(data.inputs), N_INPUTS))
    low, high = (*input_ranges(rows), DEFAULT_INPUT_RANGE)[0]
    return loops.random_inputs(_common_shape(rows), N_INPUTS, seed, low, high)


def _standardize(inputs: FloatArray, scaling: Standardization | None) -> FloatArray:
    """Inputs as files take them that leave standardization to their caller."""
    return inputs if scaling is None else scaling.standardize(inputs)


def _usable_cores() -> int:
    return len(usable()) or os.cpu_count() or 1


def _score(
    row: Row, session: Session, data: Examples | None, scaling: Standardization | None
) -> tuple[Metric, float] | None:
    """Metric of the task on the data; None without targets.

    Reconstruction errors are in units of the standardization, which an image or the metadata of the file have.
    """
    if data is None or (data.targets is None and data.task != RECONSTRUCTION):
        return None
    kept, kind, network = even_choice(len(data.inputs), MAX_SCORED), of(data.task), row.plan.artifact.network
    check_shapes(kind, row.input_shape, row.n_out)
    units = (None if network is None else network.input_scaling) or stated_scaling(row)

    def run(x: FloatArray) -> FloatArray:
        return loops.outputs(session, _standardize(x, scaling), session.batch_size or min(len(x), SCORED_ROWS))

    scores = scores_of(run, kind, data, kept, units, row.properties.get("output_activation", "none"))
    return kind.metric, scores[kind.metric]


def _call_us(row: Row, session: Session, inputs: FloatArray, measured: Measured) -> float | None:
    """Duration of a call through Python, beyond the engine's own loop; None where it has none."""
    if not row.has_c_loop or not measured.is_complete:
        return None
    calls = interleaved.repeated([loops.call_of(session, batch) for batch in loops.batches(inputs, 1)])
    found = interleaved.side_by_side({"loop": loops.loop_over(session, inputs), "call": calls}, CALL_SECONDS)
    return max(0.0, float(np.median(found.blocks_us["call"] - found.blocks_us["loop"])))


def _open(row: RowPlan, load: Load, inputs: FloatArray) -> interleaved.Loop:
    """A new session on a copy of the inputs: both get another address."""
    return loops.loop_over(load(row), inputs.copy(), row.batch)


def _common_shape(rows: Sequence[Row]) -> tuple[int, ...]:
    """Shape of an input of all rows; UsageError if they differ."""
    first = rows[0]
    for row in rows[1:]:
        if row.input_shape != first.input_shape:
            raise UsageError(
                f"{first.plan.artifact.path.name} takes inputs of shape {list(first.input_shape)}, "
                f"{row.plan.artifact.path.name} of {list(row.input_shape)}; expected the same",
                "measure them in separate runs",
            )
    return first.input_shape


def _read_data(rows: Sequence[Row], file: DataFile) -> Examples:
    """Read the test part of the user's data, or the training part where it is the only one, and check them."""
    shape, ranges = _common_shape(rows), input_ranges(rows)
    part = TEST if TEST in file.parts else TRAINING
    scale = ranges[0] if ranges else DEFAULT_INPUT_RANGE
    metadata = _common_metadata(rows)
    (data,) = file.read((part,), form_of(metadata, scale, has_steps=len(shape) > 1))
    n_out = None if data.targets is None else min(row.n_out for row in rows)
    is_spikes = metadata.get("input_coding") == "spikes"
    check_fit(data, shape, ranges[0] if ranges else None, n_out, is_spikes=is_spikes)
    for other in ranges[1:]:
        check_fit(data, shape, other)
    return data


def _common_metadata(rows: Sequence[Row]) -> Mapping[str, str]:
    """Metadata that all rows state in the same way, of those that state them; UsageError for different tasks."""
    stated: dict[str, dict[str, None]] = {}
    for row in rows:
        for key, value in row.properties.items():
            stated.setdefault(key, {})[value] = None
    tasks = list(stated.get("task", {}))
    if len(tasks) > 1:
        raise UsageError(f"the files are of the tasks {listing(tasks)}; expected one", "measure them in separate runs")
    return {key: next(iter(texts)) for key, texts in stated.items() if len(texts) == 1}


def _data_warnings(rows: Sequence[Row], data: Examples) -> list[dict[str, str]]:
    """Warnings about the user's data, for the record."""
    messages = [*data.notes, *data.warnings(min(row.n_out for row in rows))]
    if not input_ranges(rows):
        low, high = data.input_range
        messages.append(
            f"no file states its input range; the data, from {low:g} to {high:g}, were not checked against it"
        )
    return [{"kind": "data", "message": message} for message in messages]
