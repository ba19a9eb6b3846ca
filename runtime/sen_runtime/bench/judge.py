"""Judge the outputs of rows that should compute the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from sen_runtime import reference
from sen_runtime.bench.record import REFERENCE
from sen_runtime.bench.rows import FloatArray, Row
from sen_runtime.task import CLASSIFICATION, MULTILABEL, REGRESSION

Array = NDArray[Any]

#: Min standard deviation of outputs, relative to the largest: rounding errors are relative to size.
MIN_VARIATION = 1e-2
#: Metadata that identify the source of a file.
ORIGINS = ("checkpoint_sha256", "image_sha256")
#: Synapses of the largest network that the reference runs, dense.
MAX_WEIGHTS = 1 << 25
#: The agreement of a row in the record, or None where its outputs cannot be judged, and why not.
Judged = tuple[Optional[dict[str, Any]], str]


class Tolerance(NamedTuple):
    """Limits of a match."""

    output: float  # max error of an output, relative to the standard deviation of all outputs
    share: float  # min share of inputs whose outputs are all within `output`
    argmax: float  # min share of inputs with the same argmax, or of equal labels


#: By dtype and whether neurons spike: one spike that rounding flips is a whole step of a readout.
TOLERANCES = {
    ("float32", False): Tolerance(1e-3, 1.0, 0.98),
    ("float32", True): Tolerance(1e-3, 0.95, 0.95),
    ("float16", False): Tolerance(4e-2, 1.0, 0.95),
    ("float16", True): Tolerance(2e-1, 0.9, 0.9),
}
#: Of int8, and of a file without a dtype, which may store int8.
INT8_TOLERANCES = {False: Tolerance(0.5, 0.9, 0.9), True: Tolerance(0.5, 0.8, 0.9)}


def judge(rows: Sequence[Row], inputs: FloatArray, *, has_data: bool) -> list[Judged]:
    """Compare the outputs of each row with those of its counterpart, on `inputs [n, ...]`.

    The counterpart is the first row of the same checkpoint and compression, or the first row of all where that is not
    known. The first row of a model is compared with the reference on the same file, if that is a `.sen` image; else it
    is not judged, and neither is int8 on random inputs, for which it is not calibrated: a warning says so. Outputs that
    are not finite are always wrong.
    """
    origins = [origin(row.properties) for row in rows]
    first = [0 if None in (each, origins[0]) else origins.index(each) for each in origins]
    return [_judge(row, rows[index], rows[0], inputs, has_data) for row, index in zip(rows, first)]


def _judge(row: Row, to: Row, first: Row, inputs: FloatArray, has_data: bool) -> Judged:
    dtypes, network = (row.dtype, to.dtype), row.plan.artifact.network
    boundary = 0.5 if row.properties.get("output_activation") == "sigmoid" else 0.0
    tolerance = tolerance_for(dtypes, is_spiking=row.timesteps > 0, has_data=has_data)
    if to is row and network is not None:
        sizes = network.layer_sizes
        if sum(map(prod, zip(sizes, sizes[1:]))) <= MAX_WEIGHTS:
            expected = reference.run(network, inputs, np.float32)
            return compare(row.outputs, expected, REFERENCE, tolerance, row.task, boundary), ""
    found, note = compare(row.outputs, to.outputs, to.name, tolerance, row.task, boundary), ""
    if to is row and row is not first:
        note = f"another checkpoint or compression than {first.name}: outputs are not judged"
        if row.outputs.shape == first.outputs.shape and row.task == CLASSIFICATION:
            share = 100 * np.mean(row.outputs.argmax(1) == first.outputs.argmax(1))
            note += f"; the max output is the same for {share:.3g} %"
    elif to is not row and "int8" in dtypes and not has_data:
        note = "int8 ranges hold for inputs like those of the calibration: outputs are judged with --data only"
        if found["argmax_percent"] is not None:
            share = found["argmax_percent"]
            note += f" (on random inputs the max output is that of {to.name} for {share:.3g} %)"
    is_sound = bool(np.all(np.isfinite(row.outputs))) and row.outputs.shape == to.outputs.shape
    if is_sound and (to is row or note):
        return None, note
    return found, ""


def wrong(row: Mapping[str, Any]) -> str:
    """A sentence about a row of the record whose outputs do not match."""
    found = row["agreement"]
    if found["max_error"] is None:
        return f"{row['name']}: outputs, or those of {found['to']}, are not finite or differ in number"
    sentence = (
        f"{row['name']}: outputs differ from those of {found['to']} by up to {found['max_error_over_std']:.3g} "
        "standard deviations"
    )
    if found["argmax_percent"] is not None:
        sentence += f"; the max output is the same for {found['argmax_percent']:.3g} % of the inputs"
    if found.get("labels_percent") is not None:
        sentence += f"; {found['labels_percent']:.3g} % of the labels are the same"
    return sentence


def tolerance_for(dtypes: tuple[str, str], *, is_spiking: bool, has_data: bool) -> Tolerance:
    """The looser tolerance of two dtypes.

    int8 on random inputs is not judged by argmax: these inputs are of no class, so their largest outputs are close.
    """
    int8 = INT8_TOLERANCES[is_spiking]
    loosest = max((TOLERANCES.get((dtype, is_spiking), int8) for dtype in dtypes), key=lambda each: each.output)
    return int8._replace(argmax=0.0) if loosest is int8 and not has_data else loosest


def origin(properties: Mapping[str, str]) -> tuple[str, ...] | None:
    """Source, compression and output activation of a file: equal for files that should compute the same.

    None where the source is unknown.
    """
    source = next((properties[name] for name in ORIGINS if name in properties), None)
    others = ("compression", "output_activation")
    return None if source is None else (source, *(properties.get(name, "") for name in others))


def compare(
    actual: Array,
    expected: Array,
    to: str,
    tolerance: Tolerance,
    task: str = CLASSIFICATION,
    boundary: float = 0.0,
) -> dict[str, Any]:
    """Compare outputs `[n, n_out]` with those of the row `to`; see docs/reference/bench.md.

    Labels are outputs above `boundary`: 1/2 for probabilities.
    Outputs that are not finite, or of another shape, never match.
    """
    decides = task == CLASSIFICATION and expected.shape[1] > 1
    figures: dict[str, Any] = {"to": to, "inputs": len(expected), "max_error": None, "max_error_over_std": None}
    figures["argmax_percent"] = 0.0 if decides else None
    if actual.shape != expected.shape:
        return {**figures, "matches": False}
    same = np.ones(1)
    if decides:
        same = actual.argmax(axis=1) == expected.argmax(axis=1)
        figures["argmax_percent"] = float(100 * np.mean(same))
    elif task == MULTILABEL:
        same = (actual > boundary) == (expected > boundary)
        figures["labels_percent"] = float(100 * np.mean(same))
    if not (np.all(np.isfinite(actual)) and np.all(np.isfinite(expected))):
        return {**figures, "matches": False}
    error = np.abs(actual.astype(np.float64) - expected)
    columns = expected.T if task == REGRESSION else [expected]  # units of values may differ
    relative = (error / np.array([_scale(each) for each in columns])).max(axis=1)
    figures["max_error"], figures["max_error_over_std"] = float(error.max()), float(relative.max())
    kept = float(np.mean(relative <= tolerance.output))
    matches = kept >= tolerance.share and float(np.mean(same)) >= tolerance.argmax
    return {**figures, "matches": bool(matches)}


def _scale(values: Array) -> float:
    """Standard deviation of all outputs, at least `MIN_VARIATION` of the largest; 1 where all are 0."""
    largest = float(np.abs(values).max())
    return max(float(values.std(dtype=np.float64)), MIN_VARIATION * largest) or 1.0
