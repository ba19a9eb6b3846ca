"""Rows, data and tables of docs/results/space-time.md."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sen_edge.data.datasets import Dataset
from sen_edge.training.delayed import DelayedTrainRequest, config_of

ROOT = Path(__file__).parents[2]
HOW_TO = (ROOT / "docs/how-to/train-with-delays.md").read_text(encoding="utf-8")


@pytest.fixture
def space_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import space_time as module  # type: ignore[import-not-found]

    yield module


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the data."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import space_time_data as module  # type: ignore[import-not-found]

    yield module


def trial(space_time: Any, section: str, row: Any, seed: int, accuracy: float) -> dict[str, Any]:
    figures = {
        "parameters": 1234,
        "test_accuracy": accuracy,
        "image_accuracy": accuracy - 0.25,
        "bytes": 2000,
        "spikes": 3.0,
        "instructions": 4000,
    }
    facts = {"figures": figures, "seconds": 1.0, "versions": {"torch": "2"}, "date": "2026"}
    return {**space_time.TRIALS.settings(section, row, seed), **facts}


def test_rows_are_valid_settings(space_time: Any) -> None:
    x, labels = np.zeros((6, 30, 4), np.float32), np.arange(6) % 3
    x[0, 0, 0] = 1
    dataset = Dataset("toy", x, labels, x, labels, (0.0, 1.0))
    for row in [row for rows in space_time.SECTIONS.values() for row in rows]:
        request = DelayedTrainRequest(**row.training, seed=1)
        assert config_of(request, dataset).layer_sizes == (4, *request.hidden, 3)


def test_the_table_states_means_and_the_summary_what_is_missing(space_time: Any) -> None:
    from trials import identify  # type: ignore[import-not-found]

    first, second, *_ = space_time.SECTIONS["yin-yang"]
    made = [trial(space_time, "yin-yang", first, seed, 92.0 + seed) for seed in (0, 1)]
    trials = {identify(each): each for each in made}
    lines = space_time.table("yin-yang", trials)
    assert len({line.count("|") for line in lines[:-2]}) == 1
    assert "| 1,234 | 92.50 (92.00 to 93.00) | 2,000 | 3.0 | 4,000 | 2 of 3 |" in lines[2]
    assert "not measured yet" in lines[3]
    summary = space_time.summarize(trials)
    assert f"{second.name} (yin-yang)" in summary[0] and f"{first.name} (yin-yang)" not in summary[0]
    assert "0.25 points" in summary[-1]


def test_points_have_the_classes_of_the_definition(data: Any) -> None:
    assert [data.class_of(*point) for point in ((0.25, 0.5), (0.75, 0.5), (0.02, 0.02))] == [2, 2, None]
    assert [data.class_of(*point) for point in ((0.5, 0.9), (0.5, 0.1), (0.25, 0.35), (0.75, 0.65))] == [1, 0, 1, 0]
    points, labels = data._points(np.random.default_rng(0), 60)
    assert [data.class_of(*point) for point in points] == labels.tolist() and set(labels) == {0, 1, 2}
    spikes = data._spike_times(np.array([[0.0, 1.0], [0.25, 0.5]]))
    assert spikes.shape == (2, data.YIN_YANG_T, 4) and (spikes.sum(axis=1) == 1).all()
    assert spikes[0].argmax(axis=0).tolist() == [0, 39, 39, 0]


def test_levels_spike_up_and_down(data: Any) -> None:
    values = np.array([[0.0], [1.3], [1.3], [4.0], [4.0], [0.0]])
    spikes = data.level_crossings(values)
    assert spikes[:, 0].tolist() == [0, 1, 0, 1, 1, 0] and spikes[:, 1].tolist() == [0, 0, 0, 0, 0, 1]


def test_a_tone_is_in_its_band(data: Any) -> None:
    seconds = np.arange(data.FRAME + data.HOP * data.DIGITS_T) / data.RATE
    bands = data.log_bands((1000 * np.sin(2 * np.pi * 1000 * seconds)).astype(np.int16))
    centres = np.geomspace(*data.LIMITS, data.BANDS + 2)[1:-1]
    assert bands.shape == (data.DIGITS_T, data.BANDS)
    assert abs(centres[bands[10].argmax()] / 1000 - 1) < 0.1


def test_words_are_moved_as_a_whole(data: Any) -> None:
    x = torch.zeros(200, data.DIGITS_T, 2 * data.BANDS)
    x[:, 30, 20] = x[:, 33, data.BANDS + 22] = 1
    moved = data.augment_words(x, torch.Generator().manual_seed(0))
    assert moved.shape == x.shape and 0.8 < float(moved.sum() / x.sum()) < 1
    whole = moved[moved.sum((1, 2)) == 2]
    n, t, channel = whole.nonzero().T
    first, second = channel[0::2], channel[1::2]
    assert len(n) == 2 * len(whole) and (t[1::2] - t[0::2] == 3).all() and (second - first == data.BANDS + 2).all()
    assert t[0::2].unique().tolist() == list(range(28, 33)) and first.unique().tolist() == [19, 20, 21]


def test_the_program_of_the_how_to_runs(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", HOW_TO, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.partition(" %")[0]) > 60 and (tmp_path / "intervals.sen").exists()
