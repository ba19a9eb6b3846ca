"""Choice of the tolerances of an artifact: by architecture and dtype, by task, and as the user limits them."""

from __future__ import annotations

from dataclasses import replace

from sen_edge.errors import UsageError, VerificationError
from sen_edge.exporting.request import Limits
from sen_edge.exporting.verify.result import TOLERANCES, Tolerance
from sen_edge.model.model import Model
from sen_runtime.scores import task_of
from sen_runtime.task import RECONSTRUCTION, REGRESSION
from sen_runtime.untrusted import listing, quote

#: `Tolerance.readout` of int8 autoencoders, whose bottleneck amplifies rounding; their scores are judged as any other.
RECONSTRUCTION_READOUT = 0.8
#: `Tolerance.output` of int8 regressions, which have no decisions; see docs/reference/verification.md.
REGRESSION_OUTPUT = 0.2


def choose_tolerance(model: Model, dtype: str, limits: Limits, *, has_exported: bool, has_data: bool) -> Tolerance:
    """Return the tolerances of an artifact of this dtype; refuse limits of figures that it does not have.

    Int4 has those of int8.
    """
    tolerance = TOLERANCES.get((model.architecture, dtype.replace("int4", "int8")))
    if tolerance is None:
        dtypes = dict.fromkeys(known for _, known in TOLERANCES)
        raise VerificationError(f"the artifact's dtype is {quote(dtype)}; expected one of {listing(dtypes)}")
    task = task_of(model.network).name
    if task == RECONSTRUCTION and dtype in ("int8", "int4"):
        tolerance = replace(tolerance, readout=RECONSTRUCTION_READOUT)
    if task == REGRESSION and dtype.startswith("int") and not model.network.is_spiking:
        tolerance = replace(tolerance, output=REGRESSION_OUTPUT)
    useless = set() if model.network.is_spiking else {"spikes"}
    if tolerance.rounding is None or not has_exported:
        useless |= {"rounding", "rounding_share"}
    if task == REGRESSION or (task == RECONSTRUCTION and not has_data):
        useless |= {"decisions"}
    if not has_data:
        useless |= {"score"}
    found = sorted(useless.intersection(limits.given))
    if found:
        raise UsageError(
            f"--tolerance {found[0]} has no effect on a {dtype} {model.architecture} for {model.network.task}"
            + ("" if has_data else ", verified without data")
        )
    return replace(tolerance, **limits.given)  # type: ignore[arg-type]  # all of these are numbers
