"""Exported files in third-party tools, as recorded."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.consumers import table
from tests.consumers.matrix import Cell, run_all
from tests.consumers.tools import TOOLS, Tool

Results = Mapping[Tool, Mapping[str, Cell]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    absent = sorted({str(tool.folder) for tool in TOOLS if not tool.folder.exists()})
    if absent:
        pytest.skip(f"not installed, make test-consumers does: {', '.join(absent)}")
    return run_all(tmp_path_factory.mktemp("files"))


@pytest.mark.consumers
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: f"{tool.name}-{tool.target}")
def test_files_run_in_the_tool_as_recorded(tool: Tool, results: Results) -> None:
    changed = list(table.differences(tool, results[tool], table.load()))
    assert not changed, "a better cell fails too: `make consumers` records it"


@pytest.mark.consumers
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: f"{tool.name}-{tool.target}")
def test_the_tool_has_the_recorded_version(tool: Tool, results: Results) -> None:
    assert tool.version == table.load()[tool.target]["versions"][tool.name]


def test_the_page_is_that_of_the_record() -> None:
    assert table.PAGE.read_text(encoding="utf-8") == table.page(table.load())
