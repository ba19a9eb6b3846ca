"""Columns of tables: which are features, which targets."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sen_runtime.data.examples import TRAINING
from sen_runtime.data.source import Form, Raw
from sen_runtime.data.targets import RawTargets
from sen_runtime.errors import DataError
from sen_runtime.task import RECONSTRUCTION
from sen_runtime.untrusted import listing, quote

#: Max columns of a table.
MAX_COLUMNS = 1 << 16


@dataclass(frozen=True)
class Columns:
    """Content of columns.

    Attributes:
        features: `[n, n_in]`.
        targets: per column the texts `[n]` of the cells, and their numbers `[n]` or None.
        at: row -> place of a row, for messages.
    """

    features: NDArray[np.float32]
    targets: list[tuple[NDArray[Any], NDArray[np.float64] | None]]
    at: Callable[[int], str]


class Table(Protocol):
    """A table in a file."""

    path: Any
    columns: tuple[str, ...]

    def read(self, features: Sequence[int], targets: Sequence[int]) -> Columns:
        """Read columns by index."""


class TableSource:
    """One table, or one of each part, whose columns are features and targets.

    Attributes:
        parts: of the tables.
    """

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables, self.parts = tables, tuple(tables)
        for table in tables.values():
            twice = [name for name, count in Counter(filter(None, table.columns)).items() if count > 1]
            if twice:
                raise DataError(
                    f"{table.path}: several columns have the same name: {listing(twice)}; expected different names"
                )

    def read(self, part: str, form: Form) -> Raw:
        """Read the features and targets of a part."""
        table = self._tables[part]
        targets = _find_targets(table, form)
        features = self._features(table, form, targets)
        n_columns = len(table.columns)
        unused = [name for index, name in enumerate(table.columns) if index not in {*features, *targets}]
        notes: tuple[str, ...] = ()
        if unused:
            shown = listing([name or "one without a name" for name in unused])
            notes = (f"{table.path}: {len(unused):,} of {n_columns:,} columns are not used: {shown}",)
        found = table.read(features, targets)
        names = tuple(table.columns[index] for index in targets)
        return Raw(
            found.features,
            _raw_targets(found, str(table.path), names),
            tuple(table.columns[index] for index in features),
            column_names=names,
            notes=notes,
        )

    def targets(self, part: str, form: Form) -> RawTargets | None:
        """Read the targets of a part."""
        return self.read(part, form).targets

    def _features(self, table: Table, form: Form, targets: Sequence[int]) -> list[int]:
        first = self._tables.get(TRAINING, table)
        wanted = form.feature_names
        if not wanted and first is not table:
            wanted = tuple(first.columns[index] for index in _others(first, _find_targets(first, form)))
        if not wanted:
            found = _others(table, targets)
            if not found:
                raise DataError(f"{table.path} has no column except its targets; expected features")
            return found
        absent = [name for name in wanted if name not in table.columns]
        if absent:
            raise DataError(
                f"{table.path} lacks {len(absent):,} of {len(wanted):,} features: {listing(absent)}; "
                f"its columns are {listing(table.columns)}",
                hint="name the columns like those of the training data",
            )
        return [table.columns.index(name) for name in wanted]


def missing(where: str, cell: object) -> DataError:
    """Return the error for a cell without a value."""
    state = "is empty" if not str(cell).strip() else f"is {quote(cell)}"
    return DataError(f"{where} {state}; expected a value", hint="fill missing values, or remove such rows")


def target_column(
    cells: Sequence[str], at: Callable[[int], str], name: str
) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
    """Return the texts of a target column, and its numbers if all cells are numbers; refuses an empty cell."""
    empty = next((row for row, cell in enumerate(cells) if not cell), None)
    if empty is not None:
        raise missing(f"{at(empty)}, column {quote(name)}", "")
    texts = np.array(cells, "U")
    try:
        return texts, np.array(list(map(float, cells)), np.float64)
    except ValueError:
        return texts, None


def _raw_targets(found: Columns, path: str, names: Sequence[str]) -> RawTargets | None:
    if not found.targets:
        return None
    texts, numbers = zip(*found.targets)
    is_numeric = all(column is not None for column in numbers)
    return RawTargets(
        np.stack(numbers if is_numeric else texts, axis=1),
        f"{path}: {'column' if len(names) == 1 else 'columns'} {listing(names)}",
        lambda row, column: f"{found.at(row)}, column {quote(names[column])}",
        np.stack(texts, axis=1),
    )


def _others(table: Table, targets: Sequence[int]) -> list[int]:
    """Indices of the named columns that are not targets."""
    return [index for index, name in enumerate(table.columns) if name and index not in targets]


def _find_targets(table: Table, form: Form) -> list[int]:
    if not form.target:
        if form.is_trained or form.task == RECONSTRUCTION:
            return []
        raise DataError(
            f"{table.path}: no target column is named; its columns are {listing(table.columns)}",
            hint="name it with --target COLUMN, or pass --task reconstruction",
        )
    absent = [name for name in form.target if name not in table.columns]
    if form.is_trained and len(absent) == len(form.target):
        return []
    if absent:
        near = difflib.get_close_matches(absent[0], table.columns, 1, 0.5)
        raise DataError(
            f"{table.path} has no column {quote(absent[0])}; its columns are {listing(table.columns)}",
            hint=f"did you mean {quote(near[0])}?" if near else "",
        )
    return [table.columns.index(name) for name in form.target]
