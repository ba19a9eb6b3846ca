"""Small data and networks for tests of training."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sen_edge.data.datasets import Dataset
from sen_edge.model import checkpoint
from sen_edge.model.config import SpatialConfig, SpikingConfig
from sen_edge.progress import Progress
from sen_edge.training.recipe import Recipe

MLP = SpatialConfig((12, 8, 3), dimensions=4, layer_spacing=0.1, steepness=0.5, input_range=(0.0, 1.3))
SNN = replace(MLP, spiking=SpikingConfig(4, surrogate_slope=5.0))
RECIPE = Recipe(epochs=4, batch_size=16, learning_rate=0.1)


def toy(seed: int = 0) -> Dataset:
    """Three noisy prototypes: 240 training and 60 test examples, images of 3 x 4 pixels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(300) % 3
    inputs = (np.eye(3, 12)[labels] + rng.uniform(0, 0.3, (300, 12))).astype(np.float32)
    return Dataset("toy", inputs[:240], labels[:240], inputs[240:], labels[240:], (0.0, 1.3), image_shape=(3, 4))


def tensors(path: Path) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in checkpoint.load(path).tensors.items()}


class Stop(Exception):
    """Stands for whatever ends a process."""


def stop_in(epoch: int, error: type[BaseException] = Stop, epochs: int = RECIPE.epochs) -> Progress:
    def stop(stage: str, fraction: float) -> None:
        if fraction > (epoch - 1) / epochs:
            raise error

    return stop


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Networks this small only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
