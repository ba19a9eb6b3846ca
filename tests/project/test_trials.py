"""Trials of results pages: known rows, a file that can be resumed, and the page from the file."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["paper", "space_time"])
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each script with trials."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module(request.param)


def test_the_page_is_made_of_the_committed_trials(script: Any) -> None:
    import pages  # type: ignore[import-not-found]

    page = expected = script.PAGE.read_text(encoding="utf-8")
    for name, lines in script.sections(script.TRIALS.read()).items():
        expected = pages.replace_section(expected, name, lines)
    assert page == expected, f"run `python benchmarks/{script.__name__}.py --write`"


def test_every_committed_trial_belongs_to_a_row(script: Any) -> None:
    from trials import SEEDS, identify  # type: ignore[import-not-found]

    pairs = [(section, row) for section, rows in script.SECTIONS.items() for row in rows]
    known = {identify(script.TRIALS.settings(*pair, seed)) for pair in pairs for seed in SEEDS}
    assert len(known) == len(pairs) * len(SEEDS)
    assert script.TRIALS.read().keys() <= known


def test_a_finished_trial_is_kept_and_not_repeated(script: Any, tmp_path: Path) -> None:
    trials = replace(script.TRIALS, path=tmp_path / "trials.json")
    section, (first, second, *_) = next(iter(script.SECTIONS.items()))
    for row in (first, second):
        trials.add(trials.settings(section, row, 0), {"test_accuracy": 91.0}, 1.0)
    assert len(json.loads(trials.path.read_text())) == 2
    left = list(trials.missing([section], [0, 1]))
    assert (section, first, 0) not in left and (section, first, 1) in left and left[-1][2] == 1
    assert [each["seed"] for each in trials.finished(section, second, trials.read())] == [0]
