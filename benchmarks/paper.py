"""The tables of the paper (arXiv 2506.13410) on MNIST: docs/results/paper.md.

    python benchmarks/paper.py [--only SECTION] [--seeds 0,1,2]    # run the missing trials
    python benchmarks/paper.py --write                             # write the page from the trials that exist

A trial is a row of `paper_rows` with a seed, run by `sen_edge.sweep.trial.run_trial` in one thread, and kept in
benchmarks/paper.json, see `trials`. With the two variables of docs/how-to/sweep.md for the allocator a step takes less
time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pages import write_section
from paper_rows import PAIRS, SECTIONS, Row
from trials import SEEDS, Trial, Trials, accuracy_range, parser, provenance

from sen_edge.data.datasets import load
from sen_edge.errors import DataError
from sen_edge.sweep.trial import run_trial

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/results/paper.md"
TRIALS: Trials[Row] = Trials(
    ROOT / "benchmarks/paper.json",
    SECTIONS,
    lambda _, row: {"training": dict(row.training), "compression": dict(row.compression)},
)
FIGURES = ("validation_accuracy", "test_accuracy", "best_epoch", "parameters", "macs")


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
            ours = accuracy_range(values)
        paper = "" if self.row.paper is None else f"{self.row.paper:g}"
        return [self.row.name, parameters, paper, ours, signed(self.difference), f"{len(values)} of {len(SEEDS)}"]


def signed(points: float | None) -> str:
    """Format a difference."""
    return "" if points is None else f"{points:+.2f}"


def measure(rows: Sequence[Row], trials: Mapping[str, Trial]) -> list[Measured]:
    """Look up the finished trials of rows."""
    return [Measured(row, TRIALS.finished("", row, trials)) for row in rows]


def table(rows: Sequence[Measured]) -> list[str]:
    """Format a table with versions and times of its trials."""
    trials = [trial for row in rows for trial in row.trials]
    hours = sum(trial["seconds"] for trial in trials) / 3600
    return [
        "| network | parameters | paper | ours, mean (range) | difference | seeds |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(f"| {' | '.join(row.cells)} |" for row in rows),
        *provenance(trials, f"{hours:.1f} hours"),
    ]


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
    options = parser(__doc__, SECTIONS).parse_args(arguments)
    if options.write:
        for name, lines in sections(TRIALS.read()).items():
            write_section(PAGE, lines, name)
        return 0
    try:
        dataset = load("mnist")
    except DataError as error:
        raise SystemExit(f"{error.message}\n{error.hint}") from None
    data = {"name": "mnist", "data_dir": None, "spikes": False, "sha256": dataset.content_sha256}
    for section, row, seed in TRIALS.missing(options.only or SECTIONS, options.seeds):
        start = time.process_time()
        figures: Mapping[str, Any] = run_trial(row.settings(seed, data))
        seconds, settings = time.process_time() - start, TRIALS.settings(section, row, seed)
        TRIALS.add(settings, {name: figures[name] for name in FIGURES}, seconds)
        accuracy = f"{figures['test_accuracy']:.2f} ({seconds:.0f} s)"
        print(f"{row.name}, seed {seed}: {accuracy}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
