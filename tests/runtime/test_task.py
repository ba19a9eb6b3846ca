"""Metrics of the tasks."""

from __future__ import annotations

import numpy as np
import pytest

from sen_runtime import task
from sen_runtime.errors import DataError
from sen_runtime.scores import check_shapes
from sen_runtime.task import ACCURACY, ERROR, EXACT_MATCH, F1, MACRO_F1, MAE, R2, RMSE, ROC_AUC

NO_INPUTS = np.zeros((0, 0))


def test_classification_counts_classes_that_occur() -> None:
    outputs = np.eye(4)[[0, 0, 1, 1]]
    found = task.of("classification").scores(outputs, np.array([0, 1, 1, 1]), NO_INPUTS)
    assert found == {ACCURACY: 75.0, MACRO_F1: pytest.approx(100 * (2 / 3 + 4 / 5) / 2)}


def test_multilabel_pools_all_labels() -> None:
    outputs = np.array([[1.0, -1.0, 1.0], [-1.0, -1.0, -1.0]])
    found = task.of("multilabel").scores(outputs, np.array([[1, 0, 0], [0, 0, 0]]), NO_INPUTS)
    assert found == {F1: pytest.approx(100 * 2 / 3), EXACT_MATCH: 50.0}


def test_regression_averages_r2_over_the_outputs() -> None:
    targets = np.array([[0.0, 0.0], [2.0, 20.0]])
    outputs = np.array([[1.0, 0.0], [1.0, 20.0]])
    found = task.of("regression").scores(outputs, targets, NO_INPUTS)
    assert found == {R2: pytest.approx(0.5), MAE: pytest.approx(0.5), RMSE: pytest.approx(np.sqrt(0.5))}


def test_reconstruction_ranks_anomalies_by_their_error() -> None:
    inputs, outputs = np.zeros((4, 2)), np.array([[0, 0], [1, 1], [1, 1], [2, 2]])
    assert task.of("reconstruction").scores(outputs, None, inputs) == {ERROR: 1.5}
    found = task.of("reconstruction").scores(outputs, np.array([0, 0, 1, 1]), inputs)
    assert found == {ERROR: 0.5, ROC_AUC: 87.5}  # one tie of four pairs


def test_a_drop_is_positive_where_a_score_is_worse() -> None:
    assert ACCURACY.drop(90, 88) == 2
    assert ERROR.drop(1.0, 1.5) == 0.5


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(DataError):
        task.of("ranking")


@pytest.mark.parametrize("input_shape", [(3,), (2, 4), (4, 4)], ids=["other inputs", "channels", "sequences"])
def test_a_reconstruction_returns_its_input(input_shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="reconstruction"):
        check_shapes(task.of("reconstruction"), input_shape, 4)
    check_shapes(task.of("reconstruction"), (4,), 4)
    check_shapes(task.of("regression"), input_shape, 4)
