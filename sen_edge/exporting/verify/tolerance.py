"""Tolerances of the agreement between artifact and model."""

from __future__ import annotations

from dataclasses import dataclass


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
        output=0.5,
        readout=0.8,
        argmax=0.9,
        spikes=0.9,
        accuracy=1.0,
        rounding=0.5,
        rounding_share=0.9,
    ),
    ("snn", "int8"): Tolerance(
        output=0.5,
        readout=0.8,
        argmax=0.9,
        spikes=0.9,
        accuracy=1.0,
        rounding=3.0,
        rounding_unit="step",
        rounding_share=0.9,
    ),
}
