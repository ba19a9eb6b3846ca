"""Scores of model and artifact on the user's data, and their allowed differences.

docs/reference/verification.md describes the tolerances.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.exporting.verify.result import MAX_CONFUSED, DataFigures, ScoreFigures
from sen_runtime.task import (
    ACCURACY,
    CLASSIFICATION,
    ERROR,
    F1,
    MULTILABEL,
    R2,
    RECONSTRUCTION,
    REGRESSION,
    ROC_AUC,
    Metric,
    TaskKind,
    anomaly_scores,
)

Values = NDArray[Any]

#: Groups of examples that are left out in turn to estimate a standard error.
GROUPS = 20
#: Factor of the allowed difference of a reconstruction error, to which the rounding of all outputs adds.
ERROR_FACTOR = 5
#: Share of the examples below the threshold of anomaly scores if they are not of both kinds.
NORMAL_SHARE = 0.95


@dataclass(frozen=True)
class Outputs:
    """Outputs `[n, n_out]` of model and artifact, targets, and inputs, in units of `sen_runtime.scores.in_units`."""

    kind: TaskKind
    model: Values
    artifact: Values
    targets: Any
    inputs: Values

    def scores(self, rows: Any = slice(None)) -> tuple[dict[Metric, float], dict[Metric, float]]:
        """Scores of model and artifact on some examples."""
        targets, inputs = None if self.targets is None else self.targets[rows], self.inputs[rows]
        model, artifact = (self.kind.scores(each[rows], targets, inputs) for each in (self.model, self.artifact))
        return model, artifact

    def chance(self, metric: Metric) -> float:
        """Two standard errors of the difference of a score, from leaving out each of `GROUPS` groups of examples."""
        n_groups, groups = min(GROUPS, len(self.model)), np.arange(len(self.model)) % GROUPS
        pairs = [self.scores(groups != group) for group in range(n_groups)] if n_groups > 1 else []
        found = [after[metric] - before[metric] for before, after in pairs]
        found = [difference for difference in found if np.isfinite(difference)]
        return 2 * float(np.sqrt((len(found) - 1) * np.var(found))) if found else 0.0


def compare_scores(outputs: Outputs, title: str, points: float) -> DataFigures:
    """Compare the scores of model and artifact on data called `title`; see `Tolerance.score` for `points`."""
    with np.errstate(all="ignore"):  # an artifact whose outputs are not finite has no score
        before, after = outputs.scores()
        allowed, others = _JUDGES[outputs.kind.name](outputs, before, points)
    scores = tuple(
        ScoreFigures(metric.name, metric.unit, before[metric], after[metric], allowed.get(metric)) for metric in before
    )
    return DataFigures(title, len(outputs.model), scores, **others)


#: Allowed differences by metric, and other fields of `DataFigures`.
_Judged = tuple[dict[Metric, float], dict[str, Any]]


def _classification(outputs: Outputs, before: Mapping[Metric, float], points: float) -> _Judged:
    right, stays = (each.argmax(axis=1) == outputs.targets for each in (outputs.model, outputs.artifact))
    changed = int(np.count_nonzero(right != stays))
    figures = {"changed": changed, "confusion": _confusion(outputs.artifact, outputs.targets)}
    return {ACCURACY: points + 200 * float(np.sqrt(changed)) / len(right)}, figures


def _confusion(outputs: Values, targets: Values) -> tuple[tuple[int, ...], ...] | None:
    """Count examples by class (row) and decision (column)."""
    n = outputs.shape[1]
    if n > MAX_CONFUSED:
        return None
    counts = np.bincount(targets * n + outputs.argmax(axis=1), minlength=n * n).reshape(n, n)
    return tuple(map(tuple, counts.tolist()))


def _multilabel(outputs: Outputs, before: Mapping[Metric, float], points: float) -> _Judged:
    changed = int(np.count_nonzero((outputs.model > 0) != (outputs.artifact > 0)))
    return {F1: points + outputs.chance(F1)}, {"changed": changed}


def _regression(outputs: Outputs, before: Mapping[Metric, float], points: float) -> _Judged:
    r2 = before[R2]
    return ({R2: points / 100 * max(1.0, 1 - r2)} if np.isfinite(r2) else {}), {}


def _reconstruction(outputs: Outputs, before: Mapping[Metric, float], points: float) -> _Judged:
    error, variance = before[ERROR], float(outputs.inputs.var(axis=0, dtype=np.float64).mean())
    allowed = {ERROR: ERROR_FACTOR * points / 100 * max(variance, error)} if np.isfinite(error) else {}
    if np.isfinite(before.get(ROC_AUC, np.nan)):
        allowed[ROC_AUC] = points + outputs.chance(ROC_AUC)
    model, artifact = (anomaly_scores(each, outputs.inputs) for each in (outputs.model, outputs.artifact))
    threshold = anomaly_threshold(model, outputs.targets)
    agreement = float(np.mean((model > threshold) == (artifact > threshold)))
    return allowed, {"threshold": threshold, "agreement": agreement}


_JUDGES: Mapping[str, Callable[[Outputs, Mapping[Metric, float], float], _Judged]] = {
    CLASSIFICATION: _classification,
    MULTILABEL: _multilabel,
    REGRESSION: _regression,
    RECONSTRUCTION: _reconstruction,
}


def anomaly_threshold(scores: Values, targets: Values | None) -> float:
    """Return the threshold above which a score `[n]` is that of an anomaly: halfway between two scores.

    With examples of both kinds the one of the highest sensitivity and specificity (Youden's J); else the first above a
    share `NORMAL_SHARE` of all scores.
    """
    order = np.argsort(scores, kind="stable")
    ascending = scores[order].astype(np.float64)
    steps = np.flatnonzero(np.diff(ascending) > 0)
    if not len(steps):
        return float(ascending[-1])
    if targets is None or len(np.unique(targets > 0)) < 2:
        at = steps[np.searchsorted(steps[:-1], int(NORMAL_SHARE * len(scores)))]
    else:
        is_anomaly = targets[order] > 0
        missed = is_anomaly.cumsum() / np.count_nonzero(is_anomaly)
        passed = (~is_anomaly).cumsum() / np.count_nonzero(~is_anomaly)
        at = steps[np.argmax((passed - missed)[steps])]
    return float((ascending[at] + ascending[at + 1]) / 2)
