"""What still counts as agreement between an artifact and its model, and in which words it is missed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sen_edge.verify import Verification


@dataclass(frozen=True)
class Tolerance:
    """What still counts as agreement.

    Attributes:
        output: greatest error of an output, relative to the standard deviation of all outputs. Where rounding may
            cause a larger one (`sen_edge.error_bound`), that is the limit.
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


def failures(result: Verification) -> tuple[str, ...]:
    """One sentence for each tolerance that was not kept."""
    tolerance, found = result.tolerance, []
    if result.readout_agreement < tolerance.readout:
        found.append(
            f"outputs: {100 * (1 - result.readout_agreement):.3g} % of the inputs are off by more than "
            f"{result.allowed_error:.3g} standard deviations (worst {result.max_rel_error:.3g}); "
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
            f"{tolerance.rounding:g} {unit} from the network that was exported (worst {result.rounding_error:.3g}); "
            f"allowed {100 * (1 - tolerance.rounding_share):.3g} %: the engine computes something else"
        )
    data = result.data
    if data is not None and abs(data.model - data.artifact) > tolerance.accuracy + data.chance + 1e-9:
        found.append(
            f"accuracy on {data.name}: {data.artifact:.2f} %, the model has {data.model:.2f} %; "
            f"expected within {tolerance.accuracy:g} points, and {data.chance:.2g} for chance"
        )
    return tuple(f"{sentence} ({result.engine})" for sentence in found)


def _worst_layer(result: Verification) -> str:
    """Where the disagreement starts, and where it is greatest."""
    errors = result.layer_errors
    worst = int(np.argmax(errors))
    first = worst if result.first_wrong_layer is None else result.first_wrong_layer
    return f"it starts in layer {first} (error {errors[first]:.3g}), the worst is layer {worst} ({errors[worst]:.3g})"
