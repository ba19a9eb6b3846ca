"""Calibration inputs, to which int8 ranges and rounding are fitted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sen_edge.data.datasets import load_part
from sen_edge.errors import DataError
from sen_runtime.data import TRAINING
from sen_runtime.data.subsample import subsample
from sen_runtime.ir.network import Network

FloatArray = NDArray[np.float32]

#: Max examples, evenly spaced; fewer for spiking networks, because time steps add to them.
MAX_EXAMPLES = 2048
MAX_SPIKING_EXAMPLES = 512
#: Min examples to determine and judge a range.
MIN_EXAMPLES = 64
HELD_OUT_STRIDE = 8


@dataclass(frozen=True)
class Calibration:
    """Checked calibration inputs.

    Attributes:
        name: of the data set and part, for tables and records.
        inputs: for fitting, `[n, n_in]`, or spike trains `[n, T, n_in]`.
        held_out: every eighth input, to judge the result.
        sha256: of the bytes of all used inputs, float32 little-endian.
    """

    name: str
    inputs: FloatArray
    held_out: FloatArray
    sha256: str


def load_calibration(name: str, data_dir: Path | None, network: Network, most: int | None = None) -> Calibration:
    """Load at most `most` inputs of the training part of a data set; by default as many as int8 needs.

    A file of `x` alone is used whole; see `datasets.load`.

    Raises:
        DataError: the inputs are missing, damaged, too few, of a wrong shape, not finite, constant, or outside the
            input range of the network.
    """
    examples = load_part(name, TRAINING, data_dir, network)
    inputs, (low, high) = examples.inputs, examples.input_range
    if low == high:
        raise DataError(
            f"{examples.where}: every value of the calibration inputs is {low:g}; expected a range",
            hint="calibrate with representative inputs",
        )
    if len(inputs) < MIN_EXAMPLES:
        raise DataError(
            f"{examples.where}: {len(inputs)} calibration inputs; expected at least {MIN_EXAMPLES}",
            hint="add a few hundred representative inputs",
        )
    if most is None:
        most = MAX_SPIKING_EXAMPLES if network.is_spiking else MAX_EXAMPLES
    used = np.ascontiguousarray(subsample(inputs, most), "<f4")
    is_held_out = np.arange(len(used)) % HELD_OUT_STRIDE == HELD_OUT_STRIDE - 1
    digest = hashlib.sha256(used.tobytes()).hexdigest()
    return Calibration(examples.title, used[~is_held_out], used[is_held_out], digest)
