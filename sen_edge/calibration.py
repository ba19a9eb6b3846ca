"""Calibration inputs: real examples from which int8 ranges and roundings are chosen. They are given, never invented."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sen_edge import mnist
from sen_edge.datasets import NAMES, check_finite, check_shape, load, read_npz
from sen_edge.errors import DataError
from sen_runtime.network import Network

FloatArray = NDArray[np.float32]

#: Examples that are used, evenly spread over those that are there. Of a spiking network fewer: steps add to them.
MAX_EXAMPLES = 2048
MAX_SPIKING_EXAMPLES = 512
#: Fewer cannot tell a range, and leave nothing to judge it by.
MIN_EXAMPLES = 64
HELD_OUT_STRIDE = 8
#: Share of the input range by which inputs may lie outside it.
RANGE_SLACK = 0.05


@dataclass(frozen=True)
class Calibration:
    """Checked inputs.

    Attributes:
        name: what was asked for.
        inputs: to fit to, `[n, n_in]`, or `[n, T, n_in]` spikes.
        held_out: others like them, to judge the result on: every eighth of those that are used.
        sha256: of the bytes of all that are used, float32 and little endian.
    """

    name: str
    inputs: FloatArray
    held_out: FloatArray
    sha256: str


def load_calibration(name: str, data_dir: Path | None, network: Network, most: int | None = None) -> Calibration:
    """Calibration inputs by name or path.

    - `mnist`, `digits`: their training part, never the test part.
    - `PATH.npz`: the array `x_train`, or `x`, or the only array, whatever its name.
    - any other path: an IDX file of bytes, scaled to the network's input range.

    Args:
        name: what to read.
        data_dir: folder of the MNIST files; searched alone if given.
        network: that the inputs are for.
        most: inputs to use; None for what int8 needs.

    Raises:
        DataError: the inputs are absent, damaged, too few, of another shape than the network takes, not finite, all
            equal, or outside the network's input range.
    """
    inputs = _read(name, data_dir, network)
    _check(name, inputs, network)
    if most is None:
        most = MAX_SPIKING_EXAMPLES if network.is_spiking else MAX_EXAMPLES
    chosen = np.linspace(0, len(inputs) - 1, min(most, len(inputs))).round().astype(np.intp)
    used = np.ascontiguousarray(inputs[chosen], "<f4")
    is_held_out = np.arange(len(used)) % HELD_OUT_STRIDE == HELD_OUT_STRIDE - 1
    digest = hashlib.sha256(used.tobytes()).hexdigest()
    return Calibration(Path(name).name, used[~is_held_out], used[is_held_out], digest)


def _read(name: str, data_dir: Path | None, network: Network) -> FloatArray:
    """Inputs with whatever is behind their first axis (first two of spike trains) flattened."""
    is_train = network.input_coding == "spikes"
    if name in NAMES:
        return load(name, data_dir, spikes=is_train).train_inputs
    path = Path(name)
    if path.suffix == ".npz":
        array = next(iter(read_npz(path, partial(_inputs_name, path)).values()))
        if array.dtype.kind not in "fiub":
            raise DataError(f"{path}: the inputs are {array.dtype}; expected numbers")
    elif path.is_file():
        least, greatest = network.input_range
        array = mnist.read_idx(path) / np.float32(255) * np.float32(greatest - least) + np.float32(least)
    else:
        raise DataError(
            f"calibration data {name!r} is unknown",
            hint=f"expected {', '.join(NAMES)}, the path of a .npz, or the path of an IDX file",
        )
    kept = len(network.input_shape)
    if array.ndim <= kept or array.size == 0:
        shape = "[n, T, n_in]" if is_train else "[n, n_in]"
        raise DataError(
            f"{name}: the calibration inputs have shape {list(array.shape)}; expected {shape} with no axis empty"
        )
    with np.errstate(over="ignore"):  # a number beyond float32 becomes inf, which _check names
        return array.reshape(*array.shape[:kept], -1).astype(np.float32)


def _inputs_name(path: Path, names: Sequence[str]) -> list[str]:
    """Which array of a `.npz` holds the inputs."""
    found = [name for name in ("x_train", "x", *(names if len(names) == 1 else ())) if name in names]
    if not found:
        raise DataError(
            f"{path} holds the arrays {', '.join(names) or 'none'}; expected x, x_train, or one array alone"
        )
    return found[:1]


def _check(name: str, inputs: FloatArray, network: Network) -> None:
    """Inputs that the network takes, of which a range can be told."""
    where = f"{name}, calibration"
    check_shape(where, inputs, network.input_shape)
    check_finite(where, inputs)
    least, greatest = float(inputs.min()), float(inputs.max())
    if least == greatest:
        raise DataError(
            f"{name}: every value of the calibration inputs is {least:g}; no range can be told from them",
            hint="calibrate with inputs like those that the network will see",
        )
    if network.input_coding == "spikes" and not np.isin(inputs, (0, 1)).all():
        raise DataError(
            f"{name}: the network takes spikes, 0 or 1; the calibration inputs go from {least:g} to {greatest:g}"
        )
    low, high = network.input_range
    slack = RANGE_SLACK * (high - low)
    if least < low - slack or greatest > high + slack:
        raise DataError(
            f"{name}: the calibration inputs go from {least:g} to {greatest:g}, the network's from {low:g} to {high:g}",
            hint="scale them as the training data was scaled; input_range is in a checkpoint's config, or an image's "
            "metadata",
        )
    if len(inputs) < MIN_EXAMPLES:
        raise DataError(
            f"{name} holds {len(inputs)} calibration inputs; expected at least {MIN_EXAMPLES}",
            hint="some hundred, of every kind that the network will see",
        )
