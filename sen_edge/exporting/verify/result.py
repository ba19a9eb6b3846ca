"""Result of a verification, with violated tolerances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sen_edge.display import Displayed
from sen_edge.exporting.verify.tolerance import Tolerance


@dataclass(frozen=True)
class DataFigures:
    """Accuracies on the user's data.

    Attributes:
        name: of the data.
        samples: number of examples.
        model: accuracy of the model, in percent.
        artifact: accuracy of the artifact, in percent.
        changed: number of examples that only one of them classifies correctly.
    """

    name: str
    samples: int
    model: float
    artifact: float
    changed: int

    @property
    def chance(self) -> float:
        """Two standard errors of the accuracy difference, in points."""
        return 200 * float(np.sqrt(self.changed)) / self.samples


@dataclass(frozen=True, repr=False)
class Verification(Displayed):
    """Figures of one artifact in one engine; JSON in the manifest under these names.

    Attributes:
        engine: name and version of the engine that ran the artifact.
        inputs: number of inputs.
        max_abs_error: max error of an output.
        max_rel_error: the same over the standard deviation of the outputs.
        allowed_error: max allowed error over that standard deviation: the tolerance, or the rounding bound if it is
            larger and an error exceeds the tolerance.
        readout_agreement: share of inputs whose outputs are all within the tolerance or the rounding bound.
        argmax_agreement: share of inputs with the same largest output, or two whose order rounding may change.
        spike_agreement: share of equal spike counts in hidden layers; None for a perceptron.
        layer_errors: max error of each layer over the standard deviation of that layer.
        first_wrong_layer: first layer with an error beyond tolerance and rounding bound, or None.
        rounding_error: max error against the exported network in plain numpy, in the unit of the tolerance; None if not
            judged.
        rounding_agreement: share of inputs whose outputs are all within that tolerance.
        data: accuracies on given data.
        tolerance: applied tolerance.
        warnings: conditions that weaken the verification.
        failures: one sentence per violated tolerance; empty if verified.
    """

    engine: str
    inputs: int
    max_abs_error: float
    max_rel_error: float
    allowed_error: float
    readout_agreement: float
    argmax_agreement: float
    spike_agreement: float | None
    layer_errors: tuple[float, ...]
    first_wrong_layer: int | None
    rounding_error: float | None
    rounding_agreement: float | None
    data: DataFigures | None
    tolerance: Tolerance
    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no tolerance is violated."""
        return not self.failures

    def summary(self) -> Mapping[str, object]:
        """Return the engine, the errors and whether the artifact is verified."""
        accuracies = {} if self.data is None else {"accuracy": f"{self.data.artifact:.2f} % ({self.data.model:.2f} %)"}
        return {
            "engine": self.engine,
            "passed": self.passed,
            "max_rel_error": f"{self.max_rel_error:.2g}",
            "argmax_agreement": f"{self.argmax_agreement:.2%}",
            **accuracies,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; errors that are not finite are null."""
        values = {**asdict(self), "passed": self.passed}
        for name in ("max_abs_error", "max_rel_error", "allowed_error", "rounding_error"):
            values[name] = _finite(values[name])
        values["layer_errors"] = [_finite(error) for error in self.layer_errors]
        return values


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def failures(result: Verification) -> tuple[str, ...]:
    """Return one sentence per violated tolerance."""
    tolerance, found = result.tolerance, []
    if result.readout_agreement < tolerance.readout:
        found.append(
            f"outputs: {100 * (1 - result.readout_agreement):.3g} % of the inputs are off by more than "
            f"{result.allowed_error:.3g} standard deviations (max {result.max_rel_error:.3g}); "
            f"allowed {100 * (1 - tolerance.readout):.3g} %; {_worst_layer(result)}"
        )
    if result.argmax_agreement < tolerance.argmax:
        found.append(f"argmax: {result.argmax_agreement:.2%} agree; expected at least {tolerance.argmax:.2%}")
    if result.spike_agreement is not None and result.spike_agreement < tolerance.spikes:
        found.append(f"spike counts: {result.spike_agreement:.3%} agree; expected at least {tolerance.spikes:.3%}")
    if result.rounding_agreement is not None and result.rounding_agreement < tolerance.rounding_share:
        unit = "steps of the output" if tolerance.rounding_unit == "step" else "standard deviations"
        found.append(
            f"rounding: {100 * (1 - result.rounding_agreement):.3g} % of the inputs are off by more than "
            f"{tolerance.rounding:g} {unit} from the exported network (max {result.rounding_error:.3g}); "
            f"allowed {100 * (1 - tolerance.rounding_share):.3g} %: the engine computes another function"
        )
    data = result.data
    if data is not None and abs(data.model - data.artifact) > tolerance.accuracy + data.chance + 1e-9:
        found.append(
            f"accuracy on {data.name}: {data.artifact:.2f} %, the model has {data.model:.2f} %; "
            f"expected within {tolerance.accuracy:g} points, and {data.chance:.2g} for chance"
        )
    return tuple(f"{sentence} ({result.engine})" for sentence in found)


def _worst_layer(result: Verification) -> str:
    """Name the layer where the disagreement starts, and the layer with the max error."""
    errors = result.layer_errors
    worst = int(np.argmax(errors))
    first = worst if result.first_wrong_layer is None else result.first_wrong_layer
    return f"starts in layer {first} (error {errors[first]:.3g}), max in layer {worst} ({errors[worst]:.3g})"
