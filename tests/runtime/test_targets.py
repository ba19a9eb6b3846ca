"""Targets of each task: inference, conversion, split, contradictions."""

from pathlib import Path

import numpy as np
import pytest

from sen_edge.data.datasets import Dataset, load, load_test
from sen_edge.model.config import SpatialConfig
from sen_runtime.data import TEST, TRAINING, DataFile, Examples, Form, check_fit
from sen_runtime.errors import DataError
from tests.conftest import make_network

RNG = np.random.default_rng(0)
X = RNG.random((60, 3)).astype(np.float32)
LABELS = (RNG.random((60, 2)) < 0.5).astype(int)
VALUES = RNG.random(60)


def save(path: Path, **arrays: object) -> str:
    np.savez(path / "data.npz", **{name: np.asarray(array) for name, array in arrays.items()})
    return str(path / "data.npz")


@pytest.mark.parametrize(
    ("targets", "task", "n_out", "dtype"),
    [
        pytest.param(np.arange(60) % 4, "classification", 4, np.int64, id="integers"),
        pytest.param(np.arange(60)[:, None] % 4.0, "classification", 4, np.int64, id="whole numbers"),
        pytest.param(LABELS, "multilabel", 2, np.float32, id="0 and 1"),
        pytest.param(LABELS[:, 0], "classification", 2, np.int64, id="one column of 0 and 1"),
        pytest.param(VALUES, "regression", 1, np.float32, id="fractions"),
        pytest.param(np.c_[VALUES, LABELS[:, 0]], "regression", 2, np.float32, id="columns"),
    ],
)
def test_the_task_is_inferred(tmp_path: Path, targets: np.ndarray, task: str, n_out: int, dtype: type) -> None:
    dataset = load(save(tmp_path, x=X, y=targets))
    assert (dataset.task, dataset.n_out) == (task, n_out)
    assert dataset.train_targets is not None and dataset.train_targets.dtype == dtype
    assert len(dataset.train_inputs) == 48 and len(dataset.test_inputs) == 12
    if task != "classification":
        assert dataset.train_targets.shape == (48, n_out)


@pytest.mark.parametrize(
    "targets", [np.arange(60) % 13, np.arange(60) + 25, np.arange(60) % 4 - 1], ids=["many", "large", "negative"]
)
def test_doubtful_whole_numbers_need_a_task(tmp_path: Path, targets: np.ndarray) -> None:
    path = save(tmp_path, x=X, y=targets)
    with pytest.raises(DataError) as caught:
        load(path)
    assert "--task regression" in caught.value.hint
    found = load(path, task="regression")
    np.testing.assert_array_equal(
        np.sort(np.concatenate([found.train_targets, found.test_targets])[:, 0]), sorted(targets)
    )


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_targets_that_are_not_finite_have_no_task(tmp_path: Path, value: float) -> None:
    targets = np.where(np.arange(60) == 7, value, np.arange(60) % 2)
    with pytest.raises(DataError, match=r"y\[7\]"):
        load(save(tmp_path, x=X, y=targets))


@pytest.mark.parametrize(
    ("targets", "task", "place"),
    [
        pytest.param(VALUES, "classification", r"y\[0\]", id="classes of fractions"),
        pytest.param(np.arange(60) % 4 - 1, "classification", r"y\[0\] is -1", id="negative classes"),
        pytest.param(LABELS, "classification", r"\[60, 2\]", id="columns of classes"),
        pytest.param(LABELS + 1, "multilabel", r"y\[\d+\] is 2", id="labels of other values"),
        pytest.param(np.where(np.arange(60) == 7, np.nan, VALUES), "regression", r"y\[7\]", id="nan"),
        pytest.param(VALUES, "reconstruction", r"y\[0\]", id="anomalies of fractions"),
        pytest.param(LABELS, "clustering", "clustering", id="no task"),
        pytest.param(LABELS[:, None], "regression", r"\[60, 1, 2\]", id="axes"),
        pytest.param(VALUES * 0 + 2.5, "regression", r"target 0 is 2\.5", id="constant values"),
        pytest.param(np.c_[VALUES, VALUES * 0], "regression", "target 1 is 0", id="a constant column"),
        pytest.param(np.zeros((60, 2)), "multilabel", "target 0 is 0", id="constant labels"),
        pytest.param(np.ones(60, int), "classification", "target 0 is 1", id="one class"),
    ],
)
def test_targets_that_contradict_the_task(tmp_path: Path, targets: np.ndarray, task: str, place: str) -> None:
    with pytest.raises(DataError, match=place):
        load(save(tmp_path, x=X, y=targets), task=task)


