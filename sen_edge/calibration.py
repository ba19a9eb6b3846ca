"""Calibration inputs: real examples from which int8 ranges and roundings are chosen. They are given, never invented."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge import mnist
from sen_edge.config import SpatialConfig
from sen_edge.datasets import NAMES, load, read_npz
from sen_edge.errors import DataError

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


def load_calibration(name: str, data_dir: Path | None, config: SpatialConfig) -> Calibration:
    """Calibration inputs by name or path.

    - `mnist`, `digits`: their training part, never the test part.
    - `PATH.npz`: the array `x_train`, or `x`, or the only array, whatever its name.
    - any other path: an IDX file of bytes, scaled to the network's input range.

    Args:
        name: what to read.
        data_dir: folder of the MNIST files; searched alone if given.
        config: of the network that the inputs are for.

    Raises:
        DataError: the inputs are absent, damaged, too few, of another shape than the network takes, not finite, all
            equal, or outside the network's input range.
    """
    spiking = config.spiking
    spikes = spiking is not None and spiking.input_coding == "spikes"
    inputs = _read(name, data_dir, config, spikes=spikes)
    expected: tuple[int, ...] = (config.layer_sizes[0],)
    if spiking is not None and spikes:
        expected = (spiking.timesteps, *expected)
    _check(name, inputs, expected, config.input_range, spikes=spikes)
    most = MAX_EXAMPLES if spiking is None else MAX_SPIKING_EXAMPLES
    chosen = np.linspace(0, len(inputs) - 1, min(most, len(inputs))).round().astype(np.intp)
    used = np.ascontiguousarray(inputs[chosen], "<f4")
    is_held_out = np.arange(len(used)) % HELD_OUT_STRIDE == HELD_OUT_STRIDE - 1
    digest = hashlib.sha256(used.tobytes()).hexdigest()
    return Calibration(Path(name).name, used[~is_held_out], used[is_held_out], digest)


def _read(name: str, data_dir: Path | None, config: SpatialConfig, *, spikes: bool) -> FloatArray:
    """Inputs with whatever is behind their first axis (first two if `spikes`) flattened."""
    if name in NAMES:
        return load(name, data_dir, spikes=spikes).train_inputs
    path = Path(name)
    if path.suffix == ".npz":
        array = next(iter(read_npz(path, _inputs_name(path)).values()))
        if array.dtype.kind not in "fiub":
            raise DataError(f"{path}: the inputs are {array.dtype}; expected numbers")
    elif path.is_file():
        least, greatest = config.input_range
        array = mnist.read_idx(path) / np.float32(255) * np.float32(greatest - least) + np.float32(least)
    else:
        raise DataError(
            f"calibration data {name!r} is unknown",
            hint=f"expected {', '.join(NAMES)}, the path of a .npz, or the path of an IDX file",
        )
    kept = 2 if spikes else 1
    if array.ndim <= kept or array.size == 0:
        shape = "[n, T, n_in]" if spikes else "[n, n_in]"
        raise DataError(
            f"{name}: the calibration inputs have shape {list(array.shape)}; expected {shape} with no axis empty"
        )
    with np.errstate(over="ignore"):  # a number beyond float32 becomes inf, which _check names
        return array.reshape(*array.shape[:kept], -1).astype(np.float32)


def _inputs_name(path: Path) -> Any:
    def choose(names: Sequence[str]) -> Iterable[str]:
        for name in ("x_train", "x", *(names if len(names) == 1 else ())):
            if name in names:
                return [name]
        raise DataError(
            f"{path} holds the arrays {', '.join(names) or 'none'}; expected x, x_train, or one array alone"
        )

    return choose


def _check(
    name: str, inputs: FloatArray, expected: tuple[int, ...], input_range: tuple[float, float], *, spikes: bool
) -> None:
    if inputs.shape[1:] != expected:
        raise DataError(
            f"{name}: a calibration input has shape {list(inputs.shape[1:])}; the network takes {list(expected)}",
            hint="name the data set that the network was trained on",
        )
    if not np.isfinite(inputs).all():
        at = np.argwhere(~np.isfinite(inputs))[0]
        raise DataError(f"{name}: calibration input {at[0]} holds {inputs[tuple(at)]}; expected finite numbers")
    least, greatest = float(inputs.min()), float(inputs.max())
    if least == greatest:
        raise DataError(
            f"{name}: every value of the calibration inputs is {least:g}; no range can be told from them",
            hint="calibrate with inputs like those that the network will see",
        )
    if spikes and not np.isin(inputs, (0, 1)).all():
        raise DataError(
            f"{name}: the network takes spikes, 0 or 1; the calibration inputs go from {least:g} to {greatest:g}"
        )
    slack = RANGE_SLACK * (input_range[1] - input_range[0])
    if least < input_range[0] - slack or greatest > input_range[1] + slack:
        raise DataError(
            f"{name}: the calibration inputs go from {least:g} to {greatest:g}, "
            f"the network's from {input_range[0]:g} to {input_range[1]:g}",
            hint="scale them as the training data was scaled; input_range is in the checkpoint's config",
        )
    if len(inputs) < MIN_EXAMPLES:
        raise DataError(
            f"{name} holds {len(inputs)} calibration inputs; expected at least {MIN_EXAMPLES}",
            hint="some hundred, of every kind that the network will see",
        )
