"""Reader of data files: `.npz` and IDX."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from sen_runtime.data.examples import ALL, SUFFIXES, TEST, TRAINING, Examples, FloatArray, split_examples
from sen_runtime.data.idx import read_idx
from sen_runtime.data.npz import Npz
from sen_runtime.data.targets import RawTargets, class_names_of, convert, infer_task
from sen_runtime.errors import DataError
from sen_runtime.ir.network import names_of
from sen_runtime.task import CLASSIFICATION, RECONSTRUCTION
from sen_runtime.untrusted import listing

#: Readers of the arrays of one part: inputs `[n, ...]`, and targets or None.
_Readers = tuple[Callable[..., NDArray[Any]], Optional[Callable[..., NDArray[Any]]]]
LAYOUTS = "x and y, or x_train, y_train, x_test, y_test"
#: Names of IDX images, as in MNIST; labels are next to them.
IDX_IMAGES = re.compile(r"(?P<set>.*?)(?P<part>train|t10k|test)-images-idx3(?P<end>.*)", re.DOTALL)
IDX_PARTS = {TRAINING: ("train",), TEST: ("t10k", "test")}


@dataclass(frozen=True)
class Form:
    """How to read a file; by default for a network that is yet to be trained.

    Attributes:
        task: of the network; None infers it from the targets.
        output_names: of the classes of the network; empty takes those of the training data.
        has_steps: whether inputs are sequences `[n, T, ...]`; further axes are flattened.
        input_range: of the network; IDX bytes are scaled to it.
    """

    task: str | None = None
    output_names: tuple[str, ...] = ()
    has_steps: bool = False
    input_range: tuple[float, float] = (0.0, 1.0)


def form_of(metadata: Mapping[str, str], input_range: tuple[float, float], *, has_steps: bool) -> Form:
    """Return the form of a network with these metadata."""
    return Form(metadata.get("task", CLASSIFICATION), names_of(metadata, "output_names"), has_steps, input_range)


class DataFile:
    """Examples in a `.npz` or in IDX files; headers are checked at once, content is read on demand.

    Attributes:
        path: of the file.
        parts: those of `TRAINING` and `TEST` in the file.
    """

    def __init__(self, path: Path) -> None:
        """Open a `.npz` with arrays of `LAYOUTS`; or an IDX file, whose labels and other part are found by name."""
        self.path = path
        self._is_scaled = path.suffix != ".npz"  # bytes, to scale to the input range
        self._sources = _idx_sources(path) if self._is_scaled else _npz_sources(path)
        self.parts = (TRAINING, TEST) if ALL in self._sources else tuple(self._sources)

    def read(self, parts: Sequence[str], form: Form = Form()) -> list[Examples]:
        """Read parts of the set; a set without a split is split, and without targets each part is the whole set.

        Args:
            parts: of `TRAINING` and `TEST`.
            form: of the network.

        Raises:
            DataError: no such part; inputs are not finite or have too few axes; targets contradict the task, or are not
                one per input; too few examples to split.
        """
        if ALL in self._sources:
            whole = self._read(ALL, form)
            if whole.targets is None and form.task != RECONSTRUCTION:
                return [whole for _ in parts]
            split = dict(zip((TRAINING, TEST), split_examples(whole)))
            return [split[part] for part in parts]
        absent = next((part for part in parts if part not in self._sources), None)
        if absent is not None:
            raise DataError(
                f"{self.path} has no {absent} part, only {', '.join(self.parts)} data",
                hint="a .npz has x_train, y_train, x_test, y_test, or x, y; IDX files are train- and t10k-images-idx3",
            )
        return [self._read(part, form) for part in parts]

    def _read(self, part: str, form: Form) -> Examples:
        (read_inputs, _), n_axes = self._sources[part], 2 if form.has_steps else 1
        x = read_inputs()
        if x.ndim <= n_axes:
            expected = "[n, T, n_in]" if form.has_steps else "[n, n_in]"
            raise DataError(f"{self.path}: x{SUFFIXES[part]} is {x.dtype} {list(x.shape)}; expected {expected}")
        with np.errstate(over="ignore"):  # values beyond float32 become inf, which Examples reports
            inputs: FloatArray = x.reshape(*x.shape[:n_axes], -1).astype(np.float32, copy=False)
        if self._is_scaled:
            low, high = map(np.float32, form.input_range)
            inputs = inputs / np.float32(255) * (high - low) + low
        raw = self._targets(part)
        if raw is None:
            task = form.task or CLASSIFICATION
            return Examples(self.path.name, part, inputs, output_names=form.output_names, task=task)
        names = form.output_names
        task = form.task or (CLASSIFICATION if self._is_scaled else infer_task(self._learned(raw)))
        if task == CLASSIFICATION and not names:
            names = class_names_of(self._learned(raw)) if raw.is_text else ()
        targets = convert(raw, task, names)
        return Examples(self.path.name, part, inputs, targets, output_names=names, task=task)

    def _targets(self, part: str) -> RawTargets | None:
        _, read = self._sources[part]
        if read is None:
            return None
        name = f"{self.path}: y{SUFFIXES[part]}"
        return RawTargets(read(), name, lambda row, column: f"{name}[{row}]")

    def _learned(self, default: RawTargets) -> RawTargets:
        """Targets of the training data, which determine task and classes; `default` where there are none."""
        return (self._targets(TRAINING) if TRAINING in self._sources else None) or default


def _npz_sources(path: Path) -> dict[str, _Readers]:
    known = [f"{array}{suffix}" for suffix in SUFFIXES.values() for array in "xy"]
    npz = Npz(path, known.__contains__, LAYOUTS)
    names = list(npz.headers)
    is_mixed = "x" in names and any(name not in ("x", "y") for name in names)
    if is_mixed or any(name.replace("y", "x") not in names for name in names):
        raise DataError(f"{path} holds the arrays {listing(names)}; expected {LAYOUTS}")
    return {
        part: (partial(npz.array, f"x{suffix}"), partial(npz.array, f"y{suffix}") if f"y{suffix}" in names else None)
        for part, suffix in SUFFIXES.items()
        if f"x{suffix}" in names
    }


def _idx_sources(path: Path) -> dict[str, _Readers]:
    name = IDX_IMAGES.fullmatch(path.name)
    if name is None:
        return {ALL: (partial(read_idx, path), None)}
    found: dict[str, _Readers] = {}
    for part, words in IDX_PARTS.items():
        for word in words:
            images = path.with_name(f"{name['set']}{word}-images-idx3{name['end']}")
            labels = path.with_name(f"{name['set']}{word}-labels-idx1{name['end']}")
            if images.exists():
                found[part] = partial(read_idx, images), partial(read_idx, labels, 1) if labels.exists() else None
    if not found:
        raise DataError(f"{path} does not exist")
    return found
