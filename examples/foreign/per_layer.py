"""Train a perceptron whose tensors are split per layer, in a nested state dict.

python examples/foreign/per_layer.py   # writes model.pt and expect.npz
sen-edge export model.pt --map examples/foreign/per_layer.toml --expect expect.npz
"""

from itertools import pairwise

import numpy as np
import torch
from common import toy_data, train
from torch import nn

x, labels = toy_data()


class Neurons(nn.Module):
    """One layer of neurons, with positions stored as [d, n]."""

    def __init__(self, n: int, is_input: bool, is_output: bool) -> None:
        super().__init__()
        self.positions = nn.Parameter(2 * torch.rand(4, n))
        if not is_output:
            self.inh = nn.Parameter(0.5 + torch.randn(n, 1))
            self.scale = nn.Parameter(torch.full((1,), 0.3))
        if not is_input:
            self.threshold_shift = nn.Parameter(torch.zeros(n))


class Model(nn.Module):
    """Layers are counted from 1."""

    def __init__(self, sizes: tuple[int, ...] = (16, 24, 12, 4)) -> None:
        super().__init__()
        self.net = nn.ModuleDict({str(i): Neurons(n, i == 1, i == len(sizes)) for i, n in enumerate(sizes, start=1)})

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the activations of each layer; the last ones are logits."""
        layers, activations = list(self.net.values()), [x]
        for before, after in pairwise(layers):
            distance = torch.cdist(after.positions.T, before.positions.T)
            weight = before.scale * (2 * torch.sigmoid(before.inh.T) - 1) / distance
            current = activations[-1] @ weight.T + after.threshold_shift
            activations.append(current if after is layers[-1] else current.relu())
        return activations[1:]


model = Model()
train(model, lambda: model(x)[-1], labels, steps=300, rate=0.005)
torch.save({"epoch": 300, "model": {"state": model.state_dict()}}, "model.pt")
with torch.no_grad():  # float64, so that the comparison is as exact as the file
    layer0, layer1, y = model.double()(x[:100].double())
np.savez("expect.npz", x=x[:100], y=y, layer0=layer0, layer1=layer1)
