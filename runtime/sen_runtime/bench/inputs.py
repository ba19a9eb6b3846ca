"""What models are measured on: the user's data, or random inputs."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.bench.bootstrap import even_choice
from sen_runtime.errors import DataError

FloatArray = NDArray[np.float32]

#: Different inputs that take turns.
N_INPUTS = 64
#: Share of ones in spike trains that are drawn.
FIRING = 0.2
FORM = "expected x [n, n_in] (or [n, T, n_in]) and, if there are any, labels [n]"


@dataclass(frozen=True)
class Data:
    """The user's inputs, and what they are, if known.

    Attributes:
        x: `[n, n_in]` or `[n, T, n_in]`.
        labels: `[n]`, or None.
    """

    x: FloatArray
    labels: NDArray[np.int64] | None


def read_data(path: Path) -> Data:
    """Read `x` and `labels` from a `.npz`.

    Raises:
        DataError: it is none; it has no `x`; something in it is no number, or not finite; the numbers of inputs and
            labels differ.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("x", "labels") if name in file.files}
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (
        ValueError,
        TypeError,
        EOFError,
        KeyError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,  # what zipfile says of a compression that it does not know
    ) as error:
        raise DataError(f"{path} is no .npz of plain numbers: {error}", FORM) from error
    if "x" not in arrays:
        raise DataError(f"{path} has no array x", FORM)
    x, labels = _inputs(path, arrays["x"]), arrays.get("labels")
    return Data(x, None if labels is None else _labels(path, labels, len(x)))


def _inputs(path: Path, x: NDArray[Any]) -> FloatArray:
    if x.dtype.kind not in "fiub" or x.ndim not in (2, 3) or x.size == 0:
        raise DataError(f"{path}: x is {x.dtype} {list(x.shape)}", FORM)
    with np.errstate(over="ignore"):  # reported below
        found = np.ascontiguousarray(x, np.float32)
    if not np.all(np.isfinite(found)):
        where = np.argwhere(~np.isfinite(found))[0].tolist()
        raise DataError(f"{path}: x at {where} is {x[tuple(where)]}; expected finite numbers")
    return found


def _labels(path: Path, labels: NDArray[Any], n: int) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu" or labels.shape != (n,):
        raise DataError(
            f"{path}: labels are {labels.dtype} {list(labels.shape)}; expected integers [{n}], one per input"
        )
    return labels.astype(np.int64)


def fitting(data: Data, path: Path, shape: tuple[int, ...], name: str) -> Data:
    """The data, if their rows have the shape that the models take.

    Raises:
        DataError: they have not.
    """
    if data.x.shape[1:] != shape:
        raise DataError(
            f"{path}: x has rows of shape {list(data.x.shape[1:])}; expected {list(shape)}, which {name} takes"
        )
    return data


def some(data: Data) -> FloatArray:
    """At most `N_INPUTS` of the user's inputs, spread evenly."""
    kept = even_choice(len(data.x), N_INPUTS)
    chosen: FloatArray = data.x[kept]
    return chosen


def random_inputs(shape: tuple[int, ...], n: int, seed: int, least: float, greatest: float) -> FloatArray:
    """`[n, *shape]`: evenly between two values, or spikes at random where a row has time steps."""
    rng = np.random.default_rng(seed)
    if len(shape) > 1:
        return (rng.random((n, *shape), np.float32) < FIRING).astype(np.float32)
    return rng.random((n, *shape), np.float32) * np.float32(greatest - least) + np.float32(least)
