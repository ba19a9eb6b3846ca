"""Reader of Parquet files; needs pyarrow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime import memory_limits
from sen_runtime.data.tables import MAX_COLUMNS, Columns, missing, target_column
from sen_runtime.errors import DataError, MissingExtraError
from sen_runtime.untrusted import open_regular, printable, quote


class ParquetTable:
    """A Parquet file: the schema is read at once, columns on demand.

    Attributes:
        path: of the file.
        columns: names.
    """

    def __init__(self, path: Path) -> None:
        """Read the schema."""
        try:
            from pyarrow import ArrowException, parquet
        except ImportError:
            raise MissingExtraError("pyarrow, which reads Parquet,", "pip install 'sen-edge[parquet]'") from None
        self.path, self._parquet, self._errors = path, parquet, (ArrowException, OSError, ValueError)
        metadata = self._call(lambda file: file.metadata)
        if metadata.num_rows == 0 or metadata.num_columns > MAX_COLUMNS:
            found = f"{metadata.num_rows:,} rows, {metadata.num_columns:,} columns"
            raise DataError(f"{path} has {found}; expected rows, and at most {MAX_COLUMNS:,} columns")
        self._n_rows = int(metadata.num_rows)
        self.columns: tuple[str, ...] = tuple(self._call(lambda file: file.schema_arrow.names))

    def read(self, features: Sequence[int], targets: Sequence[int]) -> Columns:
        """Read columns by index.

        Raises:
            DataError: a feature is not numeric or not finite, or a value is missing.
        """
        memory_limits.require(12 * self._n_rows * len(features), f"{self.path} has {self._n_rows:,} rows")
        names = [self.columns[index] for index in (*features, *targets)]
        table = self._call(lambda file: file.read(columns=names))
        inputs = np.empty((self._n_rows, len(features)), np.float32)
        for column, index in enumerate(features):
            values = self._values(table.column(self.columns[index]), self.columns[index])
            if values.dtype.kind not in "biuf":
                raise DataError(
                    f"{self.path}, column {quote(self.columns[index])} holds {quote(values[0])}; expected numbers",
                    hint="feature columns hold numbers: encode the column, or remove it",
                )
            with np.errstate(over="ignore"):
                inputs[:, column] = values
        labels = [self._target(table.column(self.columns[index]), self.columns[index]) for index in targets]
        return Columns(inputs, labels, self._at)

    def _at(self, row: int) -> str:
        return f"{self.path}, row {row}"

    def _values(self, column: Any, name: str) -> NDArray[Any]:
        """Values of a column; a `DataError` for a missing one or NaN."""
        values: NDArray[Any] = self._call(lambda _: column.to_numpy())
        is_missing = np.asarray(column.is_null())
        if values.dtype.kind == "f":
            is_missing = is_missing | np.isnan(values)
        if is_missing.any():
            raise missing(f"{self._at(int(np.argmax(is_missing)))}, column {quote(name)}", "")
        return values

    def _target(self, column: Any, name: str) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
        values = self._values(column, name)
        if values.dtype.kind in "biuf":
            return values.astype("U"), values.astype(np.float64)
        texts, _ = target_column([str(value) for value in values.tolist()], self._at, name)
        return texts, None

    def _call(self, use: Any) -> Any:
        """Apply a function to the opened file; errors of pyarrow become a `DataError`."""
        try:
            with open_regular(self.path, error=DataError) as stream, self._parquet.ParquetFile(stream) as file:
                return use(file)
        except self._errors as problem:
            raise DataError(f"cannot read {self.path} as Parquet: {printable(str(problem), 200)}") from problem
