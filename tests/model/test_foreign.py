"""Foreign state dicts through a map."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sen_edge.errors import CheckpointError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.parameters import Checkpoint

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
    "beta.0": torch.tensor(0.5),
}

SPIKING = "[config.spiking]\ntimesteps = 4\nreset_delay = true\n"
GOOD = """
[config]
layer_axis = "free"
[tensors.positions]
name = "pos.{i}"
[tensors.inhibition]
name = "inh.{i}"
[tensors.bias]
names = ["b.0", "b.1"]
"""


def load(tmp_path: Path, text: str, state: Any = STATE) -> Checkpoint:
    torch.save(state, tmp_path / "model.pt")
    (tmp_path / "map.toml").write_text(textwrap.dedent(text))
    return checkpoints.load(tmp_path / "model.pt", map_path=tmp_path / "map.toml")


def test_sizes_and_dimensions_follow_from_the_tensors(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD)
    assert loaded.config.layer_sizes == (6, 5, 2)
    assert (loaded.config.dimensions, loaded.config.layer_axis) == (3, "free")
    assert (loaded.config.gain, loaded.config.bias) == (False, True)
    assert loaded.applied_map is not None
    # inh.2 belongs to the output neurons: it matches the pattern, but the network does not use it.
    assert loaded.applied_map.unused == ("inh.2", "all", "all_inh", "step", "beta.0")
    assert loaded.applied_map.assumed == {
        "steepness": 1.0, "exponent": 1.0, "min_distance": 0.0, "input_range": [0.0, 1.0]
    }  # fmt: skip
    np.testing.assert_array_equal(loaded.tensors["inhibition.1"], STATE["inh.1"][:, 0])


def test_spiking_constants_come_from_the_map(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD + "[config.spiking]\ntimesteps = 4\nbeta = 0.7\nreset_delay = false\n")
    assert loaded.config.spiking is not None
    assert loaded.config.spiking.timesteps == 4 and not loaded.config.spiking.reset_delay
    assert loaded.applied_map is not None
    assert "spiking.threshold" in loaded.applied_map.assumed and "spiking.beta" not in loaded.applied_map.assumed


@pytest.mark.parametrize("transpose", [False, True])
def test_square_looking_positions_are_never_reshaped(transpose: bool, tmp_path: Path) -> None:
    """[3, 6] read as [6, 3] without a transpose would be silently wrong: the sizes must come out different."""
    state = {**STATE, **{f"pos.{i}": STATE[f"pos.{i}"].T.contiguous() for i in range(3)}}
    text = GOOD.replace('"pos.{i}"', f'"pos.{{i}}"\ntranspose = {str(transpose).lower()}')
    if transpose:
        loaded = load(tmp_path, text, state)
        np.testing.assert_array_equal(loaded.tensors["positions.0"], STATE["pos.0"])
    else:
        with pytest.raises(CheckpointError, match="coordinates") as caught:
            load(tmp_path, text, state)
        assert "transpose = true" in caught.value.hint


SPLIT = """
[config]
layer_axis = "free"
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


