"""Training after compression: coordinates under a pattern, or the free weights of what is no SEN any more.

Labels are needed for the first only where nothing is distilled. The epoch that is best on held-out examples is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sen_edge.compress.moments import Inputs
from sen_edge.compress.patterns import Mask
from sen_edge.compress.prune import PruneRequest, choose_masks, radius_for
from sen_edge.data.datasets import Dataset
from sen_edge.data.subsample import subsample
from sen_edge.errors import UsageError
from sen_edge.model import checkpoint as checkpoints
from sen_edge.model.free import SURROGATE_SLOPE, FreeNetwork
from sen_edge.model.layers import SpatialNetwork
from sen_edge.model.parameters import Checkpoint
from sen_edge.progress import Progress, silent
from sen_edge.training.dense_baseline import conventional_recipe
from sen_edge.training.loop import (
    Epoch,
    Examples,
    Loss,
    Recipe,
    evaluate,
    fit,
    label_loss,
    prepare,
    start,
    suggested_recipe,
)
from sen_runtime.ir.network import Network
from sen_runtime.ir.operators import Coordinates, Dense

FloatArray = NDArray[np.float32]
#: Peak learning rate of distilled weights; of what is fine-tuned that of its training, times the other.
FREE_LEARNING_RATE, TUNING_RATE = 2e-3, 0.75
#: Epochs that are fine-tuned unless asked for, and the share of them in which the sparsity rises.
EPOCHS, RAMP = 20, 0.25
#: Training inputs that second-order pruning is fitted to.
FIT_INPUTS = 4096
#: Free weights train like the positions of networks with many dimensions.
MANY_DIMENSIONS = 32


@dataclass(frozen=True)
class Tuning:
    """How to fine-tune, beside the recipe of its training.

    Attributes:
        ramp: share of the epochs in which the sparsity rises, in [0, 1), its distance from the end with the third
            power (M. Zhu and S. Gupta, "To prune, or not to prune", 2017); the pattern is chosen anew in each of them.
            0 for all at once.
        distillation: share of the loss that is the distance to the original network's outputs, in [0, 1]; the rest is
            that to the labels.
        temperature: both softmax outputs are compared at, > 0.
        patience: epochs without a better one after which training ends; 0 for never.
    """

    ramp: float = RAMP
    distillation: float = 0.0
    temperature: float = 2.0
    patience: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.ramp < 1:
            raise UsageError(f"ramp is {self.ramp:g}; expected a share of the epochs >= 0 and < 1")
        if not 0 <= self.distillation <= 1:
            raise UsageError(f"distillation is {self.distillation:g}; expected a share of the loss from 0 to 1")
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"temperature is {self.temperature:g}; expected a number > 0")
        if self.patience < 0:
            raise UsageError(f"patience is {self.patience}; expected a number of epochs >= 0")


@dataclass(frozen=True)
class Tuned:
    """What fine-tuning gave.

    Attributes:
        checkpoint: of the best epoch; None where free weights were trained.
        network: of the best epoch.
        best_epoch: its number, 0 where no epoch was better than the start.
        history: figures of the epochs that were run.
        validation_accuracy: of the best epoch on the held-out examples, in percent.
        original_accuracy: of the network before compression on them.
    """

    checkpoint: Checkpoint | None
    network: Network
    best_epoch: int
    history: tuple[Epoch, ...]
    validation_accuracy: float
    original_accuracy: float

    @property
    def epochs(self) -> int:
        """Epochs that were run."""
        return len(self.history)


def finetune(
    checkpoint: Checkpoint,
    dataset: Dataset,
    request: PruneRequest,
    recipe: Recipe,
    tuning: Tuning = Tuning(),
    *,
    calibration: Inputs | None = None,
    progress: Progress = silent,
) -> Tuned:
    """Prune a checkpoint and train its coordinates, inhibition, gains and biases under the pattern; it stays a SEN.

    Args:
        checkpoint: trained; synapses that it lacks already stay cut.
        dataset: its training part is trained on, but for what the recipe holds out; test data are not touched.
        request: what to cut; not whole neurons, not by threshold.
        recipe: epochs, learning rate and so on.
        tuning: schedule and loss.
        calibration: inputs for criterion "second-order"; the training inputs, thinned out, by default.
        progress: see `sen_edge.progress`.

    Raises:
        UsageError: a request that training cannot follow.
        TrainingError: the loss is no longer finite.
    """
    check_sparsity(request)
    _check_kind(checkpoint, request)
    examples = prepare(dataset, recipe)
    module, teacher = checkpoints.to_module(checkpoint), checkpoints.to_module(checkpoint)
    cut = _Cut(module, request, _inputs(calibration, examples), checkpoint.synapses)
    figures = _under(cut, module, teacher, examples, recipe, tuning, progress)
    tuned = checkpoints.from_module(module, checkpoint.metadata)
    return Tuned(tuned, checkpoints.to_network(tuned), *figures)


def finetune_free(
    network: Network,
    dataset: Dataset,
    request: PruneRequest,
    recipe: Recipe,
    tuning: Tuning = Tuning(),
    *,
    calibration: Inputs | None = None,
    surrogate_slope: float = SURROGATE_SLOPE,
    progress: Progress = silent,
) -> Tuned:
    """What `finetune` does, to a network that is not given by coordinates: its weights are trained under the pattern.

    Args:
        network: with dense weights.
        dataset: as for `finetune`, like all that follows.
        request: what to cut; not by distance.
        recipe: epochs, learning rate and so on.
        tuning: schedule and loss.
        calibration: inputs for criterion "second-order".
        surrogate_slope: of a spiking network.
        progress: see `sen_edge.progress`.

    Raises:
        UsageError: a request that training cannot follow, or weights that are not dense.
        NetworkError: weights are int8.
        TrainingError: the loss is no longer finite.
    """
    check_sparsity(request)
    if request.criterion == "distance" or not all(isinstance(layer.weight, Dense) for layer in network.layers):
        raise UsageError("free weights are pruned by magnitude or second-order, and start out dense")
    examples = prepare(dataset, recipe)
    module, teacher = FreeNetwork(network, surrogate_slope), FreeNetwork(network, surrogate_slope)
    cut = _FreeCut(module, request, _inputs(calibration, examples))
    figures = _under(cut, module, teacher, examples, recipe, tuning, progress)
    return Tuned(None, module.to_network(), *figures)


def distil(
    network: Network,
    original: Network,
    dataset: Dataset,
    recipe: Recipe,
    tuning: Tuning = Tuning(distillation=1.0),
    *,
    progress: Progress = silent,
) -> Tuned:
    """Train the stored weights of a compressed network so that it gives what the original gives.

    With `tuning.distillation` 1 labels are used for nothing but to choose the epoch.

    Args:
        network: compressed: zeros of sparse weights stay, ranks too.
        original: that it was made from.
        dataset: as for `finetune`.
        recipe: epochs, learning rate and so on.
        tuning: loss; there is no schedule.
        progress: see `sen_edge.progress`.

    Raises:
        NetworkError: weights are coordinates or int8.
        TrainingError: the loss is no longer finite.
    """
    examples = prepare(dataset, recipe)
    module, teacher = FreeNetwork(network), FreeNetwork(original)
    before, _ = evaluate(module, examples.held_inputs, examples.held_labels)
    run = start(module, examples, recipe)
    best = fit(run, examples, recipe, _loss(teacher, tuning), patience=tuning.patience, progress=progress)
    accuracy, _ = evaluate(teacher, examples.held_inputs, examples.held_labels)
    if best.accuracy < before:
        return Tuned(None, network, 0, tuple(run.history), before, accuracy)
    return Tuned(None, module.to_network(), best.epoch, tuple(run.history), best.accuracy, accuracy)


def check_sparsity(request: PruneRequest) -> None:
    """Refuse what training cannot follow.

    Raises:
        UsageError: whole neurons, or a threshold.
    """
    if request.pattern.neurons or request.threshold is not None:
        raise UsageError("fine-tuning follows a sparsity; remove neurons before it, and take no threshold")


def _check_kind(checkpoint: Checkpoint, request: PruneRequest) -> None:
    """A checkpoint's pattern is a radius or synapses, and one cannot be trained on top of the other."""
    if request.criterion == "distance" and checkpoint.synapses:
        raise UsageError("the checkpoint has synapses of its own, to which a radius cannot be added by training")
    if request.criterion != "distance" and any(checkpoint.config.max_distance):
        raise UsageError("the checkpoint has a radius, to which other patterns cannot be added by training")


