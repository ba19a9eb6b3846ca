"""Train a spiking network with the equations and the buffers of snnTorch's Leaky, without needing it.

python examples/foreign/snntorch.py   # writes model.pt and expect.npz
sen-edge export model.pt --map examples/foreign/snntorch.toml --expect expect.npz
"""

import numpy as np
import torch
from common import toy_data, train
from torch import nn

x, labels = toy_data()


def spike(above: torch.Tensor) -> torch.Tensor:
    """Heaviside function with the derivative of a fast sigmoid."""
    smooth = above / (1 + 5 * above.abs())
    return (above > 0).to(above.dtype) + (smooth - smooth.detach())


class Leaky(nn.Module):
    """snntorch.Leaky(beta, threshold, learn_beta=True, reset_mechanism=...): the reset acts after the next decay."""

    def __init__(self, beta: float, threshold: float = 1.0, reset_mechanism: str = "subtract") -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(beta))
        self.register_buffer("threshold", torch.tensor(threshold))
        self.register_buffer("graded_spikes_factor", torch.tensor(1.0))
        self.register_buffer(
            "reset_mechanism_val", torch.tensor({"subtract": 0, "zero": 1, "none": 2}[reset_mechanism])
        )

    def forward(self, current: torch.Tensor, mem: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return spikes and membrane."""
        reset = (mem > self.threshold).to(mem.dtype).detach()
        beta = self.beta.clamp(0, 1)
        mem = beta * mem + current
        if self.reset_mechanism_val == 0:
            mem = mem - reset * self.threshold
        return spike(mem - self.threshold), mem


class Model(nn.Module):
    """Constant current; the output is the mean membrane of a last layer without reset."""

    def __init__(self, sizes: tuple[int, ...] = (16, 24, 4), steps: int = 20) -> None:
        super().__init__()
        self.steps = steps
        self.position = nn.ParameterList(2 * torch.rand(n, 3) for n in sizes)
        self.inhibition = nn.ParameterList(torch.randn(n) for n in sizes[:-1])
        self.bias = nn.ParameterList(torch.zeros(n) for n in sizes[1:])
        self.lif1, self.lif2 = Leaky(0.8, threshold=0.5), Leaky(0.95, reset_mechanism="none")

    def current(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        """Return W x + b of a layer."""
        distance = torch.cdist(self.position[layer + 1], self.position[layer])
        weight = (2 * torch.sigmoid(3 * self.inhibition[layer]) - 1) / distance
        return x @ weight.T + self.bias[layer]

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean membrane, and spike counts of the hidden layer."""
        first = self.current(0, x)
        mem1, mem2 = torch.zeros_like(first), torch.zeros_like(self.bias[1]).expand(len(x), -1)
        counts, total = torch.zeros_like(first), torch.zeros_like(mem2)
        for _ in range(self.steps):
            spikes, mem1 = self.lif1(first, mem1)
            _, mem2 = self.lif2(self.current(1, spikes), mem2)
            counts, total = counts + spikes, total + mem2
        return total / self.steps, counts


model = Model()
train(model, lambda: model(x)[0], labels, steps=60)
torch.save(model.state_dict(), "model.pt")
with torch.no_grad():  # float64, so that rounding flips no spike
    y, counts = model.double()(x[:50].double())
np.savez("expect.npz", x=x[:50], y=y, layer0=counts)
