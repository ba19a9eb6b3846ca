"""Trials of a results page: settings with a seed, and figures, one per line of a JSON file.

The file is committed, so a measurement resumes on any machine; remove a line to repeat a trial.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

import sen_edge
from sen_runtime.files import write_atomic

SEEDS = (0, 1, 2)

Trial = Mapping[str, Any]
R = TypeVar("R")


@dataclass(frozen=True)
class Trials(Generic[R]):
    """Trials of rows in sections.

    Attributes:
        path: of the file.
        sections: rows by name.
        settings_of: settings of a row of a section, without the seed.
    """

    path: Path
    sections: Mapping[str, Sequence[R]]
    settings_of: Callable[[str, R], Mapping[str, Any]]

    def settings(self, section: str, row: R, seed: int) -> dict[str, Any]:
        """Return the settings of a trial."""
        return {**self.settings_of(section, row), "seed": seed}

    def read(self) -> dict[str, Trial]:
        """Read the finished trials by identity."""
        found = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else []
        return {identify(each): each for each in found}

    def add(self, settings: Mapping[str, Any], figures: Mapping[str, Any], seconds: float) -> Trial:
        """Add a finished trial with versions and date; keeps those that another process has added."""
        trial = {
            **settings,
            "figures": figures,
            "seconds": round(seconds, 1),
            "versions": {"sen-edge": sen_edge.__version__, "torch": torch.__version__},
            "date": datetime.now(timezone.utc).date().isoformat(),
        }
        trials = {**self.read(), identify(trial): trial}
        lines = ",\n".join(json.dumps(trials[key], sort_keys=True) for key in sorted(trials))
        write_atomic(self.path, f"[\n{lines}\n]\n".encode())
        return trial

    def finished(self, section: str, row: R, trials: Mapping[str, Trial]) -> tuple[Trial, ...]:
        """Return the finished trials of a row, in the order of the seeds."""
        names = (identify(self.settings(section, row, seed)) for seed in SEEDS)
        return tuple(trials[name] for name in names if name in trials)

    def missing(self, sections: Iterable[str], seeds: Iterable[int]) -> Iterator[tuple[str, R, int]]:
        """Yield sections, rows and seeds without a trial: the first seed of all rows, then the second."""
        for seed, name in itertools.product(seeds, sections):
            for row in self.sections[name]:
                if identify(self.settings(name, row, seed)) not in self.read():
                    yield name, row, seed


def identify(trial: Trial) -> str:
    """Identify a trial by its settings."""
    results = ("figures", "seconds", "versions", "date")
    return json.dumps({key: value for key, value in trial.items() if key not in results}, sort_keys=True)


def accuracy_range(values: Sequence[float]) -> str:
    """Format mean, min and max of accuracies."""
    return f"{sum(values) / len(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def provenance(trials: Sequence[Trial], time: str) -> list[str]:
    """Return the lines below a table: versions, date and `time` of its trials; none without trials."""
    if not trials:
        return []
    versions = {f"{name} {version}" for trial in trials for name, version in trial["versions"].items()}
    return ["", f"{', '.join(sorted(versions))}; {max(trial['date'] for trial in trials)}; {time} on one core."]


def parser(description: str | None, sections: Collection[str]) -> argparse.ArgumentParser:
    """Return the options of a measurement."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--write", action="store_true", help="write the page, run nothing")
    found.add_argument("--only", choices=sections, action="append", help="one section; repeatable")
    found.add_argument("--seeds", type=lambda text: [int(each) for each in text.split(",")], default=SEEDS)
    return found
