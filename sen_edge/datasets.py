"""Labelled data for training and for comparing accuracies: MNIST, scikit-learn's digits, or a user's `.npz`.

Nothing that would execute code is read, and everything is checked before it is trained on.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge import mnist
from sen_edge.errors import DataError
from sen_runtime.errors import MissingExtraError
from sen_runtime.network import Network

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.int64]

NAMES = ("mnist", "digits")
#: Share of the examples that becomes test data where a source has no split of its own.
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Dataset:
    """Examples with class labels, checked: finite inputs, labels 0 to n_classes - 1.

    Attributes:
        name: for people; goes into a checkpoint's metadata.
        train_inputs: `[n, n_in]` float32, or `[n, T, n_in]` for spike trains.
        train_labels: `[n]` int64.
        test_inputs: `[m, n_in]` or `[m, T, n_in]`.
        test_labels: `[m]`.
        input_range: least and greatest value an input takes.
        image_shape: rows and columns if an input is an image, else None.
    """

    name: str
    train_inputs: FloatArray
    train_labels: LabelArray
    test_inputs: FloatArray
    test_labels: LabelArray
    input_range: tuple[float, float]
    image_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_examples(f"{self.name}, training data", self.train_inputs, self.train_labels)
        check_examples(f"{self.name}, test data", self.test_inputs, self.test_labels)
        train, test = self.train_inputs.shape[1:], self.test_inputs.shape[1:]
        if train != test:
            raise DataError(f"{self.name}: training inputs have shape {list(train)}, test inputs {list(test)}")
        if self.test_labels.max() >= self.n_classes:
            raise DataError(
                f"{self.name}: test label {self.test_labels.max()} is not among the training labels "
                f"0 to {self.n_classes - 1}"
            )

    @property
    def n_in(self) -> int:
        """Numbers per input (per step of a spike train)."""
        return self.train_inputs.shape[-1]

    @cached_property
    def sha256(self) -> str:
        """Of the bytes of the training inputs and labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.train_inputs).data)
        digest.update(np.ascontiguousarray(self.train_labels).data)
        return digest.hexdigest()

    @cached_property
    def content_sha256(self) -> str:
        """Of all of it, the test data too."""
        digest = hashlib.sha256(self.sha256.encode())
        digest.update(np.ascontiguousarray(self.test_inputs).data)
        digest.update(np.ascontiguousarray(self.test_labels).data)
        return digest.hexdigest()

    @property
    def n_classes(self) -> int:
        """One more than the greatest training label."""
        return int(self.train_labels.max()) + 1


def load(
    name: str,
    data_dir: Path | None = None,
    *,
    spikes: bool = False,
    download: bool = False,
    mirror: str | None = None,
    report: Callable[[str], None] | None = None,
) -> Dataset:
    """Training and test data by name or path.

    - `mnist`: the four IDX files, compressed or not, pixels scaled to [0, 1]; see `sen_edge.mnist`.
    - `digits`: scikit-learn's 1,797 digits of 8 x 8 pixels, scaled to [0, 1]; a seeded fifth of each is test data.
    - `PATH.npz`: arrays `x_train, y_train, x_test, y_test`, or `x, y` with a seeded fifth of each class as test data.
      Inputs are flattened and taken as they are; labels are integers from 0.

    Args:
        name: `mnist`, `digits` or the path of a `.npz`.
        data_dir: folder of the MNIST files; searched alone if given.
        spikes: inputs are spike trains `[n, T, n_in]` and stay so.
        download: fetch MNIST if it is not there.
        mirror: fetch it from this URL.
        report: told what a download is doing.

    Raises:
        DataError: the data are absent, damaged, or do not have this form.
        MissingExtraError: scikit-learn is needed and not installed.
    """
    if name == "mnist":
        folder = mnist.locate(data_dir, download=download, mirror=mirror, report=report)
        train, test = mnist.read(folder, "train"), mnist.read(folder, "t10k")
        dataset = Dataset("mnist", *train, *test, input_range=(0.0, 1.0), image_shape=mnist.IMAGE_SHAPE)
    elif name == "digits":
        dataset = _digits()
    else:
        dataset = _npz(_npz_path(name), spikes=spikes)
    if spikes and dataset.train_inputs.ndim != 3:
        raise DataError(f"{name} holds no spike trains; expected a .npz with inputs [n, T, n_in]")
    return dataset


