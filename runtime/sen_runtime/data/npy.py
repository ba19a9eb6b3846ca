"""Reader of folders of `.npy` files, which are memory-mapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.data.arrays import KNOWN, LAYOUTS, may_be_text
from sen_runtime.data.npz import read_header
from sen_runtime.errors import DataError
from sen_runtime.untrusted import listing, open_regular


class NpyFolder:
    """A folder of `.npy` files; headers are checked at once.

    Attributes:
        path: of the folder.
        headers: shape, of which no axis is empty, and type by array name.
    """

    def __init__(self, path: Path) -> None:
        """Read the headers of the arrays with known names; other files are ignored."""
        self.path = path
        files = {name: path / f"{name}.npy" for name in KNOWN if (path / f"{name}.npy").exists()}
        if not files:
            found = listing(sorted(file.name for file in path.iterdir())) or "nothing"
            raise DataError(
                f"{path} holds {found}; expected {LAYOUTS} as .npy files, or train.csv and test.csv",
                hint="stack files of one input each, of one length: numpy.save('x.npy', numpy.stack(arrays))",
            )
        self.headers, self._start = {}, dict[str, tuple[int, bool]]()
        for name, file in files.items():
            with open_regular(file, error=DataError) as stream:
                header = read_header(stream, f"{file}: array", file.stat().st_size, text=may_be_text(name))
            self.headers[name], self._start[name] = header[:2], header[2:]

    def array(self, name: str) -> NDArray[Any]:
        """Map an array to memory, read-only."""
        (shape, dtype), (offset, is_fortran) = self.headers[name], self._start[name]
        try:
            array: NDArray[Any] = np.memmap(
                self.path / f"{name}.npy", dtype, "r", offset, shape, "F" if is_fortran else "C"
            )
        except (OSError, ValueError) as problem:
            raise DataError(f"cannot map {self.path / name}.npy to memory: {problem}") from problem
        return array
