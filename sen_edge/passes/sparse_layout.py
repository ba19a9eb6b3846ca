"""Sparse layout: weights with zeros in the smallest form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sen_runtime.ir.operators import Dense, Sparse

Mask = NDArray[np.bool_]

#: Blocks of masks: along outputs for vectors of outputs, along inputs for TFLite and microcontrollers.
BLOCKS = ((1, 1), (4, 1), (8, 1), (16, 1), (1, 4))


def to_sparse_layout(w: NDArray[np.float32], mask: Mask) -> Dense | Sparse:
    """Store weights `[n_out, n_in]` under a mask `[n_out, n_in]` in the smallest layout.

    Only blocks without zeros are considered: they store one column index for all their weights.
    """
    masked = np.where(mask, w, np.float32(0))
    smallest: Dense | Sparse = Dense(masked)
    if mask.all():
        return smallest
    marks, n_kept = mask.astype(np.float32), int(mask.sum())
    for block in BLOCKS:
        pattern = Sparse.from_dense(marks, block)
        is_filled = int(np.count_nonzero(pattern.with_values_of(np.ones_like(marks)).values)) == n_kept
        if is_filled and pattern.nbytes < smallest.nbytes:
            smallest = pattern
    return smallest.with_values_of(masked) if isinstance(smallest, Sparse) else smallest
