"""Folders to share: round trips, model cards, and refusals of `save_pretrained` and `from_pretrained`."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import sen_edge
from sen_edge import Model
from sen_edge.errors import CheckpointError, OutputError, UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_runtime.errors import MissingExtraError
from tests.conftest import MLP, SNN, Outcome, make_checkpoint

X = np.random.default_rng(0).random((5, 64), np.float32)
METADATA = {"dataset": "digits", "test_accuracy": "97.25", "validation_accuracy": "98.00", "seed": "0"}


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint `net.pt`, and its exports to `out`."""
    folder = tmp_path_factory.mktemp("pretrained")
    checkpoints.save(replace(make_checkpoint(MLP), metadata=METADATA), folder / "net.pt")
    sen_edge.export(folder / "net.pt", folder / "out", to=["onnx", "c"])
    return folder


@pytest.fixture
def saved(origin: Path, tmp_path: Path) -> Path:
    """A folder with the model, and its exports."""
    sen_edge.load(origin / "net.pt").save_pretrained(tmp_path / "net", exports=origin / "out", license_id="apache-2.0")
    return tmp_path / "net"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def front_matter(folder: Path) -> dict:
    _, head, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    found = yaml.safe_load(head)
    assert isinstance(found, dict)
    return found


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# --- round trip ----------------------------------------------------------------------------------


def test_a_checkpoint_computes_the_same_after_a_round_trip(origin: Path, saved: Path) -> None:
    before, after = sen_edge.load(origin / "net.pt"), Model.from_pretrained(saved)
    np.testing.assert_array_equal(after.predict(X), before.predict(X))
    assert after.checkpoint is not None and before.checkpoint is not None
    assert after.checkpoint.config == before.checkpoint.config
    assert after.checkpoint.metadata == METADATA
    assert repr(sen_edge.load(saved)) == repr(after)


def test_the_folder_holds_the_exports_as_they_were_verified(origin: Path, saved: Path) -> None:
    assert snapshot(saved / "artifacts") == snapshot(origin / "out")
    assert {path.name for path in saved.iterdir()} == {"model.safetensors", "config.json", "README.md", "artifacts"}


def test_a_model_without_a_checkpoint_is_an_image(origin: Path, tmp_path: Path) -> None:
    model = sen_edge.load(origin / "net.pt")
    for name, changed in {
        "sparse": sen_edge.compress(model, sparsity=0.5, criterion="magnitude").model,
        "int8": sen_edge.quantize(model, "int8-dynamic"),
    }.items():
        paths = changed.save_pretrained(tmp_path / name)
        assert paths[0].name == "model.sen"
        after = Model.from_pretrained(str(tmp_path / name))
        np.testing.assert_allclose(after.predict(X), changed.predict(X), rtol=1e-5, atol=1e-5)
        assert after.network.metadata["checkpoint_sha256"] == model.sha256
        assert json.loads((tmp_path / name / "config.json").read_text())["source"]["sha256"] == model.sha256


