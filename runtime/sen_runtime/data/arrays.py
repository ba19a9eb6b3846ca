"""Examples in named arrays: `.npz` files, and folders of `.npy`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from sen_runtime.data.examples import SUFFIXES
from sen_runtime.data.npz import Header
from sen_runtime.data.source import Form, Raw
from sen_runtime.data.targets import RawTargets
from sen_runtime.errors import DataError
from sen_runtime.untrusted import listing

LAYOUTS = "x and y, or x_train, y_train, x_test, y_test"
CLASS_NAMES, OUTPUT_NAMES, FEATURE_NAMES = NAMES = ("class_names", "output_names", "feature_names")
KNOWN = (*(f"{array}{suffix}" for suffix in SUFFIXES.values() for array in "xy"), *NAMES)


def may_be_text(name: str) -> bool:
    """Whether an array may hold text: targets and names."""
    return not name.startswith("x")


class Arrays(Protocol):
    """Arrays by name; headers are known, content is read on demand."""

    @property
    def path(self) -> Path:
        """File or folder."""

    @property
    def headers(self) -> Mapping[str, Header]:
        """Shape and type by name."""

    def array(self, name: str) -> NDArray[Any]:
        """Read an array."""


class ArraySource:
    """Arrays of `LAYOUTS`, and optional names.

    Attributes:
        parts: of the arrays.
    """

    def __init__(self, arrays: Arrays) -> None:
        self._arrays, names = arrays, [name for name in arrays.headers if name not in NAMES]
        is_mixed = "x" in names and any(name not in ("x", "y") for name in names)
        if not names or is_mixed or any(name.replace("y", "x") not in names for name in names):
            raise DataError(f"{arrays.path} holds the arrays {listing(arrays.headers)}; expected {LAYOUTS}")
        self.parts = tuple(part for part, suffix in SUFFIXES.items() if f"x{suffix}" in names)

    def read(self, part: str, form: Form) -> Raw:
        """Read a part; `form` has no effect."""
        outputs = self._names(OUTPUT_NAMES)
        return Raw(
            self._arrays.array(f"x{SUFFIXES[part]}"),
            self.targets(part, form),
            self._names(FEATURE_NAMES),
            self._names(CLASS_NAMES) or outputs,
            outputs,
        )

    def targets(self, part: str, form: Form) -> RawTargets | None:
        """Read the targets of a part."""
        name = f"y{SUFFIXES[part]}"
        if name not in self._arrays.headers:
            return None
        where = f"{self._arrays.path}: {name}"
        return RawTargets(self._arrays.array(name), where, lambda row, column: f"{where}[{row}]")

    def _names(self, name: str) -> tuple[str, ...]:
        if name not in self._arrays.headers:
            return ()
        found = self._arrays.array(name)
        if found.dtype.kind != "U" or found.ndim != 1 or len(set(found.tolist())) < len(found):
            where = f"{self._arrays.path}: {name}"
            raise DataError(f"{where} is {found.dtype} {list(found.shape)}; expected different texts [n]")
        return tuple(found.tolist())
