"""Models to compress: a checkpoint, and a network without coordinates."""

import numpy as np
import pytest

from sen_edge.model.model import Model
from tests.conftest import MLP, make_checkpoint, make_model
from tests.support.networks import random_network


@pytest.fixture
def mlp() -> Model:
    return make_model(make_checkpoint(MLP))


@pytest.fixture
def image() -> Model:
    return Model(random_network(np.random.default_rng(0), kinds=("dense",), sizes=(64, 32, 10)), "cd" * 32)
