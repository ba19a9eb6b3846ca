"""Reader of data files and folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sen_runtime.data.arrays import KNOWN, LAYOUTS, ArraySource, may_be_text
from sen_runtime.data.csv_table import CsvTable
from sen_runtime.data.examples import ALL, TEST, TRAINING, Examples
from sen_runtime.data.idx import IdxSource
from sen_runtime.data.npy import NpyFolder
from sen_runtime.data.npz import Npz
from sen_runtime.data.parquet import ParquetTable
from sen_runtime.data.reader import read_parts
from sen_runtime.data.source import Form, Source
from sen_runtime.data.tables import Table, TableSource
from sen_runtime.errors import DataError
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
        """Read parts of the set, of `TRAINING` and `TEST`, for a network; see `sen_runtime.data.reader.read_parts`."""
        if form.target and not form.is_trained and not isinstance(self._source, TableSource):
            raise DataError(f"{self.path} is no table; --target names columns of a table")
        return read_parts(self._source, str(self.path), parts, form)


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
