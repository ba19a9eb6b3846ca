"""Reader of IDX files of bytes, the format of MNIST."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sen_runtime.errors import DataError
from sen_runtime.untrusted import open_regular

#: Max bytes of an IDX file; the largest of MNIST has 47 MB.
MAX_IDX = 1 << 28


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