def test_split_tensor_skips_at_most_the_input_layer(tmp_path: Path) -> None:
    text = SPLIT + '[tensors.bias]\nname = "all_bias"\nfirst = 2\n'
    with pytest.raises(CheckpointError, match=r"19 rows and first = 2; expected 13 "):
        load(tmp_path, text, {**STATE, "all_bias": torch.zeros(2 * 6 + 5 + 2)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tensors", "TOML"),
        ("colour = 1\n" + GOOD, r"\.toml.*colour"),
        ("[config]\n", "tensors.*missing"),
        ("config = 3\n" + GOOD.replace('[config]\nlayer_axis = "free"\n', ""), r"config.*\b3\b"),
        ("state_dict = 3\n" + GOOD, r"state_dict.*\b3\b"),
        (GOOD.replace('layer_axis = "free"', ""), r"config\.layer_axis.*missing"),
        (GOOD + "[config.spiking]\ntimesteps = 4\n", r"config\.spiking\.reset_delay.*missing"),
        (GOOD.replace("[config]", "[config]\ngain = true"), r"config\.gain.*True"),
        (GOOD.replace("[config]", "[config]\nbias = false"), r"config\.bias.*False"),
        (GOOD + "[tensors.gain]\nvalue = 1e39\n", r"tensors\.gain\.value.*1e\+39"),
        (GOOD.replace("inhibition", "inhibitions"), r"tensors\.inhibitions?\b"),
        (GOOD.replace('[tensors.inhibition]\nname = "inh.{i}"', ""), r"tensors\.inhibition.*missing"),
        (GOOD.replace("pos.{i}", "position.{i}"), r"positions.*position\.0"),
        (GOOD.replace('"b.0", "b.1"', '"b.0", "b.7"'), r"bias.*b\.7"),
        (GOOD.replace('"b.0", "b.1"', '"b.1", "b.0"'), r"b\.1.*\[2\].*\[5\].*bias\.0"),
        (GOOD.replace('"b.0", "b.1"', '"inh.0", "inh.1"'), r"inh\.0.*inhibition.*bias"),
        (GOOD.replace('"b.0", "b.1"', 'true, "b.1"'), r"tensors\.bias\.names\[0\] is True"),
        (GOOD.replace('"b.0", "b.1"', '[1.0], "b.1"'), r"tensors\.bias\.names\[0\] is \[1\.0\]"),
        (GOOD.replace('"b.0", "b.1"', '1e39, "b.1"'), r"tensors\.bias\.names\[0\].*1e\+39"),
        (GOOD.replace('name = "pos.{i}"', 'names = ["pos.0", 1.0, "pos.2"]'), r"tensors\.positions\.names\[1\]"),
        (GOOD.replace('"b.0", "b.1"', ""), r"tensors\.bias\b.*name, names"),
        (GOOD.replace("names =", "name = 1\nnames ="), r"name.*\b1\b"),
        (GOOD.replace("names =", 'name = "b.{i}"\nnames ='), "name, names"),
        (GOOD.replace("names =", "first = true\nnames ="), "first.*True"),
        (GOOD.replace("names =", "first = -1\nnames ="), "first.*-1"),
        (GOOD.replace("names =", "step = 2\nnames ="), r"tensors\.bias\.step"),
        (GOOD.replace("names =", "value = 1.0\nnames ="), "name, names"),
        (GOOD.replace('name = "pos.{i}"', "value = 1.0"), r"tensors\.positions\.value"),
        (GOOD.replace('names = ["b.0", "b.1"]', "value = [0.0, 1.0, 2.0]"), r"\b3\b.*bias.*\b2\b"),
        (GOOD.replace('names = ["b.0", "b.1"]', "value = [0.0, true]"), r"tensors\.bias\.value\[1\] is True"),
        (GOOD.replace("[config]", "[config]\nexponent = [1.0]"), r"config\.exponent.*\b1\b.*\b2\b"),
        (GOOD.replace("[config]", "[config]\nexponent = [1.0, 'two']"), r"config\.exponent\[1\] is 'two'"),
        (GOOD.replace('"free"', '"learned"'), r"config\.layer_axis.*learned.*spacing.*missing"),
        (GOOD + "[tensors.spacing]\nvalue = 1.0\n", r"tensors\.spacing\.value"),
        (GOOD + '[tensors.spacing]\nname = "step"\n', r"config\.layer_axis.*free.*spacing.*given"),
        (GOOD + '[tensors.beta]\nname = "b.{i}"\n', r"tensors\.beta.*config\.spiking"),
        (GOOD + SPIKING + 'beta = 0.5\n[tensors.beta]\nname = "s.{i}"\n', r"tensors\.beta.*config\.spiking\.beta"),
        (GOOD + SPIKING + '[tensors.threshold]\nname = "all_inh"\n', r"tensors\.threshold\.name"),
        (GOOD + SPIKING + '[tensors.beta]\nnames = ["beta.0"]\n', r"\b1\b.*beta.*\b2\b"),
        (GOOD + SPIKING + '[tensors.beta]\nnames = ["beta.0", "all_inh"]\n', r"all_inh.*\[11\].*\[2\]"),
        (GOOD + SPIKING + '[tensors.beta]\nnames = ["beta.0", 1.5]\n', r"spiking\.beta\[1\].*1\.5"),
        (
            GOOD + SPIKING + 'readout = "spike_count"\n[tensors.threshold]\nnames = ["beta.0", 1.0, 1.0]\n',
            r"\b3\b.*threshold.*\b2\b",
        ),
        (GOOD + SPIKING + '[tensors.reset]\nnames = ["step"]\n', r"step.*\b3\b.*subtract"),
        (GOOD + '[tensors.target_positions]\nname = "pos.{i}"\n', r"pos\.0.*positions.*target_positions"),
        (GOOD.replace("names =", "colour = 2\nnames ="), r"tensors\.bias\.colour"),
        (GOOD + "[tensors.gain]\nvalue = 'one'\n", "value.*'one'"),
        (GOOD.replace('name = "inh.{i}"', 'name = "inh.{i}"\ntranspose = true'), r"tensors\.inhibition\.transpose"),
        (GOOD.replace('"inh.{i}"', '"inh.0"'), r"\b11\b.*\b13\b"),
        (GOOD.replace('"pos.{i}"', '"inh.{i}"'), r"inh\.0.*positions.*inhibition"),
        (GOOD.replace('"pos.{i}"', '"all_inh"'), "all_inh"),
        (GOOD + "[tensors]\ngain = 3\n", r"tensors\.gain.*\b3\b"),
        (SPLIT.replace("layer_sizes = [6, 5, 2]", ""), r"config\.layer_sizes"),
        (SPLIT.replace("[6, 5, 2]", "[6, 5, 3]"), r"\b13\b.*\b14\b"),
        ('state_dict = "model.state"\n' + GOOD, r"state_dict.*'model\.state'"),
        (GOOD.replace("[config]", "[config]\nbeta = 0.9"), r"config\.beta"),
        (GOOD.replace("[config]", "[config]\nlayer_sizes = [6, 5, 2, 2]"), r"\b3\b.*positions"),
        (SPLIT.replace('"all"', '"step"'), "step.*torch.int64"),
    ],
)
def test_wrong_map(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path, text)


