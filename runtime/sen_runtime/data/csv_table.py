"""Reader of CSV files (RFC 4180; also `;` or tabs as separators, and a byte order mark).

Files are untrusted: lines, columns and bytes are bounded, and rows are converted in chunks.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime import memory_limits
from sen_runtime.data.tables import MAX_COLUMNS, Columns, missing, target_column
from sen_runtime.data.targets import number_of
from sen_runtime.errors import DataError
from sen_runtime.figures import size
from sen_runtime.untrusted import open_regular, printable, quote

SEPARATORS = (",", ";", "\t")
#: Max bytes of a file, and characters of a line.
MAX_BYTES, MAX_LINE = 1 << 32, 1 << 24
#: Cells that are converted at once.
CHUNK_CELLS = 1 << 18
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+\s*")


class CsvTable:
    """A CSV file: the first row is read at once, the others on demand.

    Attributes:
        path: of the file.
        columns: names in the header; numbers from 0 if there is none. Empty for a column without a name.
    """

    def __init__(self, path: Path) -> None:
        """Read the header: a first row of texts, or of texts above numbers."""
        self.path = path
        with self._open() as file:
            n_bytes = path.stat().st_size
            if n_bytes > MAX_BYTES:
                raise DataError(
                    f"{path} has {size(n_bytes)}; expected at most {size(MAX_BYTES)} of CSV",
                    hint="store larger data as x_train.npy, y_train.npy, ... in a folder",
                )
            first = next(_lines(file, path), "")
            self._separator = max(SEPARATORS, key=lambda mark: _n_cells(first, mark))
        with self._open() as file:
            rows = (row for _, row in self._rows(file))
            start, second = next(rows, []), next(rows, None)
        if not start:
            raise DataError(f"{path} is empty; expected rows of values separated by commas")
        if len(start) > MAX_COLUMNS:
            raise DataError(f"{path} has {len(start):,} columns; expected at most {MAX_COLUMNS:,}")
        self._has_header = _is_header(start, second)
        numbers = map(str, range(len(start)))
        self.columns = tuple(cell.strip() for cell in start) if self._has_header else tuple(numbers)

    def read(self, features: Sequence[int], targets: Sequence[int]) -> Columns:
        """Read columns by index.

        Raises:
            DataError: a row has another length; a feature is not a finite number, or a target is empty.
        """
        memory_limits.require(2 * self.path.stat().st_size, f"{self.path} is text")
        pick, n = _picker(features), len(features)
        blocks, labels, lines = list[NDArray[np.float32]](), [list[str]() for _ in targets], list[int]()
        with self._open() as file:
            for numbers, rows in self._chunks(file):
                try:
                    values = np.fromiter(map(float, chain.from_iterable(map(pick, rows))), np.float64, n * len(rows))
                except ValueError:
                    values = np.full(n * len(rows), np.nan)
                if not np.isfinite(values).all():
                    self._refuse(numbers, rows, features)
                with np.errstate(over="ignore"):
                    blocks.append(values.reshape(len(rows), n).astype(np.float32))
                for cells, column in zip(labels, targets):
                    cells.extend(row[column].strip() for row in rows)
                lines.extend(numbers)
        if not lines:
            raise DataError(f"{self.path} has no rows below its header")
        at = np.array(lines, np.int64)
        place = f"{self.path}, line "
        columns = [
            target_column(cells, lambda row: f"{place}{at[row]}", self.columns[column])
            for cells, column in zip(labels, targets)
        ]
        return Columns(np.concatenate(blocks), columns, lambda row: f"{place}{at[row]}")

    def _chunks(self, file: TextIOWrapper) -> Iterator[tuple[list[int], list[list[str]]]]:
        """Yield line numbers and rows below the header, all of one length."""
        numbers, rows, most = list[int](), list[list[str]](), max(1, CHUNK_CELLS // len(self.columns))
        content = self._rows(file)
        if self._has_header:
            next(content)
        for number, row in content:
            if len(row) != len(self.columns):
                raise DataError(
                    f"{self.path}, line {number}: {len(row):,} values; expected {len(self.columns):,} as in the first"
                )
            numbers.append(number)
            rows.append(row)
            if len(rows) == most:
                yield numbers, rows
                numbers, rows = [], []
        if rows:
            yield numbers, rows

    def _rows(self, file: TextIOWrapper) -> Iterator[tuple[int, list[str]]]:
        """Yield line number and cells of each row that is not blank."""
        reader = csv.reader(_lines(file, self.path), delimiter=self._separator, skipinitialspace=True)
        while True:
            try:
                row = next(reader, None)
            except csv.Error as problem:
                raise DataError(f"{self.path}, line {reader.line_num}: {printable(str(problem), 200)}") from problem
            if row is None:
                return
            if row:
                yield reader.line_num, row

    @contextmanager
    def _open(self) -> Iterator[TextIOWrapper]:
        with open_regular(self.path, error=DataError) as raw:
            try:
                with TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
                    yield file
            except UnicodeDecodeError as problem:
                raise DataError(
                    f"{self.path} is not UTF-8 text: byte 0x{problem.object[problem.start]:02x}",
                    hint="save it as UTF-8",
                ) from None
            except OSError as problem:
                raise DataError(f"cannot read {self.path}: {problem.strerror}") from problem

    def _refuse(self, numbers: Sequence[int], rows: Sequence[Sequence[str]], features: Sequence[int]) -> None:
        """Raise a `DataError` for the first feature that is not a finite number."""
        for number, row in zip(numbers, rows):
            for column in features:
                cell, where = row[column], f"{self.path}, line {number}, column {quote(self.columns[column])}"
                value = number_of(cell)
                if not cell.strip() or (value is not None and np.isnan(value)):
                    raise missing(where, cell)
                if value is None:
                    hint = "feature columns hold numbers: encode the column, or remove it"
                    if DECIMAL_COMMA.fullmatch(cell):
                        hint = "write decimal points"
                    raise DataError(f"{where} is {quote(cell)}; expected a number", hint)
                if not np.isfinite(value):
                    raise DataError(f"{where} is {quote(cell)}; expected a finite number")


def _n_cells(line: str, separator: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=separator), []))
    except csv.Error:  # without this separator, a long line is one cell of too many characters
        return 0


def _picker(features: Sequence[int]) -> Any:
    """Return a function from a row to its cells at `features`."""
    return itemgetter(*features) if len(features) > 1 else itemgetter(slice(features[0], features[0] + 1))


def _is_header(first: Sequence[str], second: Sequence[str] | None) -> bool:
    """Whether the first row holds names: texts only, a text above a number, or the numbers of the columns."""
    numbers = [number_of(cell) for cell in first]
    below = [] if second is None else [number_of(cell) for cell in second]
    is_named = any(name is None and value is not None for name, value in zip(numbers, below))
    known = [index == value for index, value in enumerate(numbers) if value is not None]
    return is_named or not known or (len(known) > 1 and all(known))


def _lines(file: TextIOWrapper, path: Path) -> Iterator[str]:
    while True:
        line = file.readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            raise DataError(f"{path}: a line has more than {MAX_LINE:,} characters")
        if not line:
            return
        yield line
