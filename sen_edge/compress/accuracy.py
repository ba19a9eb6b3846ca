"""How often a network is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sen_runtime import reference
from sen_runtime.ir.network import Network

#: Examples that run at once: bounds memory, not results.
CHUNK = 1000


def accuracy(network: Network, inputs: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Share of inputs `[n, ...]` whose greatest output is that of the label `[n]`, in percent, by the reference."""
    right = 0
    for start in range(0, len(labels), CHUNK):
        chunk = slice(start, start + CHUNK)
        right += int((reference.run(network, inputs[chunk], np.float32).argmax(axis=1) == labels[chunk]).sum())
    return 100 * right / len(labels)
