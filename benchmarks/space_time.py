"""Networks whose delays follow from positions, and others: docs/results/space-time.md.

    python benchmarks/space_time.py [--data DIR] [--only SECTION] [--seeds 0,1,2]    # run the missing trials
    python benchmarks/space_time.py --write                      # write the page from the trials that exist

A trial is a row of `space_time_rows` with a seed, trained in one thread, and kept in benchmarks/space_time.json, see
`trials`. Instructions are counted as in delays.py, with its compilers and emulator. DIR is $SEN_EDGE_DATA by default.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from delays import FLAGS, FloatArray, build_a72, count_a72
from pages import write_section
from space_time_data import augment_words, spoken_digits, yin_yang
from space_time_rows import SECTIONS, Row
from trials import SEEDS, Trial, Trials, accuracy_range, parser, provenance

from sen_edge.data.datasets import Dataset
from sen_edge.training.delayed import DelayedTrainRequest, train
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.ir.network import Network
from sen_runtime.scores import network_scores

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/results/space-time.md"
TRIALS: Trials[Row] = Trials(
    ROOT / "benchmarks/space_time.json",
    SECTIONS,
    lambda section, row: {"section": section, "training": dict(row.training)},
)
DIGITS = "spoken-digits"
#: Test inputs whose instructions are counted.
COUNTED = 30


def run(
    section: str, row: Row, seed: int, dataset: Dataset, count: Callable[[Network, FloatArray], int]
) -> tuple[dict[str, Any], float]:
    """Run a trial; return its figures, and the seconds of the processor in training.

    `count` returns the instructions of a step of a network, a mean of inputs `[n, T, n_in]`.
    """
    start = time.process_time()
    augment = augment_words if section == DIGITS else None
    request = DelayedTrainRequest(**row.training, seed=seed)
    with TemporaryDirectory() as scratch:
        result = train(request, dataset, out=Path(scratch) / "model.sen", augment=augment)
        seconds = time.process_time() - start
        network = image.read(result.path)
    scores, x = network_scores(network, dataset.test), dataset.test.rows(slice(None))
    *counts, _ = reference.trace(network, x, np.float32)
    figures = {
        "parameters": result.n_parameters,
        "validation_accuracy": round(result.validation_score, 2),
        "test_accuracy": round(result.test_score, 2),
        "image_accuracy": round(scores[result.metric], 2),
        "bytes": len(image.dumps(replace(network, metadata={}))),
        "best_epoch": result.best_epoch,
        "spikes": round(sum(float(each.sum(axis=1).mean()) for each in counts), 1),
        "instructions": count(network, x[:COUNTED]),
    }
    return figures, seconds


def table(section: str, trials: Mapping[str, Trial]) -> list[str]:
    """Format the table of a section with versions and time of its trials."""
    found = {row.name: TRIALS.finished(section, row, trials) for row in SECTIONS[section]}
    done = [trial for each in found.values() for trial in each]
    seconds = [trial["seconds"] for trial in done] or [0.0]
    return [
        "| network | parameters | test accuracy, mean (range) | image, bytes | spikes | instructions | seeds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(f"| {name} | {' | '.join(cells(each))} | {len(each)} of {len(SEEDS)} |" for name, each in found.items()),
        *provenance(done, f"{min(seconds):.0f} to {max(seconds):.0f} s a trial"),
    ]


def cells(found: Sequence[Trial]) -> list[str]:
    """Return the cells of the figures of a row."""
    if not found:
        return ["", "not measured yet", "", "", ""]
    figures = [trial["figures"] for trial in found]
    accuracy = accuracy_range([each["test_accuracy"] for each in figures])
    means = {name: np.mean([each[name] for each in figures]) for name in ("bytes", "spikes", "instructions")}
    counts = [f"{means['bytes']:,.0f}", f"{means['spikes']:.1f}", f"{means['instructions']:,.0f}"]
    return [f"{figures[0]['parameters']:,}", accuracy, *counts]


def summarize(trials: Mapping[str, Trial]) -> list[str]:
    """State how many trials there are, which rows have none, and whether images have the accuracy of the training."""
    rows = [(section, row) for section in SECTIONS for row in SECTIONS[section]]
    lacking = [f"{row.name} ({section})" for section, row in rows if not TRIALS.finished(section, row, trials)]
    differences = [
        abs(each["figures"]["image_accuracy"] - each["figures"]["test_accuracy"]) for each in trials.values()
    ]
    total = len(rows) * len(SEEDS)
    return [
        f"{len(trials)} of {total} trials are measured. Rows without one: {'; '.join(lacking) or 'none'}.",
        "",
        "Largest difference of the test accuracy of an image, run by the reference interpreter, and of its network in "
        f"PyTorch: {max(differences, default=0):.2f} points.",
    ]


def sections(trials: Mapping[str, Trial]) -> dict[str, list[str]]:
    """Return the lines of the sections of the page by name."""
    return {**{name: table(name, trials) for name in SECTIONS}, "summary": summarize(trials)}


def main(arguments: list[str]) -> int:
    """Run the missing trials, or write the page."""
    accepted = parser(__doc__, SECTIONS)
    accepted.add_argument("--data", type=Path, default=Path(os.environ.get("SEN_EDGE_DATA", ".")), metavar="DIR")
    options = accepted.parse_args(arguments)
    if options.write:
        for name, lines in sections(TRIALS.read()).items():
            write_section(PAGE, lines, name)
        return 0
    torch.set_num_threads(1)
    words = cache(partial(spoken_digits, options.data))
    with TemporaryDirectory() as name:
        folder = Path(name)
        count = partial(count_a72, folder, build_a72(folder), flags=FLAGS["table"])
        for section, row, seed in TRIALS.missing(options.only or SECTIONS, options.seeds):
            figures, seconds = run(section, row, seed, words() if section == DIGITS else yin_yang(seed), count)
            TRIALS.add(TRIALS.settings(section, row, seed), figures, seconds)
            print(f"{section}, {row.name}, seed {seed}: {figures} ({seconds:.0f} s)", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
