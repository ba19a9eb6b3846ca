"""The MNIST files: where they are, how they are fetched, what is in them.

Neither a file nor a server is trusted: declared sizes are bounded and checked against the bytes that are there,
and a download is put in place only after all of it has the known checksums.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np

from sen_edge.errors import DataError, OutputError, UsageError
from sen_runtime.arrays import read_idx
from sen_runtime.data import TEST, TRAINING, Examples
from sen_runtime.files import write_all

IMAGE_SHAPE = (28, 28)
#: How the names of a part's files begin.
PREFIXES = {TRAINING: "train", TEST: "t10k"}
#: Folder that is searched before the default ones.
DATA_VARIABLE = "SEN_EDGE_DATA"
#: Uncompressed file -> its SHA-256.
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
#: Tried in this order; the files have `.gz` appended.
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
#: No file may be or unpack to more bytes; MNIST's largest is 9.9 MB, unpacked 47 MB.
MAX_DOWNLOAD = 1 << 25
MAX_UNPACKED = 1 << 28
TIMEOUT_SECONDS = 30.0

Report = Callable[[str], None]


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def folders(data_dir: Path | None = None) -> list[Path]:
    """Where the files are looked for, in this order; only in `data_dir` if given."""
    if data_dir is not None:
        return [data_dir, data_dir / "mnist"]
    named = os.environ.get(DATA_VARIABLE)
    first = [Path(named), Path(named) / "mnist"] if named else []
    return [*first, Path("data/mnist"), Path("../shared/data/mnist"), cache_folder()]


def cache_folder() -> Path:
    """Where a download goes unless told otherwise: `sen-edge/mnist` in `$XDG_CACHE_HOME`, by default `~/.cache`."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "sen-edge" / "mnist"


def locate(
    data_dir: Path | None = None, *, download: bool = False, mirror: str | None = None, report: Report | None = None
) -> Path:
    """The first folder that holds all four files; they are fetched if there is none and `download` is set.

    Raises:
        DataError: they are nowhere, or cannot be fetched.
    """
    searched = folders(data_dir)
    for folder in searched:
        if all(_stored(folder, name) for name in FILES):
            return folder
    if not download:
        raise DataError(
            f"the MNIST files ({', '.join(FILES)}; with or without .gz) are in none of: "
            + ", ".join(str(folder) for folder in searched),
            hint="`sen-edge train --data mnist --download` fetches them; --data-dir names a folder that has them",
        )
    target = data_dir or cache_folder()
    fetch(target, mirror, report)
    return target


def read(folder: Path, part: str) -> Examples:
    """Images `[n, 784]` scaled to [0, 1] and their labels; `part` is `sen_runtime.data.TRAINING` or `TEST`.

    Raises:
        DataError: a file is gone or damaged, or its images are not of 28 x 28 pixels.
    """
    prefix = PREFIXES[part]
    images_path, labels_path = (_stored(folder, f"{prefix}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    if images_path is None or labels_path is None:
        raise DataError(f"{folder} no longer holds the MNIST files of the {part} part")
    images, labels = read_idx(images_path, rank=3), read_idx(labels_path, rank=1)
    if images.shape[1:] != IMAGE_SHAPE:
        raise DataError(f"{images_path}: images have {list(images.shape[1:])} pixels; expected {list(IMAGE_SHAPE)}")
    inputs = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return Examples("mnist", part, inputs, labels.astype(np.int64))


def _stored(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def fetch(folder: Path, mirror: str | None = None, report: Report | None = None) -> None:
    """Download the four files, check them, and put them in `folder`: all or none.

    Args:
        folder: made if it does not exist.
        mirror: URL of a folder with the four `.gz` files, instead of `MIRRORS`.
        report: told what happens, one line for each file.

    Raises:
        DataError: no mirror gave files with the known checksums.
        OutputError: the folder cannot be written.
        UsageError: the mirror is not an http or https URL.
    """
    if mirror is not None and not mirror.startswith(("http://", "https://")):
        raise UsageError(f"--mirror is {mirror!r}; expected an http:// or https:// URL")
    failures = []
    for url in MIRRORS if mirror is None else (mirror,):
        try:
            content = {folder / f"{name}.gz": _fetch_file(url, name, report) for name in FILES}
            break
        except DataError as error:
            failures.append(error.message)
    else:
        raise DataError(
            "cannot download MNIST: " + "; ".join(failures),
            hint="try again, name another --mirror, or put the four files into a folder and name it with --data-dir",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_all(content)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}", hint="name another --data-dir") from error


def _fetch_file(mirror: str, name: str, report: Report | None) -> bytes:
    """The compressed bytes of one file, once their content has the known checksum."""
    url = f"{mirror.rstrip('/')}/{name}.gz"
    if report is not None:
        report(f"downloading {url}")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:  # fetch checked the scheme
            data = _bounded(response, MAX_DOWNLOAD)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(f"{url}: {error}") from error
    if data is None:
        raise DataError(f"{url}: more than {MAX_DOWNLOAD} bytes")
    try:
        with gzip.open(BytesIO(data)) as file:
            content = _bounded(file, MAX_UNPACKED)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{url}: {len(data)} bytes that are not a whole gzip file ({error})") from error
    found = "more bytes than it should have" if content is None else hashlib.sha256(content).hexdigest()
    if found != FILES[name]:
        raise DataError(f"{url}: SHA-256 of its content is {found}; expected {FILES[name]}")
    return data


def _bounded(file: _Readable, limit: int) -> bytes | None:
    """All of a stream, or None if it has more than `limit` bytes."""
    data = file.read(limit + 1)
    return None if len(data) > limit else data