def test_a_model_without_a_file_is_saved(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = sen_edge.build([rng.random((4, 3)), rng.random((2, 3))], inhibition=[rng.random(4)], bias=[np.zeros(2)])
    model.save_pretrained(tmp_path / "built")
    np.testing.assert_array_equal(Model.from_pretrained(tmp_path / "built").predict(X[:, :4]), model.predict(X[:, :4]))


def test_saving_again_keeps_the_bytes_the_source_and_the_exports(saved: Path, tmp_path: Path) -> None:
    before = snapshot(saved)
    Model.from_pretrained(saved).save_pretrained(
        saved, exports=saved / "artifacts", license_id="apache-2.0", force=True
    )
    assert snapshot(saved) == before


def test_other_files_in_the_folder_stay(origin: Path, tmp_path: Path) -> None:
    (tmp_path / "net" / ".git").mkdir(parents=True)
    (tmp_path / "net" / "LICENSE").write_text("text")
    sen_edge.load(origin / "net.pt").save_pretrained(tmp_path / "net")
    assert (tmp_path / "net" / "LICENSE").read_text() == "text" and (tmp_path / "net" / ".git").is_dir()


def test_commands_take_a_folder(sen_edge: Callable[..., Outcome], saved: Path, tmp_path: Path) -> None:
    assert sen_edge("inspect", saved).code == 0
    assert sen_edge("export", saved, "--to", "sen", "-o", tmp_path / "again").code == 0
    assert sen_edge("plot", saved, "-o", tmp_path / "net.html").code == 0
    assert sen_edge("verify", saved / "artifacts" / "net.onnx", "--against", saved).code == 0
    assert sen_edge("inspect", saved, "--map", tmp_path / "map.toml").code == 2


# --- model card ----------------------------------------------------------------------------------


def test_the_card_states_what_was_measured(saved: Path) -> None:
    front = front_matter(saved)
    assert front["library_name"] == "sen-edge" and front["license"] == "apache-2.0"
    assert {"onnx", "c", "arxiv:2506.13410"} <= set(front["tags"]) and front["metrics"] == ["accuracy"]
    (index,) = front["model-index"]
    (result,) = index["results"]
    assert index["name"] == "net" and result["dataset"]["name"] == "digits"
    assert result["metrics"][0] == {"type": "accuracy", "name": "accuracy %", "value": 97.25}
    card = (saved / "README.md").read_text()
    assert f"| artifacts/net.onnx | {(saved / 'artifacts' / 'net.onnx').stat().st_size} |" in card
    files = [path for path in (saved / "artifacts" / "net").rglob("*") if path.is_file()]
    assert f"| artifacts/net/ | {sum(path.stat().st_size for path in files)} |" in card


def test_without_a_licence_the_card_states_none(origin: Path, tmp_path: Path) -> None:
    sen_edge.load(origin / "net.pt").save_pretrained(tmp_path / "net")
    assert "license" not in front_matter(tmp_path / "net")
    assert "| licence | not stated |" in (tmp_path / "net" / "README.md").read_text()


def test_without_scores_the_card_has_no_results(tmp_path: Path) -> None:
    checkpoints.save(make_checkpoint(SNN), tmp_path / "snn.pt")
    sen_edge.load(tmp_path / "snn.pt").save_pretrained(tmp_path / "net")
    front = front_matter(tmp_path / "net")
    assert not {"metrics", "model-index"} & front.keys() and "spiking-neural-network" in front["tags"]


def test_a_table_with_named_columns_has_its_pipeline(tmp_path: Path) -> None:
    config = replace(MLP, feature_names=tuple(f"f{index}" for index in range(64)))
    checkpoints.save(make_checkpoint(config), tmp_path / "net.pt")
    sen_edge.load(tmp_path / "net.pt").save_pretrained(tmp_path / "net")
    assert front_matter(tmp_path / "net")["pipeline_tag"] == "tabular-classification"


def test_a_compression_replaces_the_scores_of_the_model_before(origin: Path, tmp_path: Path) -> None:
    model = sen_edge.load(origin / "net.pt")
    unmeasured = sen_edge.compress(model, sparsity=0.5, criterion="distance", as_checkpoint=True)
    unmeasured.model.save_pretrained(tmp_path / "unmeasured")
    assert "model-index" not in front_matter(tmp_path / "unmeasured")
    measured = sen_edge.compress(model, sparsity=0.5, criterion="distance", as_checkpoint=True, data="digits")
    measured.model.save_pretrained(tmp_path / "measured")
    (result,) = front_matter(tmp_path / "measured")["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(measured.figures["score"]["compressed"], abs=0.005)
    assert result["dataset"]["name"] == measured.figures["score"]["data"]
    sen_edge.quantize(measured.model, "int8-dynamic").save_pretrained(tmp_path / "quantized")  # not measured again
    assert "model-index" not in front_matter(tmp_path / "quantized")
    assert '"sparsity": 0.5' in (tmp_path / "measured" / "README.md").read_text()


def test_text_of_a_checkpoint_cannot_change_the_structure_of_the_card(tmp_path: Path) -> None:
    bad = "x\n---\nlicense: mit\n| a | <b> [c](d) \x1b[31m\u2028: {"
    metadata = {"dataset": bad, "test_accuracy": "50", bad: bad, "validation_accuracy": "nan"}
    checkpoints.save(replace(make_checkpoint(MLP), metadata=metadata), tmp_path / "net.pt")
    sen_edge.load(tmp_path / "net.pt").save_pretrained(tmp_path / "net")
    front, card = front_matter(tmp_path / "net"), (tmp_path / "net" / "README.md").read_text(encoding="utf-8")
    assert "license" not in front and front["model-index"][0]["results"][0]["metrics"][0]["value"] == 50
    assert not {"\x1b", "\u2028"} & set(card)
    _, _, body = card.split("---\n")
    assert "<b>" not in body and "| a |" not in body and "[c](d)" not in body


# --- refusals of save_pretrained -----------------------------------------------------------------


def test_an_existing_folder_is_replaced_only_with_force(origin: Path, saved: Path) -> None:
    model, before = sen_edge.load(origin / "net.pt"), snapshot(saved)
    with pytest.raises(OutputError):
        model.save_pretrained(saved, exports=origin / "out")
    assert snapshot(saved) == before
    model.save_pretrained(saved, exports=origin / "out", force=True)
    assert "license" not in front_matter(saved)


def test_a_file_in_the_place_of_the_folder_is_refused(origin: Path, tmp_path: Path) -> None:
    (tmp_path / "net").write_text("mine")
    for force in (False, True):
        with pytest.raises(OutputError):
            sen_edge.load(origin / "net.pt").save_pretrained(tmp_path / "net", force=force)
    assert (tmp_path / "net").read_text() == "mine"


def test_no_file_of_an_earlier_model_remains(origin: Path, saved: Path) -> None:
    model, before = sen_edge.load(origin / "net.pt"), snapshot(saved)
    for changed in (model, sen_edge.quantize(model, "float16")):  # without exports; with another model file
        with pytest.raises(OutputError):
            changed.save_pretrained(saved, force=True)
    assert snapshot(saved) == before


BAD_EXPORTS: Mapping[str, Callable[[Path], object]] = {
    "another model": lambda out: edit(out / "net.manifest.json", lambda found: found["input"].update(sha256="0" * 64)),
    "changed file": lambda out: (out / "net.onnx").write_bytes(b"changed"),
    "missing file": lambda out: (out / "net.onnx").unlink(),
    "link out": lambda out: (
        shutil.copy(out / "net.onnx", out.parent / "secret"),
        (out / "net.onnx").unlink(),
        (out / "net.onnx").symlink_to(out.parent / "secret"),
    ),
    "absolute name": lambda out: edit(
        out / "net.manifest.json",
        lambda found: found["artifacts"][0]["files"].update({"/etc/hostname": {"bytes": 1, "sha256": ""}}),
    ),
    "name out": lambda out: edit(
        out / "net.manifest.json",
        lambda found: found["artifacts"][0]["files"].update({"../net.pt": found["artifacts"][0]["files"]["net.onnx"]}),
    ),
    "facts missing": lambda out: edit(
        out / "net.manifest.json", lambda found: found["artifacts"][0]["files"].update({"net.onnx": {}})
    ),
    "facts of another type": lambda out: edit(
        out / "net.manifest.json", lambda found: found["artifacts"][0]["files"].update({"net.onnx": [1]})
    ),
    "no verification": lambda out: edit(
        out / "net.manifest.json", lambda found: found["artifacts"][0].pop("verification")
    ),
    "two of a name": lambda out: shutil.copy(out / "net.manifest.json", out / "net2.manifest.json"),
}


@pytest.mark.parametrize("kind", BAD_EXPORTS)
def test_exports_that_cannot_be_trusted_are_refused(kind: str, origin: Path, tmp_path: Path) -> None:
    shutil.copytree(origin / "out", tmp_path / "out")
    BAD_EXPORTS[kind](tmp_path / "out")
    with pytest.raises((OutputError, UsageError)):
        sen_edge.load(origin / "net.pt").save_pretrained(tmp_path / "net", exports=tmp_path / "out")
    assert not (tmp_path / "net").exists()


def test_wrong_arguments_are_refused(origin: Path, tmp_path: Path) -> None:
    model = sen_edge.load(origin / "net.pt")
    (tmp_path / "empty").mkdir()
    for options in (
        {"exports": tmp_path / "empty"},
        {"exports": [tmp_path / "absent"]},
        {"exports": [origin / "net.pt"]},
        {"license_id": "Apache License"},
        {"license_id": "mit\nx: y"},
    ):
        with pytest.raises(UsageError):
            model.save_pretrained(tmp_path / "net", **options)
    assert not (tmp_path / "net").exists()


# --- refusals of from_pretrained -----------------------------------------------------------------


def change_config(**changes: object) -> Callable[[Path], object]:
    return lambda folder: edit(folder / "config.json", lambda found: found.update(changes))


def make_pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


BAD_FOLDERS: Mapping[str, Callable[[Path], object]] = {
    "no config": lambda folder: (folder / "config.json").unlink(),
    "no model": lambda folder: (folder / "model.safetensors").unlink(),
    "pipe": make_pipe,
    "not JSON": lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"),
    "list": lambda folder: (folder / "config.json").write_text("[]"),
    "too large": lambda folder: (folder / "config.json").write_bytes(b" " * (1 << 25)),
    "of another library": lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'),
    "newer": change_config(version=2),
    "file elsewhere": change_config(file="../net.pt"),
    "file of pickles": change_config(file="model.pt"),
    "file is no text": change_config(file=["model.sen"]),
    "no source": change_config(source=None),
    "other hash": change_config(sha256="0" * 64),
    "edited config": lambda folder: edit(folder / "config.json", lambda found: found["config"].update(exponent=2.0)),
    "damaged model": lambda folder: (folder / "model.safetensors").write_bytes(b"damaged"),
    "folder as model": lambda folder: ((folder / "model.safetensors").unlink(), (folder / "model.safetensors").mkdir()),
}


@pytest.mark.parametrize("kind", BAD_FOLDERS)
def test_folders_that_cannot_be_read_are_refused(kind: str, saved: Path) -> None:
    BAD_FOLDERS[kind](saved)
    with pytest.raises(CheckpointError) as caught:
        Model.from_pretrained(saved)
    assert len(caught.value.message) < 1000 and "\n" not in caught.value.message


def test_a_revision_of_a_folder_is_refused(saved: Path) -> None:
    with pytest.raises(UsageError):
        Model.from_pretrained(saved, revision="main")


def test_a_misspelt_folder_is_not_looked_up_on_the_hub(
    saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    for name in ("nett", "net/artefacts", Path("owner/net"), str(tmp_path / "absent"), "owner/../net", "owner/", ""):
        with pytest.raises(CheckpointError):
            Model.from_pretrained(name)
    with pytest.raises(MissingExtraError) as caught:
        Model.from_pretrained("owner/net")
    assert "sen-edge[hub]" in caught.value.hint and caught.value.exit_code == 4
