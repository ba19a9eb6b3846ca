"""Data sets of torch as training data."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from sen_edge.data import torch_dataset
from sen_edge.data.torch_dataset import to_dataset
from sen_edge.errors import DataError
from sen_runtime.memory_limits import MemoryLimitError

X = torch.rand(60, 2, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 3


class Items(Dataset):
    """A map-style dataset of a list."""

    def __init__(self, items: list[object], classes: tuple[str, ...] = ()) -> None:
        self.items, self.classes = items, classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> object:
        return self.items[index]


def test_a_dataset_is_flattened_and_split() -> None:
    found = to_dataset(TensorDataset(X, Y))
    assert (found.task, found.n_out, found.train_inputs.shape) == ("classification", 3, (48, 6))
    both = np.concatenate([found.train_inputs, found.test_inputs])
    np.testing.assert_array_equal(np.sort(both, 0), np.sort(X.reshape(60, 6).numpy(), 0))
    rows = (found.test_inputs[:, None] == X.reshape(60, 6).numpy()).all(axis=2).argmax(axis=1)
    np.testing.assert_array_equal(found.test_targets, Y.numpy()[rows])


def test_a_pair_is_not_split() -> None:
    found = to_dataset((TensorDataset(X, X[:, 0, :2]), TensorDataset(X[:4], X[:4, 0, :2])), has_steps=True)
    assert (found.task, found.train_inputs.shape, found.n_out) == ("regression", (60, 2, 3), 2)
    np.testing.assert_array_equal(found.test_inputs, X[:4])
    np.testing.assert_array_equal(found.test_targets, X[:4, 0, :2])


def test_arrays_numbers_text_and_names_of_classes() -> None:
    named = to_dataset(Items([(x.numpy(), int(y)) for x, y in zip(X, Y, strict=True)], ("a", "b", "c")))
    assert named.output_names == ("a", "b", "c")
    texts = to_dataset(Items([(x.tolist(), "abc"[y]) for x, y in zip(X, Y, strict=True)]))
    assert texts.output_names == ("a", "b", "c")
    np.testing.assert_array_equal(texts.train_targets, named.train_targets)


@pytest.mark.parametrize("data", [TensorDataset(X), Items(list(X))], ids=["tuples of one", "inputs"])
def test_a_reconstruction_needs_inputs_alone(data: Dataset) -> None:
    assert to_dataset(data, task="reconstruction").n_out == 6
    with pytest.raises(DataError, match="labels"):
        to_dataset(data)


class Stream(IterableDataset):
    """A dataset without indices."""

    def __iter__(self) -> object:
        return iter(())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(Stream(), "Stream", id="no indices"),
        pytest.param(Items([]), "Items", id="empty"),
        pytest.param(Items([(X[0], 0), (X[1, :1], 1)]), r"item 1 .*\[1, 3\].*\[2, 3\]", id="lengths"),
        pytest.param(Items([(X[0], 0), X[1]]), "item 1", id="no target"),
        pytest.param(Items([(X[0], 0, 0)]), "item 0 has 3", id="three values"),
        pytest.param(Items([(X[0], [0, 1]), (X[1], [0])]), "item 1 has 1", id="targets of other lengths"),
        pytest.param(Items([(X[0], None)] * 9), "labels", id="None as a target"),
        pytest.param(Items([(X[0], {})] * 9), "item 0 is object", id="an object as a target"),
        pytest.param(Items([("text", 0)] * 9), "item 0 holds <U4", id="text as an input"),
        pytest.param(Items([(x / (i - 7), i % 2) for i, x in enumerate(X)]), "input 7", id="infinite"),
    ],
)
def test_bad_datasets_are_refused(data: Dataset, message: str) -> None:
    with pytest.raises(DataError, match=message):
        to_dataset(data)


def test_memory_is_estimated_first(monkeypatch: pytest.MonkeyPatch) -> None:
    class Large(Items):
        def __len__(self) -> int:
            return 1 << 50

    with pytest.raises(MemoryLimitError, match=torch_dataset.NAME):
        to_dataset(Large([(X[0], 0)]))
