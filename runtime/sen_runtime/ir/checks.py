"""Checks of fields, shared by operators, neurons and networks; each raises `NetworkError`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from sen_runtime.errors import NetworkError

Array = NDArray[Any]
#: A number for all neurons of a layer, or float32 `[n]` with one for each.
Parameter = Union[float, NDArray[np.float32]]

STORAGE_DTYPES = (np.dtype(np.float32), np.dtype(np.float16))


def require(condition: object, message: str) -> None:
    """Raise the message as a `NetworkError` unless the condition is true."""
    if not condition:
        raise NetworkError(message)


def check_array(array: Array, name: str, rank: int, *, may_be_empty: bool = False) -> None:
    """Require a finite float32 or float16 array with `rank` axes."""
    if not isinstance(array, np.ndarray) or array.dtype not in STORAGE_DTYPES:
        found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise NetworkError(f"{name}: got {found}; expected a float32 or float16 array")
    is_sound = array.ndim == rank and (array.size or may_be_empty)
    require(is_sound, f"{name}: shape is {list(array.shape)}; expected {rank} axes, none of them empty")
    if not np.all(np.isfinite(array)):
        where = np.argwhere(~np.isfinite(array))[0].tolist()
        raise NetworkError(f"{name}: value at {where} is {array[tuple(where)]}; expected finite numbers")


def check_index(array: NDArray[np.int32], name: str, length: int) -> None:
    """Require an int32 vector of `length` values."""
    if not isinstance(array, np.ndarray) or array.dtype != np.int32 or array.shape != (length,):
        found = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise NetworkError(f"{name}: got {found}; expected int32 [{length}]")


def check_choice(value: str, name: str, choices: tuple[str, ...]) -> None:
    """Require one of `choices`."""
    require(value in choices, f"{name} is {value!r}; expected one of {', '.join(choices)}")


def store_float32(owner: object, name: str, bound: str = "", is_valid: Callable[[float], bool] = np.isfinite) -> None:
    """Round the field `name` of a frozen dataclass to float32, and require a finite value within its bound."""
    with np.errstate(over="ignore"):  # reported below
        value = float(np.float32(getattr(owner, name)))
    require(np.isfinite(value) and is_valid(value), f"{name} is {value:g}; expected a finite number {bound}".rstrip())
    object.__setattr__(owner, name, value)


def store_parameter(owner: object, name: str, bound: str, is_valid: Callable[[Any], Any]) -> None:
    """The same for a `Parameter`; an array keeps its values, which are float32 already."""
    value = getattr(owner, name)
    if not isinstance(value, np.ndarray):
        store_float32(owner, name, bound, is_valid)
        return
    require(value.dtype == np.float32, f"{name}: got {value.dtype}; expected a number or a float32 array")
    check_array(value, name, 1)
    wrong = np.flatnonzero(~is_valid(value))
    if len(wrong):
        raise NetworkError(f"{name} of neuron {wrong[0]} is {value[wrong[0]]:g}; expected a number {bound}")


def is_positive(value: Any) -> Any:
    """Whether a value is > 0, or which values of an array are."""
    return value > 0
