"""Reader of `.npz`: named arrays, of which nothing is unpickled.

Sizes that headers declare are compared with those of the members before content is decompressed.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime import memory_limits
from sen_runtime.errors import DataError
from sen_runtime.untrusted import listing, open_regular, printable, quote

#: Max bytes of the header of a member; numpy writes 128.
MAX_HEADER = 1 << 14
NPY_MAGIC = b"\x93NUMPY"
#: Untyped in some versions of numpy.
NPY: Any = np.lib.format
#: Exceptions for an invalid header.
BAD_HEADER = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, OverflowError, tokenize.TokenError)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
UNEQUAL = "inputs of different lengths: pad or cut them to one length, [n, T, channels]"
TEXT = "store class names as numpy text: numpy.array(names, str)"
HINT = "numpy.savez(PATH, x=..., y=...) writes such a file"
#: Shape and type of an array.
Header = tuple[tuple[int, ...], Any]


class Npz:
    """A `.npz`: headers are checked at once, content is read on demand.

    Attributes:
        path: of the file.
        headers: shape, of which no axis is empty, and type by array name.
    """

    def __init__(
        self,
        path: Path,
        is_known: Callable[[str], bool],
        expected: str,
        may_be_text: Callable[[str], bool] = lambda name: False,
    ) -> None:
        """Read and check all headers; `is_known` allows names, and messages call those `expected`.

        Refuses an array that is not numeric, is empty, or has another size than its header says. Arrays whose names
        `may_be_text` allows may also hold text.
        """
        self.path = path
        with _archive(path) as archive:
            members = archive.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            if not names or len(set(names)) < len(names) or not all(map(is_known, names)):
                raise DataError(f"{path} holds the arrays {listing(names)}; expected {expected}", HINT)
            self.headers = {
                name: _header(path, name, archive, member, may_be_text(name)) for name, member in zip(names, members)
            }

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


def _header(path: Path, name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, text: bool) -> Header:
    if member.compress_type not in METHODS:
        raise DataError(f"{path}: {name} is compressed with method {member.compress_type}; expected deflate", HINT)
    with archive.open(member) as stream:
        return read_header(stream, f"{path}: {name}", member.file_size, text=text)[:2]


def read_header(stream: IO[bytes], where: str, n_bytes: int, *, text: bool) -> tuple[tuple[int, ...], Any, int, bool]:
    """Read shape and type of an array in the `.npy` format, offset of its content, and whether it is column by column.

    Refuses an array that is not of numbers (or of `text`, if set), is empty, or does not fill `n_bytes`, the file.
    """
    buffer = BytesIO(stream.read(MAX_HEADER))
    try:
        is_first = NPY.read_magic(buffer) == (1, 0)
        shape, is_fortran, dtype = (NPY.read_array_header_1_0 if is_first else NPY.read_array_header_2_0)(buffer)
    except BAD_HEADER as problem:
        raise DataError(f"{where} has an invalid header: {printable(str(problem), 200)}", HINT) from problem
    if dtype.kind not in ("biufU" if text else "biuf"):
        hint = UNEQUAL if dtype.kind == "O" and not text else TEXT if text else HINT
        raise DataError(f"{where} is {printable(str(dtype), 60)} {quote(list(shape))}; expected numbers", hint)
    if any(size < 1 for size in shape) or dtype.itemsize < 1:
        raise DataError(f"{where} has shape {quote(list(shape))}; expected no axis empty")
    found, declared = n_bytes - buffer.tell(), math.prod(shape) * dtype.itemsize
    if found != declared:
        raise DataError(f"{where} is {dtype} {quote(list(shape))}, {quote(declared)} bytes, and holds {found:,}")
    return shape, dtype, buffer.tell(), is_fortran
