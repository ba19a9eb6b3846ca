"""Foreign state dicts through a map."""

import runpy
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sen_edge import checkpoint as checkpoints
from sen_edge.errors import CheckpointError

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("example", ["per_layer", "single_tensor"])
def test_worked_example_is_the_network_it_was_made_from(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = EXAMPLES / "foreign" / example
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(folder / "make_checkpoint.py"))
    loaded = checkpoints.load(Path("model.pt"), map_path=folder / "map.toml")
    native = checkpoints.load(EXAMPLES / "checkpoints" / "mnist-mlp-d3.pt")
    for ours, theirs in zip(checkpoints.to_network(native).layers, checkpoints.to_network(loaded).layers, strict=True):
        np.testing.assert_array_equal(ours.weight.to_dense(), theirs.weight.to_dense())
        np.testing.assert_array_equal(ours.bias, theirs.bias)
    assert loaded.metadata["map"] == "map.toml"
    assert loaded.metadata["unused_entries"] == {"per_layer": "", "single_tensor": "optimizer_steps"}[example]


STATE = {
    "pos.0": torch.rand(6, 3),
    "pos.1": torch.rand(5, 3),
    "pos.2": torch.rand(2, 3),
    "inh.0": torch.rand(6),
    "inh.1": torch.rand(5, 1),
    "inh.2": torch.rand(2),
    "b.0": torch.rand(5),
    "b.1": torch.rand(2),
    "all": torch.rand(13, 3),
    "all_inh": torch.rand(11),
    "step": torch.tensor(3),
}

GOOD = """
[tensors.positions]
name = "pos.{i}"
[tensors.inhibition]
name = "inh.{i}"
[tensors.bias]
names = ["b.0", "b.1"]
"""


def load(tmp_path: Path, text: str, state: Any = STATE) -> checkpoints.Checkpoint:
    torch.save(state, tmp_path / "model.pt")
    (tmp_path / "map.toml").write_text(textwrap.dedent(text))
    return checkpoints.load(tmp_path / "model.pt", map_path=tmp_path / "map.toml")


def test_sizes_and_dimensions_follow_from_the_tensors(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD)
    assert loaded.config.layer_sizes == (6, 5, 2)
    assert (loaded.config.dimensions, loaded.config.layer_axis) == (3, "free")
    assert (loaded.config.gain, loaded.config.bias) == (False, True)
    assert loaded.metadata["unused_entries"] == "all, all_inh, step"
    np.testing.assert_array_equal(loaded.tensors["inhibition.1"], STATE["inh.1"][:, 0])


def test_spiking_constants_come_from_the_map(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD + "[config]\nsteepness = 5.0\n[config.spiking]\ntimesteps = 4\nbeta = 0.7\n")
    assert loaded.config.spiking is not None
    assert (loaded.config.steepness, loaded.config.spiking.timesteps, loaded.config.spiking.beta) == (5.0, 4, 0.7)


@pytest.mark.parametrize("transpose", [False, True])
def test_square_looking_positions_are_never_reshaped(transpose: bool, tmp_path: Path) -> None:
    """[3, 6] read as [6, 3] without a transpose would be silently wrong: the sizes must come out different."""
    state = {**STATE, **{f"pos.{i}": STATE[f"pos.{i}"].T.contiguous() for i in range(3)}}
    text = GOOD.replace('"pos.{i}"', f'"pos.{{i}}"\ntranspose = {str(transpose).lower()}')
    if transpose:
        loaded = load(tmp_path, text, state)
        np.testing.assert_array_equal(loaded.tensors["positions.0"], STATE["pos.0"])
    else:
        with pytest.raises(CheckpointError, match="shape"):
            load(tmp_path, text + "[config]\nlayer_sizes = [6, 5, 2]\n", state)


SPLIT = """
[config]
layer_sizes = [6, 5, 2]
[tensors.positions]
name = "all"
[tensors.inhibition]
name = "all_inh"
"""


def test_one_tensor_is_split_by_the_layer_sizes(tmp_path: Path) -> None:
    loaded = load(tmp_path, SPLIT)
    np.testing.assert_array_equal(loaded.tensors["positions.1"], STATE["all"][6:11])
    np.testing.assert_array_equal(loaded.tensors["inhibition.1"], STATE["all_inh"][6:])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tensors", "is not TOML"),
        ("colour = 1\n" + GOOD, "unknown entries: colour"),
        ("[config]\n", r"needs a table \[tensors\]"),
        (GOOD.replace("inhibition", "inhibitions"), r"unknown roles \[inhibitions\] and lacks \[inhibition\]"),
        (GOOD.replace("pos.{i}", "position.{i}"), "positions are not in the file: position.0"),
        (GOOD.replace('"b.0", "b.1"', '"b.0", "b.7"'), "bias are not in the file: b.7"),
        (GOOD.replace('"b.0", "b.1"', '"b.1", "b.0"'), r"bias.0 has shape \[2\]; expected \[5\]"),
        (GOOD.replace("names =", "name = 1\nnames ="), "name = 1"),
        (GOOD.replace("names =", 'name = "b.{i}"\nnames ='), "needs either name or names"),
        (GOOD.replace('name = "inh.{i}"', 'name = "inh.{i}"\ntranspose = true'), "transpose is for positions only"),
        (GOOD.replace('"inh.{i}"', '"inh.0"') + "[config]\n", "expected 11, the sum of the layer sizes"),
        (GOOD.replace('"pos.{i}"', '"inh.{i}"'), "expected two axes"),
        (SPLIT.replace("layer_sizes = [6, 5, 2]", ""), "config.layer_sizes is needed to split"),
        (SPLIT.replace("[6, 5, 2]", "[6, 5, 3]"), "has 13 rows; expected 14"),
        ('state_dict = "model.state"\n' + GOOD, "no dict at state_dict = 'model.state'"),
        (GOOD + "[config]\nbeta = 0.9\n", "unknown keys: beta"),
        (GOOD.replace('"pos.{i}"', '"step"') + "[config]\nlayer_sizes = [6, 5, 2]\n", "tensor step is torch.int64"),
    ],
)
def test_wrong_map(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path, text)


def test_absent_map(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="cannot read the map"):
        checkpoints.load(tmp_path / "model.pt", map_path=tmp_path / "none.toml")
