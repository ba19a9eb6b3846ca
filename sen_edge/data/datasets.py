"""Labelled data: MNIST, scikit-learn's digits, or files, read and split by `sen_runtime.data`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sen_edge.data import mnist
from sen_edge.errors import DataError
from sen_runtime.data import (
    ALL,
    TEST,
    TRAINING,
    DataFile,
    Examples,
    Form,
    Inputs,
    Targets,
    check_fit,
    form_of,
    split_examples,
)
from sen_runtime.data.rows import chunks
from sen_runtime.errors import MissingExtraError
from sen_runtime.ir.codings import Coding
from sen_runtime.ir.network import Network
from sen_runtime.task import CLASSIFICATION, RECONSTRUCTION, REGRESSION
from sen_runtime.untrusted import quote

LOG = logging.getLogger(__name__)
#: Limits of the median magnitude of standardized inputs, outside of which their units are doubtful.
MIN_SCALE, MAX_SCALE = 0.01, 2.0
#: Number of examples for that median.
SCALE_EXAMPLES = 1000
DoubleArray = NDArray[np.float64]

#: Rows and columns of the images of the data sets with a name.
IMAGE_SHAPES = {"mnist": mnist.IMAGE_SHAPE, "digits": (8, 8)}


@dataclass(frozen=True)
class Dataset:
    """Training and test examples of a task, checked as `sen_runtime.data.Examples`.

    Inputs are `[n, n_in]`, or `[n, T, n_in]` of sequences; targets as in `Examples`, None for a reconstruction without.
    Classes of the test part also occur in training, and no target to learn is constant.

    Attributes:
        input_range: min and max of the inputs.
        image_shape: rows and columns of an image, or None.
        is_split: whether the test part is a seeded share, because the source has no split.
        task: see `sen_runtime.task`.
        feature_names: of the inputs; empty if unknown.
        output_names: of classes, labels or values; empty if unknown.
        target_columns: columns of a table that hold the targets.
    """

    name: str
    train_inputs: Inputs
    train_targets: Targets | None
    test_inputs: Inputs
    test_targets: Targets | None
    input_range: tuple[float, float]
    image_shape: tuple[int, int] | None = None
    is_split: bool = False
    task: str = CLASSIFICATION
    feature_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    target_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        train, test = self.training.inputs.shape[1:], self.test.inputs.shape[1:]
        if train != test:
            raise DataError(
                f"{self.name}: training inputs have shape {list(train)}, test inputs {list(test)}",
                hint="pad or cut sequences to one length, and give both parts the same features",
            )
        if self.task == RECONSTRUCTION:
            return
        targets, tested = self.training.require_targets(), self.test.require_targets()
        if self.task == CLASSIFICATION and tested.max() >= self.n_out:
            raise DataError(
                f"{self.name}: test label {tested.max()} is not among the training labels 0 to {self.n_out - 1}"
            )
        if targets.shape[1:] != tested.shape[1:]:
            raise DataError(
                f"{self.name}: training targets have shape {list(targets.shape)}, test targets {list(tested.shape)}"
            )
        self._check_constant(targets)

    def _check_constant(self, targets: Targets) -> None:
        """Refuse targets of which nothing can be learned."""
        is_constant = np.atleast_1d((targets == targets[:1]).all(axis=0))
        if is_constant.all() or (self.task == REGRESSION and is_constant.any()):
            column = int(np.argmax(is_constant))
            names = self.target_columns if self.task == CLASSIFICATION else self.output_names
            which = f"target {quote(names[column])}" if names else f"target {column}"
            value = targets.reshape(len(targets), -1)[0, column]
            is_named = self.task == CLASSIFICATION and self.output_names
            shown = quote(self.output_names[int(value)]) if is_named else f"{value:g}"
            raise DataError(f"{self.training.where}: {which} is {shown} in every example; expected different values")

    @cached_property
    def training(self) -> Examples:
        """Training part."""
        return self._part(TRAINING, self.train_inputs, self.train_targets)

    @cached_property
    def test(self) -> Examples:
        """Test part."""
        return self._part(TEST, self.test_inputs, self.test_targets)

    def _part(self, part: str, inputs: Inputs, targets: Targets | None) -> Examples:
        total = len(self.train_inputs) + len(self.test_inputs) if self.is_split else None
        return Examples(self.name, part, inputs, targets, total, self.feature_names, self.output_names, self.task)

    def warnings(self) -> list[str]:
        """Return warnings about the targets."""
        return [*self.training.warnings(self.n_out), *self.test.warnings(self.n_out)]

    @property
    def n_in(self) -> int:
        """Numbers per input (per step of a sequence)."""
        return int(self.train_inputs.shape[-1])

    @property
    def n_out(self) -> int:
        """Outputs of a network for these data: classes, labels or values per example, or n_in of a reconstruction."""
        return self.training.n_out

    @cached_property
    def column_statistics(self) -> tuple[DoubleArray, DoubleArray, NDArray[np.bool_]]:
        """Mean, standard deviation and whether it is constant, for each feature of the training inputs `[n_in]`.

        The standard deviation of a constant feature is 1.
        """
        n, first = self.train_inputs.size // self.n_in, next(self._rows())[0]
        total, squares, is_constant = np.zeros(self.n_in), np.zeros(self.n_in), np.ones(self.n_in, bool)
        for rows in self._rows():
            total += rows.sum(axis=0)
            is_constant &= (rows == first).all(axis=0)
        mean = np.where(is_constant, first, total / n)
        for rows in self._rows():
            squares += np.square(rows - mean).sum(axis=0)
        return mean, np.where(is_constant, 1, np.sqrt(squares / n)), is_constant

    def _rows(self) -> Iterator[DoubleArray]:
        """Yield the training inputs `[rows, n_in]` in chunks; each step of a sequence is a row."""
        for _, chunk in chunks(self.train_inputs):
            yield chunk.reshape(-1, self.n_in).astype(np.float64)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of training inputs and targets."""
        return _sha256(self.train_inputs, self.train_targets)

    @cached_property
    def content_sha256(self) -> str:
        """SHA-256 of all inputs and targets."""
        return _sha256(np.frombuffer(self.sha256.encode(), np.uint8), self.test_inputs, self.test_targets)


