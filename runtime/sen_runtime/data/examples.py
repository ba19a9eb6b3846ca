"""Examples of a data set, checked; how they are split, and whether they fit a network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime.data.rows import chunks, limits, take
from sen_runtime.data.targets import MAX_CLASSES, Targets
from sen_runtime.errors import DataError
from sen_runtime.task import CLASSIFICATION, MULTILABEL, RECONSTRUCTION
from sen_runtime.untrusted import listing, quote

FloatArray = NDArray[np.float32]
#: `[n, n_in]` or `[n, T, n_in]`: float32 in memory, or `sen_runtime.data.rows.MappedRows`.
Inputs = NDArray[Any]
LabelArray = NDArray[np.int64]

#: Test share of a source without a split.
TEST_SHARE = 0.2
#: Share of the input range by which inputs may exceed it.
RANGE_SLACK = 0.05
TRAINING, TEST, ALL = "training", "test", ""
#: Part -> suffix of its arrays in a file.
SUFFIXES = {TRAINING: "_train", TEST: "_test", ALL: ""}


@dataclass(frozen=True)
class Examples:
    """One part of a data set, checked: finite inputs and, if there are targets, those of the task, one per input.

    Attributes:
        name: of the data set.
        part: `TRAINING`, `TEST`, or `ALL` for a set without a split.
        inputs: `[n, n_in]`, or `[n, T, n_in]` of sequences; see `rows`.
        targets: class numbers `[n]`, labels or values `[n, k]`, or anomalies `[n]`, see `sen_runtime.data.targets`;
            None if there are none.
        total: examples of the set that this part was split from; None if the source has a split.
        feature_names: of the n_in inputs; empty if unknown.
        output_names: of classes, labels or values; empty if unknown.
        task: see `sen_runtime.task`.
        notes: warnings of the reader, such as about columns that are not used.
    """

    name: str
    part: str
    inputs: Inputs
    targets: Targets | None = None
    total: int | None = None
    feature_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    task: str = CLASSIFICATION
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        inputs, n_names = self.inputs, len(self.feature_names)
        if inputs.ndim not in (2, 3) or inputs.size == 0:
            raise DataError(f"{self.where}: inputs have shape {list(inputs.shape)}; expected [n, n_in], none empty")
        if n_names not in (0, inputs.shape[-1]):
            raise DataError(f"{self.where}: {n_names} feature names; expected {inputs.shape[-1]}, one per input neuron")
        for start, chunk in () if np.isfinite(self.input_range).all() else chunks(inputs):
            if not np.isfinite(chunk).all():
                at = np.argwhere(~np.isfinite(chunk))[0]
                raise DataError(
                    f"{self.where}: input {start + at[0]}, {self.feature(int(at[-1]))} is {chunk[tuple(at)]}; "
                    "expected finite numbers",
                    hint="fill missing values, or remove such examples",
                )
        if self.targets is not None:
            self._check_targets(self.targets)

    def _check_targets(self, targets: Targets) -> None:
        n_axes = 1 if self.task in (CLASSIFICATION, RECONSTRUCTION) else 2
        if targets.ndim != n_axes or len(targets) != len(self.inputs):
            raise DataError(
                f"{self.where}: targets have shape {list(targets.shape)} for {len(self.inputs)} inputs; expected "
                f"{'one' if n_axes == 1 else 'one row'} each"
            )
        if self.task == CLASSIFICATION:
            wrong = np.flatnonzero((targets < 0) | (targets >= MAX_CLASSES))
            if len(wrong):
                raise DataError(
                    f"{self.where}: label {wrong[0]} is {targets[wrong[0]]}; expected 0 to {MAX_CLASSES - 1}"
                )
        elif n_axes == 2 and len(self.output_names) not in (0, targets.shape[1]):
            raise DataError(f"{self.where}: {len(self.output_names)} names of {targets.shape[1]} outputs")

    @property
    def where(self) -> str:
        """Prefix of messages."""
        return f"{self.name}, {self.part} data" if self.part else self.name

    @property
    def title(self) -> str:
        """Name, part and number of examples, for tables and records."""
        n = f"{len(self.inputs):,}"
        if not self.part:
            return f"{self.name} (all {n})"
        return f"{self.name} ({self.part} part: {n}{'' if self.total is None else f' of {self.total:,}'})"

    def feature(self, index: int) -> str:
        """Name of a feature for messages, or its number."""
        return f"feature {quote(self.feature_names[index]) if self.feature_names else index}"

    def rows(self, indices: NDArray[np.intp] | slice) -> FloatArray:
        """Read inputs into memory."""
        found: FloatArray = self.inputs[indices]
        return found

    @cached_property
    def input_range(self) -> tuple[float, float]:
        """Min and max of the inputs."""
        return limits(self.inputs)

    @property
    def n_out(self) -> int:
        """Outputs of a network for these examples."""
        if self.task == RECONSTRUCTION:
            return int(self.inputs.shape[-1])
        targets = self.require_targets()
        return max(len(self.output_names), int(targets.max()) + 1) if targets.ndim == 1 else int(targets.shape[1])

    def require_targets(self) -> Targets:
        """Targets; a `DataError` if there are none."""
        if self.targets is None:
            suffix = SUFFIXES[self.part]
            raise DataError(
                f"{self.where}: no labels",
                hint=f"add class numbers or values as y{suffix}, name their columns with --target, or pass "
                f"--task {RECONSTRUCTION}",
            )
        return self.targets

    def hold_out(self, share: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Split the examples; return ascending indices of the kept and the held-out ones.

        A share of each class is held out, of other tasks a share of all examples. Anomalies are all held out: a
        reconstruction learns from normal examples.
        """
        if self.task == CLASSIFICATION:
            return hold_out(self.require_targets(), share, seed)
        n = len(self.inputs)
        is_anomaly = np.zeros(n, bool)
        if self.task == RECONSTRUCTION and self.targets is not None:
            is_anomaly = self.targets > 0
        normal = np.flatnonzero(~is_anomaly)
        kept, _ = hold_out(np.zeros(len(normal), np.int64), share, seed)
        held = np.ones(n, bool)
        held[normal[kept]] = False
        return normal[kept], np.flatnonzero(held)

    def warnings(self, n_out: int) -> list[str]:
        """Return warnings about the targets for a network of `n_out` outputs."""
        if self.targets is None or self.task not in (CLASSIFICATION, MULTILABEL):
            return []
        what = "classes" if self.task == CLASSIFICATION else "labels"
        found = self.targets if self.task == CLASSIFICATION else np.flatnonzero(self.targets.any(axis=0))
        absent = np.setdiff1d(np.arange(n_out), found).tolist()
        if not absent:
            return []
        names = [self.output_names[index] if index < len(self.output_names) else index for index in absent]
        return [f"{self.title}: {len(absent):,} of {n_out:,} {what} have no example: {listing(names)}"]


