"""The gate of docs/reference/instructions.md."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SHAPE, FORM = "784-512-10, digits", "rank 32, int8"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import instructions as module  # type: ignore[import-not-found]

    return module


def changed(gate: Any, factor: float, *keys: str) -> dict[str, Any]:
    """The committed table with one number multiplied."""
    content = copy.deepcopy(json.loads(gate.TABLE.read_text()))
    row = content["measured"][SHAPE][FORM]
    for key in keys[:-1]:
        row = row[key]
    row[keys[-1]] = round(row[keys[-1]] * factor)
    return content


@pytest.mark.parametrize("keys", [("instructions", "M4"), ("code_bytes", "M0"), ("arena_bytes",)])
def test_an_increase_of_more_than_three_percent_is_found(gate: Any, keys: tuple[str, ...]) -> None:
    assert len(gate.increases(changed(gate, 1.04, *keys))) == 1
    assert gate.increases(changed(gate, 1.02, *keys)) == []


def test_a_form_that_the_file_lacks_is_found(gate: Any) -> None:
    content = json.loads(gate.TABLE.read_text())
    content["measured"][SHAPE]["another"] = content["measured"][SHAPE][FORM]
    assert gate.increases(content)


def test_another_compiler_is_not_compared(gate: Any) -> None:
    content = changed(gate, 2.0, "instructions", "M4")
    content["compilers"] = dict.fromkeys(content["compilers"], "13.1.0")
    assert gate.increases(content) == []


def test_a_goal_that_the_file_meets_must_be_met(gate: Any) -> None:
    assert gate.missed_now(changed(gate, 1.0, "instructions", "M55")) == []
    assert len(gate.missed_now(changed(gate, 1.1, "instructions", "M55"))) == 1  # 14.1 of 15 thousand
