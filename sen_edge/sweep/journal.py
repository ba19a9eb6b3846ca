"""Finished trials of a sweep: an Optuna journal, `DIR/journal.log`, one line for each operation.

A trial of the study `STUDY` is a trained network. Its parameters are the searched values, its value is the validation
score of its task, its user attributes are the name, the settings and the record; a failed one has the state FAIL. A
finished trial is on the disk before the next one is taken. Nothing is unpickled.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from sen_edge.errors import OutputError
from sen_edge.sweep import SweepError
from sen_edge.sweep.file import trial_id
from sen_runtime.task import ACCURACY, Metric
from sen_runtime.untrusted import load_json, quote, read_regular

FILE, LOCK, STUDY = "journal.log", ".lock", "sweep"
MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Journal:
    """A journal: the study of all trials, and the finished ones by their names, the last one of a name."""

    path: Path
    study: optuna.Study
    trials: dict[str, FrozenTrial]
    metric: Metric

    def records(self, *, without_failed: bool) -> dict[str, Mapping[str, Any]]:
        """Records of the trials by name, with or without those that failed."""
        found = self.trials.items()
        return {name: trial.user_attrs for name, trial in found if trial.value is not None or not without_failed}

    def add(
        self, attributes: Mapping[str, Any], parameters: Mapping[str, Any], distributions: Mapping[str, Any]
    ) -> None:
        """Keep a finished trial.

        Raises:
            OutputError: it cannot be written.
        """
        figures = attributes["figures"]
        trial = create_trial(
            state=TrialState.FAIL if figures is None else TrialState.COMPLETE,
            value=None if figures is None else figures[f"validation_{self.metric.key}"],
            params=dict(parameters),
            distributions=dict(distributions),
            user_attrs=dict(attributes),
        )
        try:
            self.study.add_trial(trial)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}", "finished trials are kept") from error
        self.trials[attributes["id"]] = trial


@contextmanager
def open_journal(folder: Path, metric: Metric = ACCURACY) -> Iterator[Journal]:
    """The journal of a sweep by a metric, new or continued, which no other sweep uses at the same time.

    Raises:
        OutputError: the folder has other files, is in use by another sweep, or cannot be written.
        SweepError: the journal is damaged, or has scores of another metric.
    """
    path = folder / FILE
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not path.exists() and any(each.name != LOCK for each in folder.iterdir()):
                raise OutputError(f"{folder} has files, but no sweep", "choose another with --output")
            lock = stack.enter_context((folder / LOCK).open("wb"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released with the process, however it ends
            (folder / f"{FILE}.lock").unlink(missing_ok=True)  # of a crash while Optuna wrote
            n_bytes = read_regular(path, MAX_BYTES, error=SweepError).rfind(b"\n") + 1 if path.exists() else 0
            if n_bytes:
                os.truncate(path, n_bytes)  # to the last whole line
            else:
                path.unlink(missing_ok=True)
                optuna.create_study(study_name=STUDY, storage=_storage(path), direction=direction(metric))
        except BlockingIOError:
            raise OutputError(f"{folder} is in use by another sweep", "wait for it, or choose another") from None
        except OSError as error:
            raise OutputError(f"cannot write to {folder}: {error.strerror}", "choose another with --output") from error
        yield read_journal(path, metric)


def direction(metric: Metric) -> str:
    """Direction of a study by a metric."""
    return "maximize" if metric.higher_is_better else "minimize"


def read_journal(path: Path, metric: Metric = ACCURACY) -> Journal:
    """Read a journal by a metric.

    Raises:
        SweepError: it is damaged.
    """
    lines = read_regular(path, MAX_BYTES, error=SweepError).splitlines()
    for number, line in enumerate(lines, start=1):
        load_json(line, f"{path}, line {number}", error=SweepError)
    try:
        study = optuna.load_study(study_name=STUDY, storage=_storage(path))
        trials = {_name(trial, metric): trial for trial in study.get_trials(deepcopy=False)}
        return Journal(path, study, trials, metric)
    except Exception as error:  # Optuna raises anything for a line that it did not write
        hint = f"to start again, move it away: mv {path} {path}.damaged"
        raise SweepError(f"{path} cannot be read: {type(error).__name__}: {error}", hint) from error


def _storage(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))


def _name(trial: FrozenTrial, metric: Metric) -> str:
    """Name of a trial, whose attributes are checked."""
    attributes = trial.user_attrs
    figures, error, name = attributes["figures"], attributes["error"], attributes["id"]
    if (figures is None) == (error is None):
        raise ValueError(f"trial {trial.number} has neither figures nor an error")
    required = (f"validation_{metric.key}", f"test_{metric.key}", "macs")
    for key in required if figures is not None else ():
        if key not in figures:
            raise ValueError(f"trial {trial.number} has no {key}")
        if not isinstance(figures[key], (int, float)):
            raise ValueError(f"trial {trial.number}: {key} is {quote(figures[key])}; expected a number")
    if name != trial_id(attributes["settings"]):
        raise ValueError(f"trial {trial.number} has other settings than its id {quote(name)}")
    return str(name)
