"""Models in memory: load the rows of a plan, and read data that fit all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sen_runtime.bench import loops, text
from sen_runtime.bench.coldstart import ColdStart, cold_start
from sen_runtime.bench.inputs import read_data
from sen_runtime.bench.plan import CRASHED, LeftOut, Plan, RowPlan, not_measured
from sen_runtime.data import DataFile, Examples, check_fit
from sen_runtime.engines import Session, engine
from sen_runtime.engines.steps import timesteps_of
from sen_runtime.errors import EngineCrashError, EngineError, SenError, UsageError
from sen_runtime.ir.network import input_range_of
from sen_runtime.quiet import suppress_announcements

Progress = Callable[[str], None]
Load = Callable[[RowPlan], Session]


@dataclass(frozen=True, eq=False)
class LoadedRow:
    """A row in memory."""

    plan: RowPlan
    session: Session
    cold: ColdStart
    properties: Mapping[str, str]
    timesteps: int
    n_out: int


@dataclass(frozen=True, eq=False)
class Models:
    """All rows in memory, and the rows that were left out."""

    rows: Sequence[LoadedRow]
    left_out: tuple[LeftOut, ...]


def load_session(row: RowPlan) -> Session:
    """Load a row in its engine.

    Raises:
        SenError: from the engine, with the name of the file.
    """
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


def load_rows(planned: Plan, load: Load, progress: Progress, *, is_strict: bool) -> Models:
    """Load the rows of a plan; a row whose engine crashes on the file is left out.

    Raises:
        EngineCrashError: all crash.
        MissingExtraError: the request is strict, and one crashes.
    """
    rows, left_out = list[LoadedRow](), planned.left_out
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
    return Models(rows, left_out)


def _load_row(row: RowPlan, load: Load) -> LoadedRow:
    """Load a row: first in another process, which also shows whether the engine survives the file."""
    with _naming(row.artifact.path):
        cold = cold_start(row.artifact.path, row.engine, row.threads)
        session = load(row)
        outputs = loops.outputs(session, np.zeros((1, *session.input_shape), np.float32))
        if outputs.ndim != 2:
            raise EngineError(
                f"{row.artifact.path}: one input gives an output of shape {list(outputs.shape)}; expected [1, n]"
            )
        properties: Mapping[str, str] = getattr(session, "properties", row.artifact.properties)
        network = row.artifact.network
        stated = timesteps_of(properties) if network is None else network.timesteps
        timesteps = getattr(session, "timesteps", 0) or stated
        return LoadedRow(row, session, cold, properties, timesteps, outputs.shape[1])


def common_shape(rows: Sequence[LoadedRow]) -> tuple[int, ...]:
    """Shape of an input of all rows.

    Raises:
        UsageError: the rows take inputs of different shapes.
    """
    first = rows[0]
    for row in rows[1:]:
        if row.session.input_shape != first.session.input_shape:
            shapes = [list(each.session.input_shape) for each in (first, row)]
            raise UsageError(
                f"{first.plan.artifact.path.name} takes inputs of shape {shapes[0]}, "
                f"{row.plan.artifact.path.name} of {shapes[1]}; expected the same",
                "measure them in separate runs",
            )
    return first.session.input_shape


def input_ranges(rows: Sequence[LoadedRow]) -> list[tuple[float, float]]:
    """Different input ranges that the files state."""
    return list(dict.fromkeys(input_range_of(row.properties) for row in rows if "input_range" in row.properties))


def read_common_data(rows: Sequence[LoadedRow], file: DataFile) -> Examples:
    """Read the user's data, and check them against all models.

    Raises:
        UsageError: see `common_shape`.
        DataError: the data do not fit a model.
    """
    shape, ranges = common_shape(rows), input_ranges(rows)
    data = read_data(file, shape, ranges[0] if ranges else None, min(row.n_out for row in rows))
    for other in ranges[1:]:
        check_fit(data, shape, other)
    return data


def data_warnings(rows: Sequence[LoadedRow], data: Examples) -> list[dict[str, str]]:
    """Warnings about the user's data, for the record."""
    messages = data.warnings(min(row.n_out for row in rows))
    if not input_ranges(rows):
        low, high = float(data.inputs.min()), float(data.inputs.max())
        messages.append(
            f"no file states its input range; the data, from {low:g} to {high:g}, were not checked against it"
        )
    return [{"kind": "data", "message": message} for message in messages]
