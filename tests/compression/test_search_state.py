"""State file of an interrupted search: content and errors."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from sen_edge.compression.evaluator import VERSION, SearchState, state_path
from sen_edge.compression.request import CompressRequest
from sen_edge.data.datasets import Dataset
from sen_edge.errors import OutputError, UsageError
from sen_runtime.ir.network import Network
from tests.support.networks import random_network

RNG = np.random.default_rng(0)
X, Y = RNG.random((20, 6), np.float32), np.arange(20) % 3
DATA = Dataset("numbers", X[:15], Y[:15], X[15:], Y[15:], (0.0, 1.0))
NETWORK = random_network(RNG, kinds=("dense",), sizes=(6, 5, 3))
REQUEST = CompressRequest(max_drop=0.0, objective="macs")


def load(
    path: Path | None, network: Network = NETWORK, data: Dataset = DATA, request: CompressRequest = REQUEST
) -> SearchState:
    return SearchState.load(path, network, data, asdict(request))


def test_figures_are_computed_once(tmp_path: Path) -> None:
    path, values = tmp_path / "state", iter([(1.5,), (2.5, 3.0)])
    state = load(path)
    assert not path.exists()
    assert [state.recall("a", lambda: next(values)) for _ in range(3)] == [(1.5,)] * 3
    again = load(path)
    assert again.recall("a", lambda: next(values)) == (1.5,)
    assert again.recall("b", lambda: next(values)) == (2.5, 3.0)
    assert load(path).figures == {"a": (1.5,), "b": (2.5, 3.0)}


def test_floats_are_kept_exactly(tmp_path: Path) -> None:
    values = (1 / 3, np.float64(0.1) + 0.2, 1e-300, 12345678.9)
    load(tmp_path / "state").recall("a", lambda: values)
    assert load(tmp_path / "state").figures["a"] == values


def test_a_failed_computation_is_not_kept(tmp_path: Path) -> None:
    state = load(tmp_path / "state")
    with pytest.raises(ZeroDivisionError):
        state.recall("a", lambda: [1 / 0])
    assert state.figures == {} and not (tmp_path / "state").exists()


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None).recall("a", lambda: [1.0]) == (1.0,)
    assert not list(tmp_path.iterdir())


def test_metadata_make_no_difference(tmp_path: Path) -> None:
    load(tmp_path / "state").recall("a", lambda: [1.0])
    assert load(tmp_path / "state", replace(NETWORK, metadata={"note": "x"})).figures == {"a": (1.0,)}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"network": replace(NETWORK, layers=(replace(NETWORK.layers[0], bias=None), NETWORK.layers[1]))}, "network"),
        ({"data": replace(DATA, train_targets=DATA.train_targets[::-1])}, "data"),
        *(
            ({"request": replace(REQUEST, **change)}, next(iter(change)))
            for change in (
                {"objective": "size"},
                {"engine": "litert"},
                {"methods": ("sparse",)},
                {"dtypes": ("float32",)},
                {"epochs": 2},
                {"seed": 1},
            )
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_state_of_another_search_is_refused(tmp_path: Path, change: dict[str, object], name: str) -> None:
    path = tmp_path / "state"
    load(path).recall("a", lambda: [1.0])
    before = path.read_bytes()
    with pytest.raises(UsageError, match=f"{name}$") as caught:
        load(path, **change)  # type: ignore[arg-type]
    assert str(path) in caught.value.hint and path.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "null",
        lambda text: text.replace("sen-edge-search", "sen-edge-training"),
        lambda text: text.replace(f'"version": {VERSION}', '"version": 2'),
        lambda text: text.replace('"subject"', '"object"'),
        lambda text: text.replace('"figures": {', '"figures": 3, "others": {'),
        lambda text: text.replace("1.0", '"one"'),
        lambda text: "\x00\xff",
    ],
    ids=["cut", "empty", "list", "null", "format", "version", "no subject", "no figures", "no number", "no text"],
)
def test_a_damaged_state_is_refused(tmp_path: Path, damage: Callable[[str], str]) -> None:
    path = tmp_path / "state"
    load(path).recall("a", lambda: [1.0])
    path.write_text(damage(path.read_text()), "latin-1")
    before = path.read_bytes()
    with pytest.raises(UsageError) as caught:
        load(path)
    assert str(path) in caught.value.hint and path.read_bytes() == before


def test_a_state_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        load(tmp_path / "absent" / "state").recall("a", lambda: [1.0])


def test_the_state_lies_next_to_the_output(tmp_path: Path) -> None:
    path = state_path(Path("a/small.sen"))
    assert path == Path("a/small.sen.search.json")
    load(tmp_path / path.name).recall("a", lambda: [1.0])
    assert json.loads((tmp_path / path.name).read_text())["figures"] == {"a": [1.0]}
