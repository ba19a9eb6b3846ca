"""Exports with int4 weights: files that store 4 bits, warnings of those that do not, refused requests."""

from pathlib import Path

import numpy as np
import pytest

import sen_edge
from sen_edge.errors import UsageError
from sen_edge.schema import SchemaError
from sen_runtime import format as image
from sen_runtime.ir.network import stored_dtype

#: The decisions of random weights are close.
LOOSE = {"decisions": 0.3, "readout": 0.3}


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((256, 64), np.float32))
    return tmp_path / "x.npz"


def test_targets_without_an_int4_form_are_named(mlp_path: Path, tmp_path: Path, calibration: Path) -> None:
    result = sen_edge.export(
        mlp_path, tmp_path, to="sen,tflite", dtype="int4", calibration=calibration, tolerance=LOOSE
    )
    assert stored_dtype(image.read(tmp_path / "mlp.sen")) == "int4"
    (warning,) = result.manifest["warnings"]
    assert warning.startswith("tflite: int4 weights are stored as int8")
    assert result.manifest["request"]["dtype"] == "int4"


def test_int4_requires_calibration(mlp_path: Path, tmp_path: Path) -> None:
    with pytest.raises((SchemaError, UsageError), match="int4 requires calibration") as raised:
        sen_edge.export(mlp_path, tmp_path, to="sen", dtype="int4")
    assert "int4-dynamic" in raised.value.hint


def test_int4_weights_are_not_quantized_again(mlp_path: Path, tmp_path: Path, calibration: Path) -> None:
    model = sen_edge.quantize(mlp_path, dtype="int4-dynamic", calibration=calibration)
    image.write(model.network, tmp_path / "small.sen")
    with pytest.raises(UsageError, match="int4 already"):
        sen_edge.quantize(tmp_path / "small.sen", dtype="int8-dynamic")
    with pytest.raises(UsageError, match="int4 already"):
        sen_edge.compress(tmp_path / "small.sen", rank=4, calibration=calibration)


def test_one_scale_per_matrix_is_refused(mlp_path: Path, calibration: Path) -> None:
    with pytest.raises(UsageError, match="granularity"):
        sen_edge.quantize(mlp_path, dtype="int4", calibration=calibration, granularity="tensor")
