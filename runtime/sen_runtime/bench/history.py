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

from sen_runtime.bench.record import began_s, load_schema, validate
from sen_runtime.bench.statistics import CONFIDENCE, median_interval
from sen_runtime.errors import SenError
from sen_runtime.files import write_atomic
from sen_runtime.untrusted import load_json, read_regular

try:
    import fcntl
except ImportError:  # Windows, where two writers at once may lose a line
    fcntl = None  # type: ignore[assignment]

SCHEMA = "sen-edge/bench-history/1"
#: Start of each line: distinguishes a line that a crash cut short from another kind of file.
START = f'{{"schema": "{SCHEMA}"'.encode()
#: Fields of the record, its device and its rows that an entry has.
COMMON = ("created", "tool", "status", "valid", "invalid_because")
DEVICE = ("model", "cpu", "architecture", "kernel", "os")
ROW = ("name", "sha256", "engine", "engine_version", "threads", "batch", "n_samples", "bytes", "energy_uj")
#: A line of a record with ten rows has 4 kB.
MAX_BYTES = 1 << 28
REMEDY = "name another file, or remove that line"


class HistoryError(SenError):
    """A file that is not a history of benchmarks, or cannot be read or written."""


@dataclass(frozen=True)
class History:
    """Entries in the order of the file, see `summary`, and sentences about damage of the file."""

    entries: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """Entry of a record: time, device, and the median of each row with its interval (microseconds)."""
    rows = []
    for row in record["rows"]:
        turns = np.asarray(row["turns_us"], np.float64)
        low, high = median_interval(turns, record["settings"].get("loads")) if len(turns) else (None, None)
        figures = {"median_us": row["latency_us"]["median"], "low_us": low, "high_us": high}
        rows.append({**{key: row[key] for key in ROW}, **figures})
    common = {key: record[key] for key in COMMON}
    device = {key: record["device"][key] for key in DEVICE}
    return {"schema": SCHEMA, **common, "confidence": CONFIDENCE, "device": device, "rows": rows}


def append(path: Path, record: Mapping[str, Any]) -> History:
    """Append the summary of a record, and return the new history; the file is replaced atomically.

    A last line that an earlier crash cut short is dropped, with a note.
    """
    with _lock(path):
        history = read(path) if path.exists() else History(())
        entries = (*history.entries, summary(record))
        lines = [json.dumps(entry, allow_nan=False) + "\n" for entry in entries]
        try:
            write_atomic(path, "".join(lines).encode())
        except OSError as error:
            raise HistoryError(f"cannot write {path}: {error.strerror}") from error
    return History(entries, history.notes)


def read(path: Path) -> History:
    """Read all entries of a file."""
    lines = read_regular(path, MAX_BYTES, error=HistoryError).split(b"\n")
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        try:
            entry = load_json(line, where, error=HistoryError)
        except HistoryError as error:
            if number == len(lines) and (line.startswith(START) or START.startswith(line)):
                return History(tuple(entries), (f"{where} is cut short and was left out",))
            raise HistoryError(error.message, REMEDY) from error
        try:
            validate(entry, load_schema("history"), "the entry")
            began_s(entry)
        except (SenError, ValueError) as error:
            message = f"{where} is not an entry of a history of benchmarks ({SCHEMA}): {error}"
            raise HistoryError(message, REMEDY) from error
        entries.append(entry)
    return History(tuple(entries))


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
