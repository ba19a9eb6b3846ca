"""Published schemas: real manifests are valid, and changed ones are not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import sen_edge
from sen_edge import manifest_file
from sen_edge.exporting.manifest_schema import schema
from tests.conftest import MLP, SNN, make_model
from tests.conftest import make_checkpoint as checkpoint

SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FORMS: dict[str, dict[str, Any]] = {
    "mlp": {"to": ["sen", "onnx"]},
    "int8": {"to": ["sen"], "dtype": "int8", "calibration": "digits", "tolerance": {"decisions": 0, "readout": 0}},
    "compressed": {"to": ["c"], "sparsity": 0.5, "data": "digits"},
    "snn": {"to": ["sen"]},
}


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["manifest_version"]["const"] == manifest_file.VERSION


@pytest.mark.parametrize("form", FORMS)
def test_real_manifests_are_valid(form: str, tmp_path: Path) -> None:
    model = make_model(checkpoint(SNN if form == "snn" else MLP))
    result = sen_edge.export(model, tmp_path, name=f"net_{form}", **FORMS[form])
    VALIDATOR.validate(json.loads((tmp_path / f"net_{form}.manifest.json").read_text()))
    assert result.files


def test_a_manifest_of_a_mapped_and_compared_checkpoint_is_valid(tmp_path: Path, mlp_path: Path) -> None:
    model, x = sen_edge.load(mlp_path), np.random.default_rng(0).random((4, 64), np.float32)
    np.savez(tmp_path / "mine.npz", x=x, y=model.trace(x)[-1])
    result = sen_edge.export(model, tmp_path / "out", to=["sen"], expect=tmp_path / "mine.npz")
    assert result.manifest["input"]["expect"]["inputs"] == 4
    VALIDATOR.validate(json.loads(json.dumps(result.manifest)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: found.pop("network"),
        lambda found: found.update(other=1),
        lambda found: found["artifacts"][0]["files"].clear(),
        lambda found: found["artifacts"][0]["verification"][0].update(passed="yes"),
        lambda found: found["network"]["layers"][0].pop("macs"),
    ],
)
def test_other_content_is_invalid(damage: Callable[[Any], Any], tmp_path: Path, mlp_path: Path) -> None:
    found = json.loads(json.dumps(sen_edge.export(mlp_path, tmp_path, to=["sen"]).manifest))
    damage(found)
    assert not VALIDATOR.is_valid(found)
