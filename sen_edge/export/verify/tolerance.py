"""What still counts as agreement between an artifact and its model, and in which words it is missed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Tolerance:
    """What still counts as agreement.

    Attributes:
        output: greatest error of an output, relative to the standard deviation of all outputs. Where rounding may
            cause a larger one (`sen_edge.export.verify.error_bound`), that is the limit.
        readout: least share of inputs whose outputs all keep `output`. Below 1 for spiking networks: rounding flips a
            spike now and then, and one spike is a whole step of the readout; and for int8, whose error is judged by
            argmax and accuracy.
        argmax: least share of inputs with the same greatest output.
        spikes: least share of equal spike counts, over hidden neurons and inputs.
        accuracy: greatest difference of the accuracies on the user's data, in points, beyond two standard errors of it.
        rounding: greatest error against the exported network in plain numpy, in `rounding_unit`; None where the
            model itself is close enough to tell a wrong kernel.
        rounding_unit: "step" of the output's int8 grid, or "std", the standard deviation of all outputs.
        rounding_share: least share of inputs whose outputs all keep `rounding`.
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
