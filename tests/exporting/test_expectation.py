"""Comparison of a loaded model with outputs of the user's model: agreement, disagreement, invalid files."""

import json
import re
import runpy
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sen_edge.errors import DataError, VerificationError
from sen_edge.exporting.verify.expectation import check
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.model.model import Model
from tests.conftest import Outcome, make_checkpoint, make_model

Run = Callable[..., Outcome]

MLP = SpatialConfig((12, 9, 8, 4), steepness=2.0, layer_spacing=0.5)
SNN = replace(MLP, spiking=SpikingConfig(20, beta=0.8, threshold=0.5))
CONFIGS = {
    "mlp": MLP,
    "snn": SNN,
    "spike count": replace(MLP, spiking=SpikingConfig(20, readout="spike_count")),
    "last membrane": replace(MLP, spiking=SpikingConfig(20, readout="last_membrane", reset="zero")),
    "spikes": replace(MLP, spiking=SpikingConfig(5, input_coding="spikes")),
}


def outputs(model: Model, n: int = 40) -> dict[str, Any]:
    """What torch gives for a model, as the file of `--expect` holds it."""
    x = np.random.default_rng(0).random((n, *model.network.input_shape), np.float32)
    *hidden, y = model.trace(x)
    return {"x": x, "y": y, **{f"layer{index}": layer for index, layer in enumerate(hidden)}}


