"""Result of a verification, and the tolerances of the agreement between artifact and model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sen_edge.display import Displayed


@dataclass(frozen=True)
class Tolerance:
    """Limits of the agreement.

    Attributes:
        output: max error of an output, relative to the standard deviation of all outputs; the rounding bound
            (`sen_edge.exporting.verify.error_bound`) applies if it is larger.
        readout: min share of inputs whose outputs are all within `output`. Below 1 for spiking networks, because
            rounding flips spikes, and for int8, which is judged by argmax and accuracy.
        argmax: min share of inputs with the same largest output.
        spikes: min share of equal spike counts, over hidden neurons and inputs.
        accuracy: max difference of accuracies on the user's data, in points, beyond two standard errors.
        rounding: max error against the exported network in plain numpy, in `rounding_unit`; None if comparison with the
            model detects a wrong kernel.
        rounding_unit: "step" of the output's int8 grid, or "std", the standard deviation of all outputs.
        rounding_share: min share of inputs whose outputs are all within `rounding`.
    """

    output: float
    readout: float = 1.0
    argmax: float = 0.995
    spikes: float = 1.0
    accuracy: float = 0.05
    rounding: float | None = None
    rounding_unit: str = "std"
    rounding_share: float = 1.0


TOLERANCES = {
    ("mlp", "float32"): Tolerance(output=1e-4),
    ("mlp", "float16"): Tolerance(output=2e-2, argmax=0.98, accuracy=0.5),
    ("mlp", "int8-dynamic"): Tolerance(output=0.5, readout=0.9, argmax=0.9, accuracy=1.0, rounding=0.15),
    ("mlp", "int8"): Tolerance(
        output=0.5, readout=0.9, argmax=0.9, accuracy=1.0, rounding=3.0, rounding_unit="step", rounding_share=0.98
    ),
    ("snn", "float32"): Tolerance(output=1e-4, readout=0.98, argmax=0.98, spikes=0.999),
    ("snn", "float16"): Tolerance(output=2e-1, readout=0.9, argmax=0.9, spikes=0.98, accuracy=0.5),
    ("snn", "int8-dynamic"): Tolerance(
        output=0.5, readout=0.8, argmax=0.9, spikes=0.9, accuracy=1.0, rounding=0.5, rounding_share=0.9
    ),
}
TOLERANCES["snn", "int8"] = replace(TOLERANCES["snn", "int8-dynamic"], rounding=3.0, rounding_unit="step")


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
        data: accuracies on given data.
        tolerance: applied tolerance.
        rounding_error: max error against the exported network in plain numpy, in the unit of the tolerance; None if not
            judged.
        rounding_agreement: share of inputs whose outputs are all within that tolerance.
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
    data: DataFigures | None
    tolerance: Tolerance
    rounding_error: float | None = None
    rounding_agreement: float | None = None
    warnings: tuple[str, ...] = ()

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
        values = {**asdict(self), "failures": self.failures, "passed": self.passed}
        for name in ("max_abs_error", "max_rel_error", "allowed_error", "rounding_error"):
            values[name] = _finite(values[name])
        values["layer_errors"] = [_finite(error) for error in self.layer_errors]
        return values

    @property
    def failures(self) -> tuple[str, ...]:
        """One sentence per violated tolerance; empty if verified."""
        tolerance, data, found = self.tolerance, self.data, []
        if self.readout_agreement < tolerance.readout:
            errors, worst = self.layer_errors, int(np.argmax(self.layer_errors))
            first = worst if self.first_wrong_layer is None else self.first_wrong_layer
            found.append(
                f"outputs: {100 * (1 - self.readout_agreement):.3g} % of the inputs are off by more than "
                f"{self.allowed_error:.3g} standard deviations (max {self.max_rel_error:.3g}); "
                f"allowed {100 * (1 - tolerance.readout):.3g} %; starts in layer {first} (error {errors[first]:.3g}), "
                f"max in layer {worst} ({errors[worst]:.3g})"
            )
        if self.argmax_agreement < tolerance.argmax:
            found.append(f"argmax: {self.argmax_agreement:.2%} agree; expected at least {tolerance.argmax:.2%}")
        if self.spike_agreement is not None and self.spike_agreement < tolerance.spikes:
            found.append(f"spike counts: {self.spike_agreement:.3%} agree; expected at least {tolerance.spikes:.3%}")
        if self.rounding_agreement is not None and self.rounding_agreement < tolerance.rounding_share:
            unit = "steps of the output" if tolerance.rounding_unit == "step" else "standard deviations"
            found.append(
                f"rounding: {100 * (1 - self.rounding_agreement):.3g} % of the inputs are off by more than "
                f"{tolerance.rounding:g} {unit} from the exported network (max {self.rounding_error:.3g}); "
                f"allowed {100 * (1 - tolerance.rounding_share):.3g} %: the engine computes another function"
            )
        if data is not None and abs(data.model - data.artifact) > tolerance.accuracy + data.chance + 1e-9:
            found.append(
                f"accuracy on {data.name}: {data.artifact:.2f} %, the model has {data.model:.2f} %; "
                f"expected within {tolerance.accuracy:g} points, and {data.chance:.2g} for chance"
            )
        return tuple(f"{sentence} ({self.engine})" for sentence in found)


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
