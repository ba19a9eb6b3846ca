"""Resumable epoch loop for any network with outputs `[batch, n_out]` and any objective.

The state of a run is saved as a plain dict of tensors and values, read by `sen_edge.model.tensor_file` without running
code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sen_edge.data.datasets import Dataset
from sen_edge.errors import CheckpointError, OutputError, UsageError
from sen_edge.model import tensor_file
from sen_edge.model.config import SpatialConfig
from sen_edge.model.dynamics import LayeredNetwork
from sen_edge.progress import Progress, silent
from sen_edge.training.objective import Loss, Objective, Part, evaluate
from sen_edge.training.recipe import Recipe
from sen_runtime.errors import SenError
from sen_runtime.files import write_atomic
from sen_runtime.task import RECONSTRUCTION
from sen_runtime.untrusted import printable, quote, read_regular

LOWER = "lower the learning rate"
#: Held-out examples below which equal scores are frequent, and the later of such epochs is the more trained one.
FEW_HELD_OUT = 200
#: Share of the epochs with a rising learning rate.
WARM_UP = 0.3
STATE_FORMAT = "sen-edge-training-state"
STATE_VERSION = 3
#: Inputs of a training batch, and the generator of the run -> inputs.
Augment = Callable[[Tensor, torch.Generator], Tensor]
#: Exceptions of restoring a damaged state.
STATE_DAMAGE = (RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)


class TrainingError(SenError):
    """Training cannot continue."""


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch: mean loss on the training data, metric of the task on the held-out data."""

    loss: float
    validation_score: float


@dataclass(frozen=True)
class Split:
    """Training and held-out examples; `augment` changes the inputs of a training batch, if it is not None."""

    training: Part
    held: Part
    augment: Augment | None = None


def prepare(dataset: Dataset, recipe: Recipe, augment: Augment | None = None) -> Split:
    """Split off the held-out examples; refuse an empty part, and a shift of inputs that are not images.

    Anomalies of a reconstruction are in neither part. The shift of a recipe takes precedence over `augment`.
    """
    examples = dataset.training
    kept, held = examples.hold_out(recipe.validation, recipe.seed)
    if dataset.task == RECONSTRUCTION and examples.targets is not None:
        kept, held = (rows[examples.targets[rows] == 0] for rows in (kept, held))
    if not len(kept) or not len(held):
        raise UsageError(
            f"holding out {recipe.validation:.3g} of {len(examples.inputs)} training examples "
            f"leaves {len(kept)} to train on and {len(held)} to validate on; expected some of both"
        )
    if recipe.shift and dataset.image_shape is None:
        raise UsageError(f"shift is {recipe.shift}, but the inputs of {dataset.name} are not images")
    if recipe.shift and (shape := dataset.image_shape) is not None:
        augment = partial(shift_images, image_shape=shape, max_shift=recipe.shift)
    return Split(Part(examples, kept), Part(examples, held), augment)


def steps_per_epoch(examples: Split, recipe: Recipe) -> int:
    """Return the number of full batches, at least 1."""
    return max(1, len(examples.training) // recipe.batch_size)


@dataclass(frozen=True)
class Best:
    """Best epoch: metric of the task and loss on the held-out examples, and state of the network."""

    epoch: int
    score: float
    loss: float
    state: Mapping[str, Tensor]


@dataclass
class Run:
    """State of a training that changes from epoch to epoch; the generator draws order and shifts of the examples."""

    network: LayeredNetwork
    optimizer: torch.optim.Adam
    schedule: torch.optim.lr_scheduler.OneCycleLR
    generator: torch.Generator
    best: Best | None = None
    history: list[Epoch] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""
        return len(self.history)


def start(network: LayeredNetwork, examples: Split, recipe: Recipe) -> Run:
    """Create a run with Adam and a one-cycle learning rate."""
    rate, steps = recipe.learning_rate, recipe.epochs * steps_per_epoch(examples, recipe)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate, betas=(0.9, recipe.second_moment))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=WARM_UP)
    return Run(network, optimizer, schedule, torch.Generator().manual_seed(recipe.seed))


def run_epoch(
    run: Run, examples: Split, recipe: Recipe, loss: Loss, progress: Progress = silent, stage: str = "training"
) -> float:
    """Train one epoch in a new order; return the mean loss, which must stay finite."""
    run.network.train()
    steps, seen, total = steps_per_epoch(examples, recipe), 0, 0.0
    order = torch.randperm(len(examples.training), generator=run.generator)
    for step, chosen in enumerate(torch.split(order, recipe.batch_size)[:steps], start=1):
        inputs, targets = examples.training.batch(chosen)
        if examples.augment is not None:
            inputs = examples.augment(inputs, run.generator)
        value = _step(run, inputs, targets, loss)
        if not math.isfinite(value):
            raise TrainingError(f"the loss became {value} in epoch {run.epoch + 1}, step {step} of {steps}", LOWER)
        seen, total = seen + len(chosen), total + value * len(chosen)
        progress(stage, (run.epoch + step / steps) / recipe.epochs)
    return total / seen


def _step(run: Run, inputs: Tensor, targets: Tensor, loss: Loss) -> float:
    """Take one optimizer step; return the loss before it."""
    value = loss(inputs, run.network(inputs), targets)
    run.optimizer.zero_grad()
    value.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    run.schedule.step()
    return float(value.detach())


