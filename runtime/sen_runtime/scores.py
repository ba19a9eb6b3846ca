"""Scores of a network on examples, by its task."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_runtime import reference, task
from sen_runtime.data import Examples
from sen_runtime.errors import DataError
from sen_runtime.ir.network import Network
from sen_runtime.ir.standardization import Standardization
from sen_runtime.task import Metric, TaskKind

Values = NDArray[Any]

#: Inputs per chunk; bounds memory, does not change results.
CHUNK = 1000


def task_of(network: Network) -> TaskKind:
    """Task of a network; a `DataError` if it is unknown, or impossible with its inputs and outputs."""
    kind = task.of(network.task)
    check_shapes(kind, network.input_shape, network.n_out)
    return kind


def check_shapes(kind: TaskKind, input_shape: tuple[int, ...], n_out: int) -> None:
    """Refuse a reconstruction whose outputs do not have the shape of an input."""
    if kind.name == task.RECONSTRUCTION and input_shape != (n_out,):
        found = f"a network with inputs of shape {list(input_shape)} has {n_out} outputs"
        raise DataError(f"{found}; expected [{n_out}] for the task {kind.name}")


def in_units(
    kind: TaskKind, outputs: Values, inputs: Values, scaling: Standardization | None, activation: str
) -> tuple[Values, Values]:
    """Outputs `[n, n_out]` and inputs `[n, ...]` in the units that `kind` scores.

    Reconstructions and their inputs are standardized by the input scaling. From probabilities of labels 1/2 is
    subtracted, so that labels are decided at 0.
    """
    if kind.name == task.RECONSTRUCTION and scaling is not None:
        return scaling.standardize(outputs), scaling.standardize(inputs)
    if activation == "sigmoid":
        return outputs - outputs.dtype.type(0.5), inputs
    return outputs, inputs


def network_scores(network: Network, examples: Examples, rows: NDArray[np.intp] | None = None) -> dict[Metric, float]:
    """Scores of the reference forward pass, in float32, on examples or on some of their rows.

    The metric of the task comes first.
    """
    run, kind = partial(reference.run, network, dtype=np.float32), task_of(network)
    chosen = np.arange(len(examples.inputs)) if rows is None else rows
    return scores_of(run, kind, examples, chosen, network.input_scaling, network.output_activation)


def scores_of(
    run: Callable[[Values], Values],
    kind: TaskKind,
    examples: Examples,
    rows: NDArray[np.intp],
    scaling: Standardization | None,
    activation: str,
) -> dict[Metric, float]:
    """Scores of outputs `run(inputs)` on some rows of examples, in the units of `in_units`."""
    parts = []
    for start in range(0, len(rows), CHUNK):
        inputs = examples.rows(rows[start : start + CHUNK])
        outputs, inputs = in_units(kind, run(inputs), inputs, scaling, activation)
        parts.append((outputs, inputs if kind.name == task.RECONSTRUCTION else inputs[:0]))
    outputs, inputs = (np.concatenate(arrays) for arrays in zip(*parts))
    return kind.scores(outputs, None if examples.targets is None else examples.targets[rows], inputs)
