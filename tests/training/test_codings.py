"""Training with input codings: sequences, rates and changes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sen_edge
from sen_edge.data.datasets import Dataset
from sen_edge.errors import DataError
from sen_edge.schema import SchemaError
from sen_edge.training.request import TrainRequest
from sen_edge.training.train import config_of, recipe_of, train
from sen_runtime import reference
from tests.training.conftest import toy


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sequences(n: int = 60) -> Dataset:
    """Three channels of eight steps; the class is the channel that rises."""
    labels = np.arange(n) % 3
    x = np.random.default_rng(0).normal(0, 0.05, (n, 8, 3))
    x[np.arange(n), :, labels] += np.linspace(0, 1, 8)
    x = x.astype(np.float32)
    limits = (float(x.min()), float(x.max()))
    return Dataset("toy", x, labels, x, labels, limits)


@pytest.mark.parametrize("coding", ["current", "delta"])
def test_a_network_learns_from_sequences(coding: str, tmp_path: Path) -> None:
    request = TrainRequest(arch="snn", input_coding=coding, hidden=(24,), dims=8, epochs=20)
    config = config_of(request, sequences())
    assert config.input_shape == (8, 3)
    assert config.layer_sizes[0] == (6 if coding == "delta" else 3)
    result = train(config, sequences(), recipe_of(request, sequences()), out=tmp_path / "model.pt")
    model = sen_edge.load(tmp_path / "model.pt")
    outputs = model.predict(sequences().test_inputs)
    np.testing.assert_allclose(outputs, reference.run(model.network, sequences().test_inputs), atol=1e-4)
    assert result.checkpoint.config.spiking.delta is None or result.checkpoint.config.spiking.delta > 0
    assert (outputs.argmax(1) == sequences().test_targets).mean() > 0.8


def test_rates_are_learned_within_their_range() -> None:
    request = TrainRequest(arch="snn", input_coding="rate")
    assert config_of(request, replace(toy(), input_range=(0.0, 1.0))).spiking.input_coding == "rate"
    with pytest.raises(SchemaError, match=r"input_range is \[0, 3\]"):
        config_of(request, replace(toy(), input_range=(0.0, 3.0)))


@pytest.mark.parametrize("coding", ["delta", "spikes"])
def test_spikes_are_not_standardized(coding: str) -> None:
    with pytest.raises(SchemaError, match=coding) as caught:
        config_of(TrainRequest(arch="snn", input_coding=coding, standardize=True), sequences())
    assert caught.value.key == "input_scaling" and "--standardize" in caught.value.hint


@pytest.mark.parametrize("coding", ["current", "delta", "spikes"])
def test_sequences_are_not_reconstructed(coding: str) -> None:
    data = replace(sequences(), task="reconstruction", train_targets=None, test_targets=None)
    with pytest.raises(SchemaError) as caught:
        config_of(TrainRequest(arch="snn", input_coding=coding), data)
    assert caught.value.key == "task"


def test_a_change_is_for_coding_delta() -> None:
    with pytest.raises(SchemaError, match="delta"):
        TrainRequest(arch="snn", input_coding="rate", delta=0.5)
    constant = replace(sequences(), train_inputs=np.ones((60, 8, 3), np.float32))
    with pytest.raises(DataError, match="no value of a sequence changes"):
        config_of(TrainRequest(arch="snn", input_coding="delta"), constant)
