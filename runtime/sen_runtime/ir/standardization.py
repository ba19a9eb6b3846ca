"""Standardization of the inputs or outputs of a network: constants per feature that belong to the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sen_runtime.errors import NetworkError
from sen_runtime.ir.checks import Array, check_array, require

#: Standard deviations around the mean of a standardized feature that verification inputs cover.
STANDARDIZED_RANGE = 4.0
#: `preprocess` in the metadata of a file whose caller standardizes inputs; constants in the metadata of such a file and
#: of a reconstruction, whose error is in units of the standardization.
LEFT_TO_CALLER, CONSTANTS = "none", ("input_mean", "input_std")


@dataclass(frozen=True, eq=False)
class Standardization:
    """Mean and standard deviation per feature.

        standardize(x) = (x - mean) * inverse        inverse = 1 / std, rounded to float32
        restore(y) = y * std + mean

    Attributes:
        mean: `[n]`, float32.
        std: `[n]`, float32, > 0; 1 for a constant feature.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name, array in (("mean", self.mean), ("std", self.std)):
            check_array(array, f"{name} of a standardization", 1)
            require(array.dtype == np.float32, f"{name} of a standardization is {array.dtype}; expected float32")
        require(
            len(self.mean) == len(self.std),
            f"a standardization has {len(self.mean)} means for {len(self.std)} standard deviations",
        )
        with np.errstate(over="ignore"):
            is_valid = np.isfinite(np.float32(1) / self.std.min()) if self.std.min() > 0 else False
        require(is_valid, f"std of a standardization holds {self.std.min():g}; expected values > 0")

    @cached_property
    def inverse(self) -> NDArray[np.float32]:
        """1 / std `[n]`, rounded to float32."""
        return (1 / self.std.astype(np.float64)).astype(np.float32)

    def standardize(self, x: Array) -> Array:
        """`(x - mean) * inverse` of `[..., n]`, in the precision of `x`."""
        standardized: Array = (x - self.mean.astype(x.dtype)) * self.inverse.astype(x.dtype)
        return standardized

    def restore(self, y: Array) -> Array:
        """`y * std + mean` of `[..., n]`, in the precision of `y`."""
        restored: Array = y * self.std.astype(y.dtype) + self.mean.astype(y.dtype)
        return restored


def metadata_of(scaling: Standardization) -> dict[str, str]:
    """Metadata of a file whose caller needs the constants: JSON lists."""
    lists = ([float(f"{value:.9g}") for value in array] for array in (scaling.mean, scaling.std))
    return dict(zip(CONSTANTS, map(json.dumps, lists)))


def scaling_of(metadata: Mapping[str, str], n_features: int) -> Standardization | None:
    """Standardization in the metadata of a file, see `metadata_of`; None without.

    Raises:
        NetworkError: the constants are damaged, of another number of features, or missing where callers apply them.
    """
    if metadata.get("preprocess") != LEFT_TO_CALLER and not any(name in metadata for name in CONSTANTS):
        return None
    arrays = []
    for name in CONSTANTS:
        try:
            with np.errstate(over="ignore"):  # infinite constants are refused
                arrays.append(np.array(json.loads(metadata[name]), np.float32))
        except (KeyError, ValueError, TypeError, OverflowError, RecursionError):
            arrays.append(np.empty(0, np.float32))
        if arrays[-1].shape != (n_features,):
            raise NetworkError(
                f"the metadata have an input standardization; expected {n_features} numbers in {name}",
                "export the model again",
            )
    return Standardization(*arrays)


def left_to_caller(metadata: Mapping[str, str], n_features: int) -> Standardization | None:
    """Standardization that inputs of a file need first; None for inputs as they are. Errors: those of `scaling_of`."""
    return scaling_of(metadata, n_features) if metadata.get("preprocess") == LEFT_TO_CALLER else None