def finetune_recipe(recipe: Recipe) -> Recipe:
    """A recipe for fine-tuning what was trained with `recipe`."""
    return replace(recipe, epochs=EPOCHS, learning_rate=TUNING_RATE * recipe.learning_rate)


def free_recipe(dataset: Dataset, epochs: int = EPOCHS, seed: int = 0) -> Recipe:
    """Recipe for the free weights of a compressed network."""
    recipe = conventional_recipe(suggested_recipe(MANY_DIMENSIONS, dataset))
    return replace(recipe, epochs=epochs, seed=seed, learning_rate=FREE_LEARNING_RATE)


class Cut(Protocol):
    """Cuts a network's synapses to a share of the sparsity that is asked for."""

    def to(self, share: float) -> None:
        """Choose the pattern anew, for `share` of the sparsity."""


def _under(
    cut: Cut,
    module: nn.Module,
    teacher: nn.Module,
    examples: Examples,
    recipe: Recipe,
    tuning: Tuning,
    progress: Progress,
) -> tuple[int, tuple[Epoch, ...], float, float]:
    """Train under a pattern that is cut in a ramp; what `fit` returns, and the teacher's accuracy."""
    n_ramp = round(tuning.ramp * recipe.epochs)
    last = max(n_ramp - 1, 0)

    def before(epoch: int) -> None:
        if epoch <= last:
            cut.to(1.0 if epoch == last else 1 - (1 - (epoch + 1) / n_ramp) ** 3)

    loss, run = _loss(teacher, tuning), start(module, examples, recipe)
    best = fit(run, examples, recipe, loss, before=before, first=last, patience=tuning.patience, progress=progress)
    original, _ = evaluate(teacher, examples.held_inputs, examples.held_labels)
    return best.epoch, tuple(run.history), best.accuracy, original


