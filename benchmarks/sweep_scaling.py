"""Scaling of a sweep from one to two workers, in alternation.

    python benchmarks/sweep_scaling.py [--rounds 3] [--trials 8]

Both clusters are started, and each worker runs a trial, before the measurement. Every sweep writes to a new folder. The
column "in trials" is the share of worker time spent in trials. It distinguishes overhead of the sweep from busy cores:
the speedup on idle cores is twice the share of two workers over that of one. Exit code 3: the ratio of the medians
misses the claim, or results differ.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sen_edge.data.datasets import Dataset, load
from sen_edge.sweep.cluster import start_workers
from sen_edge.sweep.file import read_sweep
from sen_edge.sweep.journal import open_journal
from sen_edge.sweep.search import Search, run_sweep
from sen_edge.sweep.trial import run_trial

if TYPE_CHECKING:
    from distributed import Client

CLAIM = 1.7
SWEEP = """
data = "digits"
seeds = {seeds}
[training]
hidden = [64]
dims = 8
epochs = 10
[grid]
training.exponent = [1.0, 2.0]
"""


def run_timed(
    client: Client, dataset: Dataset, n_trials: int, first_seed: int
) -> tuple[float, float, Mapping[str, Any]]:
    """Run a sweep; return wall seconds, the sum of the seconds of its trials, and figures by trial.

    Workers cache trained networks, so every call requires new seeds.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.toml"
        path.write_text(SWEEP.format(seeds=list(range(first_seed, first_seed + n_trials // 2))))
        search = Search(read_sweep(path), dataset, str(path))
        with open_journal(Path(folder) / "out") as journal:
            begin = time.perf_counter()
            records = run_sweep(search, journal, client, run_trial)
            seconds = time.perf_counter() - begin
    in_trials = sum(record["seconds"] for record in records.values())
    return seconds, in_trials, {ident: record["figures"] for ident, record in records.items()}


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=8)
    options = parser.parse_args()
    dataset = load("digits")
    seconds: dict[int, list[float]] = {1: [], 2: []}
    busy: dict[int, list[float]] = {1: [], 2: []}
    figures = []
    with start_workers(1) as one, start_workers(2) as two:
        for client in (one, two):
            run_timed(client, dataset, 4, 0)
        for number in range(1, options.rounds + 1):
            for n_workers, client in ((1, one), (2, two)):
                taken, in_trials, found = run_timed(client, dataset, options.trials, 1000 * number)
                seconds[n_workers].append(taken)
                busy[n_workers].append(100 * in_trials / (n_workers * taken))
                figures.append(found)
    medians = {n_workers: statistics.median(values) for n_workers, values in seconds.items()}
    ratio = medians[1] / medians[2]
    are_equal = all(one == two for one, two in zip(figures[::2], figures[1::2], strict=True))
    print("| workers | trials | seconds, median | rounds | in trials |\n| ---: | ---: | ---: | --- | ---: |")
    for n_workers, values in seconds.items():
        rounds = ", ".join(f"{value:.1f}" for value in values)
        share = statistics.median(busy[n_workers])
        print(f"| {n_workers} | {options.trials} | {medians[n_workers]:.1f} | {rounds} | {share:.0f} % |")
    print(f"two workers are {ratio:.2f} times as fast (claim: {CLAIM}): {'pass' if ratio >= CLAIM else 'FAIL'}")
    print(f"figures of one and two workers are equal in each round: {'pass' if are_equal else 'FAIL'}")
    return 0 if ratio >= CLAIM and are_equal else 3


if __name__ == "__main__":
    sys.exit(main())
