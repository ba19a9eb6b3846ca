"""Studies of docs/results/claims.md: valid sweeps, and the page from their results."""

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sen_edge.data.datasets import Dataset
from sen_edge.sweep.file import read_sweep
from sen_edge.sweep.journal import open_journal
from sen_edge.sweep.results import rows, write_results
from sen_edge.sweep.search import Point, Search
from sen_runtime.task import ACCURACY

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "benchmarks/claims").glob("*.toml"))


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The script, with trials that were made up: each accuracy follows from the trial's name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import claims as module  # type: ignore[import-not-found]

    monkeypatch.setattr(module, "run", lambda *_: None)
    monkeypatch.setattr(module, "OUT", tmp_path)
    for path in STUDIES:
        made_up(tmp_path / path.stem, points(path))
    yield module


def points(path: Path) -> list[Point]:
    inputs, labels = np.zeros((20, 784), np.float32), np.arange(20) % 10
    mnist = Dataset("mnist", inputs, labels, inputs, labels, (0.0, 1.0), (28, 28))
    return Search(read_sweep(path), mnist, str(path)).advance({})


def made_up(folder: Path, found: list[Point]) -> None:
    """A finished sweep."""
    with open_journal(folder) as journal:
        for name, settings in [item for point in found for item in point.trials.items()]:
            free = settings["training"]["weights"] == "free"
            figures = {
                **dict.fromkeys(("validation_accuracy", "test_accuracy"), 90 + int(name[:2], 16) / 32),
                "parameters": 407_050 if free else 42_306,
                "macs": 1000,
                "learning_rate": 0.1,
            }
            versions = {"sen_edge": "1", "torch": "2", "seconds": 3600.0}
            record = {"id": name, "settings": settings, "figures": figures, "error": None, **versions}
            journal.add(record, {}, {})
        records = {name: trial.user_attrs for name, trial in journal.trials.items()}
    write_results(folder, rows(found, records, ACCURACY), None)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_is_a_sweep_over_three_seeds(path: Path) -> None:
    assert read_sweep(path).seeds == (0, 1, 2)
    assert all(len(point.trials) == 3 for point in points(path))


@pytest.mark.parametrize("name", ["perceptrons", "spiking", "dimensions", "three-dimensions", "pruning"])
def test_a_section_is_made_of_its_studies(name: str, claims: Any) -> None:
    section = claims.SECTIONS[name]()
    assert (
        section.lines[0].startswith("`sen-edge sweep benchmarks/claims/") and "sen-edge 1, torch 2" in section.lines[0]
    )
    tables = [list(rows) for is_row, rows in groupby(section.lines, lambda line: line.startswith("|")) if is_row]
    assert tables and all(len(rows) > 3 and len({line.count("|") for line in rows}) == 1 for rows in tables)
    assert all(figure.startswith(b"<?xml") for figure in section.figures.values())


def test_every_study_is_on_the_page(claims: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Callable[[str], Any] = claims.run_study
    asked = []
    monkeypatch.setattr(claims, "run_study", lambda study: asked.append(study) or read(study))
    for name in set(claims.SECTIONS) - {"size-and-speed"}:
        claims.SECTIONS[name]()
    assert sorted(asked) == sorted(path.stem for path in STUDIES)


def test_sections_have_a_place_on_the_page(claims: Any) -> None:
    import pages  # type: ignore[import-not-found]

    page = (ROOT / "docs/results/claims.md").read_text(encoding="utf-8")
    for name in claims.SECTIONS:
        assert "\nmade up\n" in pages.replace_section(page, name, ["made up"])
    with pytest.raises(SystemExit, match="nothing"):
        pages.replace_section(page, "nothing", [])


def test_the_front_is_what_nothing_beats(claims: Any) -> None:
    import claims_figures as figures  # type: ignore[import-not-found]

    slow, fast = figures.Dot("slow", "native", 9, 98.0, 100), figures.Dot("fast", "native", 1, 98.0, 100)
    small, good = figures.Dot("small", "native", 2, 97.0, 10), figures.Dot("good", "native", 8, 98.5, 900)
    dots = [slow, fast, small, good]
    assert figures.front(dots) == [fast, small, good]
    assert figures.pareto(dots) == figures.pareto(dots)


def test_dots_at_one_place_share_a_label(claims: Any) -> None:
    import claims_figures as figures

    dense, half = figures.Dot("dense", "native", 3.0, 98.79, 1600), figures.Dot("half", "native", 3.1, 98.8, 800)
    slow, worse = figures.Dot("slow", "native", 9.0, 98.79, 100), figures.Dot("worse", "native", 3.0, 98.5, 100)
    assert figures.group_labels([dense, half, slow, worse]) == [[dense, half], [slow], [worse]]
