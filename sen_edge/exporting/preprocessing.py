"""Options `--preprocess` and `--probabilities` of an export."""

from __future__ import annotations

from dataclasses import replace

from sen_edge.errors import UsageError
from sen_edge.exporting.request import ExportRequest
from sen_edge.passes.standardization import fold, input_obstacle, output_obstacle, strip_input, with_choice
from sen_runtime import task
from sen_runtime.ir.network import Network


def fold_scalings(network: Network, request: ExportRequest) -> Network:
    """Fold standardization and restoration as requested, by default where that is exact, before quantization.

    The choice for the inputs is stated in the metadata, see `with_choice`.

    Raises:
        UsageError: a choice that the network does not have.
    """
    _check(network, request)
    scaling, choice = network.input_scaling, request.preprocess
    if scaling is not None:
        choice = choice or ("node" if input_obstacle(network, request.dtype) else "fold")
        network = with_choice(network, choice)
    if request.preprocess == "node" or (choice == "node" and request.dtype.startswith("int")):
        return network  # an int8 grid of restored outputs may be coarser
    if choice == "none":  # stripped after quantization, whose calibration inputs are raw
        outputs_folded = fold(replace(network, input_scaling=None), request.dtype)
        return replace(outputs_folded, input_scaling=scaling)
    return fold(network, request.dtype)


def finish(network: Network, request: ExportRequest) -> Network:
    """Leave the standardization to the caller, and add the output activation, as requested, after quantization.

    Raises:
        UsageError: outputs without probabilities.
    """
    if request.preprocess == "none":
        network = strip_input(network)
    if not request.probabilities:
        return network
    activation = task.of(network.task).output_activation
    if activation == "none":
        raise UsageError(f"--probabilities: outputs of a {network.task} are values, not classes", hint="omit it")
    if activation == "softmax" and network.n_out == 1:
        raise UsageError("--probabilities: the softmax of one output is always 1", hint="omit it")
    metadata = {**network.metadata, "output_activation": activation}
    return replace(network, output_activation=activation, metadata=metadata)


def _check(network: Network, request: ExportRequest) -> None:
    """Reject a choice that the network does not have."""
    choice, dtype, has_inputs = request.preprocess, request.dtype, network.input_scaling is not None
    if choice is None:
        return
    if not has_inputs and (choice == "none" or network.output_scaling is None):
        raise UsageError(
            f"--preprocess {choice}: the network does not standardize its inputs",
            hint="omit it; train --standardize makes the standardization part of a network",
        )
    reason = input_obstacle(network, dtype) if has_inputs else output_obstacle(network, dtype)
    if choice == "fold" and reason:
        raise UsageError(f"--preprocess fold: {reason}", hint="use --preprocess node")
