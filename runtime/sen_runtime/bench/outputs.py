"""Destinations of a benchmark's results, checked before the run and written after it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sen_runtime.bench import history, record
from sen_runtime.errors import OutputError, UsageError
from sen_runtime.files import write_all

STDOUT = "-"


@dataclass(frozen=True)
class Outputs:
    """Destinations.

    Attributes:
        json: file of the record; "-" is stdout, where it replaces the table.
        history: file that gets one line for each record.
        force: whether an existing `json` is replaced.
    """

    json: str | None = None
    history: Path | None = None
    force: bool = False

    @property
    def json_path(self) -> Path | None:
        """File of the record."""
        return None if self.json is None or self.json == STDOUT else Path(self.json)


def check(outputs: Outputs, inputs: Sequence[Path]) -> None:
    """Refuse destinations that would fail after the run; `inputs` are measured files, which are not overwritten.

    Raises:
        UsageError: two results have one destination, or it is a measured file.
        OutputError: a file exists or cannot be created.
        HistoryError: the history is another kind of file.
    """
    taken = {path.resolve(): f"{path} is measured" for path in inputs}
    for name, path in {"json": outputs.json_path, "history": outputs.history}.items():
        if path is None:
            continue
        if path.resolve() in taken:
            raise UsageError(f"--{name} {path}: {taken[path.resolve()]}", "name another file")
        taken[path.resolve()] = f"--{name} goes there"
        if path.is_dir():
            raise OutputError(f"--{name}: {path} is a folder; expected a file, or nothing", "name a file")
        if name == "json" and path.exists() and not outputs.force:
            raise OutputError(f"--json: {path} exists", "pass --force to replace it, or name another file")
        try:  # permissions do not tell whether a file system is read-only
            tempfile.TemporaryFile(dir=path.parent).close()
        except OSError as error:
            message = f"--{name}: cannot write to {path.parent}: {error.strerror}"
            raise OutputError(message, "name another folder") from error
    if outputs.history is not None and outputs.history.exists():
        history.read(outputs.history)


def publish(
    outputs: Outputs,
    records: Sequence[Mapping[str, Any]],
    table: Callable[[], str],
    note: Callable[[str], None],
    *,
    as_list: bool,
) -> None:
    """Write the files, then print the table or the JSON.

    Args:
        outputs: destinations.
        records: records of the run, in the order in which the history gets them.
        table: makes the table for stdout.
        note: receives names of written files and remarks on the history.
        as_list: whether the JSON is a list of records, instead of the only one.

    Raises:
        OutputError, HistoryError: a file cannot be written; stdout is printed all the same.
    """
    text = record.dumps(list(records) if as_list else records[0])
    try:  # files first, so that a closed stdout does not lose them
        if outputs.json_path is not None:
            _write(outputs.json_path, text, replace=outputs.force)
            note(f"wrote {outputs.json_path}")
        if outputs.history is not None:
            for line in [line for each in records for line in history.append(outputs.history, each).notes]:
                note(line)
    finally:
        sys.stdout.write(text if outputs.json == STDOUT else table())
        sys.stdout.flush()


def _write(path: Path, text: str, *, replace: bool) -> None:
    try:
        write_all({path: text.encode(errors="replace")}, replace=replace)  # file names may be undecodable
    except FileExistsError as error:
        raise OutputError(f"{error.filename} exists", "pass --force to replace it") from None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", "nothing was written") from error
