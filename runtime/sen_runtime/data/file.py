"""Reader of data files and folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from sen_runtime.data.arrays import KNOWN, LAYOUTS, ArraySource, may_be_text
from sen_runtime.data.csv_table import CsvTable
from sen_runtime.data.examples import ALL, SUFFIXES, TEST, TRAINING, Examples, Inputs, split_examples
from sen_runtime.data.idx import IdxSource
from sen_runtime.data.npy import NpyFolder
from sen_runtime.data.npz import Npz
from sen_runtime.data.parquet import ParquetTable
from sen_runtime.data.rows import MappedRows
from sen_runtime.data.source import Form, Raw, Source
from sen_runtime.data.tables import Table, TableSource
from sen_runtime.data.targets import class_names_of, convert, infer_task
from sen_runtime.errors import DataError
from sen_runtime.task import CLASSIFICATION, MULTILABEL, RECONSTRUCTION, REGRESSION
from sen_runtime.untrusted import listing

#: Suffix -> reader of a table.
TABLES: Mapping[str, Callable[[Path], Table]] = {
    ".csv": CsvTable,
    ".tsv": CsvTable,
    ".parquet": ParquetTable,
    ".pq": ParquetTable,
}
#: For a network that is yet to be trained.
UNTRAINED = Form()


class DataFile:
    """Examples in a file or folder, see docs/reference/data.md; headers are checked at once.

    Attributes:
        path: of the file or folder.
        parts: those of `TRAINING` and `TEST` in it.
    """

    def __init__(self, path: Path) -> None:
        """Open a `.npz`, table or folder; or an IDX file, whose labels and other part are found by name."""
        self.path = path
        self._source = _open(path)
        self.parts = (TRAINING, TEST) if ALL in self._source.parts else self._source.parts

    def read(self, parts: Sequence[str], form: Form = UNTRAINED) -> list[Examples]:
        """Read parts of the set; a set without a split is split, and without targets each part is the whole set.

        Args:
            parts: of `TRAINING` and `TEST`.
            form: of the network.

        Raises:
            DataError: no such part; inputs are not finite or have too few axes; targets contradict the task, or are not
                one per input; too few examples to split.
        """
        if form.target and not form.is_trained and not isinstance(self._source, TableSource):
            raise DataError(f"{self.path} is no table; --target names columns of a table")
        if ALL in self._source.parts:
            raw = self._source.read(ALL, form)
            whole = self._examples(ALL, raw, self._complete(form, {ALL: raw}))
            if whole.targets is None and form.task != RECONSTRUCTION:
                return [whole for _ in parts]
            split = dict(zip((TRAINING, TEST), split_examples(whole)))
            return [split[part] for part in parts]
        absent = next((part for part in parts if part not in self._source.parts), None)
        if absent is not None:
            raise DataError(
                f"{self.path} has no {absent} part, only {', '.join(self.parts)} data",
                hint="arrays are x_train, y_train, x_test, y_test, or x, y; tables train.csv and test.csv; IDX files "
                "train- and t10k-images-idx3",
            )
        raws = {part: self._source.read(part, form) for part in parts}
        form = self._complete(form, raws)
        return [self._examples(part, raws[part], form) for part in parts]

    def _complete(self, form: Form, raws: Mapping[str, Raw]) -> Form:
        """Add task and class names, which the training data determine, to a form where it lacks them."""
        given = next(iter(raws.values()))
        has_names = bool(form.output_names or given.class_names)
        targets = {part: raw.targets for part, raw in raws.items() if raw.targets is not None}
        is_needed = form.task is None or (not has_names and any(raw.is_text for raw in targets.values()))
        if not targets or not (is_needed or TRAINING in raws):
            return replace(form, task=form.task or CLASSIFICATION)
        learned = targets.get(TRAINING) or targets.get(ALL)
        if learned is None and TRAINING in self._source.parts:
            learned = self._source.targets(TRAINING, form)
        learned = learned or next(iter(targets.values()))
        if form.is_trained and not has_names and any(raw.is_text for raw in targets.values()):
            raise DataError(
                f"{learned.name} holds class names; the network has none", hint="replace them by class numbers"
            )
        task = form.task or (CLASSIFICATION if given.is_scaled else infer_task(learned))
        names = form.output_names or given.class_names
        if task == CLASSIFICATION and not names:
            names = class_names_of(learned)
        return replace(form, task=task, output_names=names)

    def _examples(self, part: str, raw: Raw, form: Form) -> Examples:
        inputs = _inputs(f"{self.path}: x{SUFFIXES[part]}", raw, form)
        task, names = form.task or CLASSIFICATION, form.output_names
        if task in (MULTILABEL, REGRESSION):
            names = names or raw.column_names
        features = form.feature_names or raw.feature_names
        if raw.feature_names and raw.feature_names != features:
            raise DataError(
                f"{self.path}: features are named {listing(raw.feature_names)}; the network takes {listing(features)}",
                hint="store the inputs in this order",
            )
        targets = None if raw.targets is None else convert(raw.targets, task, names)
        return Examples(self.path.name, part, inputs, targets, None, features, names, task, raw.notes)


def _inputs(where: str, raw: Raw, form: Form) -> Inputs:
    """Convert inputs `[n, ...]` to those of a network."""
    x, n_axes = raw.inputs, 2 if form.has_steps else 1
    if x.ndim <= n_axes:
        expected = "[n, T, n_in]" if form.has_steps else "[n, n_in]"
        raise DataError(f"{where} is {x.dtype} {list(x.shape)}; expected {expected}")
    x = x.reshape(*x.shape[:n_axes], -1)
    if isinstance(x, np.memmap):
        return cast("Inputs", MappedRows(x))
    with np.errstate(over="ignore"):  # values beyond float32 become inf, which Examples reports
        inputs = x.astype(np.float32, copy=False)
    if raw.is_scaled:
        low, high = map(np.float32, form.input_range)
        inputs = inputs / np.float32(255) * (high - low) + low
    return inputs


def _open(path: Path) -> Source:
    if path.is_dir():
        return _open_folder(path)
    if path.suffix == ".npz":
        return ArraySource(Npz(path, KNOWN.__contains__, LAYOUTS, may_be_text))
    if path.suffix in TABLES:
        return TableSource({ALL: TABLES[path.suffix](path)})
    return IdxSource(path)


def _open_folder(path: Path) -> Source:
    """Open train.csv and test.csv, or other tables of these names; else `.npy` files."""
    tables: dict[str, Table] = {}
    for part, name in ((TRAINING, "train"), (TEST, "test")):
        files = [file for suffix in TABLES if (file := path / f"{name}{suffix}").exists()]
        if len(files) > 1:
            raise DataError(f"{path} holds {listing(file.name for file in files)}; expected one of them")
        tables.update((part, TABLES[file.suffix](file)) for file in files)
    return TableSource(tables) if tables else ArraySource(NpyFolder(path))
