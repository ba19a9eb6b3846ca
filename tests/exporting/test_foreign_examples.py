"""The worked examples of foreign training code: each trains, and its export computes what it computed."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome

FOLDER = Path(__file__).parents[2] / "examples" / "foreign"
#: Max error of a layer in units of its standard deviation.
TOLERANCE = 1e-5


@pytest.mark.parametrize("example", sorted(path.stem for path in FOLDER.glob("*.toml")))
def test_an_example_is_exported_as_it_was_trained(
    example: str, sen_edge: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(FOLDER))
    runpy.run_path(str(FOLDER / f"{example}.py"))
    model = next(tmp_path.glob("model.*"))
    mapped = ("--map", FOLDER / f"{example}.toml", "--expect", "expect.npz")
    outcome = sen_edge("export", model, *mapped, "--to", "onnx", "-o", "out")
    assert outcome.code == 0, outcome.err
    layers = json.loads((tmp_path / "out" / "model.manifest.json").read_text())["input"]["expect"]["layers"]
    assert all(each["max_rel_error"] <= TOLERANCE for each in layers)