class InputForm(Protocol):
    """Inputs and layers of a network or a configuration."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""

    @property
    def input_range(self) -> tuple[float, float]:
        """Min and max of inputs."""

    @property
    def coding(self) -> Coding:
        """Properties of the input coding."""

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Neurons per layer."""


def _sha256(*arrays: NDArray[Any] | None) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        for _, chunk in () if array is None else chunks(array):
            digest.update(np.ascontiguousarray(chunk).data)
    return digest.hexdigest()


def load(
    name: str,
    data_dir: Path | None = None,
    *,
    task: str | None = None,
    target: Sequence[str] = (),
    has_steps: bool = False,
    download: bool = False,
    mirror: str | None = None,
) -> Dataset:
    """Load training and test data by name or path.

    - `mnist`: the four IDX files, compressed or not, pixels scaled to [0, 1]; see `sen_edge.data.mnist`.
    - `digits`: scikit-learn's 1,797 digits of 8 x 8 pixels, scaled to [0, 1]; a seeded fifth of each is test data.
    - the path of a CSV or Parquet file, a `.npz`, IDX images, or a folder: see `sen_runtime.data.DataFile`.

    MNIST is searched in `data_dir` alone if given; `download` fetches it if missing, from `mirror` or the known ones.
    `task` is inferred from the targets by default, see `sen_runtime.data.targets`; `target` names columns of a table.
    `has_steps` reads sequences `[n, T, ...]`.

    Raises:
        DataError: the data are missing, damaged, without targets, contradict the task, or are of another form.
        MissingExtraError: scikit-learn is not installed.
    """
    form = Form(task, tuple(target), has_steps=has_steps)
    return _load(name, data_dir, form, download=download, mirror=mirror)


def load_for(name: str, data_dir: Path | None, network: Network) -> Dataset:
    """Load training and test data for the task, inputs and outputs of a network; see `load`."""
    return _load(name, data_dir, _form(network))


def _load(
    name: str, data_dir: Path | None, form: Form, *, download: bool = False, mirror: str | None = None
) -> Dataset:
    if form.has_steps and name in IMAGE_SHAPES:
        raise DataError(f"{name} holds no sequences; expected a .npz with inputs [n, T, n_in]")
    training, test = _read(name, (TRAINING, TEST), data_dir, form, download=download, mirror=mirror)
    return assemble(training, test, form.target, IMAGE_SHAPES.get(name))


