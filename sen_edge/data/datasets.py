"""Labelled data: MNIST, scikit-learn's digits, or files, read and split by `sen_runtime.data`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.data import mnist
from sen_edge.errors import DataError
from sen_runtime.data import ALL, TEST, TRAINING, DataFile, Examples, FloatArray, LabelArray, check_fit, split_examples
from sen_runtime.errors import MissingExtraError
from sen_runtime.ir.network import Network

LOG = logging.getLogger(__name__)

#: Rows and columns of the images of the data sets with a name.
IMAGE_SHAPES = {"mnist": mnist.IMAGE_SHAPE, "digits": (8, 8)}


@dataclass(frozen=True)
class Dataset:
    """Examples with class labels, checked as `sen_runtime.data.Examples`; test labels also occur in training.

    Inputs are `[n, n_in]`, or `[n, T, n_in]` for spike trains; labels are `[n]`.

    Attributes:
        input_range: min and max of the inputs.
        image_shape: rows and columns of an image, or None.
        is_split: whether the test part is a seeded share of each class, because the source has no split.
    """

    name: str
    train_inputs: FloatArray
    train_labels: LabelArray
    test_inputs: FloatArray
    test_labels: LabelArray
    input_range: tuple[float, float]
    image_shape: tuple[int, int] | None = None
    is_split: bool = False

    def __post_init__(self) -> None:
        train, test = self.training.inputs.shape[1:], self.test.inputs.shape[1:]
        if train != test:
            raise DataError(f"{self.name}: training inputs have shape {list(train)}, test inputs {list(test)}")
        if self.test_labels.max() >= self.n_classes:
            raise DataError(
                f"{self.name}: test label {self.test_labels.max()} is not among the training labels "
                f"0 to {self.n_classes - 1}"
            )

    @cached_property
    def training(self) -> Examples:
        """Training part."""
        return Examples(self.name, TRAINING, self.train_inputs, self.train_labels, self._total)

    @cached_property
    def test(self) -> Examples:
        """Test part."""
        return Examples(self.name, TEST, self.test_inputs, self.test_labels, self._total)

    @property
    def _total(self) -> int | None:
        return len(self.train_inputs) + len(self.test_inputs) if self.is_split else None

    def warnings(self) -> list[str]:
        """Return warnings about the labels."""
        return [*self.training.warnings(self.n_classes), *self.test.warnings(self.n_classes)]

    @property
    def n_in(self) -> int:
        """Numbers per input (per step of a spike train)."""
        return self.train_inputs.shape[-1]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of training inputs and labels."""
        return _sha256(self.train_inputs, self.train_labels)

    @cached_property
    def content_sha256(self) -> str:
        """SHA-256 of all inputs and labels."""
        return _sha256(np.frombuffer(self.sha256.encode(), np.uint8), self.test_inputs, self.test_labels)

    @property
    def n_classes(self) -> int:
        """One more than the largest training label."""
        return int(self.train_labels.max()) + 1


def _sha256(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def load(
    name: str,
    data_dir: Path | None = None,
    *,
    spikes: bool = False,
    download: bool = False,
    mirror: str | None = None,
) -> Dataset:
    """Load training and test data by name or path.

    - `mnist`: the four IDX files, compressed or not, pixels scaled to [0, 1]; see `sen_edge.data.mnist`.
    - `digits`: scikit-learn's 1,797 digits of 8 x 8 pixels, scaled to [0, 1]; a seeded fifth of each is test data.
    - the path of a `.npz` or of IDX images: see `sen_runtime.data.DataFile`.

    MNIST is searched in `data_dir` alone if given; `download` fetches it if missing, from `mirror` or the known ones.

    Raises:
        DataError: the data are missing, damaged, without labels, or of another form.
        MissingExtraError: scikit-learn is not installed.
    """
    if spikes and name in IMAGE_SHAPES:
        raise DataError(f"{name} holds no spike trains; expected a .npz with inputs [n, T, n_in]")
    training, test = _read(name, (TRAINING, TEST), data_dir, has_steps=spikes, download=download, mirror=mirror)
    low, high = 0.0, 1.0
    if name not in IMAGE_SHAPES:
        low = float(min(training.inputs.min(), test.inputs.min()))
        high = float(max(training.inputs.max(), test.inputs.max()))
        if low >= high:
            raise DataError(f"{training.name}: every input value is {low:g}; expected a range")
    return Dataset(
        training.name,
        training.inputs,
        training.labelled,
        test.inputs,
        test.labelled,
        (low, high),
        IMAGE_SHAPES.get(name),
        is_split=training.total is not None,
    )


def load_part(name: str, part: str, data_dir: Path | None, network: Network, *, n_out: int | None = None) -> Examples:
    """Load one part of a data set for a network, see `load`; with labels below `n_out` if given.

    Raises:
        DataError: see `load`; the inputs do not fit the network.
    """
    has_steps = network.input_coding == "spikes"
    (examples,) = _read(name, (part,), data_dir, has_steps=has_steps, input_range=network.input_range)
    check_fit(examples, network.input_shape, network.input_range, n_out)
    return examples


def load_test(name: str, data_dir: Path | None, network: Network) -> Examples:
    """Load the labelled test part; classes without examples are logged as a warning."""
    examples = load_part(name, TEST, data_dir, network, n_out=network.n_out)
    for warning in examples.warnings(network.n_out):
        LOG.warning(warning)
    return examples


def check_dataset(dataset: Dataset, shape: tuple[int, ...], input_range: tuple[float, float], n_out: int) -> None:
    """Refuse a data set that does not fit a network; see `sen_runtime.data.check_fit`."""
    for examples in (dataset.training, dataset.test):
        check_fit(examples, shape, input_range, n_out)


def _read(
    name: str,
    parts: Sequence[str],
    data_dir: Path | None,
    *,
    has_steps: bool,
    input_range: tuple[float, float] = (0.0, 1.0),
    download: bool = False,
    mirror: str | None = None,
) -> list[Examples]:
    if name == "mnist":
        folder = mnist.locate(data_dir, download=download, mirror=mirror)
        return [mnist.read(folder, part) for part in parts]
    if name == "digits":
        split = dict(zip((TRAINING, TEST), _digits(), strict=True))
        return [split[part] for part in parts]
    path = Path(name)
    if path.suffix != ".npz" and not path.exists():
        raise DataError(
            f"data set {name!r} is unknown; expected {', '.join(IMAGE_SHAPES)}, or the path of a .npz or an IDX file"
        )
    return DataFile(path).read(parts, has_steps=has_steps, input_range=input_range)


def _digits() -> tuple[Examples, Examples]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtraError("scikit-learn, which bundles the digits,", "pip install scikit-learn") from None
    inputs, labels = load_digits(return_X_y=True)
    return split_examples(Examples("digits", ALL, (inputs / 16).astype(np.float32), labels.astype(np.int64)))
