"""One epoch of training and what it takes, whatever network is trained and whatever its loss is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from sen_edge.data.datasets import Dataset
from sen_edge.errors import UsageError
from sen_runtime.data import hold_out
from sen_runtime.errors import SenError

#: Inputs, outputs `[batch, n_out]` and labels -> the loss to make small.
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

#: Examples that are evaluated at once: bounds memory, not results.
CHUNK = 5000
#: Training examples from which on a data set counts as large, and dimensions below which they count as few.
LARGE, FEW_DIMENSIONS = 10_000, 8
#: Images of fewer rows or columns are not shifted unless asked for.
SHIFTED_PIXELS = 16
#: Share of the epochs with a rising learning rate.
WARM_UP = 0.3


class TrainingError(SenError):
    """A training that cannot go on."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: passes over the training data, >= 1.
        batch_size: examples per step, >= 1; what does not fill a batch waits for the next epoch's order.
        learning_rate: peak of the one-cycle schedule, > 0.
        seed: of the initial positions, the held-out examples and the order.
        position_scale: initial positions are uniform in [-scale, scale], > 0.
        second_moment: Adam's decay of the squared gradient, in [0, 1).
        shift: each image moves by up to this many pixels in each direction, anew in each epoch; 0 for none.
        validation: share of the training data held out, in (0, 1).
    """

    epochs: int = 60
    batch_size: int = 256
    learning_rate: float = 0.2
    seed: int = 0
    position_scale: float = 0.3
    second_moment: float = 0.97
    shift: int = 0
    validation: float = 1 / 12

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0), ("shift", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
                raise UsageError(f"{name.replace('_', ' ')} is {value!r}; expected an integer >= {least}")
        for name, most in (("learning_rate", math.inf), ("position_scale", math.inf), ("validation", 1.0)):
            value = getattr(self, name)
            if not 0 < value < most:
                raise UsageError(f"{name.replace('_', ' ')} is {value!r}; expected a number > 0 and < {most:g}")
        if not 0 <= self.second_moment < 1:
            raise UsageError(f"second moment is {self.second_moment!r}; expected a number >= 0 and < 1")


def suggested_recipe(dimensions: int, dataset: Dataset, exponent: float = 1.0) -> Recipe:
    """What trains well where a user has not chosen; measured on MNIST and the digits.

    Shifting pays once a network has the capacity to learn the training images by heart, and images are not tiny. The
    higher the power e of the distance, the more a step of the same length changes weights: the best rates by
    validation, at d = 61, were 0.05 for e = 2, 0.03 for 3, 0.015 for 4, 0.01 for 6, 0.006 for 8.
    """
    few = dimensions < FEW_DIMENSIONS
    rate = float(f"{(0.1 if few else 0.2) / max(exponent, 1.0) ** (5 / 3):.2g}")
    return Recipe(
        batch_size=256 if len(dataset.train_labels) >= LARGE else 32,
        learning_rate=rate,
        shift=0 if few or min(dataset.image_shape or (0,)) < SHIFTED_PIXELS else 1,
    )


@dataclass(frozen=True)
class Progress:
    """Where a training is.

    Attributes:
        epoch: 1 for the first.
        step: steps done in this epoch.
        steps: steps per epoch.
        loss: mean over the epoch so far.
        accuracy: on the training data of the epoch so far, in percent.
        validation_accuracy: on held-out data, in percent, once the epoch is over.
        best_accuracy: the best validation accuracy so far, in percent, once the epoch is over.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    accuracy: float
    validation_accuracy: float | None = None
    best_accuracy: float | None = None


#: Told after every step, and with the validation accuracy after every epoch.
Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Examples:
    """Training and held-out examples as tensors; `image_shape` where an input is an image."""

    inputs: Tensor
    labels: Tensor
    held_inputs: Tensor
    held_labels: Tensor
    image_shape: tuple[int, int] | None


def prepare(dataset: Dataset, recipe: Recipe) -> Examples:
    """Split off the held-out examples.

    Raises:
        UsageError: nothing would be left on one side, or what are no images is to be shifted.
    """
    kept, held = hold_out(dataset.train_labels, recipe.validation, recipe.seed)
    if not len(kept) or not len(held):
        raise UsageError(
            f"holding out {recipe.validation:.3g} of {len(dataset.train_labels)} training examples, class by class, "
            f"leaves {len(kept)} to train on and {len(held)} to validate on; expected some of both"
        )
    if recipe.shift and dataset.image_shape is None:
        raise UsageError(f"shift is {recipe.shift}, but the inputs of {dataset.name} are not images")
    inputs, labels = dataset.train_inputs, dataset.train_labels
    return Examples(
        inputs=torch.from_numpy(inputs[kept]),
        labels=torch.from_numpy(labels[kept]),
        held_inputs=torch.from_numpy(inputs[held]),
        held_labels=torch.from_numpy(labels[held]),
        image_shape=dataset.image_shape,
    )


def steps_per_epoch(examples: Examples, recipe: Recipe) -> int:
    """Batches of an epoch; what does not fill one waits for the next epoch's order."""
    return max(1, len(examples.labels) // recipe.batch_size)


def one_cycle(
    parameters: list[nn.Parameter], recipe: Recipe, steps: int
) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.OneCycleLR]:
    """Adam, with a learning rate that rises and falls once over so many steps."""
    optimizer = torch.optim.Adam(parameters, lr=recipe.learning_rate, betas=(0.9, recipe.second_moment))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=steps, pct_start=WARM_UP
    )
    return optimizer, schedule