def split_examples(whole: Examples) -> tuple[Examples, Examples]:
    """Split a set into training and test part, by the rule of all commands."""
    kept, held = whole.hold_out(TEST_SHARE, seed=0)
    if not len(held) or not len(kept):
        share = f"{TEST_SHARE:.0%}{' of each class' if whole.task == CLASSIFICATION else ''}"
        raise DataError(
            f"{whole.name}: {len(whole.inputs)} examples are too few for a test part of {share}",
            hint="name the arrays x_test and y_test if all examples are test data",
        )
    training, test = (
        replace(
            whole,
            part=part,
            inputs=take(whole.inputs, chosen),
            targets=None if whole.targets is None else whole.targets[chosen],
            total=len(whole.inputs),
        )
        for part, chosen in ((TRAINING, kept), (TEST, held))
    )
    return training, test


def hold_out(labels: LabelArray, share: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split examples by class; return ascending indices of the kept and the held-out ones."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held[members[: round(share * len(members))]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def check_fit(
    examples: Examples,
    shape: tuple[int, ...],
    input_range: tuple[float, float] | None,
    n_out: int | None = None,
    *,
    is_spikes: bool = False,
) -> None:
    """Refuse examples that do not fit a network.

    Args:
        examples: to check.
        shape: of one input: `(n_in,)`, or `(T, n_in)` of sequences.
        input_range: of the network, or None; inputs may exceed it by `RANGE_SLACK` of its width.
        n_out: outputs of the network; None ignores targets.
        is_spikes: whether inputs are spike trains of 0 and 1.
    """
    inputs, where = examples.inputs, examples.where
    if inputs.shape[1:] != shape:
        raise DataError(
            f"{where}: an input has shape {list(inputs.shape[1:])}; the network takes {list(shape)}",
            hint="use the data set that the network was trained on",
        )
    low, high = examples.input_range
    if is_spikes and not all(np.isin(chunk, (0, 1)).all() for _, chunk in chunks(inputs)):
        raise DataError(f"{where}: inputs are in [{low:g}, {high:g}]; expected spikes, 0 or 1")
    if input_range is not None:
        slack = RANGE_SLACK * (input_range[1] - input_range[0])
        if low < input_range[0] - slack or high > input_range[1] + slack:
            raise DataError(
                f"{where}: inputs are in [{low:g}, {high:g}]; expected [{input_range[0]:g}, {input_range[1]:g}], the "
                "input range of the network",
                hint="scale them like the training data; input_range is in the config of a checkpoint, the [config] of "
                "a map, or the metadata of a file",
            )
    if n_out is not None:
        _check_outputs(examples, n_out)


def _check_outputs(examples: Examples, n_out: int) -> None:
    where = examples.where
    if examples.task == CLASSIFICATION:
        largest = int(examples.require_targets().max())
        if largest >= n_out:
            raise DataError(f"{where}: label {largest} for a network of {n_out} outputs")
    elif examples.n_out != n_out:
        raise DataError(f"{where}: {examples.n_out} targets per input for a network of {n_out} outputs")
