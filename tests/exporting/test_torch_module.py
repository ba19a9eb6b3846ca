"""Models from arrays and from torch modules."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sen_edge
from sen_edge import TorchLayer
from sen_edge.errors import CheckpointError, DataError, UsageError, VerificationError

SIZES = (6, 5, 3)


class Spatial(nn.Module):
    def __init__(self, source: nn.Parameter, n_out: int) -> None:
        super().__init__()
        self.source, self.target = source, nn.Parameter(2 * torch.rand(n_out, 3))
        self.inhibition, self.bias = nn.Parameter(torch.randn(len(source))), nn.Parameter(torch.rand(n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = 0.5 * torch.tanh(self.inhibition) / torch.cdist(self.target, self.source).square()
        return x @ weight.T + self.bias


class Module(nn.Module):
    def __init__(self, *, is_shared: bool = True) -> None:
        super().__init__()
        first = Spatial(nn.Parameter(2 * torch.rand(SIZES[0], 3)), SIZES[1])
        second = Spatial(first.target if is_shared else nn.Parameter(2 * torch.rand(SIZES[1], 3)), SIZES[2])
        self.net = nn.Sequential(first, nn.ReLU(), nn.Dropout(0.5), second)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


LAYERS = [
    TorchLayer("net.0.target", "net.0.inhibition", "net.0.source", "net.0.bias", 0.5, output="net.1"),
    TorchLayer("net.3.target", lambda module: module.net[3].inhibition, "net.3.source", "net.3.bias", 0.5),
]


@pytest.fixture
def module() -> Module:
    torch.manual_seed(0)
    return Module()


@pytest.mark.parametrize("is_shared", [True, False], ids=["one position", "two positions"])
def test_a_described_module_becomes_a_model(is_shared: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Module(is_shared=is_shared).train()
    x = torch.rand(40, 6) * 3 - 1
    model = sen_edge.from_torch(module, x, layers=LAYERS, steepness=2.0, exponent=2.0)
    assert module.training and module.net[2].training
    assert model.checkpoint is not None and model.checkpoint.config.separate_positions is not is_shared
    assert model.checkpoint.config.input_range == (float(x.min()), float(x.max()))
    with torch.no_grad():
        expected = module.eval()(x).numpy()
    np.testing.assert_allclose(model.predict(x.numpy()), expected, atol=1e-4 * expected.std())
    sen_edge.export(model, tmp_path, to="sen")
    assert (tmp_path / "model.sen").exists()


def test_attributes_of_containers_are_found(module: Module) -> None:
    module.table = nn.ModuleDict({"1": module.net[0]})  # keys are text
    module.plain = [module.net[3]]
    layers = [
        TorchLayer("table.1.target", "table.1.inhibition", "table.1.source", "table.1.bias", 0.5),
        TorchLayer("plain.0.target", "plain.0.inhibition", None, "plain.0.bias", 0.5),
    ]
    assert sen_edge.from_torch(module, torch.rand(9, 6), layers=layers, steepness=2.0, exponent=2.0)


def test_another_constant_is_refused_with_the_first_wrong_layer(module: Module) -> None:
    x = torch.rand(40, 6)
    with pytest.raises(VerificationError, match="layer 0 differs first"):
        sen_edge.from_torch(module, x, layers=LAYERS, steepness=1.0, exponent=2.0)
    plain = [TorchLayer("net.0.target", "net.0.inhibition", "net.0.source", "net.0.bias", 0.5), LAYERS[1]]
    with pytest.raises(VerificationError, match="the output differs first") as caught:
        sen_edge.from_torch(module, x, layers=plain, steepness=1.0, exponent=2.0)
    assert "layers[0].output" in caught.value.hint


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([], UsageError, r"layers\[0\]"),
        ([LAYERS[1], TorchLayer("net.7.target", "net.3.inhibition")], UsageError, r"layers\[1\]\.target.*net\.7"),
        ([TorchLayer("net.0.target", "net.0", "net.0.source")], UsageError, r"layers\[0\]\.inhibition"),
        ([LAYERS[0], TorchLayer("net.3.target", "net.3.inhibition", gain=1)], UsageError, r"layers\[1\]\.bias"),
        ([LAYERS[0], TorchLayer("net.3.target", 1e9, None, "net.0.bias", 1)], CheckpointError, r"bias\[1\].*\[5\]"),
        ([TorchLayer("net.0.target", 1e9, "net.0.source", "net.0.bias")], DataError, r"\by\b.*\[4, 3\]"),
    ],
)
def test_a_wrong_description(layers: Any, error: type[Exception], message: str, module: Module) -> None:
    with pytest.raises(error, match=message):
        sen_edge.from_torch(module, torch.rand(4, 6), layers=layers)


class Leaky(nn.Module):
    def forward(self, current: torch.Tensor, membrane: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        membrane = 0.5 * membrane + current - (membrane > 1) * 1.0
        return (membrane > 1).to(current.dtype), membrane


class Spiking(Module):
    def __init__(self) -> None:
        super().__init__()
        self.lif = Leaky()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total, hidden = torch.zeros(len(x), SIZES[2], dtype=x.dtype), torch.zeros(len(x), SIZES[1], dtype=x.dtype)
        for _ in range(8):
            spikes, hidden = self.lif(self.net[0](x), hidden)
            total = total + self.net[3](spikes)
        return total / 8, hidden


def test_spikes_of_a_submodule_are_counted() -> None:
    torch.manual_seed(0)
    layers = [
        TorchLayer("net.0.target", "net.0.inhibition", "net.0.source", "net.0.bias", 0.5, output="lif"),
        TorchLayer("net.3.target", "net.3.inhibition", None, "net.3.bias", 0.5),
    ]
    spiking = {"timesteps": 8, "reset_delay": True, "beta": [0.5, 0.0]}
    options = {"layers": layers, "steepness": 2.0, "exponent": 2.0}
    module, x = Spiking().double(), torch.rand(40, 6)
    assert sen_edge.from_torch(module, x, spiking=spiking, **options).architecture == "snn"
    with pytest.raises(VerificationError, match=r"layer 0 differs first.*spike counts"):
        sen_edge.from_torch(module, x, spiking={**spiking, "threshold": 0.5}, **options)


def test_an_unknown_output_is_named(module: Module) -> None:
    layers = [TorchLayer("net.0.target", 1.0, "net.0.source", output="net.9"), TorchLayer("net.3.target", 1.0)]
    with pytest.raises(UsageError, match=r"net\.9"):
        sen_edge.from_torch(module, torch.rand(4, 6), layers=layers)


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"positions": [rng.random((n, 3)) for n in SIZES], "inhibition": [rng.random(6), 1e9]}


def test_a_model_of_arrays(tmp_path: Path) -> None:
    model = sen_edge.build(**arrays(), bias=0.0, gain=[1.0, 2.0], steepness=[1.0, 3.0])
    assert model.network.layer_sizes == SIZES and model.checkpoint is not None
    first, second = (layer.weight for layer in model.network.layers)
    np.testing.assert_array_equal(second.mask, np.ones(5))
    np.testing.assert_array_equal(first.source, arrays()["positions"][0].astype(np.float32))
    assert second.gain == 2.0 and len(model.sha256) == 64
    assert model.sha256 != sen_edge.build(**arrays()).sha256
    assert model.predict(np.zeros(6)).shape == (3,)
    sen_edge.export(model, tmp_path, to="sen")
    assert (tmp_path / "model.sen").exists()


def test_a_spiking_model_of_arrays() -> None:
    betas = [np.linspace(0.1, 0.9, 5), 1.0]
    model = sen_edge.build(**arrays(), beta=betas, spiking={"timesteps": 4, "reset_delay": False})
    np.testing.assert_allclose(model.network.layers[0].neuron.beta, betas[0])
    assert model.network.layers[1].neuron.beta == 1.0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"positions": 3.0}, CheckpointError, "positions"),
        ({"positions": "abc"}, UsageError, "positions.*str"),
        ({"inhibition": [[1.0, "a"], 1.0]}, UsageError, r"inhibition\[0\]"),
        ({"inhibition": [1.0]}, CheckpointError, r"\b1\b.*inhibition.*\b2\b"),
        ({"bias": [np.zeros(4), 0.0]}, CheckpointError, r"bias\[0\].*\[4\].*\[5\]"),
        ({"spiking": {"timesteps": 3}}, CheckpointError, r"spiking\.reset_delay"),
        ({"colour": 3}, CheckpointError, "colour"),
        ({"steepness": [1.0, -1.0]}, CheckpointError, r"steepness\[1\]"),
    ],
)
def test_wrong_arrays(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sen_edge.build(**{**arrays(), **change})
