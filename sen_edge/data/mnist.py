"""MNIST files: locate, download, read.

Files and servers are untrusted: sizes are bounded, and a download is written only if all checksums match.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import logging
import os
import urllib.error
import urllib.request
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np

from sen_edge.errors import DataError, OutputError, UsageError
from sen_runtime.data import TEST, TRAINING, Examples, read_idx
from sen_runtime.files import write_all

IMAGE_SHAPE = (28, 28)
#: Prefixes of the file names of a part.
PREFIXES = {TRAINING: "train", TEST: "t10k"}
#: Environment variable of the first folder searched.
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
#: Max bytes of a file, compressed and uncompressed; the largest of MNIST has 9.9 MB and 47 MB.
MAX_DOWNLOAD = 1 << 25
MAX_UNPACKED = 1 << 28
TIMEOUT_SECONDS = 30.0

LOG = logging.getLogger(__name__)


def folders(data_dir: Path | None = None) -> list[Path]:
    """Return the search path; only `data_dir` if given."""
    if data_dir is not None:
        return [data_dir, data_dir / "mnist"]
    named = os.environ.get(DATA_VARIABLE)
    first = [Path(named), Path(named) / "mnist"] if named else []
    return [*first, Path("data/mnist"), Path("../shared/data/mnist"), cache_folder()]


def cache_folder() -> Path:
    """Return the default folder of a download: `sen-edge/mnist` in `$XDG_CACHE_HOME`, by default `~/.cache`."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "sen-edge" / "mnist"


def locate(data_dir: Path | None = None, *, download: bool = False, mirror: str | None = None) -> Path:
    """Return the first folder with all four files; fetch them if missing and `download` is set."""
    searched = folders(data_dir)
    for folder in searched:
        if all(_find_file(folder, name) for name in FILES):
            return folder
    if not download:
        raise DataError(
            f"the MNIST files ({', '.join(FILES)}; with or without .gz) are in none of: "
            + ", ".join(str(folder) for folder in searched),
            hint="fetch them with `sen-edge train --data mnist --download`, or pass their folder with --data-dir",
        )
    target = data_dir or cache_folder()
    fetch(target, mirror)
    return target


def read(folder: Path, part: str) -> Examples:
    """Read images `[n, 784]` scaled to [0, 1] and labels; `part` is `sen_runtime.data.TRAINING` or `TEST`."""
    prefix = PREFIXES[part]
    images_path, labels_path = (_find_file(folder, f"{prefix}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    if images_path is None or labels_path is None:
        raise DataError(f"{folder} no longer holds the MNIST files of the {part} part")
    images, labels = read_idx(images_path, rank=3), read_idx(labels_path, rank=1)
    if images.shape[1:] != IMAGE_SHAPE:
        raise DataError(f"{images_path}: images have {list(images.shape[1:])} pixels; expected {list(IMAGE_SHAPE)}")
    inputs = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return Examples("mnist", part, inputs, labels.astype(np.int64))


def _find_file(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def fetch(folder: Path, mirror: str | None = None) -> None:
    """Download and check the four `.gz` files, and write all of them to `folder`; each URL is logged."""
    if mirror is not None and not mirror.startswith(("http://", "https://")):
        raise UsageError(f"--mirror is {mirror!r}; expected an http:// or https:// URL")
    failures = []
    for url in MIRRORS if mirror is None else (mirror,):
        try:
            content = {folder / f"{name}.gz": _fetch_file(url, name) for name in FILES}
            break
        except DataError as error:
            failures.append(error.message)
    else:
        raise DataError(
            "cannot download MNIST: " + "; ".join(failures),
            hint="retry, pass another --mirror, or pass a folder with the four files as --data-dir",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_all(content)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}", hint="choose another --data-dir") from error


def _fetch_file(mirror: str, name: str) -> bytes:
    """Download one compressed file and check the checksum of its content."""
    url = f"{mirror.rstrip('/')}/{name}.gz"
    LOG.info("downloading %s", url)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:  # scheme checked by fetch
            data = bytes(response.read(MAX_DOWNLOAD + 1))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(f"{url}: {error}") from error
    if len(data) > MAX_DOWNLOAD:
        raise DataError(f"{url}: more than {MAX_DOWNLOAD} bytes")
    try:
        with gzip.open(BytesIO(data)) as file:
            found = hashlib.sha256(file.read(MAX_UNPACKED)).hexdigest()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{url}: {len(data)} bytes, not a complete gzip file ({error})") from error
    if found != FILES[name]:
        raise DataError(f"{url}: SHA-256 of its content is {found}; expected {FILES[name]}")
    return data
