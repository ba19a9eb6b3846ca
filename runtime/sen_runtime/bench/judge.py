"""Which rows should compute the same, and whether they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from sen_runtime import reference
from sen_runtime.bench import agreement, loops
from sen_runtime.bench.record import REFERENCE
from sen_runtime.bench.rows import Row

FloatArray = NDArray[np.float32]
#: The reference runs networks with at most so many synapses, dense.
MOST_WEIGHTS = 1 << 25
#: The figures of a row, or None where they cannot be judged, and warnings.
Judged = tuple[Optional[dict[str, Any]], list[dict[str, str]]]


def judge(rows: Sequence[Row], inputs: FloatArray, *, has_data: bool) -> list[Judged]:
    """Compare each row with the first one that should compute the same, on `inputs [n, ...]`.

    Rows of one checkpoint, compressed alike, should; so should rows of which that is not known. A row that is the first
    of its model is compared with the reference on the same file, if that is a `.sen` image; else it is not judged, and
    neither is int8 on random inputs, for which it is not calibrated: a warning says so. Outputs that are not finite are
    wrong in any case.
    """
    outputs = [loops.outputs(row.session, inputs) for row in rows]
    origins = [agreement.origin(row.properties) for row in rows]
    return [
        _against_reference(row, outputs[index], inputs, has_data)
        if _counterpart(index, origins) == index and _has_reference(row)
        else _judged(index, rows, outputs, origins, has_data)
        for index, row in enumerate(rows)
    ]


def _has_reference(row: Row) -> bool:
    network = row.plan.artifact.network
    sizes = () if network is None else network.layer_sizes
    return network is not None and sum(map(prod, zip(sizes, sizes[1:]))) <= MOST_WEIGHTS


def _against_reference(row: Row, outputs: FloatArray, inputs: FloatArray, has_data: bool) -> Judged:
    network = row.plan.artifact.network
    assert network is not None
    expected = reference.run(network, inputs, np.float32)
    tolerance = agreement.tolerance_for((row.dtype, row.dtype), is_spiking=row.timesteps > 0, has_data=has_data)
    return agreement.compare(outputs, expected, REFERENCE, tolerance), []


def _judged(
    index: int,
    rows: Sequence[Row],
    outputs: Sequence[FloatArray],
    origins: Sequence[tuple[str, str] | None],
    has_data: bool,
) -> Judged:
    row, to = rows[index], _counterpart(index, origins)
    dtypes = row.dtype, rows[to].dtype
    tolerance = agreement.tolerance_for(dtypes, is_spiking=row.timesteps > 0, has_data=has_data)
    found = agreement.compare(outputs[index], outputs[to], rows[to].name, tolerance)
    if to == index:
        note = "" if index == 0 else _other_model(outputs[index], outputs[0], rows[0].name)
    else:
        note = "" if has_data or "int8" not in dtypes else _not_calibrated(found)
    is_sound = bool(np.all(np.isfinite(outputs[index]))) and outputs[index].shape == outputs[to].shape
    if is_sound and (to == index or note):
        return None, [{"kind": "not-compared", "message": note}] if note else []
    return found, []


def _counterpart(index: int, origins: Sequence[tuple[str, str] | None]) -> int:
    """The first row of the same model: of the same origin, or the first of all where an origin is not known."""
    if origins[index] is None or origins[0] is None:
        return 0
    return origins.index(origins[index])


def _other_model(actual: FloatArray, expected: FloatArray, to: str) -> str:
    beside = ""
    if actual.shape == expected.shape:
        beside = f"; the greatest output is the same for {100 * np.mean(actual.argmax(1) == expected.argmax(1)):.3g} %"
    return f"made from another checkpoint than {to}, or compressed otherwise, so outputs are not judged{beside}"


def _not_calibrated(found: Mapping[str, Any]) -> str:
    return (
        f"int8 ranges hold for inputs like those they were calibrated with: outputs are judged with --data only (on "
        f"random inputs the greatest output is that of {found['to']} for {found['argmax_percent']:.3g} %)"
    )


def wrong(row: Mapping[str, Any]) -> str:
    """A sentence about a row of the record whose outputs do not match."""
    found = row["agreement"]
    if found["max_error"] is None:
        return f"{row['name']}: its outputs or those of {found['to']} are not finite, or not of the same number"
    return (
        f"{row['name']}: outputs differ from those of {found['to']} by up to {found['max_error_over_std']:.3g} "
        f"standard deviations; the greatest is the same for {found['argmax_percent']:.3g} % of the inputs"
    )
