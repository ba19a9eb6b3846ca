"""Targets of examples, by task.

| task | in a file | in `Examples` |
| --- | --- | --- |
| classification | class numbers or names, `[n]` or `[n, 1]` | int64 `[n]` |
| multilabel | 0 or 1, `[n, k]` | float32 `[n, k]` |
| regression | numbers, `[n]` or `[n, k]` | float32 `[n, k]` |
| reconstruction | nothing; or 1 for an anomaly, 0 for none, `[n]` or `[n, 1]` | None; or int64 `[n]` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.errors import DataError
from sen_runtime.task import CLASSIFICATION, MULTILABEL, RECONSTRUCTION, REGRESSION, TASKS
from sen_runtime.untrusted import listing, quote

Targets = NDArray[Any]

#: Upper bound of class numbers.
MAX_CLASSES = 1 << 16
#: Examples per class below which whole numbers may be values rather than class numbers.
MIN_PER_CLASS = 5


@dataclass(frozen=True)
class RawTargets:
    """Targets as a file holds them.

    Attributes:
        values: bool, numbers or text, `[n]` or `[n, k]`.
        name: for messages: file and array, or file and columns.
        at: row, column -> place of a value, for messages.
        texts: of the numbers in a table, `[n, k]`; a class may be called "1".
    """

    values: NDArray[Any]
    name: str
    at: Callable[[int, int], str]
    texts: NDArray[Any] | None = None

    @property
    def columns(self) -> NDArray[Any]:
        """Values `[n, k]`."""
        if self.values.ndim not in (1, 2):
            raise DataError(f"{self.name} has shape {list(self.values.shape)}; expected [n] or [n, k]")
        return self.values.reshape(len(self.values), -1)

    @property
    def is_text(self) -> bool:
        """Whether values are text."""
        return self.values.dtype.kind == "U"

    @property
    def is_number(self) -> NDArray[np.bool_]:
        """Which of the texts `[n, k]` are numbers."""
        return np.array([[number_of(text) is not None for text in row] for row in self.columns.tolist()])

    def refuse_text(self, expected: str, hint: str) -> None:
        """Raise a `DataError` for the first text that is not a number; for any text if all are numbers."""
        if self.is_text:
            is_number = self.is_number
            self.refuse(~is_number if not is_number.all() else is_number, expected, hint)

    def refuse(self, is_wrong: NDArray[np.bool_], expected: str, hint: str = "") -> None:
        """Raise a `DataError` for the first wrong value, if any; `is_wrong` is `[n, k]`."""
        if is_wrong.any():
            row, column = map(int, np.argwhere(is_wrong)[0])
            value = quote(self.columns[row, column].item())
            raise DataError(f"{self.at(row, column)} is {value}; expected {expected}", hint)


def infer_task(raw: RawTargets) -> str:
    """Infer the task: text and class numbers are classes, columns of 0 and 1 labels, other numbers values.

    Raises:
        DataError: the targets are whole numbers that may be classes or values.
    """
    y = raw.columns
    if raw.is_text:
        _refuse_gaps(raw)
        return CLASSIFICATION
    if y.shape[1] > 1:
        return MULTILABEL if np.isin(y, (0, 1)).all() else REGRESSION
    if not np.all(np.isfinite(y) & (y == np.floor(y))):
        return REGRESSION
    n_classes = int(y.max()) + 1
    if y.min() < 0 or len(y) < MIN_PER_CLASS * n_classes:
        row = int(np.argmin(y) if y.min() < 0 else np.argmax(y))
        raise DataError(
            f"{raw.at(row, 0)} is {quote(int(y[row, 0]))}, all {len(y):,} targets are whole numbers; expected class "
            f"numbers from 0 with at least {MIN_PER_CLASS} examples of each",
            hint="say what they are: --task classification or --task regression",
        )
    return CLASSIFICATION


def _refuse_gaps(raw: RawTargets) -> None:
    """Refuse texts of which most are different numbers: some values are missing or mistyped."""
    y = raw.columns
    is_number = raw.is_number
    if 2 * np.count_nonzero(is_number) > y.size and len(np.unique(y)) * MIN_PER_CLASS > len(y):
        raw.refuse(~is_number, "a number, as in most rows", "fill missing values; --task classification takes any text")


def number_of(text: str) -> float | None:
    """Convert a text; None if it is not a number."""
    try:
        return float(text)
    except ValueError:
        return None


def convert(raw: RawTargets, task: str, class_names: Sequence[str] = ()) -> Targets:
    """Convert the targets of a part to those of a task; `class_names` gives text its class numbers.

    Raises:
        DataError: the targets contradict the task.
    """
    if task not in _CONVERTERS:
        raise DataError(f"task is {quote(task)}; expected one of {', '.join(TASKS)}")
    return _CONVERTERS[task](raw, class_names)


def class_names_of(raw: RawTargets) -> tuple[str, ...]:
    """Names of the classes in the order of their numbers: different texts, sorted; none for numbers."""
    if not raw.is_text:
        return ()
    names = np.unique(_single(raw)).tolist()
    if len(names) > MAX_CLASSES:
        raise DataError(f"{raw.name} holds {len(names):,} different texts; expected at most {MAX_CLASSES:,} classes")
    return tuple(names)


def _classes(raw: RawTargets, class_names: Sequence[str]) -> Targets:
    y = _single(raw)
    if raw.texts is not None and class_names and np.isin(raw.texts, class_names).all():
        raw = replace(raw, values=raw.texts)
        y = _single(raw)
    if raw.is_text:
        known = np.array(sorted(class_names), "U")
        at = np.searchsorted(known, y).clip(max=max(0, len(known) - 1))
        unknown = known[at] != y if len(known) else np.ones(len(y), bool)
        raw.refuse(unknown[:, None], f"a class of the training data: {listing(class_names) or 'none has a name'}")
        order = np.argsort(np.array(class_names, "U"), kind="stable")
        numbers: Targets = order[at].astype(np.int64)
        return numbers
    y = y.astype(np.uint8 if y.dtype.kind == "b" else np.float64 if y.dtype.kind == "f" else y.dtype)
    is_class = (y >= 0) & (y < MAX_CLASSES) & (y == np.floor(y))
    raw.refuse(~is_class[:, None], f"class numbers 0 to {MAX_CLASSES - 1}", _HINTS[CLASSIFICATION])
    return y.astype(np.int64)


def _labels(raw: RawTargets, class_names: Sequence[str]) -> Targets:
    y = raw.columns
    raw.refuse_text("0 or 1", _HINTS[MULTILABEL])
    raw.refuse(~np.isin(y, (0, 1)), "0 or 1", _HINTS[MULTILABEL])
    return y.astype(np.float32)


def _values(raw: RawTargets, class_names: Sequence[str]) -> Targets:
    y = raw.columns
    raw.refuse_text("a number", _HINTS[REGRESSION])
    with np.errstate(over="ignore"):
        values = y.astype(np.float32)
    raw.refuse(~np.isfinite(values), "a finite number")
    return values


def _anomalies(raw: RawTargets, class_names: Sequence[str]) -> Targets:
    y = _single(raw)[:, None]
    expected = "1 for an anomaly, 0 for none"
    raw.refuse_text(expected, _HINTS[RECONSTRUCTION])
    raw.refuse(~np.isin(y, (0, 1)), expected, _HINTS[RECONSTRUCTION])
    return y[:, 0].astype(np.int64)


def _single(raw: RawTargets) -> NDArray[Any]:
    y = raw.columns
    if y.shape[1] != 1:
        raise DataError(
            f"{raw.name} has shape {list(raw.values.shape)}; expected one value per input: [n] or [n, 1]",
            hint="several columns are targets of --task multilabel or --task regression",
        )
    return y[:, 0]


_CONVERTERS: Mapping[str, Callable[[RawTargets, Sequence[str]], Targets]] = {
    CLASSIFICATION: _classes,
    MULTILABEL: _labels,
    REGRESSION: _values,
    RECONSTRUCTION: _anomalies,
}
_HINTS = {
    CLASSIFICATION: "--task regression predicts numbers",
    MULTILABEL: "--task classification predicts one class, --task regression numbers",
    REGRESSION: "--task classification predicts classes",
    RECONSTRUCTION: "--task classification predicts classes, --task regression numbers",
}
