"""Calibration inputs: real examples from which int8 ranges and roundings are chosen. They are given, never invented."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sen_edge.data.datasets import load_part
from sen_edge.data.subsample import subsample
from sen_edge.errors import DataError
from sen_runtime.data import TRAINING
from sen_runtime.ir.network import Network

FloatArray = NDArray[np.float32]

#: Examples that are used, evenly spread over those that are there. Of a spiking network fewer: steps add to them.
MAX_EXAMPLES = 2048
MAX_SPIKING_EXAMPLES = 512
#: Fewer cannot tell a range, and leave nothing to judge it by.
MIN_EXAMPLES = 64
HELD_OUT_STRIDE = 8


@dataclass(frozen=True)
class Calibration:
    """Checked inputs.

    Attributes:
        name: of the data set, and which part of it: for tables and records.
        inputs: to fit to, `[n, n_in]`, or `[n, T, n_in]` spikes.
        held_out: others like them, to judge the result on: every eighth of those that are used.
        sha256: of the bytes of all that are used, float32 and little endian.
    """

    name: str
    inputs: FloatArray
    held_out: FloatArray
    sha256: str


def load_calibration(name: str, data_dir: Path | None, network: Network, most: int | None = None) -> Calibration:
    """Calibration inputs by name or path: the training part of a data set, never the test part; see `datasets.load`.

    Of a file of `x` alone all of it is used.

    Args:
        name: what to read.
        data_dir: folder of the MNIST files; searched alone if given.
        network: that the inputs are for.
        most: inputs to use; None for what int8 needs.

    Raises:
        DataError: the inputs are absent, damaged, too few, of another shape than the network takes, not finite, all
            equal, or outside the network's input range.
    """
    examples = load_part(name, TRAINING, data_dir, network)
    inputs = examples.inputs
    if inputs.min() == inputs.max():
        raise DataError(
            f"{examples.where}: every value of the calibration inputs is {inputs.min():g}; no range can be told from "
            "them",
            hint="calibrate with inputs like those that the network will see",
        )
    if len(inputs) < MIN_EXAMPLES:
        raise DataError(
            f"{examples.where}: {len(inputs)} calibration inputs; expected at least {MIN_EXAMPLES}",
            hint="some hundred, of every kind that the network will see",
        )
    if most is None:
        most = MAX_SPIKING_EXAMPLES if network.is_spiking else MAX_EXAMPLES
    used = np.ascontiguousarray(subsample(inputs, most), "<f4")
    is_held_out = np.arange(len(used)) % HELD_OUT_STRIDE == HELD_OUT_STRIDE - 1
    digest = hashlib.sha256(used.tobytes()).hexdigest()
    return Calibration(examples.title, used[~is_held_out], used[is_held_out], digest)
