"""Standardization of inputs and outputs in the reference, in torch, and in checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig
from sen_edge.model.layers import SpatialNetwork
from sen_edge.model.model import load
from sen_edge.model.parameters import Checkpoint
from sen_runtime import reference
from sen_runtime.errors import NetworkError
from sen_runtime.ir.standardization import Standardization

MEAN, STD = np.array([10.0, -3.0, 0.0], np.float32), np.array([5.0, 0.25, 1.0], np.float32)
SCALING = Standardization(MEAN, STD)


def scaled_checkpoint() -> Checkpoint:
    """3-4-2 regression with standardized inputs and targets."""
    config = SpatialConfig(
        (3, 4, 2),
        task="regression",
        feature_names=("a", "b", "c"),
        output_names=("y", "z"),
        input_scaling=True,
        output_scaling=True,
        input_range=(-10.0, 30.0),
    )
    network = SpatialNetwork(config)
    network.reset_parameters(0)
    network.input_scaling = SCALING
    network.output_scaling = Standardization(np.array([100, 0], np.float32), np.array([20, 1e-3], np.float32))
    return checkpoints.from_module(network)


def test_standardize_and_restore_are_inverse() -> None:
    x = np.random.default_rng(0).normal(size=(5, 3))
    assert np.allclose(SCALING.restore(SCALING.standardize(x)), x, atol=1e-5)
    assert SCALING.standardize(MEAN[None]).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("std", [0.0, -1.0, np.nan, 1e-45])
def test_a_standard_deviation_must_be_positive(std: float) -> None:
    with pytest.raises(NetworkError):
        Standardization(MEAN, np.array([1, 1, std], np.float32))


def test_a_checkpoint_keeps_scalings_and_names(tmp_path: Path) -> None:
    saved = scaled_checkpoint()
    checkpoints.save(saved, tmp_path / "model.safetensors")
    model = load(tmp_path / "model.safetensors")
    assert model.checkpoint is not None
    assert model.checkpoint.config == saved.config
    assert (
        model.n_parameters
        == saved.n_parameters
        == sum(tensor.size for name, tensor in saved.tensors.items() if not name.startswith(("input_", "output_")))
    )
    assert model.network.task == "regression"
    assert model.network.names("output_names") == ("y", "z")


def test_torch_and_the_reference_scale_alike(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    checkpoints.save(scaled_checkpoint(), path)
    model = load(path)
    x = np.random.default_rng(1).uniform(-10, 30, (20, 3)).astype(np.float32)
    expected = reference.run(model.network, x)
    assert np.allclose(model.predict(x), expected, rtol=1e-4, atol=1e-4 * expected.std())
    plain = replace(model.network, input_scaling=None, output_scaling=None)
    scaling = model.network.output_scaling
    assert scaling is not None
    assert np.allclose(expected, scaling.restore(reference.run(plain, SCALING.standardize(x.astype(float)))))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_an_output_activation_is_applied_last(activation: str) -> None:
    network = replace(checkpoints.to_network(scaled_checkpoint()), output_scaling=None)
    x = np.random.default_rng(1).uniform(-10, 30, (4, 3))
    logits, found = reference.run(network, x), reference.run(replace(network, output_activation=activation), x)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(found, expected if activation == "softmax" else 1 / (1 + np.exp(-logits)))


def test_a_scaling_of_another_size_is_refused() -> None:
    network = checkpoints.to_network(scaled_checkpoint())
    with pytest.raises(NetworkError):
        replace(network, output_scaling=SCALING)
