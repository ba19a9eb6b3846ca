"""Train a spiking network with the equations of SpikingJelly's LIFNode, without needing it.

python examples/foreign/spikingjelly/train.py               # writes model.pt and expect.npz
sen-edge export model.pt --map examples/foreign/spikingjelly/map.toml --expect expect.npz
"""

import numpy as np
import torch
from torch import nn

torch.manual_seed(0)
centres, labels = torch.rand(4, 16), torch.randint(4, (600,))
x = (centres[labels] + 0.15 * torch.randn(600, 16)).clamp(0, 1)


class Spike(torch.autograd.Function):
    """Heaviside function with the derivative of a fast sigmoid."""

    @staticmethod
    def forward(ctx, above):  # noqa: ANN001, ANN205, D102
        ctx.save_for_backward(above)
        return (above >= 0).to(above.dtype)

    @staticmethod
    def backward(ctx, gradient):  # noqa: ANN001, ANN205, D102
        (above,) = ctx.saved_tensors
        return gradient / (1 + 5 * above.abs()).square()


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
            spikes.append(Spike.apply(v - self.v_threshold))
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
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
for _ in range(60):
    loss = nn.functional.cross_entropy(model(x)[0], labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

torch.save(model.state_dict(), "model.pt")
with torch.no_grad():  # float64, so that rounding flips no spike
    y, counts = model.double()(x[:50].double())
np.savez("expect.npz", x=x[:50], y=y, layer0=counts)