def test_a_reconstruction_needs_no_targets(tmp_path: Path) -> None:
    path = save(tmp_path, x=X)
    dataset = load(path, task="reconstruction")
    assert (dataset.train_targets, dataset.test_targets, dataset.n_out) == (None, None, 3)
    assert len(dataset.train_inputs) == 48 and len(dataset.test_inputs) == 12 and len(dataset.sha256) == 64
    with pytest.raises(DataError, match="labels"):
        load(path)


def test_anomalies_are_not_trained_on(tmp_path: Path) -> None:
    is_anomaly = np.arange(60) % 6 == 0
    dataset = load(save(tmp_path, x=X, y=is_anomaly), task="reconstruction")
    assert dataset.train_targets.tolist() == [0] * 40 and np.bincount(dataset.test_targets).tolist() == [10, 10]
    np.testing.assert_array_equal(np.sort(dataset.test_inputs[dataset.test_targets == 1], 0), np.sort(X[is_anomaly], 0))


def test_other_tasks_hold_out_any_examples() -> None:
    examples = Examples("data", TRAINING, X, VALUES[:, None].astype(np.float32), task="regression")
    kept, held = examples.hold_out(0.25, 3)
    assert len(held) == 15
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(60))
    np.testing.assert_array_equal(held, examples.hold_out(0.25, 3)[1])
    assert not np.array_equal(held, examples.hold_out(0.25, 4)[1])


def test_data_for_a_network_have_its_task(tmp_path: Path) -> None:
    network = make_network(SpatialConfig((3, 2)))
    network = type(network)(network.layers, metadata={"task": "multilabel"})
    path = save(tmp_path, x=X, y=LABELS)
    assert load_test(path, None, network).task == "multilabel"
    with pytest.raises(DataError, match=r"1 .* 2 outputs"):
        load_test(save(tmp_path, x=X, y=LABELS[:, 0]), None, network)


def test_the_training_part_determines_the_task(tmp_path: Path) -> None:
    path = save(tmp_path, x_train=X, y_train=VALUES, x_test=X[:4], y_test=np.arange(4))
    (test,) = DataFile(Path(path)).read((TEST,))
    assert test.task == "regression" and test.targets.tolist() == [[0], [1], [2], [3]]
    assert DataFile(Path(path)).read((TEST,), Form("classification"))[0].targets.tolist() == [0, 1, 2, 3]


def test_parts_with_different_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\[60, 2\].*\[60, 1\]"):
        load(save(tmp_path, x_train=X, y_train=LABELS, x_test=X, y_test=LABELS[:, :1]), task="multilabel")


def test_labels_without_examples_are_a_warning() -> None:
    never = np.c_[LABELS, np.zeros(60)].astype(np.float32)
    dataset = Dataset("d", X, never, X, never, (0.0, 1.0), task="multilabel", output_names=("a", "b", "c"))
    assert len(dataset.warnings()) == 2 and all("c" in warning for warning in dataset.warnings())


def test_names_are_one_per_column() -> None:
    with pytest.raises(DataError, match="2 feature names"):
        Examples("d", TEST, X, feature_names=("a", "b"))
    with pytest.raises(DataError, match="1 names"):
        Examples("d", TEST, X, LABELS.astype(np.float32), output_names=("a",), task="multilabel")
    with pytest.raises(DataError, match="'b'"):
        Examples("d", TEST, np.where(np.arange(3) == 1, np.inf, X), feature_names=("a", "b", "c"))
    check_fit(Examples("d", TEST, X, None, feature_names=("a", "b", "c")), (3,), None)
