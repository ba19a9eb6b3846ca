"""History: a file with a line for each record, from which trends are drawn."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sen_runtime.bench import bootstrap
from sen_runtime.bench.record import began_s, load_schema, validate
from sen_runtime.errors import SenError
from sen_runtime.files import write_atomic
from sen_runtime.untrusted import load_json, read_regular

try:
    import fcntl
except ImportError:  # Windows, where two writers at once may lose a line
    fcntl = None  # type: ignore[assignment]

SCHEMA = "sen-edge/bench-history/1"
#: Start of each line: distinguishes a line that a crash cut short from another kind of file.
START = f'{{"schema": "{SCHEMA}"'
DEVICE = ("model", "cpu", "architecture", "kernel", "os")
#: A line of a record with ten rows has 4 kB.
MAX_BYTES = 1 << 28
REMEDY = "name another file, or remove that line"
ROW = ("name", "sha256", "engine", "engine_version", "threads", "n_samples", "bytes", "energy_uj")


class HistoryError(SenError):
    """A file that is not a history of benchmarks, or cannot be read or written."""


@dataclass(frozen=True)
class History:
    """Content of a history.

    Attributes:
        entries: one for each record, see `summary`, in the order of the file.
        notes: sentences about damage of the file.
    """

    entries: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """Entry of a record: time, device, and the median of each row with its interval (microseconds)."""
    rows = []
    for row in record["rows"]:
        turns = np.asarray(row["turns_us"], np.float64)
        low, high = None, None
        if len(turns):
            sizes = bootstrap.sizes_of_loads(record["settings"].get("loads"), len(turns))
            low, high = bootstrap.interval(bootstrap.medians(turns, sizes), float(np.median(turns)), len(sizes))
        figures = {"median_us": row["latency_us"]["median"], "low_us": low, "high_us": high}
        rows.append({**{key: row[key] for key in ROW}, **figures})
    common = {key: record[key] for key in ("created", "tool", "status", "valid", "invalid_because")}
    device = {key: record["device"][key] for key in DEVICE}
    return {"schema": SCHEMA, **common, "confidence": bootstrap.CONFIDENCE, "device": device, "rows": rows}


def append(path: Path, record: Mapping[str, Any]) -> History:
    """Append the summary of a record; the file is replaced atomically.

    A last line that an earlier crash cut short is dropped, with a note.

    Returns:
        The history with the new entry.

    Raises:
        HistoryError: the file is not a history, or cannot be read or written.
    """
    with _lock(path):
        history = read(path) if path.exists() else History(())
        entries = (*history.entries, summary(record))
        try:
            write_atomic(path, "".join(_line(entry) for entry in entries).encode())
        except OSError as error:
            raise HistoryError(f"cannot write {path}: {error.strerror}") from error
    return History(entries, history.notes)


def read(path: Path) -> History:
    """Read all entries of a file.

    Raises:
        HistoryError: a line is not an entry, or the file cannot be read.
    """
    lines = read_regular(path, MAX_BYTES, error=HistoryError).split(b"\n")
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        try:
            entry = load_json(line, where, error=HistoryError)
        except HistoryError as error:
            start = START.encode()
            if number == len(lines) and (line.startswith(start) or start.startswith(line)):
                return History(tuple(entries), (f"{where} is cut short and was left out",))
            raise HistoryError(error.message, REMEDY) from error
        entries.append(_validate(entry, where))
    return History(tuple(entries))


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"


def _validate(entry: Any, where: str) -> dict[str, Any]:
    try:
        validate(entry, load_schema("history"), "the entry")
        began_s(entry)
    except (SenError, ValueError) as error:
        raise HistoryError(f"{where} is not an entry of a history of benchmarks ({SCHEMA}): {error}", REMEDY) from error
    return dict(entry)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Allow one writer at a time. The folder is locked, which needs no lock file."""
    if fcntl is None:
        yield
        return
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise HistoryError(f"cannot write {path}: {error.strerror}", "create its folder first") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
