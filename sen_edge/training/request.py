"""Training request: the network, the schedule and the seed, as Python, sweep files and `sen-edge train` take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from sen_edge.model.config import Decay, InputCoding, Names, Readout, Reset, Size, SpikingConfig, Task, Timesteps
from sen_edge.schema import Count, NonNegative, OpenShare, Option, Positive, Schema, SchemaError, Whole, fields_of
from sen_runtime.ir.codings import CODINGS

NETWORK, SPIKES, SCHEDULE, DATA = "Network", "Spiking network (--arch snn)", "Schedule", "Task and data"
#: Layer axis of the network, or "relaxed": a free one with another initialization.
TrainedAxis = Literal["fixed", "learned", "relaxed", "free"]
#: Fields of a spatially embedded network alone.
SPATIAL = ("dims", "position_scale", "layer_axis", "layer_spacing", "steepness", "exponent", "min_distance", "gain")


@dataclass(frozen=True)
class TrainRequest(Schema):
    """Task, network and schedule; None selects a default that depends on the data.

    Attributes:
        weights: "positions", or "free" for a fully connected network.
        position_scale: initial positions are uniform in [-scale, scale]. Default: 0.3.
    """

    task: Annotated[Task | None, Option("What the outputs mean. Default: from the targets.", group=DATA)] = None
    target: Annotated[
        Names, Option("Columns of a table with the targets; all others are features.", group=DATA, metavar="COLUMN,...")
    ] = ()
    standardize: Annotated[
        bool, Option("Standardize inputs by mean and standard deviation of the training data.", group=DATA)
    ] = False
    input_mean: Annotated[
        tuple[float, ...] | None,
        Option("Instead: subtract this from the inputs; one number, or one per feature.", group=DATA, metavar="X,..."),
    ] = None
    input_std: Annotated[
        tuple[Positive, ...] | None,
        Option("Divide the inputs by this; one number, or one per feature.", group=DATA, metavar="X,..."),
    ] = None
    class_weights: Annotated[
        Literal["equal", "balanced"] | None,
        Option("Weights of classes or labels in the loss; balanced: rare ones more. Default: equal.", group=DATA),
    ] = None
    loss: Annotated[Literal["mse", "huber"] | None, Option("Loss of continuous outputs. Default: mse.", group=DATA)] = (
        None
    )

    arch: Annotated[Literal["mlp", "snn"], Option("Multilayer perceptron or spiking network.", group=NETWORK)] = "mlp"
    hidden: Annotated[
        tuple[Size, ...] | None,
        Option(
            "Neurons of each hidden layer. Default: 512; 128 below 10,000 examples, 64 below 1,000.",
            group=NETWORK,
            metavar="N,...",
        ),
    ] = None
    dims: Annotated[Size, Option("Coordinates per position, including the layer axis.", group=NETWORK)] = 32
    layer_axis: Annotated[
        TrainedAxis,
        Option(
            "Last coordinate: fixed by the layer index; one learned distance per layer; relaxed: free, initially next "
            "to the layer index; or free.",
            group=NETWORK,
        ),
    ] = "fixed"
    layer_spacing: Annotated[
        Positive,
        Option("Distance between layers along the layer axis; the initial one unless it is fixed.", group=NETWORK),
    ] = 0.1
    steepness: Annotated[Positive, Option("Steepness k of the inhibition mask.", group=NETWORK)] = 1.0
    exponent: Annotated[
        Positive | None,
        Option(
            "Power of the distance. Default: 3; 1 with --dims < 8, mnist and digits below 4 layers of weights.",
            group=NETWORK,
        ),
    ] = None
    min_distance: Annotated[NonNegative, Option("Min distance in a weight.", group=NETWORK)] = 0.0
    gain: Annotated[bool, Option("Learn a factor per layer.", group=NETWORK)] = True
    bias: Annotated[bool, Option("Learn a bias per neuron.", group=NETWORK)] = True
    weights: Literal["positions", "free"] = "positions"

    timesteps: Annotated[Timesteps | None, Option("Time steps T. Default: 10.", group=SPIKES)] = None
    beta: Annotated[Decay | None, Option("Decay of the membrane per step. Default: 0.9.", group=SPIKES)] = None
    threshold: Annotated[Positive | None, Option("Membrane above which a neuron spikes. Default: 1.", group=SPIKES)] = (
        None
    )
    reset: Annotated[Reset | None, Option("Membrane after a spike. Default: subtract.", group=SPIKES)] = None
    reset_delay: Annotated[
        bool | None, Option("Reset after the next decay (default), or in the step of the spike.", group=SPIKES)
    ] = None
    readout: Annotated[Readout | None, Option("Output of the last layer. Default: mean_membrane.", group=SPIKES)] = None
    input_coding: Annotated[
        InputCoding | None,
        Option(
            "How inputs arrive: direct (constant current), rate (spikes at the rate of the input), or from sequences "
            "[n, T, c] spikes, current, delta (spikes where a value rises or falls). Default: direct.",
            group=SPIKES,
        ),
    ] = None
    delta: Annotated[
        Positive | None,
        Option("Min change that spikes, of --input-coding delta. Default: the median of all changes.", group=SPIKES),
    ] = None
    surrogate_slope: Annotated[
        Positive | None, Option("Slope of the surrogate gradient. Default: 5.", group=SPIKES)
    ] = None

    epochs: Annotated[Count | None, Option("Epochs. Default: 60; more for fewer than 500 steps.", group=SCHEDULE)] = (
        None
    )
    batch_size: Annotated[
        Count | None, Option("Batch size. Default: 256; 32 below 10,000 examples.", group=SCHEDULE)
    ] = None
    learning_rate: Annotated[
        Positive | None,
        Option(
            "Peak of the one-cycle schedule. Default: 0.2, or 0.1 for --dims < 8, over E^(5/3) for --exponent E > 1; "
            "half of it for a regression or reconstruction, times 2 / L for L > 2 layers of weights.",
            group=SCHEDULE,
        ),
    ] = None
    shift: Annotated[
        Whole | None,
        Option("Max random shift of images in pixels. Default: 1 on MNIST, 0 for --dims < 8.", group=SCHEDULE),
    ] = None
    position_scale: Positive | None = None
    validation: Annotated[
        OpenShare | None,
        Option("Share of training data held out to select the epoch. Default: 1/12.", group=SCHEDULE, metavar="SHARE"),
    ] = None
    seed: Annotated[Whole, Option("Seed of initial positions, held-out examples and batch order.", group=SCHEDULE)] = 0

    @property
    def has_steps(self) -> bool:
        """Whether inputs are sequences."""
        return CODINGS[self.input_coding or "direct"].has_steps

    def check(self) -> None:
        """Reject options without effect."""
        self.require(self.input_coding == "delta", "input_coding delta", "delta")
        self.require(self.arch == "snn", "arch snn", *fields_of(SpikingConfig))
        self.require(self.weights == "positions", "weights positions", *SPATIAL)
        self.require(self.layer_axis != "free", "a layer axis", "layer_spacing")
        if self.standardize and (self.input_mean, self.input_std) != (None, None):
            raise SchemaError("takes mean and standard deviation from the data", "or omit it", key="standardize")

    @property
    def has_scaling(self) -> bool:
        """Whether inputs are standardized."""
        return self.standardize or (self.input_mean, self.input_std) != (None, None)

    @property
    def is_relaxed(self) -> bool:
        """Whether the last coordinates are free, but initially next to the layer index."""
        return self.layer_axis == "relaxed"
