"""Rows and tables of docs/results/paper.md."""

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
    facts = {"figures": figures, "seconds": 1.0, "versions": {"torch": "2"}, "date": "2026"}
    return {**paper.TRIALS.settings("perceptrons", row, seed), **facts}


def test_rows_are_valid_settings(paper: Any) -> None:
    inputs, labels = np.zeros((20, 784), np.float32), np.arange(20) % 10
    mnist = Dataset("mnist", inputs, labels, inputs, labels, (0.0, 1.0), (28, 28))
    for row in [row for rows in paper.SECTIONS.values() for row in rows]:
        training, compression = requests_of(row.settings(1, {}))
        assert config_of(training, mnist).layer_sizes[-1] == 10 and training.seed == 1
        assert (compression is None) == (not row.compression)


def test_the_table_compares_with_the_paper(paper: Any) -> None:
    from trials import identify  # type: ignore[import-not-found]

    first, second, *_ = paper.SECTIONS["perceptrons"]
    made = [trial(paper, first, seed, 92.27 + seed) for seed in (0, 1)]
    trials = {identify(each): each for each in made}
    lines = paper.table(paper.measure((first, second), trials))
    assert [line.count("|") for line in lines[:4]] == [7] * 4
    assert "| 92.77 (92.27 to 93.27) | +0.60 | 2 of 3 |" in lines[2] and "not measured yet" in lines[3]
    assert paper.summarize(trials)[0].endswith("none.")
