"""From a source to examples of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from sen_runtime.data.examples import ALL, SUFFIXES, TEST, TRAINING, Examples, Inputs, split_examples
from sen_runtime.data.rows import MappedRows
from sen_runtime.data.source import Form, Raw, Source
from sen_runtime.data.targets import class_names_of, convert, infer_task
from sen_runtime.errors import DataError
from sen_runtime.task import CLASSIFICATION, MULTILABEL, RECONSTRUCTION, REGRESSION
from sen_runtime.untrusted import listing


def read_parts(source: Source, where: str, parts: Sequence[str], form: Form) -> list[Examples]:
    """Read parts of a source; a set without a split is split, and without targets each part is the whole set.

    Args:
        source: of the examples.
        where: path of the source, for messages; its last component is the name of the set.
        parts: of `TRAINING` and `TEST`.
        form: of the network.

    Raises:
        DataError: no such part; inputs are not finite or have too few axes; targets contradict the task, or are not
            one per input; too few examples to split.
    """
    if ALL in source.parts:
        raw = source.read(ALL, form)
        whole = _examples(where, ALL, raw, _complete(source, form, {ALL: raw}))
        if whole.targets is None and form.task != RECONSTRUCTION:
            return [whole for _ in parts]
        split = dict(zip((TRAINING, TEST), split_examples(whole)))
        return [split[part] for part in parts]
    absent = next((part for part in parts if part not in source.parts), None)
    if absent is not None:
        raise DataError(
            f"{where} has no {absent} part, only {', '.join(source.parts)} data",
            hint="arrays are x_train, y_train, x_test, y_test, or x, y; tables train.csv and test.csv; IDX files "
            "train- and t10k-images-idx3",
        )
    raws = {part: source.read(part, form) for part in parts}
    form = _complete(source, form, raws)
    return [_examples(where, part, raws[part], form) for part in parts]


def _complete(source: Source, form: Form, raws: Mapping[str, Raw]) -> Form:
    """Add task and class names, which the training data determine, to a form where it lacks them."""
    given = next(iter(raws.values()))
    has_names = bool(form.output_names or given.class_names)
    targets = {part: raw.targets for part, raw in raws.items() if raw.targets is not None}
    is_needed = form.task is None or (not has_names and any(raw.is_text for raw in targets.values()))
    if not targets or not (is_needed or TRAINING in raws):
        return replace(form, task=form.task or CLASSIFICATION)
    learned = targets.get(TRAINING) or targets.get(ALL)
    if learned is None and TRAINING in source.parts:
        learned = source.targets(TRAINING, form)
    learned = learned or next(iter(targets.values()))
    if form.is_trained and not has_names and any(raw.is_text for raw in targets.values()):
        raise DataError(f"{learned.name} holds class names; the network has none", hint="replace them by class numbers")
    task = form.task or (CLASSIFICATION if given.is_scaled else infer_task(learned))
    names = form.output_names or given.class_names
    if task == CLASSIFICATION and not names:
        names = class_names_of(learned)
    return replace(form, task=task, output_names=names)


def _examples(where: str, part: str, raw: Raw, form: Form) -> Examples:
    inputs = _inputs(f"{where}: x{SUFFIXES[part]}", raw, form)
    task, names = form.task or CLASSIFICATION, form.output_names
    if task in (MULTILABEL, REGRESSION):
        names = names or raw.column_names
    given, notes = raw.feature_names, raw.notes
    if given and len(given) == raw.inputs.shape[-1] != inputs.shape[-1]:
        given, notes = (), (*notes, _flattened(where, raw, inputs.shape[-1]))
    features = form.feature_names or given
    _check_names(where, "features", given, features)
    if not given and len(features) != inputs.shape[-1]:
        features = ()  # names of a network that takes other inputs, see `check_fit`
    if task == CLASSIFICATION and raw.targets is not None and not raw.targets.is_text:
        _check_names(where, "classes", raw.class_names, names)
    targets = None if raw.targets is None else convert(raw.targets, task, names)
    return Examples(Path(where).name, part, inputs, targets, None, features, names, task, notes)


def _flattened(where: str, raw: Raw, n_in: int) -> str:
    shape = list(raw.inputs.shape[1:])
    return (
        f"{where}: inputs {shape} become {n_in:,} features without names; to feed {shape[0]:,} time steps, train with "
        "--arch snn --input-coding current, delta or spikes"
    )


def _check_names(where: str, what: str, found: Sequence[str], expected: Sequence[str]) -> None:
    if found and tuple(found) != tuple(expected):
        raise DataError(
            f"{where}: {what} are named {listing(found)}; the network has {listing(expected)}",
            hint="store them in this order",
        )


def _inputs(where: str, raw: Raw, form: Form) -> Inputs:
    """Convert inputs `[n, ...]` to those of a network."""
    x, n_axes = raw.inputs, 2 if form.has_steps else 1
    if x.ndim <= n_axes:
        expected = "[n, T, n_in]" if form.has_steps else "[n, n_in]"
        raise DataError(f"{where} is {x.dtype} {list(x.shape)}; expected {expected}")
    x = x.reshape(*x.shape[:n_axes], -1)
    if isinstance(x, np.memmap):
        return cast("Inputs", MappedRows(x))
    with np.errstate(over="ignore"):  # values beyond float32 become inf, which Examples reports
        inputs = x.astype(np.float32, copy=False)
    if raw.is_scaled:
        low, high = map(np.float32, form.input_range)
        inputs = inputs / np.float32(255) * (high - low) + low
    return inputs