def state_of(positions: Sequence[str], roles: Mapping[str, Sequence[str]], n: int = 4) -> dict[str, torch.Tensor]:
    """A network of equal widths, in which no shape tells one layer from the next."""
    state = {name: torch.rand(n, 3) for name in positions}
    return {
        **state,
        **{name: torch.rand(()) if role == "gain" else torch.rand(n) for role in roles for name in roles[role]},
    }


def map_of(**rules: str) -> str:
    """A map with a pattern, and further keys, for each role."""
    tables = (f"[tensors.{role}]\nname = {rule}\n" for role, rule in rules.items())
    return '[config]\nlayer_axis = "free"\n' + "".join(tables)


@pytest.mark.parametrize("role", ["gain", "bias"])
def test_one_tensor_more_than_layers_is_an_error(role: str, tmp_path: Path) -> None:
    """Of equal widths, L + 1 biases would fit from either end: one of them is the network of the user."""
    state = state_of([f"p.{i}" for i in range(3)], {"inhibition": ["m.0", "m.1"], role: ["r.0", "r.1", "r.2"]})
    text = map_of(positions='"p.{i}"', inhibition='"m.{i}"', **{role: '"r.{i}"'})
    with pytest.raises(CheckpointError, match=r"r.0, r.1, r.2") as caught:
        load(tmp_path, text, state)
    assert "first = 1" in caught.value.hint
    loaded = load(tmp_path, text + "first = 1\n", state)
    np.testing.assert_array_equal(loaded.tensors[f"{role}.0"], state["r.1"])
    assert loaded.applied_map is not None and loaded.applied_map.unused == ("r.0",)
    # The same as one tensor.
    single = {name: value for name, value in state.items() if not name.startswith("r.")}
    single["r"] = torch.stack([state[f"r.{i}"] for i in range(3)]).reshape(-1)
    text = map_of(positions='"p.{i}"', inhibition='"m.{i}"', **{role: '"r"'})
    with pytest.raises(CheckpointError, match="rows") as caught:
        load(tmp_path, text, single)
    assert "first = 1" in caught.value.hint
    loaded = load(tmp_path, text + "first = 1\n", single)
    np.testing.assert_array_equal(loaded.tensors[f"{role}.1"], state["r.2"])


def test_more_inhibition_than_neurons_with_synapses_is_an_error(tmp_path: Path) -> None:
    state = state_of(["p.0", "p.1"], {"inhibition": ["m.0", "m.1", "m.2"]})
    with pytest.raises(CheckpointError, match=r"3.*inhibition"):
        load(tmp_path, map_of(positions='"p.{i}"', inhibition='"m.{i}"'), state)


