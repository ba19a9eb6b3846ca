"""What models are measured on: the user's data, or random inputs."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sen_runtime.bench.bootstrap import even_choice
from sen_runtime.data import TEST, TRAINING, DataFile, Examples, check_fit
from sen_runtime.memory_limits import require

FloatArray = NDArray[np.float32]

#: Different inputs that take turns.
N_INPUTS = 64
#: Share of ones in spike trains that are drawn.
FIRING = 0.2


def read_data(file: DataFile, shape: tuple[int, ...], input_range: tuple[float, float] | None, n_out: int) -> Examples:
    """Read the test part of the user's data, or the training part where that is all there is.

    Args:
        file: of the data; labels may be absent.
        shape: of one input of the models.
        input_range: of the models; None where no file says it, and any input is taken.
        n_out: outputs of the models.

    Raises:
        DataError: see `DataFile.read` and `check_fit`.
    """
    part = TEST if TEST in file.parts else TRAINING
    (examples,) = file.read((part,), has_steps=len(shape) > 1, input_range=input_range or (0.0, 1.0))
    check_fit(examples, shape, input_range, None if examples.labels is None else n_out)
    return examples


def some(data: Examples) -> FloatArray:
    """At most `N_INPUTS` of the user's inputs, spread evenly."""
    kept = even_choice(len(data.inputs), N_INPUTS)
    chosen: FloatArray = data.inputs[kept]
    return chosen


def random_inputs(shape: tuple[int, ...], n: int, seed: int, least: float, greatest: float) -> FloatArray:
    """`[n, *shape]`: evenly between two values, or spikes at random where a row has time steps."""
    require(4 * n * math.prod(shape), f"{n} inputs of {' x '.join(f'{size:,}' for size in shape)} values")
    rng = np.random.default_rng(seed)
    if len(shape) > 1:
        return (rng.random((n, *shape), np.float32) < FIRING).astype(np.float32)
    return rng.random((n, *shape), np.float32) * np.float32(greatest - least) + np.float32(least)