def test_split(
    name: str, data_dir: Path | None = None, network: Network | None = None
) -> tuple[FloatArray, LabelArray, str]:
    """The data an accuracy is measured on: inputs, labels, name.

    As `load`, but only the test data is read, and all of a `.npz` with `x, y` is test data.

    Args:
        name: as for `load`.
        data_dir: as for `load`.
        network: to measure; says whether inputs are spike trains, and is checked against the data.

    Raises:
        DataError: as `load`, and if the data do not fit the network.
    """
    if name == "mnist":
        inputs, labels = mnist.read(mnist.locate(data_dir), "t10k")
    elif name == "digits":
        digits = _digits()
        inputs, labels = digits.test_inputs, digits.test_labels
    else:
        path = _npz_path(name)
        spikes = network is not None and network.input_coding == "spikes"
        arrays = _npz_arrays(path)
        inputs, labels = _npz_examples(path, arrays, "_test" if "x_test" in arrays else "", spikes=spikes)
    check_examples(name, inputs, labels)
    if network is not None:
        check_fit(name, inputs, labels, network.input_shape, network.n_out)
    return inputs, labels, f"{name} (test)" if name in NAMES else name


def check_examples(where: str, inputs: FloatArray, labels: LabelArray) -> None:
    """Inputs `[n, n_in]` or `[n, T, n_in]`, finite, with one label each.

    Raises:
        DataError: anything else.
    """
    if inputs.ndim not in (2, 3) or inputs.size == 0:
        raise DataError(f"{where}: inputs have shape {list(inputs.shape)}; expected [n, n_in] with no axis empty")
    if labels.shape != inputs.shape[:1]:
        raise DataError(f"{where}: {list(labels.shape)} labels for {inputs.shape[0]} inputs; expected one for each")
    check_finite(where, inputs)
    wrong = np.flatnonzero((labels < 0) | (labels >= max(len(labels), 1000)))
    if len(wrong):
        raise DataError(f"{where}: label {wrong[0]} is {labels[wrong[0]]}; expected class numbers 0, 1, 2 ...")


def check_finite(where: str, inputs: FloatArray) -> None:
    """No input holds NaN or infinity.

    Raises:
        DataError: the first that does, and what it holds.
    """
    if not np.isfinite(inputs).all():
        at = np.argwhere(~np.isfinite(inputs))[0]
        raise DataError(f"{where}: input {at[0]} holds {inputs[tuple(at)]}; expected finite numbers")


def check_shape(name: str, inputs: FloatArray, shape: tuple[int, ...]) -> None:
    """Inputs `[n, *shape]`: of the width and length that a network takes.

    Raises:
        DataError: they have another shape.
    """
    if inputs.shape[1:] != shape:
        raise DataError(
            f"{name}: an input has shape {list(inputs.shape[1:])}; the network takes {list(shape)}",
            hint="name the data set that the network was trained on",
        )


def check_fit(name: str, inputs: FloatArray, labels: LabelArray, shape: tuple[int, ...], n_out: int) -> None:
    """Inputs `[n, *shape]` and labels that a network of `n_out` outputs takes.

    Raises:
        DataError: they have another width, length or number of classes.
    """
    check_shape(name, inputs, shape)
    if labels.max() >= n_out:
        raise DataError(f"{name}: label {labels.max()} for a network of {n_out} outputs")