def _inputs(calibration: Inputs | None, examples: Examples) -> FloatArray:
    return subsample(examples.inputs.numpy(), FIT_INPUTS) if calibration is None else calibration


def _partial(request: PruneRequest, share: float) -> PruneRequest:
    """The request for a share of the sparsity; N:M has one sparsity only."""
    if request.sparsity is None or request.pattern.group is not None:
        return request
    return replace(request, sparsity=share * request.sparsity)


class _FreeCut:
    """The cut of a network with free weights."""

    def __init__(self, module: FreeNetwork, request: PruneRequest, calibration: FloatArray) -> None:
        self.module, self.request, self.calibration = module, request, calibration

    def to(self, share: float) -> None:
        """Choose the pattern anew."""
        self.module.restrict({})
        request = _partial(self.request, share)
        self.module.restrict(choose_masks(self.module.to_network(), request, self.calibration))


class _Cut:
    """The cut of a spatially embedded network."""

    def __init__(
        self, module: SpatialNetwork, request: PruneRequest, calibration: FloatArray, cut: Mapping[int, Mask]
    ) -> None:
        self.module, self.request, self.calibration, self.cut = module, request, calibration, cut
        self.radii = [layer.max_distance for layer in module.linears()]

    def to(self, share: float) -> None:
        """Choose the pattern anew."""
        request = _partial(self.request, share)
        for index, layer in enumerate(self.module.linears()):
            layer.synapses = _as_tensor(self.cut[index]) if index in self.cut else None
        network = checkpoints.to_network(checkpoints.from_module(self.module))
        if request.criterion == "distance":
            self._within_radius(network, request)
            return
        for index, mask in choose_masks(network, request, self.calibration).items():
            here = mask & self.cut[index] if index in self.cut else mask
            self.module.linears()[index].synapses = _as_tensor(here)

    def _within_radius(self, network: Network, request: PruneRequest) -> None:
        config = self.module.config
        radii = list(config.max_distance or (0.0,) * len(network.layers))
        for index in request.chosen(network):
            operator = network.layers[index].weight
            assert isinstance(operator, Coordinates)  # _Cut took patterns off; this is for mypy
            radius = min(radius_for([operator], request), self.radii[index])
            radii[index] = 0.0 if math.isinf(radius) else radius
            self.module.linears()[index].max_distance = radius
        self.module.config = replace(config, max_distance=tuple(radii))


def _as_tensor(mask: Mask) -> Tensor:
    return torch.from_numpy(mask.astype(np.float32))


def _loss(teacher: nn.Module, tuning: Tuning) -> Loss:
    """Cross-entropy with the labels, and the divergence from the teacher's outputs (G. Hinton et al., 2015)."""
    teacher.eval()
    share, temperature = tuning.distillation, tuning.temperature

    def loss(inputs: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
        if share == 0:
            return label_loss(inputs, outputs, labels)
        with torch.no_grad():
            aim = functional.softmax(teacher(inputs) / temperature, dim=1)
        apart = functional.kl_div(functional.log_softmax(outputs / temperature, dim=1), aim, reduction="batchmean")
        value = share * temperature**2 * apart
        return value if share == 1 else value + (1 - share) * label_loss(inputs, outputs, labels)

    return loss
