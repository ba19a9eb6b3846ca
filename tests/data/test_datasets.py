"""Data sets: digits, `.npz`, and data that are refused."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_edge.data import datasets
from sen_edge.data.datasets import Dataset, load, load_test
from sen_edge.errors import DataError
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_runtime.errors import MissingExtraError
from sen_runtime.ir.standardization import Standardization
from tests.conftest import make_network


def test_digits_are_scaled_and_split_by_class() -> None:
    pytest.importorskip("sklearn")
    digits = load("digits")
    assert len(digits.train_targets) + len(digits.test_targets) == 1797
    assert (digits.n_in, digits.n_out, digits.input_range) == (64, 10, (0.0, 1.0))
    share = np.bincount(digits.test_targets) / np.bincount(np.concatenate([digits.train_targets, digits.test_targets]))
    np.testing.assert_allclose(share, 0.2, atol=0.005)
    test = load_test("digits", None, make_network(SpatialConfig((64, 10))))
    np.testing.assert_array_equal(test.inputs, digits.test_inputs)
    np.testing.assert_array_equal(test.require_targets(), digits.test_targets)
    assert test.title == digits.test.title == "digits (test part: 359 of 1,797)"


def save(path: Path, **arrays: object) -> str:
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
    return str(path)


X = np.random.default_rng(1).random((20, 2, 3))
Y = np.arange(20) % 4
NETWORK = make_network(SpatialConfig((6, 4)))


def test_npz_with_a_split(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", x_train=X, y_train=Y, x_test=X[:4] - 0.03, y_test=Y[:4].astype(np.uint8))
    dataset = load(path)
    assert (dataset.name, dataset.train_inputs.shape, dataset.n_out) == ("data.npz", (20, 6), 4)
    assert dataset.input_range == (np.float32((X[:4] - 0.03).min()), np.float32(X.max()))
    test = load_test(path, None, NETWORK)
    np.testing.assert_array_equal(test.inputs, (X[:4] - 0.03).reshape(4, 6).astype(np.float32))
    np.testing.assert_array_equal(test.require_targets(), Y[:4])
    assert test.title == dataset.test.title == "data.npz (test part: 4)"


def test_npz_without_a_split(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", x=X, y=Y)
    dataset = load(path)
    assert (
        np.bincount(dataset.train_targets).tolist() == [4] * 4 and np.bincount(dataset.test_targets).tolist() == [1] * 4
    )
    together = np.concatenate([dataset.train_inputs, dataset.test_inputs])
    np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(X.reshape(20, 6).astype(np.float32), axis=0))
    test = load_test(path, None, NETWORK)
    np.testing.assert_array_equal(test.inputs, dataset.test_inputs)
    assert test.title == dataset.test.title == "data.npz (test part: 4 of 20)"


def test_test_data_alone_are_all_used(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", x_test=X, y_test=Y)
    assert load_test(path, None, NETWORK).title == "data.npz (test part: 20)"
    with pytest.raises(DataError, match="training"):
        load(path)


def test_spike_trains_keep_their_steps(tmp_path: Path) -> None:
    spikes = (X > 0.5).astype(np.uint8)
    path = save(tmp_path / "data.npz", x_train=spikes, y_train=Y, x_test=spikes, y_test=Y)
    assert load(path, has_steps=True).train_inputs.shape == (20, 2, 3)
    network = make_network(SpatialConfig((3, 4), spiking=SpikingConfig(2, input_coding="spikes")))
    np.testing.assert_array_equal(load_test(path, None, network).inputs, spikes)
    with pytest.raises(DataError, match="sequences"):
        load("digits", has_steps=True)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        pytest.param({"x": X}, "labels", id="no labels"),
        pytest.param({"x": X * 0, "y": Y}, r"\b0\b", id="constant"),
        pytest.param({"x": X[:4], "y": Y[:4]}, r"\b4\b", id="too few"),
        pytest.param({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1}, "label 4", id="unseen label"),
        pytest.param(
            {"x_train": X, "y_train": Y, "x_test": X[:, :1], "y_test": Y},
            r"\[6\].*\[3\]",
            id="widths",
        ),
    ],
)
def test_bad_data_sets_are_refused(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(save(tmp_path / "data.npz", **arrays))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"'cifar'.*mnist.*digits"):
        load("cifar")


def test_data_that_do_not_fit_a_network(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", x=X, y=Y)
    with pytest.raises(DataError, match=r"\[6\].*\[5\]"):
        load_test(path, None, make_network(SpatialConfig((5, 4))))
    with pytest.raises(DataError, match="label 3"):
        load_test(path, None, make_network(SpatialConfig((6, 3))))
    with pytest.raises(DataError, match=r"\[2, 3\]"):
        load_test(path, None, make_network(SpatialConfig((6, 4), input_range=(2.0, 3.0))))
    with pytest.raises(DataError, match=r"\[2, 3\]"):
        datasets.check_dataset(load(path), SpatialConfig((6, 4), input_range=(2.0, 3.0)))


@pytest.mark.parametrize(("scale", "is_named"), [(1.0, False), (1e-3, True)])
@pytest.mark.parametrize("mean", [0.0, 500.0])
def test_inputs_of_another_scale_are_a_warning(
    mean: float, scale: float, is_named: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = np.random.default_rng(0).normal(mean, 100, (40, 4))
    path = save(tmp_path / "data.npz", x_test=raw * scale, y_test=np.arange(40) % 3)
    standardization = Standardization(np.full(4, mean, np.float32), np.full(4, 100, np.float32))
    network = make_network(SpatialConfig((4, 3), input_range=(-1000.0, 1000.0)))
    load_test(path, None, replace(network, input_scaling=standardization))
    assert ("raw inputs" in caplog.text) == is_named


def test_many_classes_with_few_test_examples(tmp_path: Path) -> None:
    labels = np.arange(3000) % 1500
    x = np.random.default_rng(0).random((3000, 6))
    path = save(tmp_path / "data.npz", x_train=x, y_train=labels, x_test=x[-200:], y_test=labels[-200:])
    with pytest.raises(DataError, match="1499") as caught:
        load(path)
    assert "--task classification" in caught.value.hint
    dataset = load(path, task="classification")
    assert dataset.n_out == 1500
    (warning,) = dataset.warnings()
    assert "1,300 of 1,500 classes" in warning and len(warning) < 200
    assert len(load_test(path, None, make_network(SpatialConfig((6, 1500)))).require_targets()) == 200


def test_missing_scikit_learn_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError) as caught:
        load("digits")
    assert caught.value.hint == "pip install scikit-learn"


def test_a_data_set_checks_itself() -> None:
    with pytest.raises(DataError, match=r"toy.*\[1\].*2"):
        Dataset(
            "toy", np.zeros((2, 3), np.float32), np.array([0, 1]), np.zeros((2, 3), np.float32), np.array([0]), (0, 1)
        )
