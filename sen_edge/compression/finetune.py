"""Training after compression: coordinates under a pattern, or stored weights.

Labels are not needed for pure distillation. The epoch that is best on held-out examples is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sen_edge.compression.moments import Inputs
from sen_edge.compression.prune import choose_masks, find_radius
from sen_edge.compression.request import CompressRequest, Tuning, select_layers
from sen_edge.data.datasets import Dataset
from sen_edge.errors import UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.dynamics import LayeredNetwork
from sen_edge.model.free import SURROGATE_SLOPE, FreeNetwork
from sen_edge.model.layers import SpatialNetwork
from sen_edge.model.parameters import Checkpoint
from sen_edge.passes.materialize import Mask
from sen_edge.progress import Progress, silent
from sen_edge.training.loop import Epoch, Split, fit, prepare, start
from sen_edge.training.objective import Loss, Objective, evaluate, objective_of
from sen_edge.training.recipe import Recipe, suggested_recipe
from sen_edge.training.train import conventional_recipe
from sen_runtime.data.subsample import subsample
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Coordinates, Dense

#: Peak learning rate of free weights; that of coordinates relative to their first training.
FREE_LEARNING_RATE, TUNING_RATE = 2e-3, 0.75
EPOCHS = 20
UNDISTILLED, DISTILLED = Tuning(), Tuning(distillation=1.0)
#: Training inputs that second-order pruning is fitted to.
FIT_INPUTS = 4096


@dataclass(frozen=True)
class Tuned:
    """The best epoch of fine-tuning, 0 if none was better than the start; without a checkpoint for free weights.

    Scores are those on the held-out examples, in the metric of the task, also of the network before compression.
    """

    checkpoint: Checkpoint | None
    network: Network
    best_epoch: int
    history: tuple[Epoch, ...]
    validation_score: float
    original_score: float


def finetune(
    original: Checkpoint | Network,
    dataset: Dataset,
    request: CompressRequest,
    recipe: Recipe,
    tuning: Tuning = UNDISTILLED,
    *,
    surrogate_slope: float = SURROGATE_SLOPE,
    progress: Progress = silent,
) -> Tuned:
    """Prune and train under the pattern: the parameters of a checkpoint, which remains a SEN, or dense free weights.

    Synapses that a checkpoint has cut stay cut. Only the training part of the data is used. Whole neurons, a threshold
    and free weights by distance are refused.
    """
    request.check_trainable()
    examples = prepare(dataset, recipe)
    inputs = subsample(examples.training.inputs, FIT_INPUTS)
    n_ramp = round(tuning.ramp * recipe.epochs)
    shares = [1 - (1 - (epoch + 1) / n_ramp) ** 3 for epoch in range(n_ramp - 1)] + [1.0]
    requests = [request] * len(shares)
    if request.sparsity is not None and request.parsed_pattern.group is None:  # N:M has one sparsity only
        requests = [replace(request, sparsity=share * request.sparsity) for share in shares]
    if isinstance(original, Network):
        if request.criterion == "distance" or not all(isinstance(layer.weight, Dense) for layer in original.layers):
            raise UsageError("free weights are pruned by magnitude or second-order, and dense at first")
        free, teacher = FreeNetwork(original, surrogate_slope), FreeNetwork(original, surrogate_slope)
        cuts = [partial(_cut_weights, free, each, inputs) for each in requests]
        figures = _train(free, teacher, examples, recipe, tuning, progress, cuts)
        return Tuned(None, free.to_network(), *figures)
    if request.criterion == "distance" and original.synapses:
        raise UsageError("training cannot add a radius to a checkpoint with synapses of its own")
    if request.criterion != "distance" and any(original.config.max_distance):
        raise UsageError("training cannot add a pattern to a checkpoint with a radius")
    module = checkpoints.to_module(original)
    radii = [layer.max_distance for layer in module.linears()]
    cuts = [partial(_cut_positions, module, each, inputs, original.synapses, radii) for each in requests]
    figures = _train(module, checkpoints.to_module(original), examples, recipe, tuning, progress, cuts)
    tuned = checkpoints.from_module(module, original.metadata)
    return Tuned(tuned, checkpoints.to_network(tuned), *figures)


def distil(
    network: Network,
    original: Network,
    dataset: Dataset,
    recipe: Recipe,
    tuning: Tuning = DISTILLED,
    *,
    progress: Progress = silent,
) -> Tuned:
    """Train the weights of a compressed network towards the outputs of the original network.

    Zeros of sparse weights and ranks stay. Only the training part of the data is used; with `tuning.distillation` 1
    labels only select the epoch. The ramp has no effect.
    """
    examples = prepare(dataset, recipe)
    module = FreeNetwork(network)
    objective = objective_of(module, dataset.training, recipe)
    before = evaluate(module, examples.held, objective)[0][objective.metric]
    figures = _train(module, FreeNetwork(original), examples, recipe, tuning, progress)
    tuned = Tuned(None, module.to_network(), *figures)
    if objective.metric.drop(before, tuned.validation_score) > 0:
        return replace(tuned, network=network, best_epoch=0, validation_score=before)
    return tuned


def _train(
    module: LayeredNetwork,
    teacher: LayeredNetwork,
    examples: Split,
    recipe: Recipe,
    tuning: Tuning,
    progress: Progress,
    cuts: Sequence[Callable[[], None]] = (),
) -> tuple[int, tuple[Epoch, ...], float, float]:
    """Train, pruning before each of the first epochs; return best epoch, all epochs, its score and the teacher's."""

    def before(epoch: int) -> None:
        if epoch < len(cuts):
            cuts[epoch]()

    run, first = start(module, examples, recipe), max(len(cuts) - 1, 0)
    objective = objective_of(module, examples.training.examples, recipe)
    fitted = partial(fit, run, examples, recipe, objective, loss=_loss(teacher, tuning, objective))
    best = fitted(before=before, first=first, patience=tuning.patience, progress=progress)
    scores, _ = evaluate(teacher, examples.held, objective)
    return best.epoch, tuple(run.history), best.score, scores[objective.metric]


