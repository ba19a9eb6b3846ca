"""Data and training of the examples."""

from collections.abc import Callable

import torch
from torch import nn


def toy_data() -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs `[600, 16]` in [0, 1] around four centres, and the number of each centre."""
    torch.manual_seed(0)
    centres, labels = torch.rand(4, 16), torch.randint(4, (600,))
    return (centres[labels] + 0.15 * torch.randn(600, 16)).clamp(0, 1), labels


def train(
    model: nn.Module, logits: Callable[[], torch.Tensor], labels: torch.Tensor, steps: int = 150, rate: float = 0.02
) -> torch.optim.Optimizer:
    """Minimize the cross-entropy; return the optimizer."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(logits(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return optimizer