@dataclass
class Run:
    """A training under way: what one step changes.

    Attributes:
        network: gives outputs `[batch, n_out]`.
        optimizer: of its parameters.
        schedule: of the learning rate.
        generator: of the order of the examples and of their shifts.
        epoch: epochs that are done.
    """

    network: nn.Module
    optimizer: torch.optim.Adam
    schedule: torch.optim.lr_scheduler.OneCycleLR
    generator: torch.Generator
    epoch: int = 0


def run_epoch(
    run: Run, examples: Examples, recipe: Recipe, loss: Loss, progress: Callable[[Progress], None]
) -> Progress:
    """One pass over the training examples, in a new order; where it ended.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    run.network.train()
    steps, seen, correct, total = steps_per_epoch(examples, recipe), 0, 0, 0.0
    order = torch.randperm(len(examples.labels), generator=run.generator)
    for step, batch in enumerate(torch.split(order, recipe.batch_size)[:steps], start=1):
        inputs = examples.inputs[batch]
        if recipe.shift and examples.image_shape is not None:
            inputs = shifted(inputs, examples.image_shape, recipe.shift, run.generator)
        value, hits = _step(run, inputs, examples.labels[batch], loss)
        if not math.isfinite(value):
            raise TrainingError(f"the loss became {value} in epoch {run.epoch + 1}, step {step} of {steps}")
        seen, correct, total = seen + len(batch), correct + hits, total + value * len(batch)
        now = Progress(run.epoch + 1, step, steps, total / seen, 100 * correct / seen)
        progress(now)
    run.epoch += 1
    return now


def _step(run: Run, inputs: Tensor, labels: Tensor, loss: Loss) -> tuple[float, int]:
    """One step of the optimizer: the loss before it, and how many examples were right."""
    outputs = run.network(inputs)
    value = loss(inputs, outputs, labels)
    run.optimizer.zero_grad()
    value.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    run.schedule.step()
    return float(value.detach()), int((outputs.argmax(1) == labels).sum())


def label_loss(inputs: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the outputs as logits."""
    del inputs
    return functional.cross_entropy(outputs, labels)


def evaluate(network: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy in percent and mean cross-entropy, in evaluation mode."""
    mode = network.training
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(chunk) for chunk in torch.split(inputs, CHUNK)])
    network.train(mode)
    correct = int((logits.argmax(1) == labels).sum())
    return 100 * correct / len(labels), float(functional.cross_entropy(logits, labels))


def fit(
    module: nn.Module,
    examples: Examples,
    recipe: Recipe,
    loss: Loss = label_loss,
    *,
    before: Callable[[int], None] = lambda _: None,
    first: int = 0,
    patience: int = 0,
    progress: Report = lambda _: None,
) -> tuple[int, int, float]:
    """Train a network that gives outputs `[batch, n_out]`, and leave the best epoch's state in it.

    Args:
        module: the network.
        examples: that it learns, and those that decide which epoch is the best.
        recipe: how.
        loss: what becomes small.
        before: called with the number of each epoch, from 0, ahead of it.
        first: epochs before this one are no candidates for the best.
        patience: epochs without a better one after which training ends; 0 for never.
        progress: see `Report`.

    Returns:
        The best epoch from 1, the epochs that were run, the best one's accuracy on the held-out examples in percent.

    Raises:
        TrainingError: the loss is no longer finite, or the outputs were not in any epoch.
    """
    steps = recipe.epochs * steps_per_epoch(examples, recipe)
    optimizer, schedule = one_cycle(list(module.parameters()), recipe, steps)
    run = Run(module, optimizer, schedule, torch.Generator().manual_seed(recipe.seed))
    best, best_epoch, state = (-1.0, -math.inf), 0, {}
    while run.epoch < recipe.epochs:
        is_candidate = run.epoch >= first
        before(run.epoch)
        now = run_epoch(run, examples, recipe, loss, progress)
        accuracy, value = evaluate(module, examples.held_inputs, examples.held_labels)
        if is_candidate and math.isfinite(value) and (accuracy, -value) > best:
            best, best_epoch = (accuracy, -value), run.epoch
            state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        progress(replace(now, validation_accuracy=accuracy, best_accuracy=max(best[0], 0.0)))
        if patience and is_candidate and run.epoch - best_epoch >= patience:
            break
    if not state:
        raise TrainingError("no epoch gave finite outputs")
    module.load_state_dict(state)
    module.eval()
    return best_epoch, run.epoch, best[0]


def shifted(inputs: Tensor, image_shape: tuple[int, int], most: int, generator: torch.Generator) -> Tensor:
    """Images `[n, rows * columns]`, each moved by a random number of pixels up to `most`, zeros moving in."""
    rows, columns = image_shape
    padded = functional.pad(inputs.view(-1, rows, columns), (most,) * 4).flatten(1)
    corner = torch.randint(0, 2 * most + 1, (2, len(inputs), 1, 1), generator=generator)
    row, column = corner[0] + torch.arange(rows).view(-1, 1), corner[1] + torch.arange(columns)
    return padded.gather(1, (row * (columns + 2 * most) + column).flatten(1))
