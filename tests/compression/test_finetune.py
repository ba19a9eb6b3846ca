"""Training after compression: fixed pattern, best epoch, resulting checkpoint."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sen_edge.compression.finetune import distil, finetune
from sen_edge.compression.lowrank import factorize
from sen_edge.compression.prune import prune
from sen_edge.compression.request import CompressRequest, Tuning
from sen_edge.data.datasets import Dataset
from sen_edge.errors import CheckpointError, UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.model.free import FreeNetwork
from sen_edge.model.parameters import Checkpoint
from sen_edge.passes.materialize import materialize
from sen_edge.schema import SchemaError
from sen_edge.training.recipe import Recipe
from sen_runtime import reference
from sen_runtime.errors import NetworkError
from sen_runtime.ir.operators import LowRank, Sparse
from tests.conftest import make_checkpoint
from tests.support.networks import random_input, random_network

pytestmark = pytest.mark.filterwarnings("ignore::sen_edge.compression.moments.CompressionWarning")

MLP = SpatialConfig((12, 16, 3), dimensions=3, layer_spacing=0.5)
SNN = replace(MLP, spiking=SpikingConfig(4, surrogate_slope=5.0))
RECIPE = Recipe(epochs=4, batch_size=16, learning_rate=0.05)


def toy(seed: int = 0) -> Dataset:
    """Three clouds in twelve dimensions."""
    rng = np.random.default_rng(seed)
    centres = rng.random((3, 12))
    labels = rng.integers(0, 3, 400)
    x = np.clip(centres[labels] + 0.15 * rng.normal(size=(400, 12)), 0, 1).astype(np.float32)
    return Dataset("toy", x[:300], labels[:300], x[300:], labels[300:], (0.0, 1.0))


def outputs(checkpoint: Checkpoint, x: np.ndarray) -> np.ndarray:
    """In torch, evaluation mode."""
    with torch.no_grad():
        return checkpoints.to_module(checkpoint)(torch.from_numpy(x)).numpy()


def synapses_left(checkpoint: Checkpoint) -> float:
    masks = checkpoint.synapses.values()
    return sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks)


@pytest.mark.parametrize("config", [MLP, SNN], ids=["mlp", "snn"])
@pytest.mark.parametrize("options", [{}, {"criterion": "magnitude"}, {"pattern": "4x1"}])
def test_coordinates_are_trained_under_the_pattern(config: SpatialConfig, options: dict) -> None:
    start = make_checkpoint(config)
    tuned = finetune(start, toy(), CompressRequest(0.5, **options), RECIPE, Tuning(ramp=0.5))
    assert tuned.checkpoint is not None and len(tuned.history) == 4 and 2 <= tuned.best_epoch <= 4
    assert synapses_left(tuned.checkpoint) == pytest.approx(0.5, abs=0.08)  # blocks reach beyond three outputs
    changed = [np.any(tuned.checkpoint.tensors[name] != start.tensors[name]) for name in start.tensors]
    assert all(changed)
    best = [epoch.validation_score for epoch in tuned.history[1:]]
    assert tuned.validation_score == max(best)
    x = toy().test_inputs
    module = outputs(tuned.checkpoint, x)
    assert np.allclose(module, reference.run(materialize(tuned.network), x), atol=1e-4)


def test_a_radius_is_a_number_in_the_configuration(tmp_path: Path) -> None:
    tuned = finetune(make_checkpoint(MLP), toy(), CompressRequest(0.4, criterion="distance"), RECIPE)
    assert tuned.checkpoint is not None and not tuned.checkpoint.synapses
    radii = tuned.checkpoint.config.max_distance
    assert len(radii) == 2 and all(radius > 0 for radius in radii)
    checkpoints.save(tuned.checkpoint, tmp_path / "radius.pt")
    again = checkpoints.load(tmp_path / "radius.pt")
    x = toy().test_inputs
    assert again.config.max_distance == radii
    left = [np.mean(layer.weight.to_dense() != 0) for layer in checkpoints.to_network(again).layers]
    assert left == pytest.approx([0.6, 0.6], abs=0.25)  # the positions move on after the radius was chosen
    expected = outputs(again, x)
    assert np.allclose(expected, reference.run(materialize(checkpoints.to_network(again)), x), atol=1e-4)


def test_what_is_cut_stays_cut() -> None:
    first = finetune(make_checkpoint(MLP), toy(), CompressRequest(0.4), RECIPE).checkpoint
    assert first is not None
    second = finetune(first, toy(), CompressRequest(0.6), RECIPE).checkpoint
    assert second is not None
    for index, mask in second.synapses.items():
        assert not np.any(mask & ~first.synapses[index])


def test_training_ends_when_nothing_improves() -> None:
    """A step of 1e-30 changes no float32 weight, so each epoch has the loss of the one before, to the bit."""
    recipe = replace(RECIPE, epochs=30, learning_rate=1e-30)
    tuned = finetune(make_checkpoint(MLP), toy(), CompressRequest(0.3), recipe, Tuning(ramp=0.0, patience=2))
    assert len(tuned.history) < 30


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_synapses_come_back_from_a_file(tmp_path: Path, suffix: str) -> None:
    mask = np.random.default_rng(0).random((16, 12)) < 0.3
    checkpoint = replace(make_checkpoint(MLP), synapses={0: mask})
    path = tmp_path / f"pruned{suffix}"
    checkpoints.save(checkpoint, path)
    loaded = checkpoints.load(path)
    assert list(loaded.synapses) == [0] and np.array_equal(loaded.synapses[0], mask)
    assert np.array_equal(checkpoints.to_network(loaded).layers[0].weight.to_dense() != 0, mask)
    assert np.array_equal(checkpoints.from_module(checkpoints.to_module(loaded)).synapses[0], mask)


@pytest.mark.parametrize(
    "tensor", [torch.zeros(16, 2), torch.zeros((16, 3), dtype=torch.uint8), torch.zeros(16, dtype=torch.uint8), 7]
)
def test_other_synapses_are_refused(tmp_path: Path, tensor: object) -> None:
    checkpoints.save(make_checkpoint(MLP), tmp_path / "plain.pt")
    content = torch.load(tmp_path / "plain.pt", weights_only=True)
    content["tensors"]["synapses.0"] = tensor
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=r"synapses\.0.*torch\.uint8 \[16, 2\]"):
        checkpoints.load(tmp_path / "odd.pt")


@pytest.mark.parametrize("radii", [(1.0,), (0.5, -1.0), (0.05, 1.0)])
def test_other_radii_are_refused(radii: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="max_distance"):
        replace(MLP, min_distance=0.1, max_distance=radii)


@pytest.mark.parametrize(
    ("key", "value"), [("ramp", 1.0), ("distillation", 1.5), ("temperature", 0.0), ("patience", -1)]
)
def test_bad_tunings_are_refused(key: str, value: float) -> None:
    with pytest.raises(SchemaError) as caught:
        Tuning(**{key: value})
    assert caught.value.key == key


def test_neurons_and_thresholds_are_not_trained_towards() -> None:
    for request in (CompressRequest(0.5, pattern="neurons"), CompressRequest(threshold=0.1)):
        with pytest.raises(UsageError):
            finetune(make_checkpoint(MLP), toy(), request, RECIPE)


@pytest.mark.parametrize("config", [MLP, SNN], ids=["mlp", "snn"])
def test_free_weights_learn_what_the_original_gives(config: SpatialConfig) -> None:
    original = materialize(checkpoints.to_network(make_checkpoint(config)))
    x = toy().train_inputs
    for network in (prune(original, sparsity=0.8, calibration=x), factorize(original, rank=2, calibration=x)):
        recipe = replace(RECIPE, learning_rate=2e-3, epochs=8, second_moment=0.999)
        tuned = distil(network, original, toy(), recipe)
        assert tuned.checkpoint is None and tuned.network.macs == network.macs
        for before, after in zip(network.layers, tuned.network.layers, strict=True):
            assert type(before.weight) is type(after.weight)
            if isinstance(before.weight, Sparse):
                assert np.array_equal(before.weight.columns, after.weight.columns)
            if isinstance(before.weight, LowRank):
                assert before.weight.rank == after.weight.rank


SPIKING = {"spiking": True, "sizes": (9, 8, 4)}


@pytest.mark.parametrize(
    "options",
    [
        {},
        SPIKING,
        {**SPIKING, "readout": "last_membrane", "reset": "zero"},
        {**SPIKING, "readout": "spike_count", "input_coding": "spikes"},
    ],
)
def test_free_networks_compute_what_the_reference_does(options: dict) -> None:
    kinds = ("dense", "sparse", "blocks", "low_rank", "nested_sum")
    for seed in range(6):
        rng = np.random.default_rng(seed)
        network = random_network(rng, kinds=kinds, **options)
        x = random_input(rng, network)
        module = FreeNetwork(network)
        with torch.no_grad():
            found = [each.numpy() for each in module.trace(torch.from_numpy(x))]
        for actual, expected in zip(found, reference.trace(network, x), strict=True):
            assert np.allclose(actual, expected, atol=1e-4)
        again = module.to_network()
        assert np.array_equal(reference.run(again, x), reference.run(network, x))


def test_coordinates_and_int8_are_no_free_weights() -> None:
    from sen_edge.passes.quantize import to_int8_weights

    dense = random_network(np.random.default_rng(0), kinds=("dense",))
    for network in (random_network(np.random.default_rng(0), kinds=("coordinates",)), to_int8_weights(dense)):
        with pytest.raises(NetworkError, match="parameters"):
            FreeNetwork(network)
