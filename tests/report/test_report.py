"""`sen-edge report`: page of a folder, and unexpected files."""

import json
import os
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sen_edge.report.contents import read
from tests.conftest import Outcome
from tests.support import records

Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record, and what no report is about."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "bench.json").write_text(json.dumps(records.record()))
    (folder / "notes.txt").write_text("by hand")
    (folder / "other.json").write_text("[1, 2]")
    return folder


@pytest.fixture
def run_dir(sen_edge: Run, mlp_path: Path, parts: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    shutil.copytree(parts, folder)
    shutil.copy(mlp_path, folder / "net.pt")
    assert sen_edge("export", mlp_path, "--to", "onnx,sen", "-o", folder, "--name", "net").code == 0
    small = folder / "small.sen"
    assert sen_edge("compress", mlp_path, "--sparsity", 0.5, "--criterion", "magnitude", "-o", small).code == 0
    return folder


class Page(HTMLParser):
    """Ids, headings of tables, and whatever would need a network."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.outside: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(str(value))
            if name in ("src", "href") and not str(value).startswith(("#", "data:")):
                self.outside.append(str(value))


def test_everything_in_a_folder_is_on_the_page(sen_edge: Run, run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    outcome = sen_edge("report", run_dir, "-o", out)
    assert (outcome.code, outcome.out) == (0, f"{out}\n"), outcome.err
    text = out.read_text()
    page = Page(text)
    assert not page.outside and "script" not in page.tags and len(text) < 5_000_000
    assert len(page.ids) == len(set(page.ids))
    assert {"models", "compression", "exports-and-their-verification", "benchmarks", "files"} <= set(page.ids)
    for words in ("net.pt", "net.onnx", "✓ agrees", "small.manifest.json", "digits.onnx onnxruntime 1", "notes.txt"):
        assert words in text
    assert text.count('role="img"') >= 2  # the network, and the charts of the benchmark
    assert page.tags.count("caption") == page.tags.count("table")


def test_an_export_is_named_by_the_file_that_engines_load(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    assert sen_edge("export", mlp_path, "--to", "c", "-o", tmp_path / "run", "--name", "net").code == 0
    text = sen_edge("report", tmp_path / "run").out
    table = text[text.index("Exported files") :]
    assert "net/net.c" in table and "CMakeLists.txt" not in table


def test_folder_files_are_identified_by_content(run_dir: Path) -> None:
    found = read([run_dir])
    assert {item.name: item.kind for item in found.items if item.kind != "other"} == {
        "net.pt": "model", "net.sen": "model", "small.sen": "model", "net.manifest.json": "export",
        "small.manifest.json": "compression", "bench.json": "record",
    }  # fmt: skip
    assert {item.name for item in found.of("other")} == {"net.onnx", "notes.txt", "other.json"} and not found.notes


def test_what_is_damaged_is_named_and_the_rest_is_reported(sen_edge: Run, run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "broken.json").write_text("{")
    (run_dir / "broken.pt").write_bytes(b"nothing")
    (run_dir / "bench.json").write_text(json.dumps({**records.record(), "rows": "none"}))
    outcome = sen_edge("report", run_dir, "-o", tmp_path / "page.html")
    assert outcome.code == 0 and "broken.json" in outcome.err and "bench.json" in outcome.err
    text = (tmp_path / "page.html").read_text()
    assert "broken.pt" in text and "not a torch file" in text and 'id="benchmarks"' not in text


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["artifacts"][0].pop("files"),
        lambda manifest: manifest["artifacts"][0].update(files={}),
        lambda manifest: manifest["artifacts"][0]["verification"].append(None),
        lambda manifest: manifest["artifacts"].append(3),
        lambda manifest: manifest.update(input="net.pt"),
    ],
)
def test_a_manifest_that_was_changed_is_left_out(
    change: Callable[[dict[str, Any]], object], sen_edge: Run, run_dir: Path, tmp_path: Path
) -> None:
    manifest = json.loads((run_dir / "net.manifest.json").read_text())
    change(manifest)
    (run_dir / "net.manifest.json").write_text(json.dumps(manifest))
    outcome = sen_edge("report", run_dir, "-o", tmp_path / "page.html")
    assert outcome.code == 0 and "net.manifest.json" in outcome.err
    text = (tmp_path / "page.html").read_text()
    assert "is damaged, and left out" in text and 'id="models"' in text and 'id="benchmarks"' in text


def test_page_size_is_limited(sen_edge: Run, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sen_edge.report.document.MAX_BYTES", 400_000)
    (run_dir / "large.manifest.json").write_text(
        json.dumps({"manifest_version": 3, "input": {"file": "x"}, "artifacts": [], "more": "x" * 500_000})
    )
    outcome = sen_edge("report", run_dir, "-o", tmp_path / "page.html")
    assert outcome.code == 0 and "large.manifest.json" in outcome.err
    assert (tmp_path / "page.html").stat().st_size < 420_000


def test_name_that_is_not_text(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(mlp_path, os.fsdecode(os.fsencode(folder) + b"/net\xff.pt"))
    outcome = sen_edge("report", folder, "-o", tmp_path / "page.html")
    assert outcome.code == 0, outcome.err
    assert "net?.pt" in (tmp_path / "page.html").read_text()


def test_hostile_names_are_escaped(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(mlp_path, folder / "<script>alert(1)<&'\".pt")
    assert sen_edge("report", folder, "-o", tmp_path / "page.html").code == 0
    assert "<script" not in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("make", "output", "code", "message"),
    [
        pytest.param(None, "page.html", 2, "run", id="no folder"),
        pytest.param("file", "page.html", 2, "run", id="a file"),
        pytest.param("empty", "page.html", 2, "run", id="empty"),
        pytest.param("full", "page.gif", 2, "'.gif'", id="ending"),
        pytest.param("full", "there.html", 1, "there.html", id="exists"),
    ],
)
def test_what_cannot_be_reported(
    sen_edge: Run, parts: Path, tmp_path: Path, make: str | None, output: str, code: int, message: str
) -> None:
    folder = tmp_path / "run"
    if make == "file":
        folder.write_text("")
    elif make == "empty":
        folder.mkdir()
    elif make == "full":
        shutil.copytree(parts, folder)
    (tmp_path / "there.html").write_text("mine")
    outcome = sen_edge("report", folder, "-o", tmp_path / output)
    assert outcome.code == code and message in outcome.err
    assert (tmp_path / "there.html").read_text() == "mine" and not (tmp_path / "page.html").exists()
