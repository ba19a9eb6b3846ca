"""Train a perceptron whose last coordinate is the layer index, which is not stored.

python examples/foreign/implicit_z.py   # writes model.pt and expect.npz
sen-edge export model.pt --map examples/foreign/implicit_z.toml --expect expect.npz
"""

import numpy as np
import torch
from common import toy_data, train
from torch import nn

x, labels = toy_data()

SPACING = 0.5


class Model(nn.Module):
    """Positions are (x, y); z is the layer index times SPACING. Only inputs have an inhibition."""

    def __init__(self, sizes: tuple[int, ...] = (16, 24, 4)) -> None:
        super().__init__()
        self.xy = nn.ParameterList(2 * torch.rand(n, 2) for n in sizes)
        self.inhibition = nn.Parameter(torch.randn(sizes[0]))
        self.bias = nn.ParameterList(torch.zeros(n) for n in sizes[1:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        for i, bias in enumerate(self.bias):
            z = [torch.full((len(self.xy[k]), 1), k * SPACING).to(x.dtype) for k in (i, i + 1)]
            source, target = torch.cat([self.xy[i], z[0]], 1), torch.cat([self.xy[i + 1], z[1]], 1)
            weight = 1 / torch.cdist(target, source)
            weight = weight * (2 * torch.sigmoid(self.inhibition) - 1) if i == 0 else weight
            x = x @ weight.T + bias
            x = x.relu() if i == 0 else x
        return x


model = Model()
train(model, lambda: model(x), labels)
torch.save(model.state_dict(), "model.pt")
with torch.no_grad():
    y = model.double()(x[:100].double())
np.savez("expect.npz", x=x[:100], y=y)