def fit(
    run: Run,
    examples: Split,
    recipe: Recipe,
    objective: Objective,
    *,
    loss: Loss | None = None,
    before: Callable[[int], None] = lambda _: None,
    after: Callable[[], None] = lambda: None,
    first: int = 0,
    patience: int = 0,
    progress: Progress = silent,
) -> Best:
    """Train a new or restored run for `recipe.epochs`; load the best epoch by held-out examples into the network.

    `loss` is trained on instead of that of the objective. `before` is called before each epoch with its number, from 0;
    `after` after each. Epochs before `first` cannot be the best. Training stops after `patience` epochs without
    improvement, 0 for never.

    Raises:
        TrainingError: the loss is not finite, or no epoch has finite outputs.
    """
    stage, metric = "training", objective.metric
    prefers_later = not patience and len(examples.held) < FEW_HELD_OUT
    while run.epoch < recipe.epochs:
        is_candidate = run.epoch >= first
        before(run.epoch)
        mean = run_epoch(run, examples, recipe, loss or objective.loss, progress, stage)
        scores, value = evaluate(run.network, examples.held, objective)
        run.history.append(Epoch(mean, scores[metric]))
        score, best = scores[metric], run.best
        is_better = best is None or objective.is_better(
            score, value, (best.score, best.loss), prefers_later=prefers_later
        )
        if is_candidate and math.isfinite(value) and is_better:
            state = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
            best = run.best = Best(run.epoch, score, value, state)
        stage = (
            f"epoch {run.epoch}/{recipe.epochs}: loss {mean:.4f}, validation {metric.name} {metric.text(score)}"
            f"{'' if best is None else f', best {metric.text(best.score)}'}"
        )
        progress(stage, run.epoch / recipe.epochs)
        after()
        if patience and is_candidate and run.epoch - (best.epoch if best else 0) >= patience:
            break
    return restore_best(run)


def restore_best(run: Run) -> Best:
    """Load the best epoch into the network; set evaluation mode."""
    if run.best is None:
        raise TrainingError("no epoch has finite outputs", hint=LOWER)
    run.network.load_state_dict(run.best.state)
    run.network.eval()
    return run.best


def shift_images(inputs: Tensor, generator: torch.Generator, image_shape: tuple[int, int], max_shift: int) -> Tensor:
    """Shift images `[n, rows * columns]` by up to `max_shift` random pixels per direction, padded with zeros."""
    rows, columns = image_shape
    padded = functional.pad(inputs.view(-1, rows, columns), (max_shift,) * 4).flatten(1)
    corner = torch.randint(0, 2 * max_shift + 1, (2, len(inputs), 1, 1), generator=generator)
    row, column = corner[0] + torch.arange(rows).view(-1, 1), corner[1] + torch.arange(columns)
    return padded.gather(1, (row * (columns + 2 * max_shift) + column).flatten(1))


# --- saved state ----------------------------------------------------------------------------------


def state_path(out: Path) -> Path:
    """Return the path of the state for the checkpoint `out`."""
    return out.with_name(f"{out.name}.resume")


def options_of(config: SpatialConfig, dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    """Return the options that a resumed training must share with the interrupted one."""
    values = config.to_dict()
    spiking = values.pop("spiking") or {}
    return {
        **values,
        **{f"spiking {name}": value for name, value in spiking.items()},
        **asdict(recipe),
        "dataset": dataset.name,
        "content of the dataset (SHA-256)": dataset.sha256,
        "threads": torch.get_num_threads(),
    }


def save_state(run: Run, path: Path, options: Mapping[str, Any]) -> None:
    """Replace the state file."""
    buffer = BytesIO()
    state = {
        "format": STATE_FORMAT,
        "version": STATE_VERSION,
        "options": dict(options),
        "history": [vars(epoch) for epoch in run.history],
        "network": run.network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "schedule": run.schedule.state_dict(),
        "generator": run.generator.get_state(),
        "best": None if run.best is None else vars(run.best),
    }
    torch.save(state, buffer)
    try:
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def restore(run: Run, path: Path, options: Mapping[str, Any]) -> None:
    """Restore an interrupted run; refuse a damaged file, and other options."""
    unreadable = f"{path} is damaged or not the state of an interrupted training"
    hint = "pass --force instead of --resume to start over"
    try:
        state = tensor_file.read(path, read_regular(path, error=CheckpointError))
    except CheckpointError as error:
        raise CheckpointError(f"{unreadable}: {error.message}", hint) from error
    try:
        if (state["format"], state["version"]) != (STATE_FORMAT, STATE_VERSION):
            raise CheckpointError(unreadable, hint)
        _check_options(path, state["options"], options)
        run.network.load_state_dict(state["network"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.schedule.load_state_dict(state["schedule"])
        run.generator.set_state(state["generator"])
        run.history = [Epoch(**figures) for figures in state["history"]]
        run.best = None if state["best"] is None else Best(**state["best"])
    except STATE_DAMAGE as error:
        raise CheckpointError(f"{unreadable}: {type(error).__name__} {printable(str(error), 200)}", hint) from error


def _check_options(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differences = [
        f"{printable(str(name), 80).replace('_', ' ')} is {quote(now.get(name))}, was {quote(before.get(name))}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]
    if differences:
        raise UsageError(
            f"{path} belongs to a training with other options: " + "; ".join(differences),
            hint="resume with the same options, or pass --force instead of --resume to start over",
        )
