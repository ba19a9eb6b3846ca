"""Objective of a training: the loss and the scores of a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sen_edge.errors import UsageError
from sen_edge.model.dynamics import LayeredNetwork
from sen_edge.training.recipe import Recipe
from sen_runtime import task
from sen_runtime.data import Examples, Targets
from sen_runtime.scores import in_units
from sen_runtime.task import Metric, TaskKind

#: Inputs, outputs `[batch, n_out]` and targets -> loss.
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
#: Examples per chunk of an evaluation: bounds memory, does not change results.
CHUNK = 5000


@dataclass(frozen=True)
class Part:
    """Rows of checked examples."""

    examples: Examples
    indices: NDArray[np.intp]

    @classmethod
    def whole(cls, examples: Examples) -> Part:
        """Return all rows."""
        return cls(examples, np.arange(len(examples.inputs)))

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def inputs(self) -> NDArray[np.float32]:
        """All inputs, in memory."""
        return self.examples.rows(self.indices)

    @property
    def targets(self) -> Targets | None:
        """All targets, if there are any."""
        return None if self.examples.targets is None else self.examples.targets[self.indices]

    def batch(self, chosen: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of some rows; targets of a reconstruction are its inputs."""
        rows, targets = self.indices[chosen], self.examples.targets
        inputs = torch.from_numpy(self.examples.rows(rows))
        if targets is None or self.examples.task == task.RECONSTRUCTION:
            return inputs, inputs
        return inputs, torch.from_numpy(targets[rows])


@dataclass(frozen=True)
class Objective:
    """Loss and task; `metric` selects the best epoch."""

    kind: TaskKind
    loss: Loss

    @property
    def metric(self) -> Metric:
        """Metric of the task."""
        return self.kind.metric

    def is_better(self, score: float, loss: float, best: tuple[float, float], *, prefers_later: bool) -> bool:
        """Whether score and loss on held-out examples are better than the `best` before.

        `prefers_later` is whether equal scores count as better whatever their loss.
        """
        gain = self.metric.drop(score, best[0])
        return gain > 0 or (gain == 0 and (prefers_later or loss < best[1]))


def objective_of(network: LayeredNetwork, examples: Examples, recipe: Recipe) -> Objective:
    """Return the objective of a network for these training examples."""
    kind = task.of(examples.task)
    if recipe.class_weights != "equal" and kind.output_activation == "none":
        raise UsageError(f"class_weights {recipe.class_weights} has no effect on a {kind.name}")
    if recipe.loss != "mse" and kind.output_activation != "none":
        raise UsageError(f"loss {recipe.loss} has no effect on a {kind.name}")
    weights = _class_weights(examples) if recipe.class_weights == "balanced" else None
    if kind.name == task.CLASSIFICATION:
        return Objective(kind, lambda _, outputs, targets: functional.cross_entropy(outputs, targets, weights))
    if kind.name == task.MULTILABEL:
        return Objective(kind, lambda _, outputs, targets: _binary(outputs, targets, weights))
    scaling = network.output_scaling
    inverse = torch.ones(()) if scaling is None else torch.from_numpy(scaling.inverse)
    distance = functional.huber_loss if recipe.loss == "huber" else functional.mse_loss
    return Objective(kind, lambda _, outputs, targets: distance(outputs * inverse, targets * inverse))


def _binary(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    return functional.binary_cross_entropy_with_logits(outputs, targets, pos_weight=weights)


def _class_weights(examples: Examples) -> Tensor:
    """Weights inversely proportional to the frequency of classes, or of present labels to absent ones; 1 if absent."""
    targets = examples.require_targets()
    if targets.ndim == 1:
        counts = np.bincount(targets, minlength=examples.n_out)
        weights = len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        return torch.from_numpy(np.where(counts > 0, weights, 1).astype(np.float32))
    present = targets.sum(axis=0)
    return torch.from_numpy(np.where(present > 0, (len(targets) - present) / np.maximum(present, 1), 1).astype("f4"))


def evaluate(network: LayeredNetwork, part: Part, objective: Objective) -> tuple[dict[Metric, float], float]:
    """Compute scores and mean loss, in evaluation mode; reconstruction errors in units of the standardization."""
    mode = network.training
    network.eval()
    outputs, losses = [], 0.0
    with torch.no_grad():
        for start in range(0, len(part), CHUNK):
            inputs, targets = part.batch(slice(start, start + CHUNK))
            result = network(inputs)
            losses += float(objective.loss(inputs, result, targets)) * len(inputs)
            outputs.append(result.numpy())
    network.train(mode)
    kind = objective.kind
    wanted = part.inputs if kind.name == task.RECONSTRUCTION else np.empty((0, 0), np.float32)
    found, wanted = in_units(kind, np.concatenate(outputs), wanted, network.input_scaling, "none")
    return kind.scores(found, part.targets, wanted), losses / len(part)
