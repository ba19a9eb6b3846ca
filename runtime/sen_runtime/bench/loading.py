"""Load the rows of a benchmark in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from sen_runtime.bench import loops, text
from sen_runtime.bench.coldstart import cold_start
from sen_runtime.bench.plan import CRASHED, LeftOut, RowPlan, not_measured, row_name, unique_name
from sen_runtime.bench.rows import Row
from sen_runtime.engines import Session, engine
from sen_runtime.engines.steps import timesteps_of
from sen_runtime.errors import EngineCrashError, EngineError, SenError
from sen_runtime.streams import suppress_announcements

Progress = Callable[[str], None]
Load = Callable[[RowPlan], Session]
Loaded = tuple[Row, Session]


def load_session(row: RowPlan) -> Session:
    """Load a row in its engine; errors name the file."""
    with _naming(row.artifact.path), suppress_announcements():
        return engine(row.engine).load(row.artifact.path, row.threads)


def load_rows(
    plans: Sequence[RowPlan], left_out: list[LeftOut], load: Load, progress: Progress, *, is_strict: bool
) -> list[Loaded]:
    """Load rows; one whose engine crashes on the file is added to `left_out`.

    A file of a fixed batch has one row for each engine and number of threads, of that batch.

    Raises:
        EngineCrashError: all crash.
        MissingExtraError: `is_strict`, and one crashes.
    """
    rows, fixed = list[Loaded](), list[RowPlan]()
    for each in plans:
        if any(_differ_in_batch(each, other) for other in fixed):
            continue
        progress(f"loading {each.name}")
        try:
            row, session = _load_row(each, load)
        except EngineCrashError as error:
            left_out.append(LeftOut(CRASHED, each.artifact.path.name, each.engine, error.message, ""))
            progress(text.left_out(asdict(left_out[-1])))
            if is_strict:
                raise not_measured(left_out) from error
            continue
        if row.is_batch_fixed:
            fixed.append(each)
            names = [other.name for other in plans if not _differ_in_batch(each, other)]
            title = unique_name(row_name(row.plan), [*names, *(other.name for other, _ in rows)])
            row = replace(row, plan=replace(row.plan, name=title))
        rows.append((row, session))
    if not rows:
        raise EngineCrashError(left_out[-1].reason)
    return rows


def _differ_in_batch(a: RowPlan, b: RowPlan) -> bool:
    """Whether two rows differ at most in the batch."""
    return a.artifact is b.artifact and (a.engine, a.threads) == (b.engine, b.threads)


def _load_row(planned: RowPlan, load: Load) -> Loaded:
    """Load a row: first in another process, which also shows whether the engine survives the file."""
    with _naming(planned.artifact.path):
        artifact = planned.artifact
        cold = cold_start(artifact.path, planned.engine, planned.threads, planned.batch)
        session = load(planned)
        planned = replace(planned, batch=session.batch_size or planned.batch)
        outputs = session.run(np.zeros((planned.batch, *session.input_shape), np.float32))
        if outputs.ndim != 2:
            shape = [len(outputs), "n"]
            raise EngineError(f"{artifact.path}: the output has the shape {list(outputs.shape)}; expected {shape}")
        properties: Mapping[str, str] = getattr(session, "properties", artifact.properties)
        stated = timesteps_of(properties) if artifact.network is None else artifact.network.timesteps
        row = Row(
            planned,
            session.input_shape,
            outputs.shape[1],
            properties,
            getattr(session, "timesteps", 0) or stated,
            cold,
            kernels=getattr(session, "kernels", None),
            arena_bytes=getattr(session, "arena_bytes", None),
            is_batch_fixed=session.batch_size is not None,
            has_c_loop=loops.has_c_loop(session, planned.batch),
        )
        return row, session


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
