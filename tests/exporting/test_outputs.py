"""Files that `export --force` replaces, and files that it keeps."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sen_edge.errors import OutputError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.overwrite import write_outputs
from tests.conftest import MLP, Outcome, make_checkpoint

Run = Callable[..., Outcome]
#: An export to a folder, and one that left its weights out.
NEW = {"net/net.c": b"new", "net/zephyr/Kconfig": b"new", "net.json": b"new"}
OLD = {**dict.fromkeys(NEW, b"old"), "net/net_weights.bin": b"old", "net/net_weights.S": b"old"}


def everything(folder: Path) -> dict[str, bytes | str]:
    """Name -> content of all that lies below a folder, or where it leads if it is a link."""
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in paths
    }


def test_what_an_export_wrote_is_replaced(tmp_path: Path) -> None:
    write_outputs(tmp_path, OLD, force=False)
    (tmp_path / "net/empty").mkdir()
    write_outputs(tmp_path, NEW, force=True)
    assert everything(tmp_path) == NEW


@pytest.mark.parametrize(
    "name",
    ["net_notes.txt", "net_board/main.c", "zephyr/net_weights.bin", "zephyr/net_weights.S", "net.c.orig", ".git"],
)
def test_a_file_of_the_user_is_kept(name: str, tmp_path: Path) -> None:
    write_outputs(tmp_path, OLD, force=False)
    file = tmp_path / "net" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"mine")
    with pytest.raises(OutputError, match=name):
        write_outputs(tmp_path, NEW, force=True)
    assert everything(tmp_path) == {**OLD, f"net/{name}": b"mine"}


@pytest.mark.parametrize(
    ("name", "target"), [("data", "../mine"), ("net_weights.bin", "../mine/x"), ("gone", "nowhere")]
)
def test_a_link_of_the_user_is_kept(name: str, target: str, tmp_path: Path) -> None:
    write_outputs(tmp_path, {**NEW, "mine/x": b"mine"}, force=False)
    (tmp_path / "net" / name).symlink_to(target)
    before = everything(tmp_path)
    with pytest.raises(OutputError, match=name):
        write_outputs(tmp_path, NEW, force=True)
    assert everything(tmp_path) == before


def test_what_is_neither_file_nor_folder_is_kept(tmp_path: Path) -> None:
    write_outputs(tmp_path, OLD, force=False)
    (tmp_path / "net/net_weights.S").unlink()
    os.mkfifo(tmp_path / "net/net_weights.S")
    with pytest.raises(OutputError, match=r"net_weights\.S"):
        write_outputs(tmp_path, NEW, force=True)


@pytest.mark.parametrize("target", ["mine", "nowhere"])
def test_a_link_in_the_place_of_the_folder_is_kept(target: str, tmp_path: Path) -> None:
    write_outputs(tmp_path, {"mine/net.c": b"mine", "net.json": b"old"}, force=False)
    (tmp_path / "net").symlink_to(target)
    before = everything(tmp_path)
    with pytest.raises(OutputError, match=rf"net\b.*{target}"):
        write_outputs(tmp_path, NEW, force=True)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("in_the_way", ["folder", "file"])
def test_path_of_another_kind_is_an_early_error(
    in_the_way: str, sen_edge: Run, mlp_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_outputs(
        out, {"mlp" if in_the_way == "file" else "mlp.sen/x": b"mine", "mlp.manifest.json": b"old"}, force=False
    )
    before = everything(out)
    monkeypatch.setattr("sen_edge.exporting.pipeline._export_one", lambda *_: pytest.fail("it exports before it looks"))
    outcome = sen_edge("export", mlp_path, "--to", "sen,c", "-o", out, "--force")
    expected = "mlp" if in_the_way == "file" else "mlp.sen"
    assert outcome.code == 1 and expected in outcome.err
    assert everything(out) == before


@pytest.mark.parametrize("compression", [("--sparsity", "0.5"), ("--rank", "3"), ("--max-accuracy-drop", "1")])
def test_existing_default_output_is_refused_before_compression(
    compression: tuple[str, ...], sen_edge: Run, mlp_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlp.tflite").write_bytes(b"mine")
    monkeypatch.setattr("sen_edge.exporting.pipeline.compress", lambda *_, **__: pytest.fail("it compresses first"))
    outcome = sen_edge("export", mlp_path, *compression, "--data", "digits", "-o", tmp_path)
    assert outcome.code == 1 and "mlp.tflite exists" in outcome.err and "--force" in outcome.err
    assert (tmp_path / "mlp.tflite").read_bytes() == b"mine"


def test_manifest_without_compression_is_refused_before_compression(
    sen_edge: Run, mlp_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert sen_edge("export", mlp_path, "--to", "sen", "-o", out).code == 0
    before = everything(out)
    monkeypatch.setattr("sen_edge.exporting.pipeline.compress", lambda *_, **__: pytest.fail("it compresses first"))
    outcome = sen_edge("export", mlp_path, "--to", "onnx", "--rank", "3", "-o", out)
    assert outcome.code == 1 and "mlp.manifest.json" in outcome.err and "compression" in outcome.err
    assert everything(out) == before


def test_path_of_another_kind_writes_nothing(tmp_path: Path) -> None:
    write_outputs(tmp_path, {"a.onnx": b"old", "net": b"mine"}, force=False)
    with pytest.raises(OutputError, match="folder"):
        write_outputs(tmp_path, {"a.onnx": b"new", **NEW}, force=True)
    assert everything(tmp_path) == {"a.onnx": b"old", "net": b"mine"}


@pytest.mark.parametrize("failing", [{3}, {3, 4}])
def test_a_failure_half_way_is_undone_or_admitted(
    failing: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_outputs(tmp_path, NEW, force=False)
    genuine, calls = os.replace, []

    def replace(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) in failing:
            raise OSError(5, "Input/output error")
        genuine(source, target)

    files = {"a": b"new", **dict.fromkeys(NEW, b"newer")}
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OutputError, match="Input/output error") as raised:
        write_outputs(tmp_path, files, force=True)
    assert ("nothing was written" in raised.value.hint) == (failing == {3})
    if failing == {3}:  # the folder is in place by then
        assert everything(tmp_path) == NEW
    else:
        kept = next(path for path in tmp_path.iterdir() if path.name.endswith(".old.tmp"))
        assert str(kept) in raised.value.message and everything(kept) == {"net.c": b"new", "zephyr/Kconfig": b"new"}


# --- a second target -----------------------------------------------------------------------------


def manifest_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "mlp.manifest.json").read_text())
    return found


def described(out: Path) -> list[str]:
    return [artifact["target"] for artifact in manifest_of(out)["artifacts"]]


def test_a_second_target_extends_the_manifest(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    out, both = tmp_path / "out", tmp_path / "both"
    assert sen_edge("export", mlp_path, "--to", "sen", "-o", out).code == 0
    before = (out / "mlp.sen").read_bytes()
    second = sen_edge("export", mlp_path, "--to", "onnx", "-o", out)
    assert second.code == 0, second.err
    assert described(out) == ["sen", "onnx"] and (out / "mlp.sen").read_bytes() == before
    assert "mlp.sen" not in second.out.replace("mlp.sen.", "")  # the table is of what was exported now
    assert sen_edge("export", mlp_path, "--to", "sen,onnx", "-o", both).code == 0
    once, twice = manifest_of(both), manifest_of(out)
    assert once.keys() == twice.keys() and once["request"] == twice["request"]
    assert [each["files"] for each in once["artifacts"]] == [each["files"] for each in twice["artifacts"]]

    again = sen_edge("export", mlp_path, "--to", "onnx", "-o", out)
    assert again.code == 1 and "mlp.onnx" in again.err
    assert sen_edge("export", mlp_path, "--to", "onnx", "-o", out, "--force").code == 0
    assert described(out) == ["sen", "onnx"]


def test_a_manifest_of_something_else_is_kept(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert sen_edge("export", mlp_path, "--to", "sen", "-o", out).code == 0
    before = everything(out)
    half = sen_edge("export", mlp_path, "--to", "onnx", "--dtype", "float16", "-o", out)
    assert half.code == 1 and "mlp.manifest.json" in half.err and everything(out) == before
    checkpoints.save(make_checkpoint(MLP, seed=5), mlp_path, replace=True)
    other = sen_edge("export", mlp_path, "--to", "onnx", "-o", out)
    assert other.code == 1 and "mlp.manifest.json" in other.err and everything(out) == before
    assert sen_edge("export", mlp_path, "--to", "onnx", "-o", out, "--force").code == 0
    assert described(out) == ["onnx"]
    (out / "mlp.manifest.json").write_text("[" * 100_000)
    damaged = sen_edge("export", mlp_path, "--to", "sen", "-o", out, "--name", "mlp")
    assert damaged.code == 1 and "mlp." in damaged.err


def test_files_that_changed_leave_the_manifest(sen_edge: Run, mlp_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert sen_edge("export", mlp_path, "--to", "sen", "-o", out).code == 0
    (out / "mlp.sen").write_bytes(b"mine")
    assert sen_edge("export", mlp_path, "--to", "onnx", "-o", out).code == 0
    assert described(out) == ["onnx"] and (out / "mlp.sen").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["net.json", "net"])
def test_a_lost_race_names_the_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process writes the output after ours has looked, three times for a folder."""
    write_outputs(tmp_path, OLD, force=False)
    genuine, looks = Path.exists, [False, False, False]
    monkeypatch.setattr(
        Path, "exists", lambda path: looks.pop() if path == tmp_path / name and looks else genuine(path)
    )
    with pytest.raises(OutputError) as raised:
        write_outputs(tmp_path, {path: NEW[path] for path in NEW if path.split("/")[0] == name}, force=False)
    assert raised.value.message == f"{tmp_path / name} exists"
    assert everything(tmp_path) == OLD
