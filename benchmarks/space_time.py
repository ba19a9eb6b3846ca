"""Networks whose delays follow from positions, and others: docs/results/space-time.md.

    python benchmarks/space_time.py [--data DIR] [--only SECTION] [--seeds 0,1,2]    # run the missing trials
    python benchmarks/space_time.py --write                      # write the page from the trials that exist

A trial is a row of `space_time_rows` with a seed, trained in one thread. Finished trials are kept in
benchmarks/space_time.json, one per line, so a run resumes on any machine; remove a line to repeat a trial. All rows get
their first seed before the second. DIR is $SEN_EDGE_DATA by default.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from pages import write_section
from space_time_data import augment_words, spoken_digits, yin_yang
from space_time_rows import SECTIONS, SEEDS, Row

import sen_edge
from sen_edge.data.datasets import Dataset
from sen_edge.training.delayed import DelayedTrainRequest, train
from sen_runtime import format as image
from sen_runtime import reference
from sen_runtime.files import write_atomic
from sen_runtime.ir.network import Network
from sen_runtime.scores import network_scores

ROOT = Path(__file__).parents[1]
TRIALS, PAGE = ROOT / "benchmarks/space_time.json", ROOT / "docs/results/space-time.md"
DIGITS = "spoken-digits"

Trial = Mapping[str, Any]


def identify(trial: Trial) -> str:
    """Identify a trial by the settings that its row states."""
    return json.dumps({key: trial[key] for key in ("section", "training", "seed")}, sort_keys=True)


def trial_of(section: str, row: Row, seed: int) -> dict[str, Any]:
    """Return the settings of a trial."""
    return {"section": section, "training": dict(row.training), "seed": seed}


def read_trials(path: Path | None = None) -> dict[str, Trial]:
    """Read the finished trials by identity."""
    path = path or TRIALS
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {identify(trial): trial for trial in found}


def add_trial(trial: Trial) -> None:
    """Add a finished trial, one line; keeps those that another process has added."""
    trials = {**read_trials(), identify(trial): trial}
    lines = ",\n".join(json.dumps(trials[key], sort_keys=True) for key in sorted(trials))
    write_atomic(TRIALS, f"[\n{lines}\n]\n".encode())


def missing(sections: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, Row, int]]:
    """Yield sections, rows and seeds without a trial: the first seed of all rows, then the second."""
    for seed, name in itertools.product(seeds, sections):
        for row in SECTIONS[name]:
            if identify(trial_of(name, row, seed)) not in read_trials():
                yield name, row, seed


def run(section: str, row: Row, seed: int, dataset: Dataset) -> Trial:
    """Run a trial; seconds are those of the processor."""
    start = time.process_time()
    augment = augment_words if section == DIGITS else None
    request = DelayedTrainRequest(**row.training, seed=seed)
    with TemporaryDirectory() as scratch:
        result = train(request, dataset, out=Path(scratch) / "model.sen", augment=augment)
        seconds = time.process_time() - start
        network = image.read(result.path)
    scores = network_scores(network, dataset.test)
    figures = {
        "parameters": result.n_parameters,
        "validation_accuracy": round(result.validation_score, 2),
        "test_accuracy": round(result.test_score, 2),
        "image_accuracy": round(scores[result.metric], 2),
        "bytes": len(image.dumps(replace(network, metadata={}))),
        "best_epoch": result.best_epoch,
        **activity(network, dataset),
    }
    return {
        **trial_of(section, row, seed),
        "figures": figures,
        "seconds": round(seconds, 1),
        "versions": {"sen-edge": sen_edge.__version__, "torch": torch.__version__},
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def activity(network: Network, dataset: Dataset) -> dict[str, float]:
    """Return hidden spikes per test input, and additions of weights per step: spikes times their synapses."""
    x = dataset.test.rows(slice(None))
    *counts, _ = reference.trace(network, x, np.float32)
    sources = [x.sum(axis=1), *counts]
    additions = 0.0
    for index, layer in enumerate(network.layers):
        connections = [(layer.weight, sources[index])]
        if layer.recurrent is not None:
            connections.append((layer.recurrent.weight, sources[index + 1]))
        for weight, spikes in connections:
            additions += float((spikes.mean(axis=0) * np.count_nonzero(weight.to_dense(), axis=0)).sum())
    return {
        "spikes": round(sum(float(each.sum(axis=1).mean()) for each in counts), 1),
        "additions": round(additions / network.timesteps, 1),
    }


def table(section: str, trials: Mapping[str, Trial]) -> list[str]:
    """Format the table of a section with versions and time of its trials."""
    lines = [
        "| network | parameters | test accuracy, mean (range) | image, bytes | spikes | additions per step | seeds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    done: list[Trial] = []
    for row in SECTIONS[section]:
        names = [identify(trial_of(section, row, seed)) for seed in SEEDS]
        found = [trials[name] for name in names if name in trials]
        done += found
        lines.append(f"| {row.name} | {' | '.join(cells(found))} | {len(found)} of {len(SEEDS)} |")
    if done:
        versions = sorted({f"{name} {version}" for trial in done for name, version in trial["versions"].items()})
        seconds, date = [trial["seconds"] for trial in done], max(trial["date"] for trial in done)
        lines += ["", f"{', '.join(versions)}; {date}; {min(seconds):.0f} to {max(seconds):.0f} s a trial on one core."]
    return lines


def cells(found: Sequence[Trial]) -> list[str]:
    """Return the cells of the figures of a row."""
    if not found:
        return ["", "not measured yet", "", "", ""]
    figures = [trial["figures"] for trial in found]
    values = [each["test_accuracy"] for each in figures]
    accuracy = f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
    means = {name: np.mean([each[name] for each in figures]) for name in ("bytes", "spikes", "additions")}
    counts = [f"{means['bytes']:,.0f}", f"{means['spikes']:.1f}", f"{means['additions']:,.0f}"]
    return [f"{figures[0]['parameters']:,}", accuracy, *counts]


def summarize(trials: Mapping[str, Trial]) -> list[str]:
    """State how many trials there are, which rows have none, and whether images have the accuracy of the training."""
    rows = [(section, row) for section in SECTIONS for row in SECTIONS[section]]
    lacking = [
        f"{row.name} ({section})"
        for section, row in rows
        if not any(identify(trial_of(section, row, seed)) in trials for seed in SEEDS)
    ]
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the page, run nothing")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="one section; repeatable")
    parser.add_argument("--seeds", type=lambda text: [int(each) for each in text.split(",")], default=SEEDS)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SEN_EDGE_DATA", ".")), metavar="DIR")
    options = parser.parse_args(arguments)
    if options.write:
        trials = read_trials()
        for name, lines in sections(trials).items():
            write_section(PAGE, lines, name)
        return 0
    torch.set_num_threads(1)
    words: Dataset | None = None
    for section, row, seed in missing(options.only or list(SECTIONS), options.seeds):
        if section == DIGITS:
            words = words or spoken_digits(options.data)
        trial = run(section, row, seed, words if section == DIGITS and words is not None else yin_yang(seed))
        add_trial(trial)
        print(f"{section}, {row.name}, seed {seed}: {trial['figures']} ({trial['seconds']:.0f} s)", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
