"""Foreign state dicts and maps that are hostile: short errors, plain text."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sen_edge.errors import CheckpointError
from sen_edge.model import checkpoint as checkpoints
from tests.model.test_foreign import GOOD, STATE, load

HOSTILE_STATES = {
    "control characters": {"\x1b[2Jname\n": 1},
    "surrogate": {"\ud800": 1},
    "long name": {"n" * 10**6: 1},
    "numbers": {i: i for i in range(5000)},
    "nested tuple": {((1, 2), (3,)): 1},
}


@pytest.mark.parametrize("entries", HOSTILE_STATES.values(), ids=HOSTILE_STATES)
def test_names_of_a_file_are_printed_bounded_and_plain(
    entries: Mapping[Any, Any], sen_edge: Callable[..., Any], tmp_path: Path
) -> None:
    load(tmp_path, GOOD, {**STATE, **entries})
    outcome = sen_edge("inspect", tmp_path / "model.pt", "--map", tmp_path / "map.toml")
    assert outcome.code == 0 and outcome.out.replace("\n", "").isprintable() and len(outcome.out) < 4000
    (tmp_path / "map.toml").write_text(GOOD.replace("pos.{i}", "position.{i}"))
    outcome = sen_edge("inspect", tmp_path / "model.pt", "--map", tmp_path / "map.toml")
    assert outcome.code == 1 and outcome.err.replace("\n", "").isprintable() and len(outcome.err) < 1000


def test_a_map_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff" + GOOD).config.layer_sizes == (6, 5, 2)


HOSTILE_MAPS = {
    "dotted key": ".".join(["a"] * 20_000) + " = 1\n" + GOOD,
    "digits": GOOD.replace("[config]", "[config]\nsteepness = 1" + "0" * 50_000),
    "beyond float": GOOD.replace("[config]", "[config]\nsteepness = 1" + "0" * 400),
    "deep list": "x = " + "[" * 5000 + "]" * 5000 + "\n" + GOOD,
    "long text": 'state_dict = "' + "k" * 60_000 + '"\n' + GOOD,
    "many names": GOOD.replace('["b.0", "b.1"]', str([f"a{i}" for i in range(5000)])),
    "large": "#" * 70_000 + "\n" + GOOD,
}


@pytest.mark.parametrize("text", HOSTILE_MAPS.values(), ids=HOSTILE_MAPS)
def test_a_hostile_map_is_one_short_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path, text)
    assert len(caught.value.message) < 1000


def test_a_pipe_is_no_map(tmp_path: Path) -> None:
    load(tmp_path, GOOD)
    (tmp_path / "map.toml").unlink()
    os.mkfifo(tmp_path / "map.toml")
    with pytest.raises(CheckpointError, match="pipe"):
        checkpoints.load(tmp_path / "model.pt", map_path=tmp_path / "map.toml")
