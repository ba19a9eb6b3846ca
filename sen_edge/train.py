"""Training: Adam with a one-cycle learning rate on a data set in memory, the best epoch kept, resumable.

Which epoch is best is decided on a part of the training data that is held out; the test data are used once,
at the end, on what was kept. A run is a function of its options: the same seed, thread count and torch version give
the same bits, with or without an interruption.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import sen_edge
from sen_edge import checkpoint
from sen_edge.checkpoint import SUFFIXES, Checkpoint
from sen_edge.config import SpatialConfig
from sen_edge.datasets import Dataset, check_fit, hold_out
from sen_edge.errors import OutputError, UsageError
from sen_edge.spatial import SpatialNetwork, build
from sen_edge.training_state import Best, Training, options_of, restore, save_state, state_path
from sen_runtime.errors import SenError

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


def suggested_recipe(dimensions: int, dataset: Dataset) -> Recipe:
    """What trains well where a user has not chosen; measured on MNIST and the digits.

    Shifting pays once a network has the capacity to learn the training images by heart, and images are not tiny.
    """
    few = dimensions < FEW_DIMENSIONS
    return Recipe(
        batch_size=256 if len(dataset.train_labels) >= LARGE else 32,
        learning_rate=0.1 if few else 0.2,
        shift=0 if few or min(dataset.image_shape or (0,)) < SHIFTED_PIXELS else 1,
    )


def suggested_spiking(dataset: Dataset) -> dict[str, Any]:
    """Values of `SpikingConfig` that train better than its defaults, and the length of the data's spike trains."""
    timesteps = dataset.train_inputs.shape[1] if dataset.train_inputs.ndim == 3 else 10
    return {"timesteps": timesteps, "surrogate_slope": 5.0}


@dataclass(frozen=True)
class Progress:
    """Where a training is.

    Attributes:
        epoch: 1 for the first.
        step: steps done in this epoch.
        steps: steps per epoch.
        loss: mean over the epoch so far.
        accuracy: on the training data of the epoch so far, in percent.
        validation_accuracy: in percent, once the epoch is over.
        best_accuracy: the best validation accuracy so far, in percent, once the epoch is over.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    accuracy: float
    validation_accuracy: float | None = None
    best_accuracy: float | None = None


@dataclass(frozen=True)
class Result:
    """What a training gave; accuracies in percent, `checkpoint` as it was written."""

    checkpoint: Checkpoint
    path: Path
    best_epoch: int
    validation_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class _Data:
    """Training and held-out examples as tensors."""

    inputs: Tensor
    labels: Tensor
    held_inputs: Tensor
    held_labels: Tensor
    image_shape: tuple[int, int] | None


@dataclass(frozen=True)
class _Job:
    """What stays the same from epoch to epoch."""

    config: SpatialConfig
    dataset: Dataset
    recipe: Recipe
    out: Path
    replace: bool
    metadata: Mapping[str, str]
    progress: Callable[[Progress], None]


def train(
    config: SpatialConfig,
    dataset: Dataset,
    recipe: Recipe,
    *,
    out: Path,
    replace: bool = False,
    resume: bool = False,
    metadata: Mapping[str, str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Train a network and write the best epoch's checkpoint.

    After every epoch the state goes to `state_path(out)`; it is removed once the checkpoint is written.

    Args:
        config: of the network.
        dataset: what it learns.
        recipe: how.
        out: `.pt` or `.safetensors`.
        replace: `out`, and the state of an interrupted training, may be replaced.
        resume: go on from the state of an interrupted training with the same options.
        metadata: goes into the checkpoint, with accuracies, epochs, seed, data set and version.
        progress: called after every step, and with the validation accuracy after every epoch.

    Raises:
        DataError: the data do not fit the network.
        OutputError: `out` exists or cannot be written.
        UsageError: nothing to resume, or other options than the interrupted training had.
        TrainingError: the loss is no longer finite. The best epoch so far, if any, has been written.
    """
    check_output(out, replace=replace, resume=resume)
    check_fit(dataset.name, dataset.train_inputs, dataset.train_labels, config.input_shape, config.layer_sizes[-1])
    job = _Job(config, dataset, recipe, out, replace, metadata or {}, progress or (lambda _: None))
    data = _prepare(dataset, recipe)
    options = options_of(config, dataset, asdict(recipe))
    training = _start(config, recipe, data)
    if resume:
        restore(training, state_path(out), options)
    while training.epoch < recipe.epochs:
        try:
            _run_epoch(training, data, job)
        except TrainingError as error:
            raise _diverged(error, training, job) from None
        save_state(training, state_path(out), options)
    return _finish(training, job)


