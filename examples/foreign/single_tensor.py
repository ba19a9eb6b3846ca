"""Train a perceptron whose parameters are one tensor of all layers each.

python examples/foreign/single_tensor.py   # writes model.pt and expect.npz
sen-edge export model.pt --map examples/foreign/single_tensor.toml --expect expect.npz
"""

import numpy as np
import torch
from common import toy_data, train
from torch import nn

x, labels = toy_data()


class Model(nn.Module):
    """All neurons in one [n_total, d] tensor; the inhibition of output neurons is unused."""

    def __init__(self, sizes: tuple[int, ...] = (16, 24, 4)) -> None:
        super().__init__()
        self.sizes = sizes
        self.coords = nn.Parameter(2 * torch.rand(sum(sizes), 5))
        self.inhibition = nn.Parameter(torch.randn(sum(sizes)))
        self.layer_gain = nn.Parameter(torch.ones(len(sizes) - 1))
        self.bias = nn.Parameter(torch.zeros(sum(sizes[1:])))
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        positions, masks = self.coords.split(self.sizes), torch.tanh(self.inhibition).split(self.sizes)
        biases, last = self.bias.split(self.sizes[1:]), len(self.sizes) - 2
        for i, bias in enumerate(biases):
            squared = torch.cdist(positions[i + 1], positions[i]).square()
            x = x @ (self.layer_gain[i] * masks[i] / squared).T + bias
            x = x if i == last else x.relu()
        return x


model = Model()
train(model, lambda: model(x), labels)
torch.save(model.state_dict(), "model.pt")
with torch.no_grad():
    y = model.double()(x[:100].double())
np.savez("expect.npz", x=x[:100], y=y)