@pytest.mark.parametrize(
    ("numbers", "keys", "hint"),
    [
        ((0, 2, 4), "", "step = 2"),
        ((1, 2, 3), "", "first = 1"),
        ((1, 3, 5), "", "first = 1, step = 2"),
        ((0, 1, 2, 4), "", "names ="),
        ((0, 1, 2, 4), "step = 2\n", "names ="),
        ((0, 2, 4), "step = 4\n", "step = 2"),
    ],
)
def test_numbers_with_a_gap_are_an_error(numbers: tuple[int, ...], keys: str, hint: str, tmp_path: Path) -> None:
    """nn.Sequential counts activations too; a network that ends at the first gap is another network."""
    names = [f"net.{i}.pos" for i in numbers]
    state = state_of(names, {"inhibition": [f"m.{i}" for i in range(len(numbers))]})
    text = map_of(inhibition='"m.{i}"', positions='"net.{i}.pos"')
    with pytest.raises(CheckpointError, match="net") as caught:
        load(tmp_path, text + keys, state)
    assert all(name in caught.value.message for name in names) and hint in caught.value.hint
    keys = hint + "\n" if "names" not in hint else ""
    if keys:
        assert load(tmp_path, text + keys.replace(", ", "\n"), state).config.layer_sizes == (4, 4, 4)
    listed = text.replace('name = "net.{i}.pos"', f"names = {names}")
    loaded = load(tmp_path, listed, state)
    np.testing.assert_array_equal(loaded.tensors["positions.1"], state[names[1]])


def test_square_positions_need_a_stated_orientation(tmp_path: Path) -> None:
    state = state_of(["p.0", "p.1"], {"inhibition": ["m.0"]}, n=3)
    text = map_of(inhibition='"m.{i}"', positions='"p.{i}"')
    with pytest.raises(CheckpointError, match="square"):
        load(tmp_path, text, state)
    as_stored = load(tmp_path, text + "transpose = false\n", state)
    turned = load(tmp_path, text + "transpose = true\n", state)
    np.testing.assert_array_equal(as_stored.tensors["positions.0"], state["p.0"])
    np.testing.assert_array_equal(turned.tensors["positions.0"], state["p.0"].T)


def test_a_constant_gain(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD + "[tensors.gain]\nvalue = 0.25\n")
    assert loaded.config.gain and loaded.tensors["gain.1"] == np.float32(0.25)


def test_constants_stand_for_tensors(tmp_path: Path) -> None:
    text = GOOD.replace('name = "inh.{i}"', 'names = ["inh.0", 1e9]').replace('"b.0", "b.1"', '0.25, "b.1"')
    loaded = load(tmp_path, text + "[tensors.gain]\nvalue = [0.5, 2]\n")
    assert (loaded.tensors["gain.0"], loaded.tensors["gain.1"]) == (0.5, 2.0)
    np.testing.assert_array_equal(loaded.tensors["bias.0"], np.full(5, 0.25))
    np.testing.assert_array_equal(loaded.tensors["bias.1"], STATE["b.1"])
    first, second = (layer.weight for layer in checkpoints.to_network(loaded).layers)
    np.testing.assert_array_equal(second.mask, np.ones(5))  # without a mask all weights are positive
    assert first.mask.max() < 1


def test_constants_of_each_layer(tmp_path: Path) -> None:
    text = GOOD.replace("[config]", "[config]\nexponent = [1, 2]\nsteepness = [3.0, 4.0]")
    loaded = load(tmp_path, text)
    assert loaded.config.exponent == (1.0, 2.0) and loaded.config.steepness == (3.0, 4.0)
    assert loaded.applied_map is not None and set(loaded.applied_map.assumed) == {"min_distance", "input_range"}


def test_learned_spacings(tmp_path: Path) -> None:
    state = {**STATE, "gap": torch.tensor([0.5, 2.0])}
    loaded = load(tmp_path, GOOD.replace('"free"', '"learned"') + '[tensors.spacing]\nname = "gap"\n', state)
    assert loaded.config.dimensions == 4
    assert [layer.weight.target[0, -1] for layer in checkpoints.to_network(loaded).layers] == [0.5, 2.5]


