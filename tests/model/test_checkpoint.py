"""Checkpoints: both forms, constants, the network that they describe."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sen_edge.errors import CheckpointError, OutputError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.model.parameters import Checkpoint
from sen_runtime import reference
from sen_runtime.ir.neurons import Identity, LeakyIntegrator, Lif, Relu
from tests.support.checkpoints import CONFIGS, content, make


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_round_trip(config: SpatialConfig, suffix: str, tmp_path: Path) -> None:
    path, made = tmp_path / f"model{suffix}", make(config)
    checkpoints.save(made, path)
    loaded = checkpoints.load(path)
    assert loaded.config == config
    assert dict(loaded.metadata) == {"accuracy": "97.1"}
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for name, tensor in made.tensors.items():
        np.testing.assert_array_equal(loaded.tensors[name], tensor)


def test_the_file_is_what_the_specification_says(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(content(), path)
    assert checkpoints.load(path).config == CONFIGS["mlp"]
    checkpoints.save(make(CONFIGS["mlp"]), path, replace=True)
    assert set(torch.load(path, weights_only=True)) == set(content())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floating_point_types_become_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    changed = content()
    changed["tensors"] = {name: tensor.to(dtype) for name, tensor in changed["tensors"].items()}
    torch.save(changed, tmp_path / "model.pt")
    assert all(t.dtype == np.float32 for t in checkpoints.load(tmp_path / "model.pt").tensors.values())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_network_of_a_checkpoint_is_the_torch_network(config: SpatialConfig) -> None:
    made = make(config)
    x = np.random.default_rng(0).random((20, 12), np.float32)
    expected = checkpoints.to_module(made)(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(reference.run(checkpoints.to_network(made), x), expected, atol=1e-5 * expected.std())


def test_neurons_of_the_network() -> None:
    assert [layer.neuron for layer in checkpoints.to_network(make(CONFIGS["mlp"])).layers] == [Relu(), Identity()]
    spiking = SpatialConfig((3, 4, 2), spiking=SpikingConfig(2, beta=0.5, threshold=0.7))
    assert [layer.neuron for layer in checkpoints.to_network(make(spiking)).layers] == [
        Lif(0.5, 0.7, "subtract"),
        LeakyIntegrator(0.5),
    ]


def test_constants_of_each_layer_reach_the_network() -> None:
    config = CONFIGS["constants of each layer"]
    weights = [layer.weight for layer in checkpoints.to_network(make(config)).layers]
    assert [weight.exponent for weight in weights] == [2.0, 1.0]
    np.testing.assert_allclose([weight.target[0, -1] - weight.source[0, -1] for weight in weights], [0.5, 0.2])
    spiking = [layer.neuron for layer in checkpoints.to_network(make(CONFIGS["neurons of each layer"])).layers]
    assert spiking == [Lif(0.5, 0.3, "zero"), Lif(0.9, 0.6, "subtract"), LeakyIntegrator(1.0)]


def test_learned_spacings_are_distances_between_layers() -> None:
    made = make(CONFIGS["learned spacing"])
    assert (made.tensors["spacing.0"], made.tensors["spacing.1"]) == (0.5, 0.25)
    changed = replace(made, tensors={**made.tensors, "spacing.1": np.float32(-0.75).reshape(())})
    coordinates = [layer.weight.target[0, -1] for layer in checkpoints.to_network(changed).layers]
    np.testing.assert_allclose(coordinates, [0.5, -0.25])


def with_constants() -> Checkpoint:
    """A spiking network with constants of layers, which those of neurons replace in two places."""
    spiking = SpikingConfig(6, beta=(0.5, 0.25), threshold=(2.0,))
    made = make(SpatialConfig((12, 9, 4), spiking=spiking))
    constants = {"beta.1": np.linspace(0, 1, 4, dtype=np.float32), "threshold.0": np.full(9, 0.75, np.float32)}
    return replace(made, tensors={**made.tensors, **constants})


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_constants_of_layers_and_of_neurons(suffix: str, tmp_path: Path) -> None:
    made, path = with_constants(), tmp_path / f"model{suffix}"
    checkpoints.save(made, path)
    loaded = checkpoints.load(path)
    hidden, last = (layer.neuron for layer in checkpoints.to_network(loaded).layers)
    assert hidden == Lif(0.5, made.tensors["threshold.0"])
    assert last == LeakyIntegrator(made.tensors["beta.1"])
    module = checkpoints.to_module(loaded)
    assert list(module.neurons) == [hidden, last]
    again = checkpoints.from_module(module).tensors
    assert again.keys() == made.tensors.keys()
    assert loaded.n_parameters == make(loaded.config).n_parameters


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("beta.1", np.full(9, 0.5), "tensor beta.1 has shape [9]; expected [4]"),
        ("beta.1", np.array([0, 0, 0, 2]), "beta of neuron 3 is 2"),
        ("threshold.0", np.zeros(9), "threshold of neuron 0 is 0"),
        ("threshold.1", np.ones(4), "unexpected tensors: threshold.1"),
    ],
)
def test_wrong_constants_of_neurons(name: str, values: np.ndarray, message: str) -> None:
    made = with_constants()
    with pytest.raises(CheckpointError) as caught:
        replace(made, tensors={**made.tensors, name: values.astype(np.float32)})
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("beta", [0.5], "spiking.beta"),
        ("beta", [0.5, 2], "spiking.beta[1]"),
        ("beta", "high", "spiking.beta"),
        ("beta", 2, "spiking.beta"),
        ("threshold", [1.0, 1.0], "spiking.threshold"),
        ("threshold", [0.0], "spiking.threshold[0]"),
    ],
)
def test_wrong_constants_of_layers(key: str, value: Any, where: str) -> None:
    values = SpatialConfig((12, 9, 4), spiking=SpikingConfig(6)).to_dict()
    values["spiking"][key] = value
    with pytest.raises(CheckpointError) as caught:
        SpatialConfig.from_dict(values)
    assert caught.value.message.startswith(f"config.{where} ")


def test_saving_refuses_an_existing_file_and_an_unknown_suffix(tmp_path: Path) -> None:
    made = make(CONFIGS["mlp"])
    checkpoints.save(made, tmp_path / "model.pt")
    with pytest.raises(OutputError, match=r"model\.pt"):
        checkpoints.save(made, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"'\.bin'"):
        checkpoints.save(made, tmp_path / "model.bin")
    with pytest.raises(OutputError, match=r"nowhere"):
        checkpoints.save(made, tmp_path / "nowhere" / "model.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
