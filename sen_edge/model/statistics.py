"""Figures of a model for `sen-edge inspect` and the manifest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen_edge.model.model import Model, count_stored_numbers
from sen_edge.model.parameters import Checkpoint
from sen_edge.model.probe import constant_output, verification_inputs
from sen_edge.model.wiring_figures import WiringFigures, late_warning, wiring_figures
from sen_edge.passes.materialize import materialize_leaf, weights
from sen_runtime.errors import NetworkError
from sen_runtime.ir.layer import Layer
from sen_runtime.ir.network import Network
from sen_runtime.ir.neurons import Neuron
from sen_runtime.ir.operators import Coordinates, LowRank, Sparse, WeightOperator, leaves, map_leaves
from sen_runtime.memory_limits import catch_allocation_errors, require

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)

FloatArray = NDArray[np.float32]

#: Max weights of a matrix that is materialized for its figures, and max MACs of a network that is run.
MAX_WRITTEN_OUT = 1 << 26
#: Peak bytes per weight of a summarized layer.
SUMMARY_BYTES = 16


@dataclass(frozen=True)
class LayerFigures:
    """Figures of one layer as stored; JSON in the manifest, see docs/reference/verification.md.

    The sparsity is None if coincident neurons or its size prevent the materialization of a matrix. It, the
    multiply-accumulates and the bytes include recurrent synapses; the bytes include delays. The wiring is None without
    delays, recurrent synapses and synaptic currents.
    """

    n_in: int
    n_out: int
    form: str
    dtype: str
    sparsity: float | None
    rank: int | None
    macs: int
    bytes: int
    neuron: dict[str, Any]
    wiring: WiringFigures | None


@dataclass(frozen=True)
class LayerSummary(LayerFigures):
    """Detailed figures of one layer.

    Attributes:
        parameters: parameters that this layer of a checkpoint adds: positions of its targets (and of the input, for
            the first layer), inhibition, gain, bias; for an image the stored numbers.
        synapses: weights of the fully connected layer, n_in * n_out, and n_out * n_out of recurrent synapses.
        excitatory: share of source neurons with outgoing weights > 0 and none < 0; None if unknown.
        inhibitory: share of source neurons with outgoing weights < 0 and none > 0. The others are silent or mixed.
        distance_quantiles: of the connected neurons, at 0, 5, 50, 95 and 100 %; None for coincident neurons and for
            weights without coordinates.
        weight_quantiles: the same for signed weights from the layer before, including zeros.
        problem: reason why the weights cannot be computed, or empty.
    """

    parameters: int
    synapses: int
    excitatory: float | None
    inhibitory: float | None
    distance_quantiles: tuple[float, ...] | None
    weight_quantiles: tuple[float, ...] | None
    problem: str


@dataclass(frozen=True)
class Summary:
    """Figures of a model; JSON under these names.

    Attributes:
        config: of a checkpoint; None for an image, as are the dimensions.
        timesteps: steps T of a spiking network; 0 for a multilayer perceptron.
        readout_decay: factor from the weight of a step in a mean of membranes to that of the next; 1 for equal weights.
        parameters: learned parameters of a checkpoint, stored numbers of an image.
        synapses: weights of the fully connected network with the same layers.
        synapse_bits: bits of the stored patterns of a checkpoint; 0 without patterns.
        dense_parameters: weights, and biases and delays if any, of the fully connected network.
        saved: reduction relative to `dense_parameters`, in percent.
        macs: multiply-accumulates of one pass through all layers (one step of a spiking network).
        weight_bytes: of weights and biases, or positions; positions shared by two layers count twice.
        warnings: constant output, for models small enough to run; spikes that arrive after the last step.
        metadata: text in the file.
        task: see `sen_runtime.task`.
        feature_names: of the inputs; empty if unknown.
        output_names: of classes, labels or values; empty if unknown.
        input_scaling: whether the network standardizes its inputs.
        output_scaling: whether it restores its outputs.
        output_activation: "none", "softmax" or "sigmoid".
    """

    kind: str
    architecture: str
    config: dict[str, Any] | None
    layer_sizes: tuple[int, ...]
    neurons: int
    timesteps: int
    input_coding: str
    readout: str
    readout_decay: float
    dimensions: int | None
    parameters: int
    synapses: int
    synapse_bits: int
    dense_parameters: int
    saved: float
    macs: int
    weight_bytes: int
    layers: tuple[LayerSummary, ...]
    warnings: tuple[str, ...]
    metadata: dict[str, str]
    sha256: str
    task: str
    feature_names: tuple[str, ...]
    output_names: tuple[str, ...]
    input_scaling: bool
    output_scaling: bool
    output_activation: str


def layer_figures(network: Network) -> tuple[LayerFigures, ...]:
    """Return the figures of every layer, for a manifest."""
    return tuple(_figures(layer, _matrices(layer)) for layer in network.layers)


@catch_allocation_errors()
def summarize(model: Model) -> Summary:
    """Compute the figures of a model; coincident neurons are reported, not refused."""
    network, checkpoint = model.network, model.checkpoint
    sizes = [math.prod(weight.shape) for layer in network.layers for weight, _ in layer.connections]
    largest = max((size for size in sizes if size <= MAX_WRITTEN_OUT), default=0)
    require(SUMMARY_BYTES * largest, f"the largest materialized layer has {largest:,} weights")
    if checkpoint is None:
        parameters = count_stored_numbers(network)
    else:
        parameters = tuple(_count_parameters(checkpoint, index) for index in range(len(network.layers)))
    dense = sum(map(_stored_numbers, network.layers))
    return Summary(
        kind=model.kind,
        architecture=model.architecture,
        config=None if checkpoint is None else checkpoint.config.to_dict(),
        layer_sizes=network.layer_sizes,
        neurons=sum(network.layer_sizes),
        timesteps=network.timesteps,
        input_coding=network.input_coding,
        readout=network.readout,
        readout_decay=network.readout_decay,
        dimensions=None if checkpoint is None else checkpoint.config.dimensions,
        parameters=model.n_parameters,
        synapses=sum(sizes),
        synapse_bits=0 if checkpoint is None else sum(mask.size for mask in checkpoint.synapses.values()),
        dense_parameters=dense,
        saved=100 * (1 - model.n_parameters / dense),
        macs=network.macs,
        weight_bytes=network.nbytes,
        layers=tuple(map(_summary, network.layers, parameters)),
        warnings=_warnings(model),
        metadata=dict(network.metadata if checkpoint is None else checkpoint.metadata),
        sha256=model.sha256,
        task=network.task,
        feature_names=network.names("feature_names"),
        output_names=network.names("output_names"),
        input_scaling=network.input_scaling is not None,
        output_scaling=network.output_scaling is not None,
        output_activation=network.output_activation,
    )


def _stored_numbers(layer: Layer) -> int:
    """Count the numbers of a layer that stores each weight, each bias, and each delay that differs from others."""
    weights = sum(math.prod(weight.shape) * (1 + delay.is_varied) for weight, delay in layer.connections)
    return weights + (0 if layer.bias is None else len(layer.bias))


def _warnings(model: Model) -> tuple[str, ...]:
    """Return warnings about delays, and those of a run on the verification inputs."""
    return tuple(each for each in (late_warning(model.network), _constant_warning(model)) if each is not None)


def _constant_warning(model: Model) -> str | None:
    network = model.network
    if network.macs * max(1, network.timesteps) > MAX_WRITTEN_OUT:
        return None
    inputs = verification_inputs(network)
    try:
        return constant_output(network, inputs, model.trace(inputs))
    except NetworkError:  # coincident neurons, reported as a problem of their layer
        return None


def _count_parameters(checkpoint: Checkpoint, index: int) -> int:
    """Count the parameters that layer `index` adds."""
    names = [f"positions.{index + 1}", f"target_positions.{index + 1}"]
    names += [f"{role}.{index}" for role in ("inhibition", "gain", "bias", "spacing")]
    names += ["positions.0"] if index == 0 else []
    return sum(int(checkpoint.tensors[name].size) for name in names if name in checkpoint.tensors)


def _summary(layer: Layer, parameters: int) -> LayerSummary:
    matrices = _matrices(layer)
    matrix, problem = matrices[0]
    excitatory, inhibitory = _signs(layer.weight, matrix)
    return LayerSummary(
        **vars(_figures(layer, matrices)),
        parameters=parameters,
        synapses=sum(math.prod(weight.shape) for weight, _ in layer.connections),
        excitatory=excitatory,
        inhibitory=inhibitory,
        distance_quantiles=_distances(layer.weight),
        weight_quantiles=None if matrix is None else _quantiles(matrix),
        problem=problem,
    )


def _figures(layer: Layer, matrices: Sequence[tuple[FloatArray | None, str]]) -> LayerFigures:
    weight = layer.weight
    operators = [operator for operator, _ in layer.connections]
    ranks = [leaf.rank for leaf in leaves(weight) if isinstance(leaf, LowRank)]
    counts = [_zeros(operator, matrix) for operator, (matrix, _) in zip(operators, matrices, strict=True)]
    zeros = [count for count in counts if count is not None]
    return LayerFigures(
        n_in=weight.shape[1],
        n_out=weight.shape[0],
        form=weight.form + " by source" * any(_is_by_source(leaf) for leaf in leaves(weight)),
        dtype=" + ".join(dict.fromkeys(str(array.dtype) for array in weight.weight_arrays())),
        sparsity=sum(zeros) / sum(math.prod(each.shape) for each in operators) if zeros == counts else None,
        rank=sum(ranks) if ranks else None,
        macs=sum(each.macs for each in operators),
        bytes=layer.nbytes,
        neuron={"kind": type(layer.neuron).__name__, **asdict(layer.neuron), **_ranges(layer.neuron)},
        wiring=wiring_figures(layer),
    )


def _zeros(operator: WeightOperator, matrix: FloatArray | None) -> int | None:
    """Count the zeros of a matrix; None if it cannot be materialized."""
    if matrix is not None:
        return matrix.size - int(np.count_nonzero(matrix))
    is_large = isinstance(operator, Sparse)  # too large to materialize
    return math.prod(operator.shape) - operator.nnz if is_large else None


def _ranges(neuron: Neuron) -> dict[str, dict[str, float]]:
    """Parameters with a value for each neuron, by their min and max."""
    return {name: {"min": float(each.min()), "max": float(each.max())} for name, each in neuron.arrays.items()}


def _is_by_source(operator: WeightOperator) -> bool:
    return isinstance(operator, Sparse) and operator.order == "sources"


def _matrices(layer: Layer) -> list[tuple[FloatArray | None, str]]:
    return [_matrix(weight) for weight, _ in layer.connections]


def _matrix(operator: WeightOperator) -> tuple[FloatArray | None, str]:
    """Materialize weights `[n_out, n_in]`; None, with the reason, for coincident neurons or a large matrix."""
    if math.prod(operator.shape) > MAX_WRITTEN_OUT:
        return None, ""
    try:
        return map_leaves(operator, materialize_leaf).to_dense(), ""
    except NetworkError as error:
        return None, error.message


def _signs(operator: WeightOperator, matrix: FloatArray | None) -> tuple[float | None, float | None]:
    """Compute the shares of excitatory and inhibitory source neurons."""
    if isinstance(operator, Coordinates):  # known for coincident neurons too
        outgoing = operator.mask * np.sign(operator.gain)
        return float(np.mean(outgoing > 0)), float(np.mean(outgoing < 0))
    if matrix is None:
        return None, None
    positive, negative = (matrix > 0).any(axis=0), (matrix < 0).any(axis=0)
    return float(np.mean(positive & ~negative)), float(np.mean(negative & ~positive))


def _distances(operator: WeightOperator) -> tuple[float, ...] | None:
    if not isinstance(operator, Coordinates) or math.prod(operator.shape) > MAX_WRITTEN_OUT:
        return None
    try:
        inverse = weights(replace(operator, mask=np.ones_like(operator.mask), gain=1.0, exponent=1.0))
    except NetworkError:
        return None
    between = inverse[inverse > 0]
    return _quantiles(1 / between) if between.size else None


def _quantiles(values: FloatArray) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(values, QUANTILES))
