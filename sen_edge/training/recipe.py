"""Settings of a training, and their defaults for a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from sen_edge.data.datasets import Dataset
from sen_edge.schema import Count, OpenShare, Positive, Schema, Whole

#: Min training examples of a large data set; max dimensions, exclusive, of a small position.
LARGE, FEW_DIMENSIONS = 10_000, 8
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

    epochs: Count = 60
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


def suggested_recipe(dimensions: int, dataset: Dataset, exponent: float = 1.0) -> Recipe:
    """Return defaults measured on MNIST and digits.

    Shifting helps if the network can overfit and the images are not tiny. The higher the exponent e of the distance,
    the more a step of the same length changes weights: the best rates by validation, at d = 61, were 0.05 for e = 2,
    0.03 for 3, 0.015 for 4, 0.01 for 6, 0.006 for 8.
    """
    few = dimensions < FEW_DIMENSIONS
    rate = float(f"{(0.1 if few else 0.2) / max(exponent, 1.0) ** (5 / 3):.2g}")
    return Recipe(
        batch_size=256 if len(dataset.train_inputs) >= LARGE else 32,
        learning_rate=rate,
        shift=0 if few or min(dataset.image_shape or (0,)) < SHIFTED_PIXELS else 1,
    )
