"""Passes that change how numbers are stored, Network -> Network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sen_runtime.checks import Array
from sen_runtime.errors import NetworkError
from sen_runtime.network import Network, map_weights
from sen_runtime.operators import Coordinates, Dense, Leaf, Sparse, WeightOperator


def to_float16(network: Network) -> Network:
    """The network with its weights stored in float16; biases stay float32, arithmetic is the engine's.

    Raises:
        NetworkError: a weight is beyond float16's 65504; the layer is named.
    """
    return map_weights(network, _half)


def _half(operator: Leaf) -> WeightOperator:
    if isinstance(operator, Coordinates):
        return replace(
            operator, source=_round(operator.source), target=_round(operator.target), mask=_round(operator.mask)
        )
    if isinstance(operator, Dense):
        return replace(operator, w=_round(operator.w))
    if isinstance(operator, Sparse):
        return replace(operator, values=_round(operator.values))
    return replace(operator, left=_round(operator.left), right=_round(operator.right))


def _round(array: Array) -> NDArray[np.float16]:
    largest = float(np.max(np.abs(array), initial=0))
    if largest > np.finfo(np.float16).max:
        raise NetworkError(
            f"the value {largest:g} does not fit float16, whose largest is 65504", hint="export with --dtype float32"
        )
    return array.astype(np.float16)
