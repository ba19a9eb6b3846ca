"""Reader of examples for training, compression, calibration, verification and benchmarks.

Files are `.npz` or IDX. Nothing is unpickled; sizes that headers declare are compared with those of the file before
content is decompressed. Every command splits a file of `x` and `y` in the same way: a seeded fifth of each class is the
test part.
"""

from __future__ import annotations

import gzip
import math
import re
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from sen_runtime import memory_limits
from sen_runtime.errors import DataError
from sen_runtime.untrusted import listing, open_regular, printable, quote

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.int64]

#: Test share of a source without a split.
TEST_SHARE = 0.2
#: Share of the input range by which inputs may exceed it.
RANGE_SLACK = 0.05
#: Upper bound of class numbers.
MAX_CLASSES = 1 << 16
TRAINING, TEST, ALL = "training", "test", ""
#: Readers of the arrays of one part: inputs `[n, ...]`, and labels or None.
_Readers = tuple[Callable[..., NDArray[Any]], Optional[Callable[..., NDArray[Any]]]]
#: Part -> suffix of its arrays in a `.npz`.
SUFFIXES = {TRAINING: "_train", TEST: "_test", ALL: ""}
LAYOUTS = "x and y, or x_train, y_train, x_test, y_test"
#: Names of IDX images, as in MNIST; labels are next to them.
IDX_IMAGES = re.compile(r"(?P<set>.*?)(?P<part>train|t10k|test)-images-idx3(?P<end>.*)", re.DOTALL)
IDX_PARTS = {TRAINING: ("train",), TEST: ("t10k", "test")}


@dataclass(frozen=True)
class Examples:
    """One part of a data set, checked: finite inputs and, if there are labels, one class number per input.

    Attributes:
        name: of the data set.
        part: `TRAINING`, `TEST`, or `ALL` for a set without a split.
        inputs: `[n, n_in]`, or `[n, T, n_in]` spike trains.
        labels: `[n]`, or None.
        total: examples of the set that this part was split from; None if the source has a split.
    """

    name: str
    part: str
    inputs: FloatArray
    labels: LabelArray | None = None
    total: int | None = None

    def __post_init__(self) -> None:
        inputs, labels = self.inputs, self.labels
        if inputs.ndim not in (2, 3) or inputs.size == 0:
            raise DataError(f"{self.where}: inputs have shape {list(inputs.shape)}; expected [n, n_in], none empty")
        if not np.isfinite(inputs).all():
            at = np.argwhere(~np.isfinite(inputs))[0]
            raise DataError(f"{self.where}: input {at[0]} holds {inputs[tuple(at)]}; expected finite numbers")
        if labels is None:
            return
        if labels.shape != inputs.shape[:1]:
            raise DataError(f"{self.where}: {list(labels.shape)} labels for {len(inputs)} inputs; expected one each")
        wrong = np.flatnonzero((labels < 0) | (labels >= MAX_CLASSES))
        if len(wrong):
            raise DataError(f"{self.where}: label {wrong[0]} is {labels[wrong[0]]}; expected 0 to {MAX_CLASSES - 1}")

    @property
    def where(self) -> str:
        """Prefix of messages."""
        return f"{self.name}, {self.part} data" if self.part else self.name

    @property
    def title(self) -> str:
        """Name, part and number of examples, for tables and records."""
        n = f"{len(self.inputs):,}"
        if not self.part:
            return f"{self.name} (all {n})"
        return f"{self.name} ({self.part} part: {n}{'' if self.total is None else f' of {self.total:,}'})"

    @property
    def labelled(self) -> LabelArray:
        """Labels; a `DataError` if there are none."""
        if self.labels is None:
            suffix = SUFFIXES[self.part]
            raise DataError(f"{self.where}: no labels", hint=f"add class numbers as y{suffix}")
        return self.labels

    def warnings(self, n_classes: int) -> list[str]:
        """Return warnings about the labels for a network of `n_classes` outputs."""
        absent = [] if self.labels is None else np.setdiff1d(np.arange(n_classes), self.labels).tolist()
        if not absent:
            return []
        return [f"{self.title}: {len(absent):,} of {n_classes:,} classes have no example: {listing(absent)}"]