def hold_out(labels: LabelArray, share: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split examples into kept and held-out ones, class by class: indices of both, ascending."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held[members[: round(share * len(members))]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _split(name: str, inputs: FloatArray, labels: LabelArray, image_shape: tuple[int, int] | None = None) -> Dataset:
    """A data set whose test data is a seeded share of each class."""
    check_examples(name, inputs, labels)
    train, test = hold_out(labels, TEST_SHARE, seed=0)
    if not len(test):
        raise DataError(
            f"{name}: {len(labels)} examples are too few for a test split of {TEST_SHARE:.0%} of each class"
        )
    return Dataset(
        name, inputs[train], labels[train], inputs[test], labels[test], _range(name, inputs), image_shape=image_shape
    )


def _range(name: str, *inputs: FloatArray) -> tuple[float, float]:
    least, greatest = float(min(x.min() for x in inputs)), float(max(x.max() for x in inputs))
    if least >= greatest:
        raise DataError(f"{name}: every input value is {least:g}; there is nothing to learn from")
    return least, greatest


def _digits() -> Dataset:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtraError("scikit-learn, which carries the digits,", "pip install scikit-learn") from None
    inputs, labels = load_digits(return_X_y=True)
    return _split("digits", (inputs / 16).astype(np.float32), labels.astype(np.int64), image_shape=(8, 8))


def _npz_path(name: str) -> Path:
    path = Path(name)
    if path.suffix != ".npz":
        raise DataError(f"data set {name!r} is unknown; expected {', '.join(NAMES)} or the path of a .npz file")
    return path


def _npz(path: Path, *, spikes: bool) -> Dataset:
    arrays = _npz_arrays(path)
    if "x_train" not in arrays:
        return _split(path.name, *_npz_examples(path, arrays, "", spikes=spikes))
    train = _npz_examples(path, arrays, "_train", spikes=spikes)
    test = _npz_examples(path, arrays, "_test", spikes=spikes)
    check_examples(f"{path.name}, training data", *train)
    check_examples(f"{path.name}, test data", *test)
    return Dataset(path.name, *train, *test, input_range=_range(path.name, train[0], test[0]))


def _npz_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of one of the two layouts, by name."""
    layouts = ({"x_train", "y_train", "x_test", "y_test"}, {"x", "y"})

    def layout(names: Sequence[str]) -> Iterable[str]:
        for wanted in layouts:
            if wanted <= set(names):
                return wanted
        raise DataError(
            f"{path} holds the arrays {', '.join(names) or 'none'}; expected x_train, y_train, x_test, y_test, or x, y"
        )

    return read_npz(path, layout)


def read_npz(path: Path, choose: Callable[[Sequence[str]], Iterable[str]]) -> dict[str, NDArray[Any]]:
    """Those arrays of a `.npz` that `choose` names, given the names of all.

    Raises:
        DataError: no such file, or no `.npz`; or what `choose` raised.
    """
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"{path} holds one bare array; expected a .npz with named arrays")
            return {name: file[name] for name in choose(file.files)}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}", hint="write it with numpy.savez, without objects") from error


def _npz_examples(
    path: Path, arrays: dict[str, NDArray[Any]], suffix: str, *, spikes: bool
) -> tuple[FloatArray, LabelArray]:
    """Inputs `[n, n_in]` (`[n, T, n_in]` if `spikes`) and labels `[n]` of one split."""
    x, y = arrays[f"x{suffix}"], arrays[f"y{suffix}"]
    if x.dtype.kind not in "fiub" or x.ndim < (3 if spikes else 2):
        expected = "[n, T, n_in]" if spikes else "[n, n_in]"
        raise DataError(f"{path}: x{suffix} is {x.dtype} {list(x.shape)}; expected numbers {expected}")
    if y.dtype.kind not in "iu" or y.ndim != 1:
        raise DataError(f"{path}: y{suffix} is {y.dtype} {list(y.shape)}; expected integer labels [n]")
    kept = x.shape[:2] if spikes else x.shape[:1]
    size = math.prod(x.shape[len(kept) :])
    with np.errstate(over="ignore"):  # a number beyond float32 becomes inf, which check_examples names
        return x.reshape(*kept, size).astype(np.float32), y.astype(np.int64)
