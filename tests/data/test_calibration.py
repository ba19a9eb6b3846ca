"""Calibration inputs: sources and errors."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from sen_edge.data import calibration
from sen_edge.data.calibration import load_calibration
from sen_edge.data.datasets import load, load_test
from sen_edge.errors import DataError
from sen_edge.model.config import SpatialConfig, SpikingConfig
from tests.conftest import make_network

NETWORK = make_network(SpatialConfig((6, 4, 2)))
SPIKES = make_network(SpatialConfig((6, 4, 2), spiking=SpikingConfig(3, input_coding="spikes")))
INPUTS = np.random.default_rng(0).random((80, 6)).astype(np.float32)


def npz(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path / "data.npz", **arrays)
    return str(path / "data.npz")


def idx(path: Path, array: np.ndarray) -> str:
    data = (
        bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


@pytest.mark.parametrize(
    "arrays",
    [{"x_train": INPUTS, "x_test": INPUTS[:2]}, {"x": INPUTS}, {"x": INPUTS.reshape(80, 2, 3, 1)}],
    ids=["training part", "x alone", "images"],
)
def test_npz(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    found = load_calibration(npz(tmp_path, **arrays), None, NETWORK)
    np.testing.assert_array_equal(found.held_out, INPUTS[7::8])
    np.testing.assert_array_equal(found.inputs, np.delete(INPUTS, np.s_[7::8], axis=0))
    assert found.name.startswith("data.npz (") and len(found.sha256) == 64


def test_labelled_data_without_a_split_give_their_training_part(tmp_path: Path) -> None:
    path, network = npz(tmp_path, x=INPUTS, y=np.arange(80) % 2), make_network(SpatialConfig((6, 2)))
    found = load_calibration(path, None, network)
    assert found.name == "data.npz (training part: 64 of 80)"
    used = np.concatenate([found.inputs, found.held_out])
    test = load_test(path, None, network).inputs
    assert len(used) == 64 and not (used[:, None] == test[None]).all(axis=2).any()


@pytest.mark.parametrize("name", ["images-idx3-ubyte", "images-idx3-ubyte.gz"])
def test_idx_is_scaled_to_the_input_range(name: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 2, 3))
    network = make_network(SpatialConfig((6, 4, 2), input_range=(-1.0, 1.0)))
    found = load_calibration(idx(tmp_path / name, pixels), None, network)
    np.testing.assert_allclose(found.held_out, pixels.reshape(64, 6)[7::8] / 127.5 - 1, atol=1e-6)


def test_a_data_sets_training_part_is_used() -> None:
    digits = load("digits")
    found = load_calibration("digits", None, make_network(SpatialConfig((64, 8, 10))))
    assert len(found.inputs) + len(found.held_out) == len(digits.train_inputs)
    np.testing.assert_array_equal(found.held_out, digits.train_inputs[7::8])


def test_many_examples_are_thinned_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MAX_EXAMPLES", 4)
    found = load_calibration(npz(tmp_path, x=INPUTS), None, NETWORK)
    np.testing.assert_array_equal(found.inputs, INPUTS[[0, 26, 53, 79]])
    assert found.sha256 != load_calibration(npz(tmp_path, x=INPUTS[::-1]), None, NETWORK).sha256


def test_spike_trains(tmp_path: Path) -> None:
    train = (np.random.default_rng(0).random((64, 3, 6)) < 0.5).astype(np.uint8)
    assert load_calibration(npz(tmp_path, x=train), None, SPIKES).inputs.shape == (56, 3, 6)
    with pytest.raises(DataError, match="spikes"):
        load_calibration(npz(tmp_path, x=train * 0.5), None, SPIKES)
    with pytest.raises(DataError, match=r"\[4, 6\].*\[3, 6\]"):
        load_calibration(npz(tmp_path, x=np.ones((2, 4, 6))), None, SPIKES)


def with_nan() -> np.ndarray:
    inputs = INPUTS.copy()
    inputs[3, 2] = np.nan
    return inputs


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": INPUTS[:, :5]}, r"data.npz.*\[5\].*\[6\]"),
        ({"x": INPUTS[0]}, r"float32 \[6\]"),
        ({"x": with_nan()}, "input 3.*nan"),
        ({"x": np.full((3, 6), 0.5)}, r"\b0\.5\b"),
        ({"x": INPUTS * 255}, r"2\d\d.*\[0, 1\]"),
        ({"x": INPUTS[:63]}, "63.*64"),
        ({"pixels": INPUTS}, "pixels"),
        ({"x_test": INPUTS}, "training"),
    ],
    ids=["width", "rank", "nan", "constant", "scale", "few", "names", "test data"],
)  # fmt: skip
def test_wrong_inputs_are_refused(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_calibration(npz(tmp_path, **arrays), None, NETWORK)


def test_no_such_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'fashion'.*mnist.*digits"):
        load_calibration("fashion", None, NETWORK)
    (tmp_path / "noise").write_bytes(b"\0\0\x0d\x01 no bytes")
    with pytest.raises(DataError, match="00 00 08 01"):
        load_calibration(str(tmp_path / "noise"), None, NETWORK)
    with pytest.raises(DataError, match="nothing"):
        (tmp_path / "noise").write_bytes(b"")
        load_calibration(str(tmp_path / "noise"), None, NETWORK)
