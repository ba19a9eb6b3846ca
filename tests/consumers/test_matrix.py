"""The harness itself, with a tool of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.consumers import cases, matrix, table
from tests.consumers.forms import FORMS, INT8_LIMIT, inputs
from tests.consumers.matrix import Cell
from tests.consumers.tools import HERE, TOOLS, Tool

TOOL = Tool("fake", "onnx", "fake", "", "numpy")
ADAPTER = """
import os, sys, time
from pathlib import Path
import numpy as np
from adapters.protocol import Note, serve

def load(job):
    what = Path(job["model"]).stem
    if what == "abort":
        os.abort()
    if what == "hang":
        time.sleep(600)
    if what == "exit":
        sys.exit("gone")
    if what == "refuse":
        print("Operator Foo is not supported by this tool")
        raise ValueError("cannot load")
    if what == "accept":
        raise Note("fine")
    factor = {"right": 1, "wrong": 1.1, "nan": np.nan}[what]
    return lambda arrays: [factor * arrays[0][:, :10]]

serve(load)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Cell]]:
    """Run files of these names in a tool that does what a name says: it gives the first ten inputs, or does not."""
    shutil.copytree(HERE / "adapters", tmp_path / "adapters")
    (tmp_path / "adapters" / "fake.py").write_text(ADAPTER)
    monkeypatch.setattr(matrix, "HERE", tmp_path)
    built = cases.build(FORMS[0], tmp_path, None)

    def run(*names: str) -> list[Cell]:
        files = [replace(built, path=tmp_path / f"{name}.onnx", expected=inputs()[:, :10]) for name in names]
        for file in files:
            shutil.copy(built.path, file.path)
        return matrix.run(TOOL, files, tmp_path)

    return run


def test_each_answer_is_a_cell_and_a_crash_ends_only_its_own(run: Callable[..., list[Cell]]) -> None:
    cells = run("right", "wrong", "abort", "nan", "refuse", "exit", "accept", "abort", "right")
    assert [cell.status for cell in cells] == [
        *("yes", "wrong", "crash", "wrong", "refused", "refused", "yes", "crash", "yes")
    ]
    assert cells[0].error == 0
    assert "Foo" in cells[4].text
    assert cells[6] == Cell("yes", text="fine")


def test_a_hanging_tool_is_a_crash(run: Callable[..., list[Cell]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "LIMIT_S", 0.1)
    assert run("hang", "hang") == [Cell("crash"), Cell("crash")]


@pytest.mark.parametrize(
    ("cell", "n_different"),
    [
        (Cell("yes", 2e-6), 0),
        (Cell("yes", 9e-6), 0),  # another processor
        (Cell("yes", 2e-5), 1),
        (Cell("refused", text="no"), 1),
        (Cell("wrong", 1.0), 1),
        (Cell("crash"), 1),
    ],
)
def test_a_worse_cell_is_a_difference(cell: Cell, n_different: int) -> None:
    tool, form = TOOLS[0], FORMS[0]
    cells = {form.name: {tool.name: table.cell(form, Cell("yes", 2e-6))}}
    assert len(list(table.differences(tool, {form.name: cell}, {tool.target: {"cells": cells}}))) == n_different


@pytest.mark.parametrize("before", [Cell("refused", text="no"), Cell("wrong", 1.0), Cell("crash")])
def test_a_better_cell_is_a_difference(before: Cell) -> None:
    tool, form = TOOLS[0], FORMS[0]
    cells = {form.name: {tool.name: table.cell(form, before)}}
    assert list(table.differences(tool, {form.name: Cell("yes", 0.0)}, {tool.target: {"cells": cells}}))


def test_bounds_of_int8_are_those_of_any_processor() -> None:
    form = next(form for form in FORMS if form.limit == INT8_LIMIT)
    assert table.cell(form, Cell("yes", 0.0))["bound"] == INT8_LIMIT


@pytest.mark.parametrize("content", [b"", b"\x10\0\0\0TFL3" + bytes(64)])
def test_flatbuffers_finds_damage(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = next(tool for tool in TOOLS if tool.name == "FlatBuffers")
    built = cases.build(next(form for form in FORMS if form.target == "tflite"), tmp_path, None)
    genuine = cases.tensors(built.path)
    monkeypatch.setattr(cases, "tensors", lambda _: genuine)  # does not read the damaged file
    built.path.write_bytes(content or built.path.read_bytes()[:1000])
    assert [cell.status for cell in matrix.run(tool, [built], tmp_path)] == ["refused"]
