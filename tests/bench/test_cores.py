"""Cores: which are big, pinning, and their names."""

import os
from pathlib import Path

import pytest

from sen_runtime.bench import cores
from sen_runtime.bench.cores import Core
from sen_runtime.errors import UsageError

#: An RK3588 in a container that may not use core 1: four small cores, and two pairs of big ones.
CAPACITIES = {0: 414, 1: 414, 2: 414, 3: 414, 4: 1024, 5: 1024, 6: 1024, 7: 1024}
CLOCKS = {0: 1800000, 1: 1800000, 2: 1800000, 3: 1800000, 4: 2400000, 5: 2400000, 6: 2352000, 7: 2352000}


def machine(root: Path, capacities: dict[int, int], clocks: dict[int, int]) -> Path:
    for name, values in (("cpu_capacity", capacities), ("cpufreq/cpuinfo_max_freq", clocks)):
        for core, value in values.items():
            path = root / f"sys/devices/system/cpu/cpu{core}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n")
    return root


@pytest.fixture(autouse=True)
def usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 3, 4, 5, 6, 7}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: None, raising=False)


def test_big_cores_come_first(tmp_path: Path) -> None:
    root = machine(tmp_path, CAPACITIES, CLOCKS)
    found = cores.describe(root)
    assert [core.core for core in found] == [4, 5, 6, 7, 0, 2, 3]
    assert (found[0], found[-1]) == (Core(4, 1024, 2400.0), Core(3, 414, 1800.0))
    assert cores.listing(found) == (
        "4-5 (capacity 1024, 2400 MHz), 6-7 (capacity 1024, 2352 MHz), 0, 2-3 (capacity 414, 1800 MHz)"
    )
    assert cores.resolve(cores.BIG, root) == (4, 5, 6, 7)


@pytest.mark.parametrize(("clocks", "big"), [(CLOCKS, (4, 5)), ({}, (0, 2, 3, 4, 5, 6, 7))])
def test_without_capacities_clocks_decide_else_all_are_equal(
    tmp_path: Path, clocks: dict[int, int], big: tuple[int, ...]
) -> None:
    assert cores.resolve(cores.BIG, machine(tmp_path, {}, clocks)) == big


def test_files_of_other_content_are_unknown(tmp_path: Path) -> None:
    root = machine(tmp_path, {0: 414, 2: -1}, {0: 10**20})
    (root / "sys/devices/system/cpu/cpu3").mkdir()
    (root / "sys/devices/system/cpu/cpu3/cpu_capacity").write_bytes(b"\xff")
    assert cores.describe(root)[:3] == [Core(0, 414, None), Core(2, None, None), Core(3, None, None)]
    assert "unavailable" in cores.listing(cores.describe(root))


def test_cores_are_chosen_once_and_must_be_allowed() -> None:
    assert cores.resolve((3, 2, 3)) == (2, 3)
    assert cores.resolve(None) is None
    with pytest.raises(UsageError, match=r"--cpu 1: .* 0, 2-7$"):
        cores.resolve((0, 1))


def test_a_system_that_does_not_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delattr(os, "sched_setaffinity")
    assert cores.describe() == [] and cores.listing([]) == ""
    for asked in ((0,), cores.BIG):
        with pytest.raises(UsageError, match=r"--cpu|core"):
            cores.resolve(asked)


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([0, 1, 2, 3, 6], "0-3, 6"), ([0, 2, 4, 5], "0, 2, 4-5")]
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert cores.ranges(numbers) == text


@pytest.mark.parametrize(("cpus", "word"), [((2, 3), "2,3"), ((4,), "4"), ("big", "big")])
def test_words(cpus: cores.Cpus, word: str) -> None:
    assert cpus is not None and cores.words(cpus) == word