def write(path: Path, arrays: Mapping[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_model_agrees_with_its_own_outputs(config: SpatialConfig, tmp_path: Path) -> None:
    model = make_model(make_checkpoint(config))
    agreement = check(model, write(tmp_path / "e.npz", outputs(model)), "model.pt")
    assert [each.layer for each in agreement.layers] == [0, 1, 2] and agreement.inputs == 40
    images = outputs(model)
    if model.network.input_coding == "direct":
        images = {"x": images["x"].reshape(40, 3, 4).astype(np.float64), "y": images["y"].tolist()}
    assert check(model, write(tmp_path / "e.npz", images), "model.pt").layers[-1].agrees


@pytest.mark.parametrize(
    ("config", "changes", "layer"),
    [
        (MLP, {"steepness": 1.0}, "layer 0"),
        (MLP, {"layer_spacing": 0.6}, "layer 0"),
        (MLP, {"exponent": 1.1}, "layer 0"),
        (SNN, {"spiking": SpikingConfig(20, beta=0.81, threshold=0.5)}, "layer 0"),
        (SNN, {"spiking": SpikingConfig(20, beta=0.8, threshold=0.5, reset="zero")}, "layer 0"),
        (SNN, {"spiking": SpikingConfig(20, beta=0.8, threshold=0.5, readout="last_membrane")}, "output"),
    ],
)
def test_another_constant_is_found(config: SpatialConfig, changes: dict[str, Any], layer: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(config)
    theirs = make_model(checkpoint)
    ours = make_model(replace(checkpoint, config=replace(config, **changes)))
    path = write(tmp_path / "e.npz", outputs(theirs))
    with pytest.raises(VerificationError, match=layer):
        check(ours, path, "model.pt")
    write(path, {name: value for name, value in outputs(theirs).items() if name in "xy"})
    with pytest.raises(VerificationError, match="output") as caught:
        check(ours, path, "model.pt")
    assert "layer0, layer1" in caught.value.hint


def test_the_first_layer_that_differs_is_named(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(MLP)
    tensors = {**checkpoint.tensors, "bias.1": checkpoint.tensors["bias.1"] + np.float32(1)}
    path = write(tmp_path / "e.npz", outputs(make_model(replace(checkpoint, tensors=tensors))))
    with pytest.raises(VerificationError, match="layer 1"):
        check(make_model(checkpoint), path, "model.pt")


def test_probabilities_are_recognized(tmp_path: Path) -> None:
    model = make_model(make_checkpoint(MLP))
    given = outputs(model)
    for function in (torch.softmax, torch.log_softmax):
        given["y"] = function(torch.from_numpy(outputs(model)["y"]), 1).numpy()
        with pytest.raises(VerificationError, match="output") as caught:
            check(model, write(tmp_path / "e.npz", given), "model.pt")
        assert "softmax" in caught.value.hint


def nan_in(array: Any) -> Any:
    array[3, 1] = np.nan
    return array


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (MLP, lambda a: {"x": a["x"]}, "x, y, layer0, layer1"),
        (MLP, lambda a: {**a, "z": a["y"]}, r"\bz\b"),
        (MLP, lambda a: {**a, "layer2": a["y"]}, "layer2"),
        (MLP, lambda a: {**a, "x": a["x"][:, :11]}, r"\bx\b.*\[40, 11\].*\[n, 12\]"),
        (MLP, lambda a: {**a, "x": a["x"].T}, r"\bx\b.*\[12, 40\]"),
        (MLP, lambda a: {**a, "x": a["x"][:0], "y": a["y"][:0]}, r"\[0, 12\]"),
        (MLP, lambda a: {**a, "y": a["y"].argmax(1)}, r"\by\b.*int64 \[40\].*\[n, 4\]"),
        (MLP, lambda a: {**a, "y": a["y"].astype(str)}, r"\by\b.*<U"),
        (MLP, lambda a: {**a, "y": a["y"][1:]}, r"\by\b.*\b39\b.*\b40\b"),
        (MLP, lambda a: {**a, "y": nan_in(a["y"])}, r"\by\b.*nan.*\[3, 1\]"),
        (MLP, lambda a: {**a, "layer0": -a["layer0"] - 1}, r"layer0.*ReLU"),
        (SNN, lambda a: {**a, "layer0": a["layer0"] / 20}, r"layer0.*spike"),
        (SNN, lambda a: {**a, "layer0": a["layer0"][:, None, :]}, r"layer0.*\[40, 1, 9\]"),
    ],
)
def test_a_file_that_cannot_be_compared(config: SpatialConfig, change: Any, message: str, tmp_path: Path) -> None:
    model = make_model(make_checkpoint(config))
    with pytest.raises(DataError, match=message):
        check(model, write(tmp_path / "e.npz", change(outputs(model))), "model.pt")


# --- commands ------------------------------------------------------------------------------------

MAP = """
[config]
layer_axis = "fixed"
layer_spacing = 0.5
steepness = %s
[tensors.positions]
name = "positions.{i}"
[tensors.inhibition]
name = "inhibition.{i}"
[tensors.gain]
name = "gain.{i}"
[tensors.bias]
name = "bias.{i}"
"""


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder with a bare state dict, its outputs, and a right and a wrong map."""
    checkpoint = make_checkpoint(MLP)
    tensors = {name: torch.from_numpy(value) for name, value in checkpoint.tensors.items()}
    torch.save({**tensors, "head.weight": torch.ones(3)}, tmp_path / "model.pt")
    checkpoints.save(checkpoint, tmp_path / "native.pt")
    write(tmp_path / "expect.npz", outputs(make_model(checkpoint)))
    (tmp_path / "right.toml").write_text(MAP % "2.0")
    (tmp_path / "wrong.toml").write_text(MAP % "1.0")
    return tmp_path


def test_a_wrong_map_ends_before_anything_is_written(sen_edge: Run, foreign: Path) -> None:
    model, out = foreign / "model.pt", foreign / "out"
    wrong = ("--map", foreign / "wrong.toml", "--expect", foreign / "expect.npz")
    for arguments in (("inspect", model), ("export", model, "--to", "sen", "-o", out)):
        outcome = sen_edge(*arguments, *wrong)
        assert outcome.code == 3 and "layer 0" in outcome.err and not outcome.out
    assert not out.exists()
    right = ("--map", foreign / "right.toml", "--expect", foreign / "expect.npz")
    assert sen_edge("export", model, "--to", "sen", "-o", out, *right).code == 0
    against = ("verify", out / "model.sen", "--against", model)
    assert sen_edge(*against, *right).code == 0
    assert sen_edge(*against, *wrong).code == 3


def test_a_native_checkpoint_is_compared_too(sen_edge: Run, foreign: Path) -> None:
    outcome = sen_edge("inspect", foreign / "native.pt", "--expect", foreign / "expect.npz", "--json")
    described = json.loads(outcome.out)
    assert outcome.code == 0 and described["map"] is None and described["expect"]["inputs"] == 40


def test_every_command_lists_unused_entries_of_a_map(sen_edge: Run, foreign: Path) -> None:
    model, out, mapped = foreign / "model.pt", foreign / "out", ("--map", foreign / "right.toml")
    checked = (*mapped, "--expect", foreign / "expect.npz")
    against = ("verify", out / "model.sen", "--against", model)
    export, sparse = (
        ("export", model, "--to", "sen", "-o", out, "--force"),
        ("--sparsity", "0.5", "--criterion", "distance", "--force"),
    )
    compress = ("compress", model, "-o", foreign / "small.sen", *sparse)
    for command in (("inspect", model), export, against, compress, ("plot", model, "-o", foreign / "a.html")):
        outcome = sen_edge(*command, *mapped)
        assert outcome.code == 0, outcome.err
        text = outcome.out + outcome.err
        assert "head.weight" in text and "exponent 1" in text and "--expect" in text
    for command in (("inspect", model), export, against):
        outcome = sen_edge(*command, *checked)
        assert outcome.code == 0 and "--expect" not in outcome.out + outcome.err
    described = [
        json.loads(sen_edge("inspect", model, *mapped, "--json").out),
        json.loads(sen_edge(*export, *mapped, "--json").out)["input"],
        json.loads((out / "model.manifest.json").read_text())["input"],
        *json.loads(sen_edge(*against, *mapped, "--json").out),
        json.loads(sen_edge(*compress, *mapped, "--json").out),
    ]
    for each in described:
        assert each["map"]["unused"] == ["head.weight"] and each["map"]["file"] == "right.toml"
        assert each.get("expect") is None
    assert json.loads(sen_edge(*export, *checked, "--json").out)["input"]["expect"]["file"] == "expect.npz"


def test_the_next_command_of_an_export_has_the_map(sen_edge: Run, foreign: Path) -> None:
    mapped = ("--map", foreign / "right.toml")
    outcome = sen_edge("export", foreign / "model.pt", "--to", "sen", "-o", foreign / "out", *mapped)
    assert f"--map {foreign / 'right.toml'}" in outcome.err.splitlines()[-1]


# --- the page ------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs/how-to/foreign-checkpoints.md"


def test_the_code_of_the_page_runs(sen_edge: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models in plain PyTorch, as a stranger writes them: maps and native files compute what they compute."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    files = re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", text, re.DOTALL)
    assert len(files) == text.count("```python") + text.count("```toml")
    for name, content in files:
        Path(name).write_text(content)
        if name.endswith(".py"):
            runpy.run_path(name)
    commands = [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("sen-edge")]
    checked = [arguments for arguments in commands if "--expect" in arguments]
    assert len(checked) == 5
    for arguments in checked:
        outcome = sen_edge(*arguments)
        assert outcome.code == 0, outcome.err
    for name, right, wrong in (
        ("mlp.toml", "steepness = 2.0", "steepness = 1.0"),
        ("snn.toml", "reset_delay = true", "reset_delay = false"),
    ):
        content = Path(name).read_text()
        assert right in content
        Path(name).write_text(content.replace(right, wrong))
        stem = Path(name).stem
        outcome = sen_edge("inspect", f"{stem}.pt", "--map", name, "--expect", f"{stem}.npz")
        assert outcome.code == 3 and "layer 0" in outcome.err
