"""Accuracy of a classifier: share of inputs whose largest output is at the label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime import reference
from sen_runtime.ir.network import Network

#: Inputs per chunk; bounds memory, does not change results.
CHUNK = 1000


def correct(outputs: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the outputs `[n, n_out]` that are largest at their labels `[n]`."""
    is_correct: NDArray[np.bool_] = outputs.argmax(axis=1) == labels
    return is_correct


def accuracy(outputs: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Compute the share of outputs `[n, n_out]` that are largest at their labels `[n]`, in percent."""
    return 100 * int(np.count_nonzero(correct(outputs, labels))) / len(labels)


def network_accuracy(network: Network, inputs: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Compute the accuracy of the reference forward pass on inputs `[n, ...]`, in percent."""
    chunks = [slice(start, start + CHUNK) for start in range(0, len(labels), CHUNK)]
    return accuracy(np.concatenate([reference.run(network, inputs[chunk], np.float32) for chunk in chunks]), labels)
