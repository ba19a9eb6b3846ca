"""Settings of a training, and their defaults for a data set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from sen_edge.data.datasets import Dataset
from sen_edge.schema import Count, OpenShare, Positive, Schema, Whole
from sen_runtime.task import CLASSIFICATION, MULTILABEL, RECONSTRUCTION, REGRESSION

#: Min training examples of a large data set; max dimensions, exclusive, of a small position.
LARGE, FEW_DIMENSIONS = 10_000, 8
#: Dimensions for which the defaults were measured; free weights train like positions with as many.
MANY_DIMENSIONS = 32
#: Layers of weights from which a network is deep.
DEEP = 4
#: Exponent of the distance in many dimensions and in deep networks.
HIGH_EXPONENT = 3.0
#: Default epochs; min steps, which small data sets reach by more epochs.
EPOCHS, MIN_STEPS = 60, 500
#: Learning rate by task, relative to that of a classification.
RATES = {CLASSIFICATION: 1.0, MULTILABEL: 1.0, REGRESSION: 0.5, RECONSTRUCTION: 0.5}
#: Limit of the number of training examples, and default number of hidden neurons below it.
HIDDEN = ((1_000, 64), (LARGE, 128), (math.inf, 512))
#: Images with fewer rows or columns are not shifted by default.
SHIFTED_PIXELS = 16


@dataclass(frozen=True)
class Recipe(Schema):
    """Settings of a training.

    Attributes:
        batch_size: examples per step; an incomplete batch is dropped from the epoch.
        seed: of the initial positions, the held-out examples and the order.
        position_scale: initial positions are uniform in [-scale, scale].
        relaxed_spacing: initial last coordinates of layer l are uniform in [l, l + 1) times it, unless it is None.
        second_moment: decay of the squared gradient in Adam.
        shift: max shift of each image in pixels per direction, drawn in each epoch; 0 for none.
        loss: of continuous outputs, in units of their standard deviations.
        class_weights: of the loss of classes and labels; "balanced" weighs rare ones more.
        input_mean: subtracted from the inputs, one number or one per feature; None for the means of the training data.
        input_std: inputs are divided by it; as `input_mean`.
    """

    epochs: Count = EPOCHS
    batch_size: Count = 256
    learning_rate: Positive = 0.2
    seed: Whole = 0
    position_scale: Positive = 0.3
    second_moment: Annotated[float, Ge(0), Lt(1)] = 0.97
    shift: Whole = 0
    validation: OpenShare = 1 / 12
    loss: Literal["mse", "huber"] = "mse"
    class_weights: Literal["equal", "balanced"] = "equal"
    input_mean: tuple[float, ...] | None = None
    input_std: tuple[Positive, ...] | None = None
    relaxed_spacing: Positive | None = None


def suggested_exponent(dataset: Dataset, dimensions: int, n_layers: int) -> float:
    """Return the default exponent of the distance.

    In many dimensions all distances are similar, and so are the weights of a neuron; a higher exponent separates near
    sources from far ones, which each layer of a deep network needs. mnist and digits keep the exponent 1 of the paper,
    with which their shipped checkpoints were trained.
    """
    is_shallow = n_layers < DEEP and (dimensions < FEW_DIMENSIONS or dataset.image_shape is not None)
    return 1.0 if is_shallow else HIGH_EXPONENT


def suggested_recipe(
    dataset: Dataset, dimensions: int = MANY_DIMENSIONS, exponent: float | tuple[float, ...] = 1.0, n_layers: int = 2
) -> Recipe:
    """Return defaults measured on MNIST, digits and the workloads of docs/results/workloads.md.

    Shifting helps if the network can overfit and the images are not tiny. The higher the exponent e of the distance,
    the more a step of the same length changes weights: the best rates by validation, at d = 61, were 0.05 for e = 2,
    0.03 for 3, 0.015 for 4, 0.01 for 6, 0.006 for 8. In a deep network the steps of all layers add up. Small data sets
    need more epochs for as many steps.
    """
    few, highest = dimensions < FEW_DIMENSIONS, max(exponent) if isinstance(exponent, tuple) else exponent
    rate = (0.1 if few else 0.2) / max(highest, 1.0) ** (5 / 3) * RATES[dataset.task] * 2 / max(n_layers, 2)
    n_train = len(dataset.train_inputs)
    batch_size = 256 if n_train >= LARGE else 32
    return Recipe(
        epochs=max(EPOCHS, math.ceil(MIN_STEPS / max(1, n_train // batch_size))),
        batch_size=batch_size,
        learning_rate=float(f"{rate:.2g}"),
        shift=0 if few or min(dataset.image_shape or (0,)) < SHIFTED_PIXELS else 1,
    )
