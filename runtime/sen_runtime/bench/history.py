"""A file that grows by one line for each record, so that a trend can be drawn from it."""

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
from sen_runtime.bench.record import began_s
from sen_runtime.errors import SenError
from sen_runtime.files import write_atomic

try:
    import fcntl
except ImportError:  # Windows, where two writers at once may lose a line
    fcntl = None  # type: ignore[assignment]

SCHEMA = "sen-edge/bench-history/1"
#: How each line starts: a line cut short by a crash is told by it from another kind of file.
START = f'{{"schema": "{SCHEMA}"'
DEVICE = ("model", "cpu", "architecture", "kernel", "os")
ROW = ("name", "sha256", "engine", "engine_version", "threads", "n_samples", "bytes", "energy_uj")


class HistoryError(SenError):
    """A file that is no history of benchmarks, or cannot be read or written."""


@dataclass(frozen=True)
class History:
    """What is in the file.

    Attributes:
        entries: one for each record, as `summary` makes them, in the order of the file.
        notes: what was wrong with the file, in sentences.
    """

    entries: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a line holds: when, on what, and the median of each row with its interval (microseconds)."""
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
    """Add the summary of a record at the end; the file is replaced in one step, so it is never half written.

    A last line that an earlier crash cut short is dropped, and a note says so.

    Returns:
        The history with the new entry.

    Raises:
        HistoryError: the file holds something else, or cannot be read or written.
    """
    with _locked(path):
        history = read(path) if path.exists() else History(())
        entries = (*history.entries, summary(record))
        try:
            write_atomic(path, "".join(_line(entry) for entry in entries).encode())
        except OSError as error:
            raise HistoryError(f"cannot write {path}: {error.strerror}") from error
    return History(entries, history.notes)


def read(path: Path) -> History:
    """All entries of a file.

    Raises:
        HistoryError: a line is no entry (its number is named), or the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise HistoryError(f"cannot read {path}: {error.strerror}") from error
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entries.append(_entry(line))
        except (ValueError, KeyError, TypeError) as error:
            is_cut = number == len(lines) and (line.startswith(START) or START.startswith(line))
            if is_cut and isinstance(error, json.JSONDecodeError):
                return History(tuple(entries), (f"{path}: line {number} is cut short and was left out",))
            message = f"{path}: line {number} is no entry of a history of benchmarks ({SCHEMA})"
            raise HistoryError(message, "name another file, or remove that line") from error
    return History(tuple(entries))


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"


def _entry(line: str) -> dict[str, Any]:
    """One line; ValueError, KeyError or TypeError where it is something else."""
    entry = json.loads(line)
    if entry["schema"] != SCHEMA:
        raise ValueError
    began_s(entry)
    [entry[key] for key in ("valid", "status")], float(entry["confidence"])
    [str(entry["device"][key]) for key in DEVICE]
    for row in entry["rows"]:
        str(row["name"])
        numbers = [float(row[key]) for key in ("median_us", "low_us", "high_us") if row[key] is not None]
        if not numbers or not all(number > 0 for number in numbers):
            raise ValueError
    return dict(entry)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time: the folder is locked, so that no other file is needed."""
    if fcntl is None:
        yield
        return
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise HistoryError(f"cannot write {path}: {error.strerror}", "make its folder first") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
