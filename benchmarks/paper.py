"""The tables of the paper (arXiv 2506.13410) on MNIST: docs/results/paper.md.

    python benchmarks/paper.py [--only SECTION] [--seeds 0,1,2]    # run the missing trials
    python benchmarks/paper.py --write                             # write the page from the trials that exist

A trial is a row of `paper_rows` with a seed, run by `sen_edge.sweep.trial.run_trial` in one thread. Finished trials are
kept in benchmarks/paper.json, one per line, which is committed, so a run resumes on any machine; remove a line to
repeat a trial. All rows get their first seed before the second. With the two variables of docs/how-to/sweep.md for the
allocator a step takes less time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pages import write_section
from paper_rows import PAIRS, SECTIONS, SEEDS, Row

import sen_edge
from sen_edge.data.datasets import load
from sen_edge.errors import DataError
from sen_edge.sweep.trial import run_trial
from sen_runtime.files import write_atomic

ROOT = Path(__file__).parents[1]
TRIALS, PAGE = ROOT / "benchmarks/paper.json", ROOT / "docs/results/paper.md"
FIGURES = ("validation_accuracy", "test_accuracy", "best_epoch", "parameters", "macs")

Trial = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """Row with its finished trials, in the order of the seeds."""

    row: Row
    trials: tuple[Trial, ...]

    @property
    def accuracies(self) -> list[float]:
        """Test accuracies in percent."""
        return [trial["figures"]["test_accuracy"] for trial in self.trials]

    @property
    def mean(self) -> float:
        """Mean test accuracy."""
        return float(np.mean(self.accuracies))

    @property
    def difference(self) -> float | None:
        """Points ahead of the paper, if both have a figure."""
        return round(self.mean - self.row.paper, 2) if self.trials and self.row.paper is not None else None

    @property
    def cells(self) -> list[str]:
        """Cells of the table: network, parameters, paper, ours, difference, seeds."""
        parameters, ours, values = "", "not measured yet", self.accuracies
        if values:
            parameters = f"{self.trials[0]['figures']['parameters'] - self.row.n_gains:,}"
            ours = f"{self.mean:.2f} ({min(values):.2f} to {max(values):.2f})"
        paper = "" if self.row.paper is None else f"{self.row.paper:g}"
        return [self.row.name, parameters, paper, ours, signed(self.difference), f"{len(values)} of {len(SEEDS)}"]


def signed(points: float | None) -> str:
    """Format a difference."""
    return "" if points is None else f"{points:+.2f}"


def identify(trial: Trial) -> str:
    """Identify a trial by the settings that its row states."""
    return json.dumps({key: trial[key] for key in ("training", "compression", "seed")}, sort_keys=True)


def trial_of(row: Row, seed: int) -> dict[str, Any]:
    """Return the settings of a trial."""
    return {"training": dict(row.training), "compression": dict(row.compression), "seed": seed}


def read_trials(path: Path = TRIALS) -> dict[str, Trial]:
    """Read the finished trials by identity."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {identify(trial): trial for trial in found}


def add_trial(trial: Trial, path: Path = TRIALS) -> None:
    """Add a finished trial, one line; keeps those that another process has added."""
    trials = {**read_trials(path), identify(trial): trial}
    lines = ",\n".join(json.dumps(trials[key], sort_keys=True) for key in sorted(trials))
    write_atomic(path, f"[\n{lines}\n]\n".encode())


def missing(sections: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[Row, int]]:
    """Yield rows and seeds without a trial: the first seed of all rows, then the second."""
    for seed, name in itertools.product(seeds, sections):
        yield from ((row, seed) for row in SECTIONS[name] if identify(trial_of(row, seed)) not in read_trials())


