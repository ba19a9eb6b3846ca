"""Train a perceptron and write it as PyTorch Lightning does, without needing it.

python examples/foreign/lightning.py   # writes model.ckpt and expect.npz
sen-edge export model.ckpt --map examples/foreign/lightning.toml --expect expect.npz
"""

import numpy as np
import torch
from common import toy_data, train
from torch import nn

x, labels = toy_data()


class Spatial(nn.Module):
    """Layer with its own positions of sources and of targets: a hidden neuron has two."""

    def __init__(self, n_in: int, n_out: int, d: int = 4) -> None:
        super().__init__()
        self.source, self.target = nn.Parameter(2 * torch.rand(n_in, d)), nn.Parameter(2 * torch.rand(n_out, d))
        self.inhibition, self.bias = nn.Parameter(torch.randn(n_in)), nn.Parameter(torch.zeros(n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return W x + b."""
        weight = 0.5 * torch.tanh(2 * self.inhibition) / torch.cdist(self.target, self.source)
        return x @ weight.T + self.bias


class Module(nn.Module):
    """As a LightningModule, with the network as an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(Spatial(16, 24), nn.ReLU(), Spatial(24, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.model(x)


model = Module()
optimizer = train(model, lambda: model(x), labels)
torch.save(
    {
        "epoch": 1,
        "global_step": 150,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": model.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "hyper_parameters": {"hidden": 24, "lr": 0.02},
    },
    "model.ckpt",
)
with torch.no_grad():
    y = model.double()(x[:100].double())
    layer0 = model.model[:2](x[:100].double())
np.savez("expect.npz", x=x[:100], y=y, layer0=layer0)
