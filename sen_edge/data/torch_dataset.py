"""Data sets of torch: map-style datasets of (input, target) items, or of inputs alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from sen_edge.data.datasets import Dataset, assemble
from sen_edge.errors import DataError
from sen_runtime import memory_limits
from sen_runtime.data import ALL, TEST, TRAINING, Form, Raw, RawTargets, read_parts

#: Name of the set in tables and records.
NAME = "torch data"


class TorchSource:
    """Map-style datasets by part.

    Attributes:
        parts: `TRAINING` and `TEST`, or `ALL`.
    """

    def __init__(self, datasets: Mapping[str, TorchDataset[Any]]) -> None:
        for dataset in datasets.values():
            if not hasattr(dataset, "__len__") or not hasattr(type(dataset), "__getitem__") or not len(dataset):
                raise DataError(
                    f"{type(dataset).__name__} is no map-style torch Dataset with items; expected len() and indices",
                    hint="collect the items of an iterable dataset in a torch.utils.data.TensorDataset",
                )
        self._datasets, self.parts = datasets, tuple(datasets)

    def read(self, part: str, form: Form) -> Raw:
        """Read a part into memory; an attribute `classes` contains the names of its classes."""
        dataset = self._datasets[part]
        n, first = len(dataset), _split(dataset[0], 0)  # type: ignore[arg-type]
        shape = _array(first[0]).shape
        memory_limits.require(4 * n * int(np.prod(shape)), f"{NAME} has {n:,} items of shape {list(shape)}")
        inputs, targets = np.empty((n, *shape), np.float32), list[NDArray[Any]]()
        for index in range(n):
            x, y = _split(dataset[index], index)
            values = _array(x)
            if values.shape != shape or (y is None) != (first[1] is None) or values.dtype.kind not in "biuf":
                found, expected = ("" if target is None else " and a target" for target in (y, first[1]))
                raise DataError(
                    f"{NAME}: item {index} holds {values.dtype} {list(values.shape)}{found}; "
                    f"expected numbers {list(shape)}{expected}, like item 0",
                    hint="pad or cut sequences to one length",
                )
            with np.errstate(over="ignore"):
                inputs[index] = values
            if y is not None:
                targets.append(_target(y, index))
        classes = tuple(getattr(dataset, "classes", ()))
        names = classes if all(isinstance(name, str) for name in classes) else ()
        return Raw(inputs, _stack(targets), class_names=names)

    def targets(self, part: str, form: Form) -> RawTargets | None:
        """Read the targets of a part."""
        return self.read(part, form).targets


def to_dataset(
    data: TorchDataset[Any] | tuple[TorchDataset[Any], TorchDataset[Any]],
    *,
    task: str | None = None,
    has_steps: bool = False,
) -> Dataset:
    """Convert a torch dataset, which is split, or a pair for training and test.

    Items are (input, target), or inputs alone for a reconstruction: tensors, arrays or numbers. Inputs are flattened,
    those of sequences (`has_steps`) per step; tasks and targets as in `sen_edge.data.datasets.load`.

    Raises:
        DataError: a dataset is empty or has no indices; items differ in shape; see `sen_edge.data.datasets.load`.
        MemoryLimitError: the items need more memory than is available.
    """
    parts = {TRAINING: data[0], TEST: data[1]} if isinstance(data, tuple) else {ALL: data}
    training, test = read_parts(TorchSource(parts), NAME, (TRAINING, TEST), Form(task, has_steps=has_steps))
    return assemble(training, test)


def _split(item: Any, index: int) -> tuple[Any, Any]:
    """Return input and target of an item; None without a target."""
    if not isinstance(item, (tuple, list)):
        return item, None
    if len(item) not in (1, 2):
        raise DataError(f"{NAME}: item {index} has {len(item)} values; expected an input and a target")
    return item[0], item[1] if len(item) == 2 else None


def _array(value: Any) -> NDArray[Any]:
    array: NDArray[Any] = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    return array.reshape(1) if array.ndim == 0 else array


def _target(value: Any, index: int) -> NDArray[Any]:
    array = _array(value).reshape(-1)
    if array.dtype.kind not in "biufU":
        raise DataError(f"{NAME}: the target of item {index} is {array.dtype}; expected numbers or text")
    return array


def _stack(targets: list[NDArray[Any]]) -> RawTargets | None:
    if not targets:
        return None
    other = next((index for index, target in enumerate(targets) if target.shape != targets[0].shape), None)
    if other is not None:
        found, expected = len(targets[other]), len(targets[0])
        raise DataError(f"{NAME}: the target of item {other} has {found} values; expected {expected}, like item 0")
    return RawTargets(np.stack(targets), f"{NAME}: targets", lambda row, column: f"{NAME}, target of item {row}")
