"""Arrays in files: `.npz` and IDX.

Nothing is unpickled. Sizes that headers declare are compared with those of the file before content is decompressed.
"""

from __future__ import annotations

import gzip
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime import memory_limits
from sen_runtime.errors import DataError
from sen_runtime.untrusted import listing, open_regular, printable, quote

#: Max bytes of the header of a member; numpy writes 128.
MAX_HEADER = 1 << 14
#: Max bytes of an IDX file; the largest of MNIST has 47 MB.
MAX_IDX = 1 << 28
NPY_MAGIC = b"\x93NUMPY"
#: Untyped in some versions of numpy.
NPY: Any = np.lib.format
#: Exceptions for an invalid header.
BAD_HEADER = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, OverflowError, tokenize.TokenError)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
HINT = "numpy.savez(PATH, x=..., y=...) writes such a file"
#: Shape and type of an array.
Header = tuple[tuple[int, ...], Any]


class Npz:
    """A `.npz`: headers are checked at once, content is read on demand.

    Attributes:
        path: of the file.
        headers: shape, of which no axis is empty, and type, a number or bool, by array name.
    """

    def __init__(self, path: Path, is_known: Callable[[str], bool], expected: str) -> None:
        """Read and check all headers; `is_known` allows names, and messages call those `expected`.

        Refuses an array that is not numeric, is empty, or has another size than its header says.
        """
        self.path = path
        with _archive(path) as archive:
            members = archive.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            if not names or len(set(names)) < len(names) or not all(map(is_known, names)):
                raise DataError(f"{path} holds the arrays {listing(names)}; expected {expected}", HINT)
            self.headers = {name: _header(path, name, archive, member) for name, member in zip(names, members)}

    def array(self, name: str) -> NDArray[Any]:
        """Read an array; a `DataError` if decompression fails or the checksum is wrong."""
        shape, dtype = self.headers[name]
        description = f"{name} of {self.path} is {dtype} {list(shape)}"
        memory_limits.require(math.prod(shape) * (dtype.itemsize + 4), description)
        with _archive(self.path) as archive, archive.open(f"{name}.npy") as stream:
            array: NDArray[Any] = NPY.read_array(stream, allow_pickle=False)
            return array


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open the zip file; convert its errors to `DataError`."""
    with open_regular(path, error=DataError) as file:
        if file.read(len(NPY_MAGIC)) == NPY_MAGIC:
            raise DataError(f"{path} holds one bare array; expected a .npz with named arrays", HINT)
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive
        except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as problem:
            raise DataError(f"cannot read {path} as .npz: {printable(str(problem), 200)}", HINT) from problem


def _header(path: Path, name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Header:
    if member.compress_type not in METHODS:
        raise DataError(f"{path}: {name} is compressed with method {member.compress_type}; expected deflate", HINT)
    with archive.open(member) as stream:
        buffer = BytesIO(stream.read(MAX_HEADER))
    try:
        is_first = NPY.read_magic(buffer) == (1, 0)
        shape, _, dtype = (NPY.read_array_header_1_0 if is_first else NPY.read_array_header_2_0)(buffer)
    except BAD_HEADER as problem:
        raise DataError(f"{path}: {name} has an invalid header: {printable(str(problem), 200)}", HINT) from problem
    if dtype.kind not in "biuf":
        raise DataError(f"{path}: {name} is {printable(str(dtype), 60)} {quote(list(shape))}; expected numbers", HINT)
    if any(size < 1 for size in shape):
        raise DataError(f"{path}: {name} has shape {quote(list(shape))}; expected no axis empty")
    found, declared = member.file_size - buffer.tell(), math.prod(shape) * dtype.itemsize
    if found != declared:
        raise DataError(f"{path}: {name} is {dtype} {quote(list(shape))}, {quote(declared)} bytes, and holds {found:,}")
    return shape, dtype


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
