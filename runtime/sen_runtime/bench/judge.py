"""Judge the outputs of rows that should compute the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from sen_runtime import reference
from sen_runtime.bench import agreement
from sen_runtime.bench.record import REFERENCE
from sen_runtime.bench.rows import Row

FloatArray = NDArray[np.float32]
#: Synapses of the largest network that the reference runs, dense.
MAX_WEIGHTS = 1 << 25
#: The figures of a row, or None where they cannot be judged, and warnings.
Judged = tuple[Optional[dict[str, Any]], list[dict[str, str]]]


def judge(rows: Sequence[Row], inputs: FloatArray, *, has_data: bool) -> list[Judged]:
    """Compare the outputs of each row with those of its counterpart, on `inputs [n, ...]`.

    The counterpart is the first row of the same checkpoint and compression, or the first row of all where that is not
    known. The first row of a model is compared with the reference on the same file, if that is a `.sen` image; else it
    is not judged, and neither is int8 on random inputs, for which it is not calibrated: a warning says so. Outputs that
    are not finite are always wrong.
    """
    origins = [agreement.origin(row.properties) for row in rows]
    return [
        _judge_by_reference(row, inputs, has_data)
        if _counterpart(index, origins) == index and _has_reference(row)
        else _judge_by_row(row, rows[_counterpart(index, origins)], rows[0], has_data)
        for index, row in enumerate(rows)
    ]


def _has_reference(row: Row) -> bool:
    network = row.plan.artifact.network
    sizes = () if network is None else network.layer_sizes
    return network is not None and sum(map(prod, zip(sizes, sizes[1:]))) <= MAX_WEIGHTS


def _judge_by_reference(row: Row, inputs: FloatArray, has_data: bool) -> Judged:
    network = row.plan.artifact.network
    assert network is not None
    expected = reference.run(network, inputs, np.float32)
    tolerance = agreement.tolerance_for((row.dtype, row.dtype), is_spiking=row.timesteps > 0, has_data=has_data)
    return agreement.compare(row.outputs, expected, REFERENCE, tolerance), []


def _judge_by_row(row: Row, to: Row, first: Row, has_data: bool) -> Judged:
    dtypes = row.dtype, to.dtype
    tolerance = agreement.tolerance_for(dtypes, is_spiking=row.timesteps > 0, has_data=has_data)
    found = agreement.compare(row.outputs, to.outputs, to.name, tolerance)
    if to is row:
        note = "" if row is first else _other_model(row, first)
    else:
        note = "" if has_data or "int8" not in dtypes else _not_calibrated(found)
    is_sound = bool(np.all(np.isfinite(row.outputs))) and row.outputs.shape == to.outputs.shape
    if is_sound and (to is row or note):
        return None, [{"kind": "not-compared", "message": note}] if note else []
    return found, []


def _counterpart(index: int, origins: Sequence[tuple[str, str] | None]) -> int:
    """Index of the first row of the same origin, or of all rows where an origin is not known."""
    if origins[index] is None or origins[0] is None:
        return 0
    return origins.index(origins[index])


def _other_model(row: Row, first: Row) -> str:
    argmax = ""
    if row.outputs.shape == first.outputs.shape:
        share = 100 * np.mean(row.outputs.argmax(1) == first.outputs.argmax(1))
        argmax = f"; the max output is the same for {share:.3g} %"
    return f"another checkpoint or compression than {first.name}: outputs are not judged{argmax}"


def _not_calibrated(found: Mapping[str, Any]) -> str:
    return (
        "int8 ranges hold for inputs like those of the calibration: outputs are judged with --data only (on random "
        f"inputs the max output is that of {found['to']} for {found['argmax_percent']:.3g} %)"
    )


def wrong(row: Mapping[str, Any]) -> str:
    """A sentence about a row of the record whose outputs do not match."""
    found = row["agreement"]
    if found["max_error"] is None:
        return f"{row['name']}: outputs, or those of {found['to']}, are not finite or differ in number"
    return (
        f"{row['name']}: outputs differ from those of {found['to']} by up to {found['max_error_over_std']:.3g} "
        f"standard deviations; the max output is the same for {found['argmax_percent']:.3g} % of the inputs"
    )
