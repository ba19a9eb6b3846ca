"""Random perceptrons with the sizes and sparsity of the claims."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Identity, Neuron, Relu
from sen_runtime.ir.operators import Dense, LowRank, Sparse, WeightOperator

#: Layer sizes of a large perceptron and of a spiking network; time steps.
SIZES, SPIKING_SIZES, TIMESTEPS = (784, 512, 256, 10), (784, 256, 10), 25
DENSITY, RANK = 0.1, 32

Hidden = Callable[[np.random.Generator, int, int], WeightOperator]


def normal(rng: np.random.Generator, n_out: int, n_in: int) -> NDArray[np.float32]:
    """Draw weights `[n_out, n_in]` that preserve the scale of the inputs."""
    return rng.standard_normal((n_out, n_in), np.float32) * np.float32(n_in**-0.5)


def dense(rng: np.random.Generator, n_out: int, n_in: int) -> Dense:
    """Draw dense weights."""
    return Dense(normal(rng, n_out, n_in))


def low_rank(rng: np.random.Generator, n_out: int, n_in: int) -> LowRank:
    """Draw factors of rank `RANK`."""
    return LowRank(normal(rng, n_out, RANK), normal(rng, RANK, n_in))


def sparse(
    rng: np.random.Generator, n_out: int, n_in: int, *, block: tuple[int, int], density: float = DENSITY
) -> Sparse:
    """Draw a share `density` of the blocks."""
    kept = rng.random((-(-n_out // block[0]), -(-n_in // block[1]))) < density
    mask = np.repeat(np.repeat(kept, block[0], axis=0), block[1], axis=1)
    return Sparse.from_dense(normal(rng, n_out, n_in) * mask / np.float32(density**0.5), block)


def perceptron(rng: np.random.Generator, sizes: tuple[int, ...], hidden: Hidden) -> Network:
    """Build hidden layers with weights from `hidden(rng, n_out, n_in)`, and a dense last one."""
    layers = []
    for index, (n_in, n_out) in enumerate(pairwise(sizes)):
        is_last = index == len(sizes) - 2
        neuron: Neuron = Identity() if is_last else Relu()
        weight = dense(rng, n_out, n_in) if is_last else hidden(rng, n_out, n_in)
        layers.append(Layer(weight, rng.random(n_out, np.float32), neuron))
    return Network(tuple(layers))