def evaluate(network: SpatialNetwork, inputs: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy in percent and mean cross-entropy, in evaluation mode."""
    mode = network.training
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(chunk) for chunk in torch.split(inputs, CHUNK)])
    network.train(mode)
    correct = int((logits.argmax(1) == labels).sum())
    return 100 * correct / len(labels), float(functional.cross_entropy(logits, labels))


def check_output(out: Path, *, replace: bool, resume: bool) -> None:
    """Refuse before hours of training what would fail after them."""
    state = state_path(out)
    if out.suffix not in SUFFIXES:
        raise UsageError(f"{out}: suffix is {out.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    if not out.parent.is_dir():
        raise OutputError(f"{out.parent} is not a folder", hint=f"mkdir -p {out.parent}")
    if out.is_dir() or (out.exists() and not replace):
        raise OutputError(f"{out} exists", hint="name another --output, or pass --force to replace it")
    if resume and not state.exists():
        raise UsageError(f"nothing to resume: {state} does not exist", hint="run again without --resume")
    if state.exists() and not (resume or replace):
        raise OutputError(
            f"{state} holds an interrupted training", hint="go on with --resume, or pass --force to start over"
        )


def _prepare(dataset: Dataset, recipe: Recipe) -> _Data:
    kept, held = hold_out(dataset.train_labels, recipe.validation, recipe.seed)
    if not len(kept) or not len(held):
        raise UsageError(
            f"holding out {recipe.validation:.3g} of {len(dataset.train_labels)} training examples, class by class, "
            f"leaves {len(kept)} to train on and {len(held)} to validate on; expected some of both"
        )
    if recipe.shift and dataset.image_shape is None:
        raise UsageError(f"shift is {recipe.shift}, but the inputs of {dataset.name} are not images")
    inputs, labels = dataset.train_inputs, dataset.train_labels
    return _Data(
        inputs=torch.from_numpy(inputs[kept]),
        labels=torch.from_numpy(labels[kept]),
        held_inputs=torch.from_numpy(inputs[held]),
        held_labels=torch.from_numpy(labels[held]),
        image_shape=dataset.image_shape,
    )


def _start(config: SpatialConfig, recipe: Recipe, data: _Data) -> Training:
    network = build(config)
    network.reset_parameters(recipe.seed, recipe.position_scale)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, betas=(0.9, recipe.second_moment))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * _steps(data, recipe), pct_start=WARM_UP
    )
    return Training(network, optimizer, schedule, torch.Generator().manual_seed(recipe.seed))


def _steps(data: _Data, recipe: Recipe) -> int:
    return max(1, len(data.labels) // recipe.batch_size)


def _run_epoch(training: Training, data: _Data, job: _Job) -> None:
    """One pass over the training examples, then the held-out ones."""
    recipe = job.recipe
    training.network.train()
    steps, seen, correct, total = _steps(data, recipe), 0, 0, 0.0
    order = torch.randperm(len(data.labels), generator=training.generator)
    for step, batch in enumerate(torch.split(order, recipe.batch_size)[:steps], start=1):
        inputs = data.inputs[batch]
        if recipe.shift and data.image_shape is not None:
            inputs = shifted(inputs, data.image_shape, recipe.shift, training.generator)
        loss, hits = _step(training, inputs, data.labels[batch])
        if not math.isfinite(loss):
            raise TrainingError(f"the loss became {loss} in epoch {training.epoch + 1}, step {step} of {steps}")
        seen, correct, total = seen + len(batch), correct + hits, total + loss * len(batch)
        now = Progress(training.epoch + 1, step, steps, total / seen, 100 * correct / seen)
        job.progress(now)
    training.epoch += 1
    accuracy, loss = evaluate(training.network, data.held_inputs, data.held_labels)
    best = training.best
    if math.isfinite(loss) and (best is None or (accuracy, -loss) >= (best.accuracy, -best.loss)):
        tensors = {name: tensor.detach().clone() for name, tensor in training.network.named_tensors().items()}
        best = training.best = Best(training.epoch, accuracy, loss, tensors)
    job.progress(
        Progress(training.epoch, steps, steps, now.loss, now.accuracy, accuracy, best.accuracy if best else None)
    )


def _step(training: Training, inputs: Tensor, labels: Tensor) -> tuple[float, int]:
    """One step of the optimizer: the loss before it, and how many examples were right."""
    logits = training.network(inputs)
    loss = functional.cross_entropy(logits, labels)
    training.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    training.optimizer.step()
    training.schedule.step()
    return float(loss.detach()), int((logits.argmax(1) == labels).sum())


def shifted(inputs: Tensor, image_shape: tuple[int, int], most: int, generator: torch.Generator) -> Tensor:
    """Images `[n, rows * columns]`, each moved by a random number of pixels up to `most`, zeros moving in."""
    rows, columns = image_shape
    padded = functional.pad(inputs.view(-1, rows, columns), (most,) * 4).flatten(1)
    corner = torch.randint(0, 2 * most + 1, (2, len(inputs), 1, 1), generator=generator)
    row, column = corner[0] + torch.arange(rows).view(-1, 1), corner[1] + torch.arange(columns)
    return padded.gather(1, (row * (columns + 2 * most) + column).flatten(1))


def _finish(training: Training, job: _Job) -> Result:
    """Measure the best epoch on the test data, and write it."""
    best = training.best
    if best is None:
        raise TrainingError("no epoch gave finite outputs", hint="lower --learning-rate")
    with torch.no_grad():
        for name, parameter in training.network.named_tensors().items():
            parameter.copy_(best.tensors[name])
    dataset = job.dataset
    test_accuracy, _ = evaluate(training.network, torch.tensor(dataset.test_inputs), torch.tensor(dataset.test_labels))
    facts = {
        **{name: f"{value:.6g}" for name, value in asdict(job.recipe).items()},
        "dataset": dataset.name,
        "epochs_done": str(training.epoch),
        "best_epoch": str(best.epoch),
        "validation_accuracy": f"{best.accuracy:.2f}",
        "test_accuracy": f"{test_accuracy:.2f}",
        "sen_edge_version": sen_edge.__version__,
    }
    result = checkpoint.from_module(training.network, {**job.metadata, **facts})
    checkpoint.save(result, job.out, replace=job.replace)
    state_path(job.out).unlink(missing_ok=True)
    return Result(result, job.out, best.epoch, best.accuracy, test_accuracy)


def _diverged(error: TrainingError, training: Training, job: _Job) -> TrainingError:
    """The error to raise for a loss that is not finite, with the best epoch so far written."""
    hint = f"lower --learning-rate (it was {job.recipe.learning_rate:g})"
    if training.best is None:
        return TrainingError(f"{error.message}; no epoch was finished", hint)
    result = _finish(training, job)
    kept = f"epoch {result.best_epoch}, test accuracy {result.test_accuracy:.2f} %"
    return TrainingError(f"{error.message}; {job.out} keeps the best epoch so far ({kept})", hint)