class DataFile:
    """Examples in a `.npz` or in IDX files; headers are checked at once, content is read on demand.

    Attributes:
        path: of the file.
        parts: those of `TRAINING` and `TEST` in the file.
    """

    def __init__(self, path: Path) -> None:
        """Open a `.npz` with arrays of `LAYOUTS`; or an IDX file, whose labels and other part are found by name."""
        self.path = path
        self._is_scaled = path.suffix != ".npz"  # bytes, to scale to the input range
        self._sources = _idx_sources(path) if self._is_scaled else _npz_sources(path)
        self.parts = (TRAINING, TEST) if ALL in self._sources else tuple(self._sources)

    def read(
        self, parts: Sequence[str], *, has_steps: bool = False, input_range: tuple[float, float] = (0.0, 1.0)
    ) -> list[Examples]:
        """Read parts of the set; `x` and `y` without a split are split, and of `x` alone each part is the whole set.

        Args:
            parts: of `TRAINING` and `TEST`.
            has_steps: whether inputs are spike trains `[n, T, ...]`; further axes are flattened.
            input_range: of the network; IDX bytes are scaled to it.

        Raises:
            DataError: no such part; inputs are not finite or have too few axes; labels are not class numbers, or not
                one per input; too few examples to split.
        """
        if ALL in self._sources:
            whole = self._read(ALL, has_steps, input_range)
            if whole.labels is None:
                return [whole for _ in parts]
            split = dict(zip((TRAINING, TEST), split_examples(whole)))
            return [split[part] for part in parts]
        absent = next((part for part in parts if part not in self._sources), None)
        if absent is not None:
            raise DataError(
                f"{self.path} has no {absent} part, only {', '.join(self.parts)} data",
                hint="a .npz has x_train, y_train, x_test, y_test, or x, y; IDX files are train- and t10k-images-idx3",
            )
        return [self._read(part, has_steps, input_range) for part in parts]

    def _read(self, part: str, has_steps: bool, input_range: tuple[float, float]) -> Examples:
        (read_inputs, read_labels), n_axes = self._sources[part], 2 if has_steps else 1
        x = read_inputs()
        if x.ndim <= n_axes:
            expected = "[n, T, n_in]" if has_steps else "[n, n_in]"
            raise DataError(f"{self.path}: x{SUFFIXES[part]} is {x.dtype} {list(x.shape)}; expected {expected}")
        with np.errstate(over="ignore"):  # values beyond float32 become inf, which Examples reports
            inputs: FloatArray = x.reshape(*x.shape[:n_axes], -1).astype(np.float32, copy=False)
        if self._is_scaled:
            low, high = map(np.float32, input_range)
            inputs = inputs / np.float32(255) * (high - low) + low
        labels = None if read_labels is None else _class_numbers(self.path, f"y{SUFFIXES[part]}", read_labels())
        return Examples(self.path.name, part, inputs, labels)


def _npz_sources(path: Path) -> dict[str, _Readers]:
    known = [f"{array}{suffix}" for suffix in SUFFIXES.values() for array in "xy"]
    npz = Npz(path, known.__contains__, LAYOUTS)
    names = list(npz.headers)
    is_mixed = "x" in names and any(name not in ("x", "y") for name in names)
    if is_mixed or any(name.replace("y", "x") not in names for name in names):
        raise DataError(f"{path} holds the arrays {listing(names)}; expected {LAYOUTS}")
    return {
        part: (partial(npz.array, f"x{suffix}"), partial(npz.array, f"y{suffix}") if f"y{suffix}" in names else None)
        for part, suffix in SUFFIXES.items()
        if f"x{suffix}" in names
    }


