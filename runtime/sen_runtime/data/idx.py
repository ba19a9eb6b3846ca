"""Reader of IDX files of bytes, the format of MNIST."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sen_runtime.data.examples import ALL, SUFFIXES, TEST, TRAINING
from sen_runtime.data.source import Form, Raw
from sen_runtime.data.targets import RawTargets
from sen_runtime.errors import DataError
from sen_runtime.untrusted import open_regular

#: Max bytes of an IDX file; the largest of MNIST has 47 MB.
MAX_IDX = 1 << 28
#: Names of IDX images, as in MNIST; labels are next to them.
IMAGES = re.compile(r"(?P<set>.*?)(?P<part>train|t10k|test)-images-idx3(?P<end>.*)", re.DOTALL)
WORDS = {TRAINING: ("train",), TEST: ("t10k", "test")}


class IdxSource:
    """IDX images and labels, found by name; a file of another name is a set of inputs alone.

    Attributes:
        parts: of the files.
    """

    def __init__(self, path: Path) -> None:
        name, self._path = IMAGES.fullmatch(path.name), path
        self._files: dict[str, tuple[Path, Path | None]] = {} if name else {ALL: (path, None)}
        for part, word in ((part, word) for part, words in WORDS.items() for word in words):
            if name is None:
                break
            images = path.with_name(f"{name['set']}{word}-images-idx3{name['end']}")
            labels = path.with_name(f"{name['set']}{word}-labels-idx1{name['end']}")
            if images.exists():
                self._files[part] = images, labels if labels.exists() else None
        if not self._files:
            raise DataError(f"{path} does not exist")
        self.parts = tuple(self._files)

    def read(self, part: str, form: Form) -> Raw:
        """Read a part; `form` has no effect."""
        images, _ = self._files[part]
        return Raw(read_idx(images), self.targets(part, form), is_scaled=True)

    def targets(self, part: str, form: Form) -> RawTargets | None:
        """Read the labels of a part."""
        _, labels = self._files[part]
        if labels is None:
            return None
        where = f"{self._path}: y{SUFFIXES[part]}"
        return RawTargets(read_idx(labels, 1), where, lambda row, column: f"{where}[{row}]")


def read_idx(path: Path, rank: int | None = None) -> NDArray[np.uint8]:
    """Read an IDX file of bytes with `rank` axes, or any number; gzip-compressed if the name ends in `.gz`.

    Format ("The MNIST database of handwritten digits"): two zero bytes, 8 for uint8, the rank, then one big-endian
    uint32 for each axis, then the data.
    """
    with open_regular(path, error=DataError) as raw:
        try:
            with gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw as file:
                start = file.read(4)
                axes = start[3] if rank is None and len(start) == 4 else rank or 1
                sizes, magic = file.read(4 * axes), bytes((0, 0, 8, axes))
                if start != magic or len(sizes) < 4 * axes:
                    found = start.hex(" ") or "nothing"
                    raise DataError(f"{path} starts with {found}; expected {magic.hex(' ')} and {axes} sizes (IDX)")
                shape = tuple(map(int, np.frombuffer(sizes, ">u4")))
                size = math.prod(shape)
                if not 0 < size <= MAX_IDX:
                    raise DataError(f"{path} declares shape {list(shape)}; expected between 1 and {MAX_IDX} bytes")
                data = file.read(size + 1)
        except (OSError, EOFError, zlib.error) as problem:
            raise DataError(f"cannot read {path}: {problem}", hint="copy it again") from problem
    if len(data) != size:
        found = "more" if len(data) > size else str(len(data))
        raise DataError(f"{path} declares shape {list(shape)}, {size} bytes, and holds {found}")
    return np.frombuffer(data, np.uint8).reshape(shape)
