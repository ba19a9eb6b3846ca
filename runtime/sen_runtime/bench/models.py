"""Models in memory: load the rows of a plan, and read data that fit all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from sen_runtime.bench import loops, text
from sen_runtime.bench.coldstart import cold_start
from sen_runtime.bench.loops import random_inputs
from sen_runtime.bench.plan import CRASHED, LeftOut, RowPlan, not_measured
from sen_runtime.bench.rows import FloatArray, Row
from sen_runtime.data import TEST, TRAINING, DataFile, Examples, check_fit
from sen_runtime.engines import Session, engine
from sen_runtime.engines.steps import timesteps_of
from sen_runtime.errors import EngineCrashError, EngineError, SenError, UsageError
from sen_runtime.ir.network import DEFAULT_INPUT_RANGE, input_range_of
from sen_runtime.streams import suppress_announcements

Progress = Callable[[str], None]
Load = Callable[[RowPlan], Session]
Loaded = tuple[Row, Session]


def load_session(row: RowPlan) -> Session:
    """Load a row in its engine; errors name the file."""
    with _naming(row.artifact.path), suppress_announcements():
        return engine(row.engine).load(row.artifact.path, row.threads)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the name of the file to errors."""
    try:
        yield
    except SenError as error:
        if path.name not in error.message:
            error.message = f"{path}: {error.message}"
            error.args = (error.message,)
        raise


def load_rows(
    plans: Sequence[RowPlan], left_out: list[LeftOut], load: Load, progress: Progress, *, is_strict: bool
) -> list[Loaded]:
    """Load rows; one whose engine crashes on the file is added to `left_out`.

    Raises:
        EngineCrashError: all crash.
        MissingExtraError: `is_strict`, and one crashes.
    """
    rows = list[Loaded]()
    for plan in plans:
        progress(f"loading {plan.name}")
        try:
            rows.append(_load_row(plan, load))
        except EngineCrashError as error:
            left_out.append(LeftOut(CRASHED, plan.artifact.path.name, plan.engine, error.message, ""))
            progress(text.left_out(asdict(left_out[-1])))
            if is_strict:
                raise not_measured(left_out) from error
    if not rows:
        raise EngineCrashError(left_out[-1].reason)
    return rows


def _load_row(plan: RowPlan, load: Load) -> Loaded:
    """Load a row: first in another process, which also shows whether the engine survives the file."""
    with _naming(plan.artifact.path):
        artifact = plan.artifact
        cold = cold_start(artifact.path, plan.engine, plan.threads)
        session = load(plan)
        outputs = loops.outputs(session, np.zeros((1, *session.input_shape), np.float32))
        if outputs.ndim != 2:
            raise EngineError(f"{artifact.path}: the output has the shape {list(outputs.shape)}; expected [1, n]")
        properties: Mapping[str, str] = getattr(session, "properties", artifact.properties)
        stated = timesteps_of(properties) if artifact.network is None else artifact.network.timesteps
        row = Row(
            plan,
            session.input_shape,
            outputs.shape[1],
            properties,
            getattr(session, "timesteps", 0) or stated,
            cold,
            kernels=getattr(session, "kernels", None),
            arena_bytes=getattr(session, "arena_bytes", None),
            rows_per_call=loops.rows_per_call(session),
            has_c_loop=hasattr(session, "bare_loop"),
        )
        return row, session


def common_shape(rows: Sequence[Row]) -> tuple[int, ...]:
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


def input_ranges(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Different input ranges that the files state."""
    return list(dict.fromkeys(input_range_of(row.properties) for row in rows if "input_range" in row.properties))


def draw_inputs(rows: Sequence[Row], n: int, seed: int) -> FloatArray:
    """Random inputs of all rows `[n, ...]`, in the first input range that a file states."""
    low, high = (*input_ranges(rows), DEFAULT_INPUT_RANGE)[0]
    return random_inputs(common_shape(rows), n, seed, low, high)


def read_data(rows: Sequence[Row], file: DataFile) -> Examples:
    """Read the test part of the user's data, or the training part where it is the only one, and check them."""
    shape, ranges = common_shape(rows), input_ranges(rows)
    part = TEST if TEST in file.parts else TRAINING
    scale = ranges[0] if ranges else DEFAULT_INPUT_RANGE
    (data,) = file.read((part,), has_steps=len(shape) > 1, input_range=scale)
    n_out = None if data.labels is None else min(row.n_out for row in rows)
    check_fit(data, shape, ranges[0] if ranges else None, n_out)
    for other in ranges[1:]:
        check_fit(data, shape, other)
    return data


def data_warnings(rows: Sequence[Row], data: Examples) -> list[dict[str, str]]:
    """Warnings about the user's data, for the record."""
    messages = data.warnings(min(row.n_out for row in rows))
    if not input_ranges(rows):
        low, high = float(data.inputs.min()), float(data.inputs.max())
        messages.append(
            f"no file states its input range; the data, from {low:g} to {high:g}, were not checked against it"
        )
    return [{"kind": "data", "message": message} for message in messages]