def run(row: Row, seed: int, data: Mapping[str, Any]) -> Trial:
    """Run a trial; seconds are those of the processor."""
    start = time.process_time()
    figures = run_trial(row.settings(seed, data))
    return {
        **trial_of(row, seed),
        "figures": {name: figures[name] for name in FIGURES},
        "seconds": round(time.process_time() - start, 1),
        "versions": {"sen-edge": sen_edge.__version__, "torch": torch.__version__},
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def measure(rows: Sequence[Row], trials: Mapping[str, Trial]) -> list[Measured]:
    """Look up the finished trials of rows."""
    names = [(row, [identify(trial_of(row, seed)) for seed in SEEDS]) for row in rows]
    return [Measured(row, tuple(trials[name] for name in each if name in trials)) for row, each in names]


def table(rows: Sequence[Measured]) -> list[str]:
    """Format a table with versions and times of its trials."""
    trials = [trial for row in rows for trial in row.trials]
    lines = [
        "| network | parameters | paper | ours, mean (range) | difference | seeds |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(f"| {' | '.join(row.cells)} |" for row in rows),
    ]
    if trials:
        versions = {f"{name} {version}" for trial in trials for name, version in trial["versions"].items()}
        hours, date = sum(trial["seconds"] for trial in trials) / 3600, max(trial["date"] for trial in trials)
        lines += ["", f"{', '.join(sorted(versions))}; {date}; {hours:.1f} hours on one core."]
    return lines


def compare_equal(trials: Mapping[str, Trial]) -> list[str]:
    """Compare networks with as many parameters with each other."""
    lines = [
        "| SEN | as many parameters | difference in the paper | difference, ours | seeds |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for spatial, other in (measure(pair, trials) for pair in PAIRS):
        name = f"spiking {spatial.row.name}" if "arch" in spatial.row.training else spatial.row.name
        papers = (spatial.row.paper, other.row.paper)
        paper = "" if None in papers else signed(papers[0] - papers[1])
        seeds = min(len(spatial.trials), len(other.trials))
        ours = signed(spatial.mean - other.mean) if seeds else "not measured yet"
        lines.append(f"| {name} | {other.row.name} | {paper} | {ours} | {seeds} of {len(SEEDS)} |")
    return lines


def summarize(trials: Mapping[str, Trial]) -> list[str]:
    """Name the rows of spatially embedded networks below the paper."""
    rows = [(name, row) for name, rows in SECTIONS.items() for row in measure(rows, trials)]
    spatial = [(name, row) for name, row in rows if row.row.is_spatial and row.row.paper is not None]
    differences = [(f"{row.row.name} ({name})", row.difference) for name, row in spatial if row.difference is not None]
    below = [f"{name}: {signed(difference)}" for name, difference in differences if difference < 0]
    return [
        f"{len(differences)} of {len(spatial)} rows of SENs are measured. Below the mean of the paper: "
        f"{'; '.join(below) or 'none'}."
    ]


def sections(trials: Mapping[str, Trial]) -> dict[str, list[str]]:
    """Return the lines of the sections of the page by name."""
    tables = {name: table(measure(rows, trials)) for name, rows in SECTIONS.items()}
    return {**tables, "summary": summarize(trials), "equal-parameters": compare_equal(trials)}


def main(arguments: list[str]) -> int:
    """Run the missing trials, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the page, run nothing")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="one section; repeatable")
    parser.add_argument("--seeds", type=lambda text: [int(each) for each in text.split(",")], default=SEEDS)
    options = parser.parse_args(arguments)
    if options.write:
        for name, lines in sections(read_trials()).items():
            write_section(PAGE, lines, name)
        return 0
    try:
        dataset = load("mnist")
    except DataError as error:
        raise SystemExit(f"{error.message}\n{error.hint}") from None
    data = {"name": "mnist", "data_dir": None, "spikes": False, "sha256": dataset.content_sha256}
    for row, seed in missing(options.only or list(SECTIONS), options.seeds):
        trial = run(row, seed, data)
        add_trial(trial)
        accuracy = trial["figures"]["test_accuracy"]
        print(f"{row.name}, seed {seed}: {accuracy:.2f} ({trial['seconds']:.0f} s)", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
