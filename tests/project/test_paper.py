"""Trials of docs/results/paper.md: valid settings, a file that can be resumed, and the page from the file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge.data.datasets import Dataset
from sen_edge.sweep.file import requests_of
from sen_edge.training.train import config_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import paper as module  # type: ignore[import-not-found]

    yield module


def trial(paper: Any, row: Any, seed: int, accuracy: float) -> dict[str, Any]:
    figures = {"validation_accuracy": 0.0, "test_accuracy": accuracy, "best_epoch": 1, "parameters": 10, "macs": 10}
    return {**paper.trial_of(row, seed), "figures": figures, "seconds": 1.0, "versions": {"torch": "2"}, "date": "2026"}


def test_the_page_is_made_of_the_committed_trials(paper: Any) -> None:
    import pages  # type: ignore[import-not-found]

    page = expected = paper.PAGE.read_text(encoding="utf-8")
    for name, lines in paper.sections(paper.read_trials()).items():
        expected = pages.replace_section(expected, name, lines)
    assert page == expected, "run `python benchmarks/paper.py --write`"


def test_every_committed_trial_belongs_to_a_row(paper: Any) -> None:
    rows = [row for rows in paper.SECTIONS.values() for row in rows]
    known = {paper.identify(paper.trial_of(row, seed)) for row in rows for seed in paper.SEEDS}
    assert len(known) == len(rows) * len(paper.SEEDS)
    assert paper.read_trials().keys() <= known


def test_rows_are_valid_settings(paper: Any) -> None:
    inputs, labels = np.zeros((20, 784), np.float32), np.arange(20) % 10
    mnist = Dataset("mnist", inputs, labels, inputs, labels, (0.0, 1.0), (28, 28))
    for row in [row for rows in paper.SECTIONS.values() for row in rows]:
        training, compression = requests_of(row.settings(1, {}))
        assert config_of(training, mnist).layer_sizes[-1] == 10 and training.seed == 1
        assert (compression is None) == (not row.compression)


def test_a_finished_trial_is_kept_and_not_repeated(paper: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "paper.json"
    monkeypatch.setattr(paper, "TRIALS", path)
    first, second, *_ = paper.SECTIONS["perceptrons"]
    paper.add_trial(trial(paper, first, 0, 91.0), path)
    paper.add_trial(trial(paper, second, 0, 95.0), path)
    assert len(json.loads(path.read_text())) == 2
    monkeypatch.setattr(
        paper, "read_trials", lambda: {paper.identify(each): each for each in json.loads(path.read_text())}
    )
    left = list(paper.missing(["perceptrons"], [0, 1]))
    assert (first, 0) not in left and (second, 0) not in left and left[-1][1] == 1 and (first, 1) in left


def test_the_table_compares_with_the_paper(paper: Any) -> None:
    first, second, *_ = paper.SECTIONS["perceptrons"]
    trials = {paper.identify(each): each for each in (trial(paper, first, seed, 92.27 + seed) for seed in (0, 1))}
    lines = paper.table(paper.measure((first, second), trials))
    assert [line.count("|") for line in lines[:4]] == [7] * 4
    assert "| 92.77 (92.27 to 93.27) | +0.60 | 2 of 3 |" in lines[2] and "not measured yet" in lines[3]
    assert paper.summarize(trials)[0].endswith("none.")
