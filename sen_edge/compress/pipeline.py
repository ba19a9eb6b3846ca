"""Compression of a model as a whole: one request in, a network or a checkpoint and all figures out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from sen_edge.compress.budget import BudgetRequest
from sen_edge.compress.evaluator import search
from sen_edge.compress.far_field import factorize_coordinates
from sen_edge.compress.finetune import Tuned, Tuning, distil, finetune, finetune_recipe, free_recipe
from sen_edge.compress.hierarchical import hierarchical
from sen_edge.compress.lowrank import RankRequest, low_rank
from sen_edge.compress.moments import CompressionWarning, Inputs
from sen_edge.compress.patterns import Pattern
from sen_edge.compress.prune import PruneRequest, pruned
from sen_edge.data.calibration import Calibration
from sen_edge.data.datasets import Dataset, check_dataset
from sen_edge.data.subsample import subsample
from sen_edge.errors import UsageError
from sen_edge.model.checkpoint import to_network
from sen_edge.model.model import Model
from sen_edge.model.parameters import Checkpoint
from sen_edge.model.statistics import MAX_WRITTEN_OUT, layer_figures
from sen_edge.passes.materialize import precompute
from sen_edge.passes.quantize import to_float16
from sen_edge.progress import Progress, silent
from sen_edge.training.loop import Recipe, suggested_recipe
from sen_runtime.accuracy import network_accuracy
from sen_runtime.ir.network import Layer, Network, stored_dtype
from sen_runtime.ir.operators import Coordinates
from sen_runtime.memory_limits import catch_allocation_errors, require_network

#: Live at once for each weight: the measured peak of pruning is 48.
COMPRESS_BYTES = 24
#: Calibration inputs that are used, evenly spread; of a spiking network fewer, for steps add to them.
MAX_INPUTS, MAX_SPIKING_INPUTS = 20_000, 4096


@dataclass(frozen=True)
class CompressRequest:
    """What to do to a model; exactly one of `prune`, `rank`, `hierarchical_error` and `budget`.

    Attributes:
        prune: what to cut.
        rank: how far to factorize.
        hierarchical_error: relative error of each layer as a hierarchical matrix, straight from coordinates.
        budget: what to search for.
        epochs: of training afterwards; 0 for none. Of coordinates where a checkpoint is wanted, else of free weights.
        tuning: how to train.
        seed: of everything random.
    """

    prune: PruneRequest | None = None
    rank: RankRequest | None = None
    hierarchical_error: float | None = None
    budget: BudgetRequest | None = None
    epochs: int = 0
    tuning: Tuning = field(default_factory=Tuning)
    seed: int = 0

    def __post_init__(self) -> None:
        given = sum(each is not None for each in (self.prune, self.rank, self.hierarchical_error, self.budget))
        if given != 1:
            raise UsageError(
                "compression needs one of a sparsity (or threshold, or pattern N:M), a rank (or MACs, or error), a "
                f"hierarchical error, and an accuracy drop; {given or 'none'} of them is given"
            )
        if self.epochs < 0:
            raise UsageError(f"epochs are {self.epochs}; expected a number >= 0")


@dataclass(frozen=True)
class Compressed:
    """What compression gave.

    Attributes:
        network: in the form it is stored in.
        checkpoint: of the same network, where it is still a SEN and one was wanted; else None.
        figures: everything measured, plain values for JSON.
    """

    network: Network
    checkpoint: Checkpoint | None
    figures: Mapping[str, Any]


@catch_allocation_errors()
def compress(
    model: Model,
    request: CompressRequest,
    *,
    calibration: Calibration | None = None,
    dataset: Dataset | None = None,
    as_checkpoint: bool = False,
    state: Path | None = None,
    progress: Progress = silent,
) -> Compressed:
    """Compress a model.

    Args:
        model: a checkpoint or an image with floating-point weights.
        request: what to do.
        calibration: inputs without labels; by default, the dataset's training inputs.
        dataset: labelled data, which training and a budget need; the accuracy is measured on its test part, once.
        as_checkpoint: the result is to be a SEN again.
        state: file for a search to go on from.
        progress: see `sen_edge.progress`.

    Raises:
        UsageError: a request that contradicts itself or the model.
        DataError: data are missing or do not fit.
        BudgetError: nothing keeps the accuracy.
        NetworkError, TrainingError: see the passes.
    """
    _check(model, request, dataset, as_checkpoint=as_checkpoint)
    if request.hierarchical_error is None and (request.rank is None or calibration or dataset):  # else without matrices
        require_network(model.network, COMPRESS_BYTES)
    inputs = None if calibration is None else calibration.inputs
    if inputs is None and dataset is not None:
        inputs = subsample(dataset.train_inputs, MAX_SPIKING_INPUTS if model.network.is_spiking else MAX_INPUTS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CompressionWarning)
        network, checkpoint, details = _run(model, request, inputs, dataset, as_checkpoint, state, progress)
    if checkpoint is None and request.budget is None and stored_dtype(model.network) == "float16":
        network = to_float16(network)
    messages = [] if dataset is None else dataset.training.warnings(network.n_out)
    messages += [str(each.message) for each in caught if issubclass(each.category, CompressionWarning)]
    before = _written_out(model.network)
    figures = {
        **_plain(details),
        "request": _plain(asdict(request)),
        "input_sha256": model.sha256,
        "before": {"macs": before.macs, "weight_bytes": before.nbytes},
        "after": {"macs": _written_out(network).macs, "weight_bytes": network.nbytes},
        "layers": [asdict(each) for each in layer_figures(network)],
        "calibration": _calibration(calibration, dataset, inputs),
        "accuracy": None if dataset is None else _accuracies(model, network, dataset),
        "warnings": list(dict.fromkeys(messages)),
    }
    return Compressed(network, checkpoint, figures)


def _check(model: Model, request: CompressRequest, dataset: Dataset | None, *, as_checkpoint: bool) -> None:
    if stored_dtype(model.network).startswith("int8"):
        raise UsageError("the weights are int8 already", hint="compress the network they were made from")
    needs = "a budget" if request.budget else "training" if request.epochs else None
    if needs and dataset is None:
        raise UsageError(f"{needs} needs labelled data", hint="name them with --data")
    if dataset is not None:
        network = model.network
        check_dataset(dataset, network.input_shape, network.input_range, network.n_out)
    if not as_checkpoint:
        return
    hint = "write a .sen image instead"
    if model.checkpoint is None:
        raise UsageError("an image is no checkpoint, and none can be made of it", hint)
    if request.prune is None:
        raise UsageError("what comes of this is not given by coordinates any more, and no checkpoint can hold it", hint)
    if request.prune.pattern.neurons:
        raise UsageError("without neurons a checkpoint would need training anew", hint)
    if request.prune.criterion == "second-order" and not request.epochs:
        raise UsageError(
            "second-order pruning changes the weights that stay, and a checkpoint holds coordinates",
            hint="train these under the pattern with --epochs 20, or write a .sen image",
        )


def _run(
    model: Model,
    request: CompressRequest,
    inputs: Inputs | None,
    dataset: Dataset | None,
    as_checkpoint: bool,
    state: Path | None,
    progress: Progress,
) -> tuple[Network, Checkpoint | None, dict[str, Any]]:
    """The network, its checkpoint, and what the method has to say."""
    checkpoint = model.checkpoint
    if request.budget is not None:
        assert dataset is not None  # _check has seen to it; this is for mypy
        found = search(model.network, dataset, request.budget, state=state, progress=progress)
        return _described(found.network, model), None, {"search": found.to_dict()}
    if request.prune is not None and as_checkpoint:
        assert checkpoint is not None  # as above
        if request.epochs:
            assert dataset is not None
            config = checkpoint.config
            suggested = suggested_recipe(config.dimensions, dataset, config.exponent)
            recipe = _recipe(request, finetune_recipe(suggested))
            tuned = finetune(checkpoint, dataset, request.prune, recipe, request.tuning, progress=progress)
            return tuned.network, tuned.checkpoint, {"training": _training(tuned)}
        smaller = _pruned_checkpoint(checkpoint, pruned(model.network, request.prune, inputs, request.seed))
        return to_network(smaller), smaller, {}
    network = _compressed(model.network, request, inputs)
    if not request.epochs:
        return network, None, {}
    assert dataset is not None
    recipe = free_recipe(dataset, request.epochs, request.seed)
    tuning = replace(request.tuning, distillation=request.tuning.distillation or 1.0)
    original = precompute(model.network)
    tuned = distil(network, original, dataset, recipe, tuning, progress=progress)
    return tuned.network, None, {"training": _training(tuned)}


def _compressed(network: Network, request: CompressRequest, inputs: Inputs | None) -> Network:
    if request.prune is not None:
        return pruned(network, request.prune, inputs, request.seed)
    if request.hierarchical_error is not None:
        return _straight(network, partial(_three_layers, tolerance=request.hierarchical_error, seed=request.seed))
    rank = request.rank
    assert rank is not None  # CompressRequest has seen to it; this is for mypy
    if inputs is None:
        return _from_coordinates(network, rank, request.seed)
    return low_rank(network, rank, inputs, request.seed)


def _from_coordinates(network: Network, request: RankRequest, seed: int) -> Network:
    """Low rank without any inputs: of the weights for their own sake, and no matrix is formed."""
    if request.macs is not None or request.near:
        raise UsageError(
            "a share of the MACs and a near field need calibration inputs", hint="name them with --calibration"
        )
    chosen = [network.layers[index] for index in request.chosen(network)]

    def factors(layer: Layer) -> tuple[Layer, ...]:
        if layer not in chosen or not isinstance(layer.weight, Coordinates):
            return (layer,)
        found = factorize_coordinates(layer.weight, tolerance=request.error, rank=request.rank, seed=seed)
        if found.operator.macs >= layer.weight.macs:
            raise UsageError(f"rank {request.rank} takes as many MACs as the weights do", hint="ask for less")
        return (replace(layer, weight=found.operator),)

    return _straight(network, factors)


def _three_layers(layer: Layer, *, tolerance: float, seed: int) -> tuple[Layer, ...]:
    return hierarchical(layer, tolerance=tolerance, seed=seed).layers


def _straight(network: Network, smaller: Callable[[Layer], tuple[Layer, ...]]) -> Network:
    """The network with each layer replaced that becomes smaller by it; others, often the last, stay as they are."""
    layers: list[Layer] = []
    reason = UsageError("no layer that was named is given by coordinates", "calibration inputs do without them")
    for index, layer in enumerate(network.layers):
        try:
            layers += smaller(layer)
        except UsageError as error:
            reason = UsageError(f"layer {index}: {error.message}", error.hint)
            layers.append(layer)
    if all(layer in network.layers for layer in layers):
        raise reason
    return replace(network, layers=tuple(layers))


def _pruned_checkpoint(checkpoint: Checkpoint, network: Network) -> Checkpoint:
    """The checkpoint whose network is the pruned one: its radii, or its pattern; and its biases, where it has any."""
    config = checkpoint.config
    tensors, synapses, radii = dict(checkpoint.tensors), dict(checkpoint.synapses), [0.0] * len(network.layers)
    for index, layer in enumerate(network.layers):
        if isinstance(layer.weight, Coordinates):
            radii[index] = layer.weight.max_distance if layer.weight.has_max_distance else 0.0
        else:
            synapses[index] = layer.weight.to_dense() != 0
        if config.bias and layer.bias is not None:
            tensors[f"bias.{index}"] = layer.bias
    if any(radii):
        config = replace(config, max_distance=tuple(radii))
    return Checkpoint(config, tensors, checkpoint.metadata, synapses=synapses)


def _recipe(request: CompressRequest, recipe: Recipe) -> Recipe:
    return replace(recipe, epochs=request.epochs, seed=request.seed)


def _described(network: Network, model: Model) -> Network:
    return replace(network, metadata=model.network.metadata)


def _training(tuned: Tuned) -> dict[str, Any]:
    return {
        "best_epoch": tuned.best_epoch,
        "epochs": tuned.epochs,
        "validation_accuracy": tuned.validation_accuracy,
        "original_validation_accuracy": tuned.original_accuracy,
    }


def _written_out(network: Network) -> Network:
    """The network without coordinates, which is what runs; as it is where such weights were never to be formed."""
    largest = max(layer.weight.shape[0] * layer.weight.shape[1] for layer in network.layers)
    return precompute(network) if largest <= MAX_WRITTEN_OUT else network


def _calibration(
    calibration: Calibration | None, dataset: Dataset | None, inputs: Inputs | None
) -> dict[str, Any] | None:
    if inputs is None:
        return None
    if calibration is not None:
        return {"data": calibration.name, "sha256": calibration.sha256, "samples": len(inputs)}
    assert dataset is not None  # where else inputs come from
    return {"data": dataset.training.title, "sha256": dataset.sha256, "samples": len(inputs)}


def _accuracies(model: Model, network: Network, dataset: Dataset) -> dict[str, Any]:
    """Accuracy on the test data before and after, in percent."""
    original = precompute(model.network)
    return {
        "data": dataset.test.title,
        "samples": len(dataset.test_labels),
        "original": network_accuracy(original, dataset.test_inputs, dataset.test_labels),
        "compressed": network_accuracy(precompute(network), dataset.test_inputs, dataset.test_labels),
    }


def _plain(value: Any) -> Any:
    """Tuples as lists, patterns as text: what JSON holds."""
    if isinstance(value, dict):
        if set(value) == {"block", "group", "neurons"}:
            group = None if value["group"] is None else tuple(value["group"])
            return str(Pattern(tuple(value["block"]), group, value["neurons"]))
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
