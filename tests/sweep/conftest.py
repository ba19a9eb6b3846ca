"""Sweeps on real worker processes: clusters, small plans, finished sweeps."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge.data.datasets import Dataset
from sen_edge.sweep.cluster import Records, Trial, start_workers
from sen_edge.sweep.file import read_sweep
from sen_edge.sweep.journal import open_journal
from sen_edge.sweep.results import rows
from sen_edge.sweep.search import Point, Search, run_sweep
from sen_runtime.task import ACCURACY
from tests.conftest import Outcome

Run = Callable[..., Outcome]
ROOT = Path(__file__).parents[2]
TRAINING = """
data = "digits"
seeds = [0, 1]
[training]
hidden = [8]
epochs = 1
"""
GRID = f"""{TRAINING}dims = 3
[grid]
training.exponent = [1.0, 2.0]
"""
SAMPLED = f"""{TRAINING}[sampled]
trials = 14
seed = 5
in_flight = 3
training.exponent = {{ low = 0.5, high = 3.0 }}
training.dims = [2, 3]
"""


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Any]:
    with start_workers(2) as client:
        yield client


@pytest.fixture(scope="module")
def one_worker() -> Iterator[Any]:
    with start_workers(1) as client:
        yield client


def tiny() -> Dataset:
    """Ten inputs of each of two classes."""
    inputs = np.random.default_rng(0).random((40, 4), np.float32)
    labels = np.arange(40) % 2
    return Dataset("tiny", inputs[:30], labels[:30], inputs[30:], labels[30:], (0.0, 1.0))


def write(folder: Path, text: str) -> Path:
    path = folder / "s.toml"
    path.write_text(text)
    return path


@dataclass(frozen=True)
class State:
    """A finished sweep."""

    points: list[Point]
    records: Records

    @property
    def rows(self) -> list[dict[str, Any]]:
        return rows(self.points, self.records, ACCURACY)


def sweep(folder: Path, client: Any, trial: Trial, text: str = GRID, **options: Any) -> State:
    """On data that no trial here looks at; `data_dir` is the folder."""
    (folder / "data").mkdir(exist_ok=True)
    plan = read_sweep(write(folder, f'data_dir = "data"\n{text}'))
    search = Search(plan, tiny(), "s.toml")
    with open_journal(folder / "out") as journal:
        return State(search.points, run_sweep(search, journal, client, trial, **options))


def comparable(state: State) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in state.rows]


def finished(folder: Path) -> list[str]:
    """Lines of the journal after the first one, which is of the study: one for each trial."""
    path = folder / "journal.log"
    return path.read_text().splitlines()[1:] if path.exists() else []


FREE = """
data = "digits"
seeds = [0]
[training]
weights = "free"
hidden = [16]
epochs = 8
[compression]
epochs = 3
as_checkpoint = true
[grid]
compression.sparsity = [0.8, 0.95]
"""
