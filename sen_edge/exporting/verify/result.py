"""Result of a verification, and the tolerances of the agreement between artifact and model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sen_edge.display import Displayed
from sen_runtime.task import Metric


@dataclass(frozen=True)
class Tolerance:
    """Limits of the agreement.

    Attributes:
        output: max error of an output, in its unit (`sen_edge.exporting.verify.agreement.output_scales`); the rounding
            bound (`sen_edge.exporting.verify.error_bound`) applies if it is larger.
        readout: min share of inputs whose outputs are all within `output`. Below 1 for spiking networks, because
            rounding flips spikes, and for int8, which is judged by decisions and scores.
        decisions: min share of equal decisions: classes, labels, or anomalies.
        spikes: min share of equal spike counts, over hidden neurons and inputs.
        score: max difference of scores on the user's data, in points or in percent of the variance.
        rounding: max error against the exported network in plain numpy, in `rounding_unit`; None if comparison with the
            model detects a wrong kernel.
        rounding_unit: "step" of the output's int8 grid, or "std", the unit of `output`.
        rounding_share: min share of inputs whose outputs are all within `rounding`.
    """

    output: float
    readout: float = 1.0
    decisions: float = 0.995
    spikes: float = 1.0
    score: float = 0.05
    rounding: float | None = None
    rounding_unit: str = "std"
    rounding_share: float = 1.0


TOLERANCES = {
    ("mlp", "float32"): Tolerance(output=1e-4),
    ("mlp", "float16"): Tolerance(output=2e-2, decisions=0.98, score=0.5),
    ("mlp", "int8-dynamic"): Tolerance(output=0.5, readout=0.9, decisions=0.9, score=1.0, rounding=0.15),
    ("mlp", "int8"): Tolerance(
        output=0.5, readout=0.9, decisions=0.9, score=1.0, rounding=3.0, rounding_unit="step", rounding_share=0.98
    ),
    ("snn", "float32"): Tolerance(output=1e-4, readout=0.98, decisions=0.98, spikes=0.999),
    ("snn", "float16"): Tolerance(output=2e-1, readout=0.9, decisions=0.9, spikes=0.98, score=0.5),
    ("snn", "int8-dynamic"): Tolerance(
        output=0.5, readout=0.8, decisions=0.9, spikes=0.9, score=1.0, rounding=0.5, rounding_share=0.9
    ),
}
TOLERANCES["snn", "int8"] = replace(TOLERANCES["snn", "int8-dynamic"], rounding=3.0, rounding_unit="step")


@dataclass(frozen=True)
class ScoreFigures:
    """A score on the user's data.

    Attributes:
        metric: name; see `sen_runtime.task`.
        unit: "%", or empty.
        model: of the model.
        artifact: of the artifact.
        allowed: max difference; None if it is not judged.
    """

    metric: str
    unit: str
    model: float
    artifact: float
    allowed: float | None

    @property
    def passed(self) -> bool:
        """Whether the difference is allowed."""
        return self.allowed is None or abs(self.model - self.artifact) <= self.allowed + 1e-9

    def text(self, value: float) -> str:
        """Format a value of this score."""
        return Metric(self.metric, self.unit).text(value)


#: Max classes of a confusion matrix.
MAX_CONFUSED = 32


@dataclass(frozen=True)
class DataFigures:
    """Scores on the user's data.

    Attributes:
        name: of the data.
        samples: number of examples.
        scores: the metric of the task first.
        changed: number of examples that only one of model and artifact classifies correctly, or of different labels;
            None for continuous outputs.
        threshold: of the anomaly scores of a reconstruction, chosen on those of the model; else None.
        agreement: share of equal anomaly decisions at this threshold; else None.
        confusion: number of examples by class (row) and by the class that the artifact decides (column); None for
            other tasks, and for more than `MAX_CONFUSED` classes.
    """

    name: str
    samples: int
    scores: tuple[ScoreFigures, ...]
    changed: int | None = None
    threshold: float | None = None
    agreement: float | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True, repr=False)
class Verification(Displayed):
    """Figures of one artifact in one engine; JSON in the manifest under these names.

    Attributes:
        engine: name and version of the engine that ran the artifact.
        inputs: number of inputs.
        max_abs_error: max error of an output.
        max_rel_error: the same in units of the outputs, see `Tolerance.output`.
        allowed_error: max allowed error in these units: the tolerance, or the rounding bound if it is larger and an
            error exceeds the tolerance.
        readout_agreement: share of inputs whose outputs are all within the tolerance or the rounding bound.
        decision_agreement: share of equal decisions (largest output, or sign of each label), or decisions that rounding
            may change; None for continuous outputs.
        spike_agreement: share of equal spike counts in hidden layers; None for a perceptron.
        layer_errors: max error of each layer over the standard deviation of that layer.
        first_wrong_layer: first layer with an error beyond tolerance and rounding bound, or None.
        data: scores on given data.
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
    decision_agreement: float | None
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
        scores = () if self.data is None else self.data.scores
        decisions = self.decision_agreement
        return {
            "engine": self.engine,
            "passed": self.passed,
            "max_rel_error": f"{self.max_rel_error:.2g}",
            **({} if decisions is None else {"decision_agreement": f"{decisions:.2%}"}),
            **{each.metric: f"{each.text(each.artifact)} ({each.text(each.model)})" for each in scores[:1]},
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; figures that are not finite are null."""
        values: dict[str, Any] = _plain({**asdict(self), "failures": self.failures, "passed": self.passed})
        return values

    @property
    def differs_in_decisions_alone(self) -> bool:
        """Whether the order of outputs differs that are otherwise within the tolerance."""
        is_undecided = self.decision_agreement is not None and self.decision_agreement < self.tolerance.decisions
        return is_undecided and self.readout_agreement >= self.tolerance.readout

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
        shares = [
            ("decisions", self.decision_agreement, tolerance.decisions),
            ("spike counts", self.spike_agreement, tolerance.spikes),
            ("decisions on anomalies", None if data is None else data.agreement, tolerance.decisions),
        ]
        found += [
            f"{name}: {share:.3%} agree; expected at least {expected:.3%}"
            for name, share, expected in shares
            if share is not None and share < expected
        ]
        if self.rounding_agreement is not None and self.rounding_agreement < tolerance.rounding_share:
            unit = "steps of the output" if tolerance.rounding_unit == "step" else "standard deviations"
            found.append(
                f"rounding: {100 * (1 - self.rounding_agreement):.3g} % of the inputs are off by more than "
                f"{tolerance.rounding:g} {unit} from the exported network (max {self.rounding_error:.3g}); "
                f"allowed {100 * (1 - tolerance.rounding_share):.3g} %: the engine computes another function"
            )
        found += [
            f"{score.metric} on {data.name}: {score.text(score.artifact)}, the model has {score.text(score.model)}; "
            f"expected within {score.allowed:.2g}{' points' if score.unit else ''}"
            for data in ([] if self.data is None else [self.data])
            for score in data.scores
            if not score.passed
        ]
        return tuple(f"{sentence} ({self.engine})" for sentence in found)


def _plain(value: Any) -> Any:
    """Replace numbers that are not finite by None."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