def _idx_sources(path: Path) -> dict[str, _Readers]:
    name = IDX_IMAGES.fullmatch(path.name)
    if name is None:
        return {ALL: (partial(read_idx, path), None)}
    found: dict[str, _Readers] = {}
    for part, words in IDX_PARTS.items():
        for word in words:
            images = path.with_name(f"{name['set']}{word}-images-idx3{name['end']}")
            labels = path.with_name(f"{name['set']}{word}-labels-idx1{name['end']}")
            if images.exists():
                found[part] = partial(read_idx, images), partial(read_idx, labels, 1) if labels.exists() else None
    if not found:
        raise DataError(f"{path} does not exist")
    return found


def _class_numbers(path: Path, name: str, y: NDArray[Any]) -> LabelArray:
    """Convert labels `[n]` or `[n, 1]`, bool, integer or whole floating-point numbers, to `[n]`."""
    if math.prod(y.shape[1:]) != 1 or y.ndim == 0:
        raise DataError(f"{path}: {name} has shape {list(y.shape)}; expected one class number per input: [n] or [n, 1]")
    y = y.reshape(-1).astype(np.uint8) if y.dtype.kind == "b" else y.reshape(-1)
    wrong = np.flatnonzero(~((y >= 0) & (y < MAX_CLASSES) & (y == np.floor(y))))
    if len(wrong):
        raise DataError(f"{path}: {name}[{wrong[0]}] is {y[wrong[0]]}; expected class numbers 0 to {MAX_CLASSES - 1}")
    labels: LabelArray = y.astype(np.int64)
    return labels


def split_examples(whole: Examples) -> tuple[Examples, Examples]:
    """Split a set into training and test part, by the rule of all commands."""
    kept, held = hold_out(whole.labelled, TEST_SHARE, seed=0)
    if not len(held):
        raise DataError(
            f"{whole.name}: {len(whole.inputs)} examples are too few for a test part of {TEST_SHARE:.0%} of each class",
            hint="name the arrays x_test and y_test if all examples are test data",
        )
    training, test = (
        Examples(whole.name, part, whole.inputs[chosen], whole.labelled[chosen], len(whole.inputs))
        for part, chosen in ((TRAINING, kept), (TEST, held))
    )
    return training, test


def hold_out(labels: LabelArray, share: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split examples by class; return ascending indices of the kept and the held-out ones."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held[members[: round(share * len(members))]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def check_fit(
    examples: Examples, shape: tuple[int, ...], input_range: tuple[float, float] | None, n_out: int | None = None
) -> None:
    """Refuse examples that do not fit a network.

    Args:
        examples: to check.
        shape: of one input: `(n_in,)`, or `(T, n_in)` for spike trains of 0 and 1.
        input_range: of the network, or None; inputs may exceed it by `RANGE_SLACK` of its width.
        n_out: outputs of the network; None ignores labels.
    """
    inputs, where = examples.inputs, examples.where
    if inputs.shape[1:] != shape:
        raise DataError(
            f"{where}: an input has shape {list(inputs.shape[1:])}; the network takes {list(shape)}",
            hint="use the data set that the network was trained on",
        )
    low, high = float(inputs.min()), float(inputs.max())
    if len(shape) > 1 and not np.isin(inputs, (0, 1)).all():
        raise DataError(f"{where}: inputs are in [{low:g}, {high:g}]; expected spikes, 0 or 1")
    if input_range is not None:
        slack = RANGE_SLACK * (input_range[1] - input_range[0])
        if low < input_range[0] - slack or high > input_range[1] + slack:
            raise DataError(
                f"{where}: inputs are in [{low:g}, {high:g}]; expected [{input_range[0]:g}, {input_range[1]:g}], the "
                "input range of the network",
                hint="scale them like the training data; input_range is in the config of a checkpoint, the [config] of "
                "a map, or the metadata of a file",
            )
    if n_out is not None and examples.labelled.max() >= n_out:
        raise DataError(f"{where}: label {examples.labelled.max()} for a network of {n_out} outputs")


# --- arrays in files -----------------------------------------------------------------------------

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
