"""Tasks of a network: what its outputs mean, and the metrics that judge them.

    task.of("regression").scores(outputs, targets, inputs)    # {"R2": 0.48, "MAE": 43.1, "RMSE": 54.0}

The first score is the metric of the task, which training, budgets and tables use. Percentages are in percent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from sen_runtime.errors import DataError

Values = NDArray[Any]
Decisions = NDArray[Any]


@dataclass(frozen=True)
class Metric:
    """A score.

    Attributes:
        name: in tables and records.
        unit: "%", or empty.
        higher_is_better: direction.
    """

    name: str
    unit: str = ""
    higher_is_better: bool = True

    @property
    def key(self) -> str:
        """Name in keys of files, without spaces."""
        return self.name.replace(" ", "_")

    def number(self, value: float) -> str:
        """Value without its unit."""
        return f"{value:.2f}" if self.unit else f"{value:.4g}"

    def text(self, value: float) -> str:
        """Value with its unit."""
        return f"{self.number(value)} {self.unit}".rstrip()

    def change_text(self, change: float) -> str:
        """Difference of two values, in points for percentages."""
        return f"{change:.2f} points" if self.unit else f"{change:.3g}"

    def drop(self, before: float, after: float) -> float:
        """By how much a score is worse than one before; negative if it is better."""
        return before - after if self.higher_is_better else after - before


ACCURACY, MACRO_F1 = Metric("accuracy", "%"), Metric("macro F1", "%")
F1, EXACT_MATCH = Metric("F1", "%"), Metric("exact match", "%")
R2, MAE, RMSE = Metric("R2"), Metric("MAE", higher_is_better=False), Metric("RMSE", higher_is_better=False)
ERROR, ROC_AUC = Metric("reconstruction error", higher_is_better=False), Metric("ROC AUC", "%")

#: Outputs `[n, n_out]`, targets, and the values `[n, n_in]` that a reconstruction should return -> score by metric.
_Scores = Callable[[Values, Optional[Values], Values], "dict[Metric, float]"]


@dataclass(frozen=True)
class TaskKind:
    """A task.

    Attributes:
        name: in configurations and metadata.
        metrics: those that a score of the task has, its own metric first.
        output_activation: turns outputs into probabilities: "softmax", "sigmoid" or "none".
        decide: outputs `[n, n_out]` -> what the task decides by; None for continuous outputs.
    """

    name: str
    metrics: tuple[Metric, ...]
    output_activation: str
    decide: Callable[[Values], Decisions] | None
    _score: _Scores

    @property
    def metric(self) -> Metric:
        """Metric of training, budgets and tables."""
        return self.metrics[0]

    def scores(self, outputs: Values, targets: Values | None, inputs: Values) -> dict[Metric, float]:
        """Score outputs `[n, n_out]`; the metric of the task comes first.

        Args:
            outputs: of the network.
            targets: class numbers `[n]`; labels or values `[n, n_out]`; or None or 1 for an anomaly `[n]`, of a
                reconstruction.
            inputs: `[n, n_in]`, which a reconstruction should return.
        """
        return self._score(outputs, targets, inputs)


def _classification(outputs: Values, targets: Values | None, inputs: Values) -> dict[Metric, float]:
    assert targets is not None  # checked by Examples; for mypy
    predicted, n_classes = outputs.argmax(axis=1), outputs.shape[1]
    confusion = np.bincount(targets * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)
    occurring = confusion.sum(axis=0) + confusion.sum(axis=1) > 0
    f1 = _f1(confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1))
    return {
        ACCURACY: 100 * int(np.count_nonzero(predicted == targets)) / len(targets),
        MACRO_F1: 100 * float(f1[occurring].mean()),
    }


def _multilabel(outputs: Values, targets: Values | None, inputs: Values) -> dict[Metric, float]:
    assert targets is not None
    predicted, wanted = _is_positive(outputs), _is_positive(targets)
    f1 = _f1(*(np.count_nonzero(each, keepdims=True) for each in (predicted & wanted, predicted, wanted)))
    return {F1: 100 * float(f1[0, 0]), EXACT_MATCH: 100 * float(np.mean((predicted == wanted).all(axis=1)))}


def _f1(hits: Values, predicted: Values, wanted: Values) -> Values:
    """2 hits / (predicted + wanted); 0 where there is neither."""
    result: Values = 2 * hits / np.maximum(predicted + wanted, 1)
    return result


def _regression(outputs: Values, targets: Values | None, inputs: Values) -> dict[Metric, float]:
    assert targets is not None
    wanted = targets.astype(np.float64)
    error = outputs - wanted
    variance = np.square(wanted - wanted.mean(axis=0)).mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # constant targets: no R2
        r2 = np.mean(1 - np.square(error).mean(axis=0) / variance)
    return {R2: float(r2), MAE: float(np.abs(error).mean()), RMSE: float(np.sqrt(np.square(error).mean()))}


def _reconstruction(outputs: Values, targets: Values | None, inputs: Values) -> dict[Metric, float]:
    scores = anomaly_scores(outputs, inputs)
    if targets is None:
        return {ERROR: float(scores.mean())}
    found = {ERROR: float(scores[targets == 0].mean() if (targets == 0).any() else np.nan)}
    return {**found, ROC_AUC: 100 * roc_auc(scores, targets)}


def anomaly_scores(outputs: Values, inputs: Values) -> Values:
    """Mean squared error `[n]` of reconstructions `[n, n_in]`."""
    scores: Values = np.square(outputs.astype(np.float64) - inputs.reshape(outputs.shape)).mean(axis=1)
    return scores


def roc_auc(scores: Values, anomalies: Values) -> float:
    """Area under the ROC curve: share of pairs in which the anomaly (1) has the higher score; ties count half.

    NaN without both kinds.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n_anomalies = int(np.count_nonzero(anomalies))
    n_pairs = n_anomalies * (len(anomalies) - n_anomalies)
    above = float(ranks[anomalies > 0].sum()) - n_anomalies * (n_anomalies + 1) / 2
    return above / n_pairs if n_pairs else float("nan")


def _argmax(outputs: Values) -> Decisions:
    largest: Decisions = outputs.argmax(axis=1)
    return largest


def _is_positive(outputs: Values) -> Decisions:
    is_positive: Decisions = outputs > 0
    return is_positive


CLASSIFICATION, MULTILABEL, REGRESSION, RECONSTRUCTION = TASKS = (
    "classification",
    "multilabel",
    "regression",
    "reconstruction",
)
_KINDS: Mapping[str, TaskKind] = {
    kind.name: kind
    for kind in (
        TaskKind(CLASSIFICATION, (ACCURACY, MACRO_F1), "softmax", _argmax, _classification),
        TaskKind(MULTILABEL, (F1, EXACT_MATCH), "sigmoid", _is_positive, _multilabel),
        TaskKind(REGRESSION, (R2, MAE, RMSE), "none", None, _regression),
        TaskKind(RECONSTRUCTION, (ERROR, ROC_AUC), "none", None, _reconstruction),
    )
}


def of(name: str) -> TaskKind:
    """The task of this name; a `DataError` if there is none."""
    if name not in _KINDS:
        raise DataError(f"task is {name!r}; expected one of {', '.join(TASKS)}")
    return _KINDS[name]
