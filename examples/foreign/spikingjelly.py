"""Train a spiking network with the equations of SpikingJelly's LIFNode, without needing it.

python examples/foreign/spikingjelly.py   # writes model.pt and expect.npz
sen-edge export model.pt --map examples/foreign/spikingjelly.toml --expect expect.npz
"""

import numpy as np
import torch
from common import toy_data, train
from torch import nn

x, labels = toy_data()


def spike(above: torch.Tensor) -> torch.Tensor:
    """Heaviside function with the derivative of a fast sigmoid."""
    smooth = above / (1 + 5 * above.abs())
    return (above >= 0).to(above.dtype) + (smooth - smooth.detach())


class LIFNode(nn.Module):
    """LIFNode(tau, decay_input=False, v_threshold=..., v_reset=None): the reset acts in the step of the spike."""

    def __init__(self, tau: float, v_threshold: float = 1.0) -> None:
        super().__init__()
        self.tau, self.v_threshold = tau, v_threshold

    def forward(self, currents: torch.Tensor) -> torch.Tensor:
        """Return spikes [T, batch, n] for currents of this shape."""
        v, spikes = torch.zeros_like(currents[0]), []
        for current in currents:
            v = v * (1 - 1 / self.tau) + current
            spikes.append(spike(v - self.v_threshold))
            v = v - spikes[-1] * self.v_threshold
        return torch.stack(spikes)


class Spatial(nn.Module):
    """Layer with weights from positions; a layer takes the positions of its sources from the one before."""

    def __init__(self, source: nn.Parameter, n_out: int) -> None:
        super().__init__()
        self.source, self.target = source, nn.Parameter(2 * torch.rand(n_out, 3))
        self.inhibition, self.bias = nn.Parameter(torch.randn(len(source))), nn.Parameter(torch.zeros(n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return W x + b."""
        weight = torch.tanh(self.inhibition) / torch.cdist(self.target, self.source)
        return x @ weight.T + self.bias


class Model(nn.Module):
    """The output is the mean over time of the current into the output neurons: a readout with beta 0."""

    def __init__(self, steps: int = 20) -> None:
        super().__init__()
        self.steps = steps
        self.fc1 = Spatial(nn.Parameter(2 * torch.rand(16, 3)), 24)
        self.lif1 = LIFNode(tau=2.0)
        self.fc2 = Spatial(self.fc1.target, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits, and spike counts of the hidden layer."""
        spikes = self.lif1(self.fc1(x).expand(self.steps, -1, -1))
        return self.fc2(spikes).mean(0), spikes.sum(0)


model = Model()
train(model, lambda: model(x)[0], labels, steps=60)
torch.save(model.state_dict(), "model.pt")
with torch.no_grad():  # float64, so that rounding flips no spike
    y, counts = model.double()(x[:50].double())
np.savez("expect.npz", x=x[:50], y=y, layer0=counts)