def assemble(
    training: Examples, test: Examples, target: tuple[str, ...] = (), image_shape: tuple[int, int] | None = None
) -> Dataset:
    """Assemble a data set from its parts; the range of images of a known shape is 0 to 1."""
    for note in dict.fromkeys((*training.notes, *test.notes)):
        LOG.warning(note)
    low, high = 0.0, 1.0
    if image_shape is None:
        low = min(training.input_range[0], test.input_range[0])
        high = max(training.input_range[1], test.input_range[1])
        if low >= high:
            raise DataError(f"{training.name}: every input value is {low:g}; expected a range")
    return Dataset(
        training.name,
        training.inputs,
        training.targets,
        test.inputs,
        test.targets,
        (low, high),
        image_shape,
        is_split=training.total is not None,
        task=training.task,
        feature_names=training.feature_names,
        output_names=training.output_names,
        target_columns=target,
    )


def _form(network: Network) -> Form:
    return form_of(network.metadata, network.input_range, has_steps=len(network.input_shape) > 1)


def load_part(name: str, part: str, data_dir: Path | None, network: Network, *, n_out: int | None = None) -> Examples:
    """Load one part of a data set for a network and its task, see `load`; with targets for `n_out` outputs if given.

    Raises:
        DataError: see `load`; the data do not fit the network.
    """
    (examples,) = _read(name, (part,), data_dir, _form(network))
    check_fit(examples, network.input_shape, network.input_range, n_out, is_spikes=network.coding.is_binary)
    return examples


def load_test(name: str, data_dir: Path | None, network: Network) -> Examples:
    """Load the test part, with targets unless the task needs none; classes without examples are logged as a warning."""
    examples = load_part(name, TEST, data_dir, network, n_out=network.n_out)
    for warning in (*examples.notes, *examples.warnings(network.n_out), *_scale_warnings(examples, network)):
        LOG.warning(warning)
    return examples


def _scale_warnings(examples: Examples, network: Network) -> list[str]:
    """Warn of inputs that are not raw, or of another unit, for a network that standardizes them.

    The median of the magnitudes is 0.67 of normally distributed inputs.
    """
    if network.input_scaling is None:
        return []
    standardized = network.input_scaling.standardize(examples.rows(slice(SCALE_EXAMPLES)))
    middle = float(np.median(np.abs(standardized)))
    if MIN_SCALE <= middle <= MAX_SCALE:
        return []
    return [
        f"{examples.where}: half of the inputs are {'more' if middle > 1 else 'less'} than {middle:.2g} standard "
        "deviations from the mean of the training data; the network takes raw inputs and standardizes them itself"
    ]


def check_dataset(dataset: Dataset, network: InputForm) -> None:
    """Refuse a data set that does not fit a network; see `sen_runtime.data.check_fit`."""
    is_spikes = network.coding.is_binary
    for examples in (dataset.training, dataset.test):
        check_fit(examples, network.input_shape, network.input_range, network.layer_sizes[-1], is_spikes=is_spikes)


def _read(
    name: str,
    parts: Sequence[str],
    data_dir: Path | None,
    form: Form,
    *,
    download: bool = False,
    mirror: str | None = None,
) -> list[Examples]:
    if name in IMAGE_SHAPES:
        if form.target and not form.is_trained:
            raise DataError(f"{name} is no table; --target names columns of a table")
        if name == "mnist":
            folder = mnist.locate(data_dir, download=download, mirror=mirror)
            found = [mnist.read(folder, part) for part in parts]
        else:
            split = dict(zip((TRAINING, TEST), _digits(), strict=True))
            found = [split[part] for part in parts]
        return [_as_task(examples, form.task or CLASSIFICATION) for examples in found]
    path = Path(name)
    if not path.suffix and not path.exists():
        raise DataError(
            f"data set {name!r} is unknown; expected {', '.join(IMAGE_SHAPES)}, or the path of a file or folder"
        )
    return DataFile(path).read(parts, form)


def _as_task(examples: Examples, task: str) -> Examples:
    """Convert images with class numbers to the examples of a task."""
    if task == RECONSTRUCTION:
        return replace(examples, targets=None, task=task)
    if task == REGRESSION:
        return replace(examples, targets=examples.require_targets()[:, None].astype(np.float32), task=task)
    if task != CLASSIFICATION:
        raise DataError(f"{examples.name} has one class number per image; task {quote(task)} takes other targets")
    return examples


def _digits() -> tuple[Examples, Examples]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtraError("scikit-learn, which bundles the digits,", "pip install scikit-learn") from None
    inputs, labels = load_digits(return_X_y=True)
    return split_examples(Examples("digits", ALL, (inputs / 16).astype(np.float32), labels.astype(np.int64)))
