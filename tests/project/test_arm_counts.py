"""Counts of docs/reference/arm.md: merged by board and size."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import arm_table as module  # type: ignore[import-not-found]

    yield module


def job(module: Any, size: str, form: str = "spiking, T = 10") -> Any:
    return module.Job(size, form, "noise", "native")


def test_a_job_is_read_as_written(table: Any) -> None:
    assert table.Job.parse(str(job(table, "64-48-10"))) == job(table, "64-48-10")


def test_merge_replaces_one_board_and_size(table: Any) -> None:
    small, large, gone = job(table, "64-48-10"), job(table, "4096-4096-10"), job(table, "64-48-10", "gone")
    before = table.Table({"pi4": "12", "pi5": "12"}, {"pi4": {large: 9, small: 8, gone: 7}, "pi5": {small: 6}})
    after = before.merge("pi4", "12", "64-48-10", {small: 5})
    assert after.counts == {"pi4": {small: 5, large: 9}, "pi5": {small: 6}}


def test_merge_drops_counts_of_another_compiler(table: Any) -> None:
    small, large = job(table, "64-48-10"), job(table, "4096-4096-10")
    before = table.Table({"pi4": "12", "pi5": "12"}, {"pi4": {large: 9}, "pi5": {large: 9}})
    after = before.merge("pi4", "13", "64-48-10", {small: 5})
    assert (after.counts, after.compilers["pi4"]) == ({"pi4": {small: 5}, "pi5": {large: 9}}, "13")


def test_the_file_has_every_board_and_the_shipped_networks(table: Any) -> None:
    stored = table.Table.read()
    for board in table.BOARDS:
        forms = {each.form for each in stored.counts[board] if each.size == table.SHIPPED}
        assert forms == set(table.GOALS)
        assert any(each.size == "64-48-10" for each in stored.counts[board])
