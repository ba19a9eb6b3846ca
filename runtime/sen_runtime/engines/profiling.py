"""Time of the layers of a model, as engines with a profiler report it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Duration of a profile in seconds, and the share of the shortest times that count: interrupts lengthen the others.
SECONDS, KEPT = 0.3, 0.95


@dataclass(frozen=True)
class LayerTime:
    """Time of a layer, or of a node of a graph, in one inference.

    Attributes:
        name: of the layer or node.
        us: microseconds.
        macs: multiply-accumulates of one pass; None where they are not known.
        weight_bytes: stored bytes of its weights and biases; None where they are not known.
        reads_weights_once: whether an inference reads each of these bytes about once.
    """

    name: str
    us: float
    macs: int | None = None
    weight_bytes: int | None = None
    reads_weights_once: bool = True


def typical(times: ArrayLike) -> NDArray[np.float64]:
    """Mean of the shortest `KEPT` of `times [n, ...]`."""
    ordered = np.sort(np.asarray(times, np.float64), axis=0)
    mean: NDArray[np.float64] = ordered[: max(1, int(KEPT * len(ordered)))].mean(axis=0)
    return mean