def _class_divergence(outputs: Tensor, target: Tensor) -> Tensor:
    """Kullback-Leibler divergence of softmax probabilities, mean over the batch."""
    student, probabilities = functional.log_softmax(outputs, dim=1), functional.softmax(target, dim=1)
    return functional.kl_div(student, probabilities, reduction="batchmean")


def _label_divergence(outputs: Tensor, target: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the probabilities of each label, mean over labels and batch."""
    probabilities = torch.sigmoid(target)
    entropy = functional.binary_cross_entropy_with_logits(target, probabilities)
    return functional.binary_cross_entropy_with_logits(outputs, probabilities) - entropy


#: Distance of outputs from those of the teacher, by output activation.
_DIVERGENCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "softmax": _class_divergence,
    "sigmoid": _label_divergence,
}


def finetune_recipe(recipe: Recipe) -> Recipe:
    """Recipe for fine-tuning after a training with `recipe`."""
    return replace(recipe, epochs=EPOCHS, learning_rate=TUNING_RATE * recipe.learning_rate)


def free_recipe(dataset: Dataset, epochs: int = EPOCHS, seed: int = 0) -> Recipe:
    """Recipe for the free weights of a compressed network."""
    recipe = conventional_recipe(suggested_recipe(dataset))
    return replace(recipe, epochs=epochs, seed=seed, learning_rate=FREE_LEARNING_RATE)


def _cut_weights(module: FreeNetwork, request: CompressRequest, inputs: Inputs) -> None:
    """Choose the pattern of free weights."""
    module.restrict({})
    module.restrict(choose_masks(module.to_network(), request, inputs))


def _cut_positions(
    module: SpatialNetwork,
    request: CompressRequest,
    inputs: Inputs,
    synapses: Mapping[int, Mask],
    radii: list[float],
) -> None:
    """Choose the pattern of a spatially embedded network, within its first synapses or radii."""
    layers = module.linears()
    for index, layer in enumerate(layers):
        layer.synapses = _as_tensor(synapses[index]) if index in synapses else None
    network = checkpoints.to_network(checkpoints.from_module(module))
    if request.criterion != "distance":
        for index, mask in choose_masks(network, request, inputs).items():
            layers[index].synapses = _as_tensor(mask & synapses[index] if index in synapses else mask)
        return
    config = module.config
    found = list(config.max_distance or (0.0,) * len(layers))
    for index in select_layers(request.layers, network):
        operator = network.layers[index].weight
        assert isinstance(operator, Coordinates)  # without synapses; for mypy
        radius = min(find_radius([operator], request.sparsity or 0.0), radii[index])
        found[index] = 0.0 if math.isinf(radius) else radius
        layers[index].max_distance = radius
    module.config = replace(config, max_distance=tuple(found))


def _as_tensor(mask: Mask) -> Tensor:
    return torch.from_numpy(mask.astype(np.float32))


def _loss(teacher: LayeredNetwork, tuning: Tuning, objective: Objective) -> Loss:
    """Loss of the task, and the distance from the teacher's outputs (G. Hinton et al., 2015).

    For classes and labels the divergence of probabilities; for continuous outputs the loss of the task with the outputs
    of the teacher as targets.
    """
    teacher.eval()
    share, temperature = tuning.distillation, tuning.temperature
    divergence = _DIVERGENCES.get(objective.kind.output_activation)

    def loss(inputs: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
        if share == 0:
            return objective.loss(inputs, outputs, labels)
        with torch.no_grad():
            target = teacher(inputs)
        if divergence is None:
            value = share * objective.loss(inputs, outputs, target)
        else:
            value = share * temperature**2 * divergence(outputs / temperature, target / temperature)
        return value if share == 1 else value + (1 - share) * objective.loss(inputs, outputs, labels)

    return loss
