"""Compare the outputs of two rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Min standard deviation of outputs, relative to the largest: rounding errors are relative to size.
MIN_VARIATION = 1e-2
#: Metadata that identify the source of a file.
ORIGINS = ("checkpoint_sha256", "image_sha256")


@dataclass(frozen=True)
class Tolerance:
    """Limits of a match.

    Attributes:
        output: max error of an output, relative to the standard deviation of all outputs.
        share: min share of inputs whose outputs are all within `output`.
        argmax: min share of inputs with the same argmax.
    """

    output: float
    share: float
    argmax: float


#: By dtype and whether neurons spike: one spike that rounding flips is a whole step of a readout.
TOLERANCES = {
    ("float32", False): Tolerance(1e-3, 1.0, 0.98),
    ("float32", True): Tolerance(1e-3, 0.95, 0.95),
    ("float16", False): Tolerance(4e-2, 1.0, 0.95),
    ("float16", True): Tolerance(2e-1, 0.9, 0.9),
    ("int8-dynamic", False): Tolerance(0.5, 0.9, 0.9),
    ("int8-dynamic", True): Tolerance(0.5, 0.8, 0.9),
    ("int8", False): Tolerance(0.5, 0.9, 0.9),
    ("int8", True): Tolerance(0.5, 0.8, 0.9),
}
#: A file without a dtype may store int8.
UNKNOWN_DTYPE = "int8-dynamic"


def tolerance_for(dtypes: tuple[str, str], *, is_spiking: bool, has_data: bool) -> Tolerance:
    """The looser tolerance of two dtypes.

    int8 on random inputs is not judged by argmax: these inputs are of no class, so their largest outputs are close.
    """
    found = [TOLERANCES.get((dtype, is_spiking), TOLERANCES[UNKNOWN_DTYPE, is_spiking]) for dtype in dtypes]
    loosest = max(found, key=lambda tolerance: (tolerance.output, -tolerance.share))
    is_int8 = loosest.output == TOLERANCES[UNKNOWN_DTYPE, is_spiking].output
    return replace(loosest, argmax=0.0) if is_int8 and not has_data else loosest


def origin(properties: Mapping[str, str]) -> tuple[str, str] | None:
    """Source and compression of a file: equal for files that should compute the same; None where unknown."""
    source = next((properties[name] for name in ORIGINS if name in properties), None)
    return None if source is None else (source, properties.get("compression", ""))


def compare(actual: Array, expected: Array, to: str, tolerance: Tolerance) -> dict[str, Any]:
    """Compare outputs `[n, n_out]` with those of the row `to`; see docs/reference/bench.md.

    Outputs that are not finite, or of another shape, never match.
    """
    figures: dict[str, Any] = {"to": to, "inputs": len(expected), "max_error": None, "max_error_over_std": None}
    if actual.shape != expected.shape:
        return {**figures, "argmax_percent": 0.0, "matches": False}
    same = actual.argmax(axis=1) == expected.argmax(axis=1)
    figures["argmax_percent"] = float(100 * np.mean(same))
    if not (np.all(np.isfinite(actual)) and np.all(np.isfinite(expected))):
        return {**figures, "matches": False}
    error = np.abs(actual.astype(np.float64) - expected).max(axis=1)
    relative = error / _scale(expected)
    figures["max_error"], figures["max_error_over_std"] = float(error.max()), float(relative.max())
    kept = float(np.mean(relative <= tolerance.output))
    matches = kept >= tolerance.share and float(np.mean(same)) >= tolerance.argmax
    return {**figures, "matches": bool(matches)}


def _scale(values: Array) -> float:
    """Standard deviation of all outputs, at least `MIN_VARIATION` of the largest; 1 where all are 0."""
    largest = float(np.abs(values).max())
    return max(float(values.std(dtype=np.float64)), MIN_VARIATION * largest) or 1.0