def test_constants_of_neurons_are_read_from_tensors(tmp_path: Path) -> None:
    state = {
        **STATE,
        "lif0.beta": torch.tensor(0.5),
        "lif1.beta": torch.tensor([0.75]),
        "lif0.threshold": torch.tensor(0.25),
        "lif1.threshold": torch.tensor(2.0),  # of the readout, which does not spike
        "lif0.reset": torch.tensor(1),
    }
    rules = "".join(f'[tensors.{role}]\nname = "lif{{i}}.{role}"\n' for role in ("beta", "threshold", "reset"))
    loaded = load(tmp_path, GOOD + SPIKING + rules, state)
    hidden, last = (layer.neuron for layer in checkpoints.to_network(loaded).layers)
    assert (hidden.beta, hidden.threshold, hidden.reset, last.beta) == (0.5, 0.25, "zero", 0.75)
    assert loaded.applied_map is not None
    assert {"spiking.input_coding", "spiking.readout"} == {
        each for each in loaded.applied_map.assumed if each.startswith("spiking")
    }


def test_constants_of_single_neurons(tmp_path: Path) -> None:
    state = {**STATE, "decay": torch.linspace(0.1, 0.9, 5)}
    loaded = load(tmp_path, GOOD + SPIKING + '[tensors.beta]\nnames = ["decay", 1.0]\n', state)
    hidden, last = (layer.neuron for layer in checkpoints.to_network(loaded).layers)
    np.testing.assert_array_equal(hidden.beta, state["decay"])
    assert last.beta == 1.0


@pytest.mark.parametrize(("values", "reset"), [([1, 1, 1, 1, 1], "zero"), ([0, 1, 0, 0, 0], None), ([2] * 5, None)])
def test_a_reset_of_single_neurons_is_that_of_their_layer(values: list[int], reset: str | None, tmp_path: Path) -> None:
    text = GOOD + SPIKING + '[tensors.reset]\nnames = ["resets"]\n'
    state = {**STATE, "resets": torch.tensor(values)}
    if reset is None:
        with pytest.raises(CheckpointError, match="resets"):
            load(tmp_path, text, state)
        return
    assert checkpoints.to_network(load(tmp_path, text, state)).layers[0].neuron.reset == reset


def test_two_positions_of_a_hidden_neuron(tmp_path: Path) -> None:
    names = [f"l{layer}.{end}" for layer in range(2) for end in ("source", "target")]
    state = {name: torch.rand(n, 3) for name, n in zip(names, (6, 5, 5, 2), strict=True)}
    state |= {f"l{layer}.inh": torch.rand(n) for layer, n in enumerate((6, 5))}
    text = map_of(positions='"l{i}.source"', target_positions='"l{i}.target"', inhibition='"l{i}.inh"')
    loaded = load(tmp_path, text, state)
    assert loaded.config.layer_sizes == (6, 5, 2) and loaded.config.separate_positions
    for index, layer in enumerate(checkpoints.to_network(loaded).layers):
        np.testing.assert_array_equal(layer.weight.source, state[f"l{index}.source"])
        np.testing.assert_array_equal(layer.weight.target, state[f"l{index}.target"])
    state["l0.target"] = torch.rand(4, 3)
    with pytest.raises(CheckpointError, match=r"l0\.target.*\[4, 3\].*\[5, 3\]"):
        load(tmp_path, text, state)


def test_absent_map(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"none\.toml"):
        checkpoints.load(tmp_path / "model.pt", map_path=tmp_path / "none.toml")


def test_zero_padded_numbers_count(tmp_path: Path) -> None:
    state = state_of(["p.00", "p.01", "p.02"], {"inhibition": ["m.0", "m.1"]})
    loaded = load(tmp_path, map_of(positions='"p.{i}"', inhibition='"m.{i}"'), state)
    np.testing.assert_array_equal(loaded.tensors["positions.2"], state["p.02"])


def test_a_nested_state_dict_is_pointed_out(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"pos\.0") as caught:
        load(tmp_path, GOOD, {"epoch": 3, "model": STATE})
    assert 'state_dict = "model"' in caught.value.hint
    assert load(tmp_path, 'state_dict = "model"\n' + GOOD, {"epoch": 3, "model": STATE}).config.layer_sizes == (6, 5, 2)
