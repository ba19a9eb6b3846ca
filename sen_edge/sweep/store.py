"""Finished trials on the disk: `DIR/trials/ID.json`, each written whole as soon as it is there."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sen_edge.errors import OutputError
from sen_edge.sweep.errors import SweepError
from sen_edge.sweep.settings import Settings, trial_id
from sen_runtime.files import write_atomic
from sen_runtime.untrusted import FileError, load_json, quote, read_regular

FORMAT = "sen-edge-trial"
VERSION = 1
#: A trial has some dozen figures.
MOST_BYTES = 1 << 24
#: What every trial that did not fail has: a ranking shows it.
RANKED_BY = ("validation_accuracy", "test_accuracy", "macs")


@dataclass(frozen=True)
class Store:
    """The folder of a sweep.

    Attributes:
        folder: that results go to; trials are in `trials` there.
    """

    folder: Path

    def path(self, ident: str) -> Path:
        """Where a trial is."""
        return self.folder / "trials" / f"{ident}.json"

    def read(self, settings: Settings) -> dict[str, Any] | None:
        """The record of a trial, or None where it is not finished.

        Raises:
            SweepError: the file is damaged, or is one of other settings.
        """
        path = self.path(trial_id(settings))
        if not path.exists():
            return None
        try:
            content = load_json(read_regular(path, MOST_BYTES), str(path))
            if (content["format"], content["version"]) != (FORMAT, VERSION):
                raise SweepError(
                    f"{path} is {quote(content['format'])}, version {quote(content['version'])}", hint=_away(path)
                )
            record: dict[str, Any] = content["record"]
            figures = record["figures"]
            if (figures is None) == (record["error"] is None):
                raise ValueError("figures, or an error")
            if figures is not None:
                [float(figures[name]) for name in RANKED_BY]
            same = trial_id(content["settings"]) == path.stem
        except (FileError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SweepError(f"{path} is no finished trial, or damaged", hint=_away(path)) from error
        if not same:
            raise SweepError(f"{path} holds other settings than its name says", hint=_away(path))
        return record

    def write(self, settings: Settings, record: Mapping[str, Any]) -> None:
        """Put a finished trial on the disk.

        Raises:
            OutputError: it cannot be written.
        """
        content = {"format": FORMAT, "version": VERSION, "settings": settings, "record": record}
        path = self.path(trial_id(settings))
        try:
            write_atomic(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}", hint="finished trials are kept") from error


def _away(path: Path) -> str:
    return f"remove it to run the trial again: rm {path}"


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """The folder of a sweep, which no other sweep uses meanwhile.

    Raises:
        OutputError: it holds something else, is in use, or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; expected a folder", hint="choose another with --output")
    trials = folder / "trials"
    try:
        if folder.exists() and any(folder.iterdir()) and not trials.is_dir():
            raise OutputError(f"{folder} holds files of something else than a sweep", hint="choose another --output")
        trials.mkdir(parents=True, exist_ok=True)
        lock = (trials / ".lock").open("wb")
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}", hint="choose another --output") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process, however it ends
        except OSError:
            raise OutputError(f"{folder} is in use by another sweep", hint="wait for it, or choose another") from None
        yield Store(folder)
