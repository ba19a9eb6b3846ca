"""Reports on histories, and the command for records and histories."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sen_edge.report import benchmarks
from sen_edge.report.document import Table
from sen_edge.report.drawing import Chart
from sen_runtime.bench.history import History, append, read
from tests.conftest import Outcome
from tests.support import records as made
from tests.support.pages import Page, render_as

Run = Callable[..., Outcome]


def history_of(tmp_path: Path, *found: dict[str, Any]) -> History:
    for each in found:
        append(tmp_path / "history.jsonl", each)
    return read(tmp_path / "history.jsonl")


def small(day: int, **others: Any) -> dict[str, Any]:
    created = f"2026-11-{day:02d}T08:00:00Z"
    return {**made.record((42.0, 58.0), made.NAMES[:2], seed=day, rounds=60, created=created), **others}


def test_trend(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    moved = small(9)
    moved["device"]["kernel"] = "6.12 <b>"
    history = history_of(tmp_path, small(1), small(3, valid=False), moved)
    parts = benchmarks.history_parts(history)
    assert [part.caption for part in parts if isinstance(part, Chart)] == list(made.NAMES[:2])
    (table,) = (part for part in parts if isinstance(part, Table))
    assert table.rows == [["2026-11-09T08:00:00Z", "kernel: 6.6.31+rpt-rpi-v8 / 6.12 <b>"]]
    text = render_as("html", history)
    assert Page(text).tags.count("svg") == 2 and "6.12 &lt;b&gt;" in text
    assert [line.split()[-1] for line in render_as("text", history).splitlines()[2:]] == ["valid"] * 6
    assert render_as("text", history).count("not valid") == 2


def test_trend_of_little(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert "no record yet" in render_as("html", History(()))
    record = small(1)
    record["rows"][0]["turns_us"] = []  # no interval
    history = history_of(tmp_path, record)
    assert Page(render_as("html", history)).tags.count("svg") == 2
    lines = list(csv.DictReader(io.StringIO(render_as("csv", history))))
    assert [line["low_us"] == "" for line in lines] == [True, False]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    history_of(tmp_path, small(1), small(2))
    (tmp_path / "a.json").write_text(json.dumps(made.record()))
    hosts = [{**made.record(seed=seed), "command": ["sen-edge", "bench", f"--host=pi{seed}"]} for seed in (4, 5)]
    (tmp_path / "hosts.json").write_text(json.dumps(hosts))
    return tmp_path


@pytest.mark.parametrize(
    ("names", "output", "words"),
    [
        (["a.json"], None, ["digits.sen native 1", "ratio"]),
        (["a.json", "hosts.json"], "r.md", ["a.json", "pi4", "pi5"]),
        (["hosts.json", "history.jsonl"], "r.html", ["pi4", "pi5", "Median latency", "2026-11-02"]),
        (["hosts.json"], "r.csv", ["pi4", "pi5"]),
        (["history.jsonl"], "r.txt", ["2026-11-02"]),
        (["a.json"], "r.PNG", []),
    ],
)
def test_sources_and_formats(
    sen_edge: Run, files: Path, names: list[str], output: str | None, words: list[str]
) -> None:
    if output and output.endswith(("html", "PNG")):
        pytest.importorskip("matplotlib")
    out = [] if output is None else ["-o", files / output]
    outcome = sen_edge("report", *(files / name for name in names), *out)
    assert outcome.code == 0, outcome.err
    shown = outcome.out if output is None else (files / output).read_bytes().decode(errors="replace")
    for word in words:
        assert word in shown


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["absent.json"], 2, "absent.json"),
        (["a.json", "-o", "r.gif"], 2, ".txt"),
        (["a.json", "-o", "a.json", "--format", "text"], 1, "a.json"),
        (["list.json"], 2, "list.json"),
        (["cut.json"], 1, "cut.json"),
        (["cut.jsonl"], 1, "line 1"),
        (["empty.jsonl", "-o", "r.png"], 2, "record"),
    ],
)
def test_mistakes(
    sen_edge: Run, files: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(files)
    Path("list.json").write_text("[]")
    Path("cut.json").write_text("{")
    Path("cut.jsonl").write_text("{\n")
    Path("empty.jsonl").write_text("")
    before = sorted(files.iterdir())
    outcome = sen_edge("report", *arguments)
    assert outcome.code == code and message in outcome.err and sorted(files.iterdir()) == before


def test_without_matplotlib_a_page_names_the_pip_line(
    sen_edge: Run, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    outcome = sen_edge("report", files / "a.json", "-o", files / "r.html")
    text = (files / "r.html").read_text()
    assert outcome.code == 0 and "pip install 'sen-edge[plot]'" in outcome.err
    assert "pip install" in text and "<svg" not in text and "digits.sen native 1" in text
    outcome = sen_edge("report", files / "a.json", "-o", files / "r.svg")
    assert outcome.code == 4 and not (files / "r.svg").exists()
