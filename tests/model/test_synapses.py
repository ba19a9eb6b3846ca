"""Patterns and radii of checkpoints: equal in torch, in files, and in exported networks."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.numpy import save as save_tensors

from sen_edge.compression.moments import CompressionWarning
from sen_edge.compression.prune import find_radius, prune
from sen_edge.errors import CheckpointError, UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.model.layers import SpatialNetwork
from sen_edge.model.parameters import Checkpoint
from sen_edge.passes.materialize import materialize
from sen_runtime import reference
from sen_runtime.ir.operators import Coordinates, Sparse
from tests.conftest import make_checkpoint

RNG = np.random.default_rng
MLP = SpatialConfig((12, 17, 5), dimensions=3, layer_spacing=0.5)
SNN = replace(MLP, spiking=SpikingConfig(4, threshold=0.5))
SPIKES = replace(MLP, spiking=SpikingConfig(4, threshold=0.5, input_coding="spikes", readout="spike_count"))
CONFIGS = [
    pytest.param(MLP, id="mlp"),
    pytest.param(SNN, id="snn"),
    pytest.param(SPIKES, id="spikes"),
    pytest.param(replace(MLP, exponent=1.5, min_distance=0.3, gain=False), id="exponent"),
    pytest.param(replace(MLP, layer_axis="free"), id="free"),
]


def whole(config: SpatialConfig) -> Checkpoint:
    """With biases, so that no layer is silent."""
    start = make_checkpoint(config)
    biases = {
        name: RNG(7).normal(0.5, 1, tensor.shape).astype(np.float32)
        for name, tensor in start.tensors.items()
        if name.startswith("bias")
    }
    return replace(start, tensors={**start.tensors, **biases})


def radii(config: SpatialConfig, sparsity: float) -> tuple[float, ...]:
    """Of a fresh checkpoint, half way between two distances."""
    layers = checkpoints.to_network(whole(config)).layers
    operators = [layer.weight for layer in layers if isinstance(layer.weight, Coordinates)]
    return tuple(find_radius([operator], sparsity) for operator in operators)


def masked(config: SpatialConfig, layers: tuple[int, ...] = (0, 1)) -> Checkpoint:
    sizes = config.layer_sizes
    masks = {i: RNG(i).random((sizes[i + 1], sizes[i])) < 0.4 for i in layers}
    return replace(whole(config), synapses=masks)


def within(config: SpatialConfig) -> Checkpoint:
    return whole(replace(config, max_distance=radii(config, 0.4)))


def both(config: SpatialConfig) -> Checkpoint:
    return replace(within(config), synapses=masked(config).synapses)


CUTS = {"mask": masked, "one layer": lambda config: masked(config, (1,)), "radius": within, "both": both}


def inputs(config: SpatialConfig) -> np.ndarray:
    x = RNG(5).random((20, *config.input_shape), np.float32)
    return (x < 0.5).astype(np.float32) if len(config.input_shape) == 2 else x


def outputs(module: SpatialNetwork, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("config", CONFIGS)
def test_torch_and_the_exported_network_agree(config: SpatialConfig, cut: str) -> None:
    checkpoint, x = CUTS[cut](config), inputs(config)
    network, module = checkpoints.to_network(checkpoint), checkpoints.to_module(checkpoint)
    found = outputs(module, x)
    assert np.allclose(found, reference.run(network, x), atol=1e-4)
    assert np.allclose(found, reference.run(materialize(network), x), atol=1e-4)
    assert not np.allclose(found, outputs(checkpoints.to_module(whole(config)), x), atol=1e-3)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("config", CONFIGS[:3])
def test_training_mode_cuts_the_same_synapses_and_gives_them_no_gradient(config: SpatialConfig, cut: str) -> None:
    checkpoint = CUTS[cut](config)
    module = checkpoints.to_module(checkpoint).train()
    network = materialize(checkpoints.to_network(checkpoint))
    for layer, expected in zip(module.linears(), network.layers, strict=True):
        weight = layer.weight()
        assert np.array_equal(weight.detach().numpy() != 0, expected.weight.to_dense() != 0)
        weight.sum().backward()
    # a source whose synapses are all cut has no inhibition to learn
    silent = replace(checkpoint, synapses={0: np.arange(12) * np.ones((17, 1)) != 3})
    layer = checkpoints.to_module(silent).train().linears()[0]
    layer.weight().sum().backward()
    gradient = layer.inhibition.grad
    assert gradient is not None and gradient[3] == 0 and gradient[4] != 0


def test_masks_become_the_smallest_form() -> None:
    network = checkpoints.to_network(masked(MLP, (0,)))
    assert isinstance(network.layers[0].weight, Sparse) and isinstance(network.layers[1].weight, Coordinates)
    full = replace(make_checkpoint(MLP), synapses={0: np.ones((17, 12), bool)})
    whole = checkpoints.to_network(full).layers[0].weight
    expected = materialize(checkpoints.to_network(make_checkpoint(MLP))).layers[0].weight
    assert np.array_equal(whole.to_dense(), expected.w)
    none = replace(make_checkpoint(MLP), synapses={0: np.zeros((17, 12), bool)})
    assert checkpoints.to_network(none).layers[0].weight.macs == 0


def test_radius_limits_the_plain_distance() -> None:
    checkpoint = within(replace(MLP, exponent=2.0, min_distance=0.1))
    for index, layer in enumerate(checkpoints.to_network(checkpoint).layers):
        operator = layer.weight
        assert isinstance(operator, Coordinates) and operator.max_distance == checkpoint.config.max_distance[index]
        distance = np.linalg.norm(operator.target[:, None].astype(float) - operator.source, axis=2)
        assert np.array_equal(operator.to_dense() != 0, distance <= operator.max_distance)
        assert np.mean(distance > operator.max_distance) == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.999])
def test_a_radius_leaves_the_share_it_was_chosen_for(sparsity: float) -> None:
    places = RNG(0).random(200).astype(np.float32)
    operator = Coordinates(places[:, None], np.full((1, 1), -1, np.float32), np.ones(200, np.float32))
    radius = find_radius([operator], sparsity)
    assert np.sum(places + 1 <= radius) == max(1, round((1 - sparsity) * 200))
    assert math.isinf(radius) == (sparsity == 0)


def test_a_radius_counts_neurons_below_the_floor_as_connected() -> None:
    network = checkpoints.to_network(whole(replace(MLP, min_distance=0.5)))
    source = network.layers[0].weight
    assert isinstance(source, Coordinates)
    target = source.target.copy()
    target[3] = source.source[2]  # at the same point, which the floor allows
    operator = replace(source, target=target)
    radius = find_radius([operator], 0.5)
    kept = replace(operator, max_distance=radius).to_dense() != 0
    assert kept.mean() == pytest.approx(0.5, abs=0.01) and kept[3, 2]
    wide = replace(source, min_distance=100.0)  # above every distance
    with pytest.warns(CompressionWarning, match=r"\b0\.0%.*\b50\.0%"):
        radius = find_radius([wide], 0.5)
    assert replace(wide, max_distance=radius).to_dense().all()


def test_a_radius_at_or_below_the_floor_is_refused() -> None:
    network = checkpoints.to_network(whole(replace(MLP, min_distance=0.5)))
    for radius in (0.2, 0.5):
        with pytest.raises(UsageError, match="min_distance"):
            prune(network, threshold=radius, criterion="distance")
    assert prune(network, threshold=50.0, criterion="distance").layers[0].weight.max_distance == 50


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_file_keeps_what_is_cut(tmp_path: Path, suffix: str, cut: str) -> None:
    checkpoint, path = CUTS[cut](SNN), tmp_path / f"model{suffix}"
    checkpoints.save(checkpoint, path)
    loaded = checkpoints.load(path)
    assert loaded.config == checkpoint.config and sorted(loaded.synapses) == sorted(checkpoint.synapses)
    for index, mask in checkpoint.synapses.items():
        assert loaded.synapses[index].dtype == bool and np.array_equal(loaded.synapses[index], mask)
    again = checkpoints.from_module(checkpoints.to_module(loaded))
    assert again.config == checkpoint.config and sorted(again.synapses) == sorted(checkpoint.synapses)
    assert all(np.array_equal(again.synapses[index], mask) for index, mask in checkpoint.synapses.items())
    assert all(np.array_equal(again.tensors[name], value) for name, value in checkpoint.tensors.items())


def test_synapses_are_packed_least_significant_bit_first(tmp_path: Path) -> None:
    mask = np.zeros((17, 12), bool)
    mask[0, [0, 2, 9]] = True
    checkpoints.save(replace(make_checkpoint(MLP), synapses={0: mask}), tmp_path / "bits.safetensors")
    packed = load_file(tmp_path / "bits.safetensors")["synapses.0"]
    assert packed.dtype == np.uint8 and packed.shape == (17, 2)
    assert packed[0].tolist() == [0b101, 0b10] and not packed[1:].any()


def test_a_checkpoint_without_cuts_is_as_it_was(tmp_path: Path) -> None:
    checkpoints.save(make_checkpoint(MLP), tmp_path / "plain.pt")
    content = torch.load(tmp_path / "plain.pt", weights_only=True)
    assert "max_distance" not in content["config"]
    assert not [name for name in content["tensors"] if name.startswith("synapses")]
    assert not checkpoints.load(tmp_path / "plain.pt").synapses


DAMAGED = {
    "float": (np.zeros((17, 2), np.float32), r"torch\.float32 \[17, 2\].*torch\.uint8 \[17, 2\]"),
    "int": (np.zeros((17, 2), np.int64), "torch.int64"),
    "unpacked": (np.zeros((17, 12), np.uint8), r"uint8 \[17, 12\]"),
    "transposed": (np.zeros((12, 3), np.uint8), r"uint8 \[12, 3\]"),
    "flat": (np.zeros(34, np.uint8), r"uint8 \[34\]"),
    "short": (np.zeros((17, 1), np.uint8), r"uint8 \[17, 1\]"),
}


def test_the_same_checkpoint_is_the_same_file(tmp_path: Path) -> None:
    checkpoint = masked(SNN)
    files = {checkpoints.dumps(checkpoint, tmp_path / "model.safetensors") for _ in range(20)}
    assert len(files) == 1


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_synapses_are_refused(tmp_path: Path, suffix: str, case: str) -> None:
    tensor, message = DAMAGED[case]
    path = tmp_path / f"model{suffix}"
    checkpoints.save(masked(MLP), path)
    if suffix == ".pt":
        content = torch.load(path, weights_only=True)
        content["tensors"]["synapses.0"] = torch.from_numpy(tensor)
        torch.save(content, path)
    else:
        from safetensors import safe_open

        with safe_open(path, "np") as file:
            header = file.metadata()
        path.write_bytes(save_tensors({**load_file(path), "synapses.0": tensor}, metadata=header))
    with pytest.raises(CheckpointError, match=rf"synapses\.0.*{message}"):
        checkpoints.load(path)


@pytest.mark.parametrize("name", ["synapses.2", "synapses.-1", "synapses.x", "synapses.", "synapses.00", "synapses.٠"])
def test_synapses_of_no_layer_are_refused(tmp_path: Path, name: str) -> None:
    checkpoints.save(make_checkpoint(MLP), tmp_path / "plain.pt")
    content = torch.load(tmp_path / "plain.pt", weights_only=True)
    content["tensors"][name] = torch.zeros((17, 2), dtype=torch.uint8)
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=name):
        checkpoints.load(tmp_path / "odd.pt")


@pytest.mark.parametrize("index", [-1, 2])
def test_masks_of_no_layer_or_another_shape_are_refused(index: int) -> None:
    with pytest.raises(CheckpointError, match=f"layer {index}"):
        replace(make_checkpoint(MLP), synapses={index: np.ones((17, 12), bool)})
    with pytest.raises(CheckpointError, match=r"layer 0.*\[12, 17\].*\(17, 12\)"):
        replace(make_checkpoint(MLP), synapses={0: np.ones((12, 17), bool)})
    with pytest.raises(CheckpointError, match=r"layer 0.*float64"):
        replace(make_checkpoint(MLP), synapses={0: np.ones((17, 12))})


def test_a_bare_state_dict_has_no_synapses(tmp_path: Path) -> None:
    save_file({"synapses.0": np.zeros((17, 2), np.uint8)}, tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match="sen-edge"):
        checkpoints.load(tmp_path / "bare.safetensors")


@pytest.mark.parametrize("value", [(1.0,), (1.0, 2.0, 3.0), (1.0, -0.5), (1.0, math.inf), (1.0, "2"), [1.0], 1.0])
def test_radii_that_mean_nothing_are_refused(value: object) -> None:
    with pytest.raises(UsageError, match="max_distance"):
        replace(MLP, max_distance=value)
